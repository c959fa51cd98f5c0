# The bodies are those of the plugins swin and resnet.
set(bodies ${CMAKE_CURRENT_SOURCE_DIR}/backbones)
target_sources(cascade_mask_rcnn PRIVATE ${bodies}/swin/swin_body.cpp ${bodies}/resnet/resnet_body.cpp)
target_include_directories(cascade_mask_rcnn PRIVATE ${bodies}/swin ${bodies}/resnet)
target_link_libraries(cascade_mask_rcnn PRIVATE espalier_detection)
