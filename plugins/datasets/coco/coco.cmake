# The readers of images are those of image_folder, with what they link.
set(images ${CMAKE_CURRENT_SOURCE_DIR}/datasets/image_folder)
target_sources(coco PRIVATE ${images}/image.cpp ${images}/resize.cpp ${images}/lerc.cpp ${images}/stderr.cpp)
target_include_directories(coco PRIVATE ${images})
target_link_libraries(coco PRIVATE
  espalier_detection espalier_jpeg espalier_png espalier_webp espalier_tiff espalier_stb)
