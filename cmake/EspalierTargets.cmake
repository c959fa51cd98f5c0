# What the folders of this project share: compiler flags and tests.

# Warnings of our own code only: LibTorch and the others come in as system headers.
add_library(espalier_flags INTERFACE)
target_compile_options(espalier_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
# g++ 12 sees overlapping copies in std::string's operator+ where there are none (GCC bug 105651).
target_compile_options(espalier_flags INTERFACE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-restrict>)
# Asserts in LibTorch's headers and ours name their file: by its place in the tree, not on the machine that builds.
target_compile_options(espalier_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=>
  $<$<COMPILE_LANGUAGE:CXX>:-fmacro-prefix-map=${ESPALIER_TORCH_DIR}/include/=>)
if(ESPALIER_WERROR)
  target_compile_options(espalier_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Werror>
    $<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings>)
endif()

# espalier_precompile(<target> libraries|plugins|programs): <target> takes what nearly every source includes
# (cmake/precompiled.h) from one compiled file. There is one for each set of compiler options; each belongs to a target
# of its own, because g++ refuses such a file where a macro is missing that was defined when it was made.
option(ESPALIER_PCH "Compile once what nearly every source includes" ON)
function(espalier_precompile target group)
  if(NOT ESPALIER_PCH)
    return()
  endif()
  set(owner espalier_precompiled_${group})
  if(NOT TARGET ${owner})
    add_library(${owner} OBJECT ${PROJECT_SOURCE_DIR}/cmake/precompiled.cpp)
    target_precompile_headers(${owner} PRIVATE ${PROJECT_SOURCE_DIR}/cmake/precompiled.h)
    target_link_libraries(${owner} PRIVATE espalier::torch espalier_flags)
    target_compile_options(${owner} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
    if(group STREQUAL "plugins")
      target_compile_options(${owner} PRIVATE ${ESPALIER_PLUGIN_OPTIONS})
    elseif(group STREQUAL "programs")
      target_compile_options(${owner} PRIVATE -fPIE)
    endif()
  endif()
  if(group STREQUAL "programs")
    # With this file g++ 12 sees copies beyond the end, too, in std::string's operator+ (GCC bug 105651).
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds>)
  endif()
  target_precompile_headers(${target} REUSE_FROM ${owner})
  # ccache keeps objects that were compiled with such a file only with this option.
  target_compile_options(${target} PRIVATE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-fpch-preprocess>)
endfunction()

# Sources of a folder; .cu files only where kernels are compiled.
function(espalier_sources variable folder)
  file(GLOB_RECURSE files CONFIGURE_DEPENDS ${folder}/*.cpp)
  if(ESPALIER_WITH_CUDA)
    file(GLOB_RECURSE kernels CONFIGURE_DEPENDS ${folder}/*.cu)
    list(APPEND files ${kernels})
  endif()
  # g++ vectorises loops at -O3 only; files of loops over flat memory are called *_kernels.cpp. The vectors that their
  # functions pass to each other leave no file, so how they are passed matters to nobody.
  set(loops -ffp-contract=off -Wno-psabi)
  if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
    list(APPEND loops -O3 -fno-math-errno)
  endif()
  foreach(file IN LISTS files)
    if(file MATCHES "_kernels\\.cpp$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "${loops}" SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
  set(${variable} ${files} PARENT_SCOPE)
endfunction()

# The Python that has PyTorch, which some tests compare with; empty where there is none.
set(ESPALIER_PYTHON "$ENV{ESPALIER_PYTHON}")
if(NOT ESPALIER_PYTHON AND EXISTS "${ESPALIER_TORCH_DIR}/../../../../bin/python")
  get_filename_component(ESPALIER_PYTHON "${ESPALIER_TORCH_DIR}/../../../../bin/python" ABSOLUTE)
endif()

# One program for all tests of a folder: linking and loading LibTorch is what costs. With PARTS N ctest runs its tests
# as N entries, which can run side by side (most of them keep one core busy). What the tests of a suite share is then
# made once in each part.
function(espalier_add_tests name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PARTS" "SOURCES;LIBRARIES;DEPENDS")
  if(NOT BUILD_TESTING OR NOT arg_SOURCES)
    return()
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_compile_definitions(${name} PRIVATE
    "ESPALIER_SOURCE_DIR=\"${PROJECT_SOURCE_DIR}\""
    "ESPALIER_BINARY_DIR=\"${PROJECT_BINARY_DIR}\""
    "ESPALIER_PROGRAM=\"${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/espalier\""
    "ESPALIER_PLUGIN_DIR=\"${ESPALIER_PLUGIN_DIR}\""
    "ESPALIER_FIXTURE_DIR=\"${PROJECT_BINARY_DIR}/tests/fixtures\""
    "ESPALIER_PYTHON=\"${ESPALIER_PYTHON}\""
    "ESPALIER_CMAKE=\"${CMAKE_COMMAND}\"")
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} espalier_flags nlohmann_json::nlohmann_json
    GTest::gmock GTest::gtest_main)
  espalier_precompile(${name} programs)
  if(arg_DEPENDS)
    add_dependencies(${name} ${arg_DEPENDS})
  endif()
  if(NOT arg_PARTS)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 1800)
    return()
  endif()
  foreach(part RANGE 1 ${arg_PARTS})
    math(EXPR index "${part} - 1")
    add_test(NAME ${name}_${part} COMMAND ${name})
    # The longest begin first, so that none is left alone at the end.
    set_tests_properties(${name}_${part} PROPERTIES TIMEOUT 1800 COST 1000
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${arg_PARTS};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()
