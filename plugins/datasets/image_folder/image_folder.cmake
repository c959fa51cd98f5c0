target_link_libraries(image_folder PRIVATE espalier_jpeg espalier_png espalier_webp espalier_tiff espalier_stb)
# It declares what <cstdio> would declare otherwise.
set_source_files_properties(${folder}/stderr.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
