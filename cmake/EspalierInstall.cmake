# `cmake --install`, and the same files in the build tree, where a third-party project may be built against it without
# installing.
include(CMakePackageConfigHelpers)

if(NOT TARGET espalier_sdk)
  return()
endif()

configure_package_config_file(cmake/EspalierConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/${ESPALIER_INSTALL_CMAKE_DIR}/EspalierConfig.cmake
  INSTALL_DESTINATION ${ESPALIER_INSTALL_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/${ESPALIER_INSTALL_CMAKE_DIR}/EspalierConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
foreach(file EspalierTorch EspalierNvcc EspalierPlugin)
  configure_file(cmake/${file}.cmake ${PROJECT_BINARY_DIR}/${ESPALIER_INSTALL_CMAKE_DIR}/${file}.cmake COPYONLY)
endforeach()
export(EXPORT EspalierTargets NAMESPACE espalier::
       FILE ${PROJECT_BINARY_DIR}/${ESPALIER_INSTALL_CMAKE_DIR}/EspalierTargets.cmake)

install(EXPORT EspalierTargets NAMESPACE espalier:: DESTINATION ${ESPALIER_INSTALL_CMAKE_DIR})
install(FILES ${PROJECT_BINARY_DIR}/${ESPALIER_INSTALL_CMAKE_DIR}/EspalierConfig.cmake
  ${PROJECT_BINARY_DIR}/${ESPALIER_INSTALL_CMAKE_DIR}/EspalierConfigVersion.cmake
  cmake/EspalierTorch.cmake cmake/EspalierNvcc.cmake cmake/EspalierPlugin.cmake
  DESTINATION ${ESPALIER_INSTALL_CMAKE_DIR})

# share/espalier/{recipes,templates,report,datasets}: linked in the build tree, copied by an installation.
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/share/espalier/datasets ${PROJECT_BINARY_DIR}/lib/espalier
                    ${ESPALIER_PLUGIN_DIR})
file(CREATE_LINK ${ESPALIER_PLUGIN_DIR} ${PROJECT_BINARY_DIR}/${ESPALIER_INSTALL_PLUGIN_DIR} SYMBOLIC)
foreach(pair recipes:recipes sdk/templates:templates runner/report:report
             datasets/catalogue.json:datasets/catalogue.json)
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 from)
  list(GET pair 1 to)
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${from} ${PROJECT_BINARY_DIR}/share/espalier/${to} SYMBOLIC)
endforeach()
install(DIRECTORY recipes DESTINATION ${CMAKE_INSTALL_DATADIR}/espalier OPTIONAL)
install(DIRECTORY runner/report DESTINATION ${CMAKE_INSTALL_DATADIR}/espalier OPTIONAL)
install(DIRECTORY sdk/templates DESTINATION ${CMAKE_INSTALL_DATADIR}/espalier OPTIONAL)
install(FILES datasets/catalogue.json DESTINATION ${CMAKE_INSTALL_DATADIR}/espalier/datasets OPTIONAL)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)
