# espalier_add_plugin(<name> SOURCES <file>... [TEST <file>...] [OUTPUT_DIRECTORY <folder>])
#
# Builds lib<name>.so, a plugin, from C++ files and CUDA kernels (.cu; left out where Espalier is built without CUDA).
# Kernels are C++20, or C++17 where CMake is older than 3.26.
# `cmake --install` puts it into lib/espalier/plugins of its prefix. TEST adds a GoogleTest program to ctest; it sees
# the macro ESPALIER_PLUGIN_DIR, the folder of the built library.

# For vector loops: g++ vectorises little at -O2, and no square root that might set errno. Without contraction an
# element's update is the same on every instruction set and wherever in the loop it is computed.
set(ESPALIER_PLUGIN_OPTIONS $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<NOT:$<CONFIG:Debug>>>:-O3>
  "$<$<COMPILE_LANGUAGE:CXX>:-fno-math-errno;-ffp-contract=off>")

function(espalier_add_plugin name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "OUTPUT_DIRECTORY" "SOURCES;TEST")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "espalier_add_plugin(${name}): unknown argument: ${arg_UNPARSED_ARGUMENTS}")
  elseif(NOT arg_SOURCES)
    message(FATAL_ERROR "espalier_add_plugin(${name}): no SOURCES")
  endif()
  if(NOT arg_OUTPUT_DIRECTORY)
    set(arg_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}")
  endif()
  set(kernels ${arg_SOURCES})
  list(FILTER kernels INCLUDE REGEX "\\.cu$")
  if(NOT ESPALIER_WITH_CUDA)
    list(FILTER arg_SOURCES EXCLUDE REGEX "\\.cu$")
  elseif(kernels AND NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "espalier_add_plugin(${name}): this Espalier has CUDA ${ESPALIER_CUDA_VERSION}, so kernels are "
                        "compiled, which needs\n  find_package(Espalier REQUIRED COMPONENTS CUDA)\nand says there what "
                        "is missing")
  endif()

  add_library(${name} MODULE ${arg_SOURCES})
  _espalier_plugin_properties(${name})
  set_target_properties(${name} PROPERTIES PREFIX lib LIBRARY_OUTPUT_DIRECTORY "${arg_OUTPUT_DIRECTORY}")
  target_compile_definitions(${name} PRIVATE "ESPALIER_PLUGIN_NAME=\"${name}\"")
  target_link_libraries(${name} PRIVATE espalier::sdk)
  target_compile_options(${name} PRIVATE ${ESPALIER_PLUGIN_OPTIONS})
  if(NOT PROJECT_NAME STREQUAL "Espalier")  # whose own are installed together
    install(TARGETS ${name} LIBRARY DESTINATION lib/espalier/plugins)
  endif()

  if(arg_TEST)
    find_package(GTest REQUIRED)
    add_executable(${name}_test ${arg_TEST})
    _espalier_plugin_properties(${name}_test)
    target_compile_definitions(${name}_test PRIVATE "ESPALIER_PLUGIN_DIR=\"${arg_OUTPUT_DIRECTORY}\"")
    target_link_libraries(${name}_test PRIVATE espalier::sdk GTest::gtest_main)
    # It loads LibTorch by its own run path: libespalier of a package has none that leads there. Some systems' linkers
    # would leave out what the test itself does not call.
    target_link_options(${name}_test PRIVATE LINKER:--no-as-needed)
    add_dependencies(${name}_test ${name})
    add_test(NAME ${name} COMMAND ${name}_test)
  endif()
endfunction()

function(_espalier_plugin_properties target)
  set_target_properties(${target} PROPERTIES
    CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
    CUDA_RUNTIME_LIBRARY None
    CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
  if("cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
    set_target_properties(${target} PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF)
  else()  # Debian's CMake 3.25 does not know that nvcc can do more; without a number it would take that of C++
    set_target_properties(${target} PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF)
  endif()
  if(ESPALIER_WITH_CUDA)
    # Not CMake's default, the oldest that nvcc knows.
    set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${ESPALIER_CUDA_ARCHITECTURES}")
  endif()
endfunction()
