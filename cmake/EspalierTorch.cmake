# Imports LibTorch as one target, espalier::torch, from the folder ESPALIER_TORCH (a PyTorch wheel's
# site-packages/torch, or an unpacked libtorch). LibTorch's own TorchConfig.cmake is not used: it demands the CUDA
# toolkit even where no kernel is compiled.
#
# Sets ESPALIER_TORCH_VERSION, and where LibTorch has CUDA: ESPALIER_TORCH_HAS_CUDA, ESPALIER_CUDA_VERSION and
# espalier::torch_cuda, which holds the CUDA half (LibTorch's CUDA libraries, the CUDA runtime and its headers).

if(TARGET espalier::torch)
  return()
endif()

set(ESPALIER_TORCH "" CACHE PATH "LibTorch: the folder that holds lib/libtorch.so")
set(_torch "${ESPALIER_TORCH}")
if(NOT _torch AND DEFINED ENV{ESPALIER_TORCH})
  # Kept for the time when Ninja runs CMake again, in a shell without the variable.
  set(_torch "$ENV{ESPALIER_TORCH}")
  set_property(CACHE ESPALIER_TORCH PROPERTY VALUE "${_torch}")
elseif(NOT _torch AND ESPALIER_TORCH_DEFAULT)
  set(_torch "${ESPALIER_TORCH_DEFAULT}")
elseif(NOT _torch AND EXISTS "${PROJECT_SOURCE_DIR}/scripts/requirements.txt")
  # The toolchain that scripts/setup installed, for a plain `cmake --preset release`.
  file(SHA256 "${PROJECT_SOURCE_DIR}/scripts/requirements.txt" _hash)
  string(SUBSTRING ${_hash} 0 16 _hash)
  foreach(_cache "$ENV{ESPALIER_CACHE}" "$ENV{XDG_CACHE_HOME}/espalier" "$ENV{HOME}/.cache/espalier")
    file(GLOB _found "${_cache}/toolchain-${_hash}/lib/python3.*/site-packages/torch")
    if(_found AND NOT _torch)
      list(GET _found 0 _torch)
    endif()
  endforeach()
endif()
if(NOT _torch)
  # An unpacked package has no LibTorch to remember: the one of the python3 on PATH, as its launcher does. Not imported,
  # which is slow.
  execute_process(COMMAND python3 -c "import sys; sys.path = [p for p in sys.path if p]; import importlib.util
spec = importlib.util.find_spec('torch'); print(spec.submodule_search_locations[0] if spec and spec.origin else '')"
    OUTPUT_VARIABLE _torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT EXISTS "${_torch}/lib/libtorch.so")
  message(FATAL_ERROR "LibTorch was not found (ESPALIER_TORCH is \"${_torch}\"). Run scripts/setup in a source tree, "
                      "set ESPALIER_TORCH to the folder that holds lib/libtorch.so, or have a python3 on PATH that has "
                      "PyTorch.")
endif()
get_filename_component(ESPALIER_TORCH_DIR "${_torch}" REALPATH)

set(_version_header "${ESPALIER_TORCH_DIR}/include/torch/headeronly/version.h")
if(NOT EXISTS "${_version_header}")
  set(_version_header "${ESPALIER_TORCH_DIR}/include/torch/csrc/api/include/torch/version.h")
endif()
file(STRINGS "${_version_header}" _version REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
string(REGEX REPLACE "[^0-9;]" "" _version "${_version}")
list(JOIN _version "." ESPALIER_TORCH_VERSION)

function(_espalier_import name path)
  add_library(espalier::${name} SHARED IMPORTED)
  set_target_properties(espalier::${name} PROPERTIES IMPORTED_LOCATION "${path}")
endfunction()

find_package(Threads REQUIRED)
_espalier_import(c10 "${ESPALIER_TORCH_DIR}/lib/libc10.so")
_espalier_import(torch_cpu "${ESPALIER_TORCH_DIR}/lib/libtorch_cpu.so")
add_library(espalier::torch INTERFACE IMPORTED)
# OpenMP comes with it: at::parallel_for is silently serial in a file that is compiled without. By the flag, not by
# FindOpenMP, whose path to the compiler's libgomp would compete with LibTorch's own copy.
set_target_properties(espalier::torch PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "${ESPALIER_TORCH_DIR}/include;${ESPALIER_TORCH_DIR}/include/torch/csrc/api/include"
  INTERFACE_COMPILE_DEFINITIONS "_GLIBCXX_USE_CXX11_ABI=1"
  INTERFACE_COMPILE_OPTIONS "$<$<COMPILE_LANGUAGE:CXX>:-fopenmp>"
  INTERFACE_LINK_OPTIONS "-fopenmp"
  INTERFACE_LINK_LIBRARIES "espalier::torch_cpu;espalier::c10;Threads::Threads")

set(ESPALIER_TORCH_HAS_CUDA OFF)
set(ESPALIER_CUDA_VERSION "")
if(EXISTS "${ESPALIER_TORCH_DIR}/lib/libtorch_cuda.so")
  # The CUDA runtime that LibTorch itself loads: beside the wheel, in an unpacked libtorch, or in a toolkit.
  set(_cudart)
  foreach(_folder "${ESPALIER_TORCH_DIR}/../nvidia/cu*/lib" "${ESPALIER_TORCH_DIR}/lib" "$ENV{CUDAToolkit_ROOT}/lib64"
          /usr/local/cuda/lib64)
    file(GLOB _found "${_folder}/libcudart*.so.*")
    list(APPEND _cudart ${_found})
  endforeach()
  find_path(_espalier_cuda_include cuda_runtime_api.h NO_CACHE NO_DEFAULT_PATH
    PATHS "${ESPALIER_TORCH_DIR}/../nvidia/cu13/include" "${ESPALIER_TORCH_DIR}/../nvidia/cu12/include"
          "$ENV{CUDAToolkit_ROOT}/include"
          /usr/local/cuda/include)
  if(_cudart AND _espalier_cuda_include)
    list(GET _cudart 0 _cudart)
    get_filename_component(ESPALIER_CUDART "${_cudart}" ABSOLUTE)
    get_filename_component(_espalier_cuda_include "${_espalier_cuda_include}" ABSOLUTE)
    file(STRINGS "${_espalier_cuda_include}/cuda_runtime_api.h" _version REGEX "define CUDART_VERSION +[0-9]+")
    string(REGEX MATCH "[0-9]+$" _version "${_version}")
    math(EXPR _major "${_version} / 1000")
    math(EXPR _minor "${_version} % 1000 / 10")
    set(ESPALIER_CUDA_VERSION "${_major}.${_minor}")
    set(ESPALIER_TORCH_HAS_CUDA ON)
    _espalier_import(cudart "${ESPALIER_CUDART}")
    _espalier_import(c10_cuda "${ESPALIER_TORCH_DIR}/lib/libc10_cuda.so")
    _espalier_import(torch_cuda_library "${ESPALIER_TORCH_DIR}/lib/libtorch_cuda.so")
    add_library(espalier::torch_cuda INTERFACE IMPORTED)
    set_target_properties(espalier::torch_cuda PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${_espalier_cuda_include}"
      INTERFACE_LINK_LIBRARIES "espalier::torch_cuda_library;espalier::c10_cuda;espalier::cudart;espalier::torch")
  endif()
endif()
