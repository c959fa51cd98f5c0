target_link_libraries(image_folder PRIVATE espalier_jpeg espalier_png espalier_webp espalier_tiff espalier_stb)
# It declares a name of the C library's header, which the precompiled header includes.
set_source_files_properties(${folder}/stderr.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
