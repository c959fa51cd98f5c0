# Compiles CUDA kernels for the host; README.md beside this file says what for. This file needs nothing of Espalier.
#
# cuda_emulation_add_kernels(<name> KERNELS <file.cu>... [ROOT <folder>] [INCLUDES <folder>...]
#                            [DEFINITIONS <macro>...])
#
# Makes two libraries of objects, each with the kernels and the emulation: <name>_memory, compiled with AddressSanitizer
# and UndefinedBehaviorSanitizer, and <name>_races, which watches the accesses of the kernels for races. Test programs
# link one of them. INCLUDES are the folders where the kernels find their headers; .cuh files there, and beside the
# kernels, are rewritten, too. ROOT is what messages name files relative to (default: the project).

set(CUDA_EMULATION_DIR ${CMAKE_CURRENT_LIST_DIR})
find_program(CUDA_EMULATION_PYTHON python3)
find_package(Boost CONFIG REQUIRED COMPONENTS context)

set(CUDA_EMULATION_SOURCES)
foreach(_source block builtins emulation fibre races)
  list(APPEND CUDA_EMULATION_SOURCES ${CUDA_EMULATION_DIR}/${_source}.cpp)
endforeach()

# Adds the command that rewrites a file, and appends the output to a list.
function(_cuda_emulation_rewrite list source root output)
  file(RELATIVE_PATH name ${root} ${source})
  add_custom_command(OUTPUT ${output}
    COMMAND ${CUDA_EMULATION_PYTHON} ${CUDA_EMULATION_DIR}/rewrite.py ${source} ${name} ${output}
    DEPENDS ${source} ${CUDA_EMULATION_DIR}/rewrite.py
    COMMENT "Rewriting ${name} for the host" VERBATIM)
  set(${list} ${${list}} ${output} PARENT_SCOPE)
endfunction()

function(cuda_emulation_add_kernels name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "ROOT" "KERNELS;INCLUDES;DEFINITIONS")
  if(NOT CUDA_EMULATION_PYTHON)
    message(FATAL_ERROR "cuda_emulation_add_kernels(${name}): python3 is missing, which rewrites the kernels")
  elseif(NOT arg_KERNELS)
    message(FATAL_ERROR "cuda_emulation_add_kernels(${name}): no KERNELS")
  endif()
  if(NOT arg_ROOT)
    set(arg_ROOT ${PROJECT_SOURCE_DIR})
  endif()
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/${name})
  set(rewritten)
  foreach(include IN LISTS arg_INCLUDES)
    file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${include}/*.cuh)
    foreach(header IN LISTS headers)
      file(RELATIVE_PATH place ${include} ${header})
      _cuda_emulation_rewrite(rewritten ${header} ${arg_ROOT} ${folder}/include/${place})
    endforeach()
  endforeach()
  set(sources)
  foreach(kernel IN LISTS arg_KERNELS)
    get_filename_component(kernel ${kernel} ABSOLUTE)
    get_filename_component(beside ${kernel} DIRECTORY)
    file(RELATIVE_PATH place ${arg_ROOT} ${kernel})
    _cuda_emulation_rewrite(sources ${kernel} ${arg_ROOT} ${folder}/${place}.cpp)
    get_filename_component(place ${place} DIRECTORY)
    file(GLOB headers CONFIGURE_DEPENDS ${beside}/*.cuh)
    foreach(header IN LISTS headers)
      get_filename_component(file ${header} NAME)
      if(NOT ${folder}/${place}/${file} IN_LIST rewritten)
        _cuda_emulation_rewrite(rewritten ${header} ${arg_ROOT} ${folder}/${place}/${file})
      endif()
    endforeach()
    list(APPEND quoted ${beside})
  endforeach()
  list(REMOVE_DUPLICATES quoted)
  list(TRANSFORM quoted PREPEND "-iquote")

  foreach(watch memory races)
    set(emulation ${name}_${watch}_emulation)
    add_library(${emulation} OBJECT ${CUDA_EMULATION_SOURCES})
    add_library(${name}_${watch} OBJECT ${sources} ${rewritten})
    target_link_libraries(${name}_${watch} PUBLIC ${emulation} $<TARGET_OBJECTS:${emulation}>)
    target_include_directories(${emulation} PUBLIC ${CUDA_EMULATION_DIR}/include)
    target_link_libraries(${emulation} PUBLIC Boost::context)
    target_include_directories(${name}_${watch} PRIVATE ${folder}/include ${arg_INCLUDES})
    target_compile_definitions(${name}_${watch} PRIVATE ${arg_DEFINITIONS})
    # Without contraction the results are the same bytes as those of a loop on the CPU. Lines for messages; -O1, so that
    # accesses stay where they stand in the source.
    target_compile_options(${name}_${watch} PRIVATE -include cuda_runtime.h ${quoted} -O1 -g1 -ffp-contract=off)
    # What a preset says of sanitizers is for other programs.
    foreach(target ${emulation} ${name}_${watch})
      target_compile_options(${target} PRIVATE -fno-sanitize=all)
    endforeach()
  endforeach()
  set(sanitizers -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined)
  target_compile_definitions(${name}_memory_emulation PRIVATE CUDA_EMULATION_RACES=0)
  target_compile_definitions(${name}_races_emulation PRIVATE CUDA_EMULATION_RACES=1)
  foreach(target ${name}_memory ${name}_memory_emulation)
    target_compile_options(${target} PRIVATE ${sanitizers} -fno-omit-frame-pointer)
  endforeach()
  # Only compiled with it: the functions that it calls are those of races.cpp.
  target_compile_options(${name}_races PRIVATE -fsanitize=thread)
  target_link_options(${name}_memory INTERFACE ${sanitizers})
  target_link_options(${name}_races INTERFACE -fno-sanitize=all)
endfunction()
