# The small libraries that program and plugins use, as targets espalier_<library>. Each is linked statically where this
# machine has it so, and its symbols stay hidden: what is built then needs nothing but LibTorch and the C++ runtime on
# the machine it is copied to (scripts/package), and no second copy of a library comes into a process by our doing.

# espalier_dependency(<library> <shared target> [<other dependency>...])
function(espalier_dependency library target)
  add_library(espalier_${library} INTERFACE)
  find_library(file NAMES lib${library}.a NO_CACHE)
  if(file)
    target_include_directories(espalier_${library} SYSTEM INTERFACE
                               $<TARGET_PROPERTY:${target},INTERFACE_INCLUDE_DIRECTORIES>)
    target_link_libraries(espalier_${library} INTERFACE ${file} ${ARGN})
    target_link_options(espalier_${library} INTERFACE LINKER:--exclude-libs,lib${library}.a)
  else()
    message(STATUS "lib${library}.a was not found; the shared library is used, and scripts/package will refuse")
    target_link_libraries(espalier_${library} INTERFACE ${target})
  endif()
endfunction()

find_package(Boost CONFIG REQUIRED COMPONENTS headers)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(yaml-cpp CONFIG REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(ZLIB REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(LibArchive REQUIRED)
find_package(JPEG REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(PNG REQUIRED)

find_package(TIFF REQUIRED)
find_package(Threads REQUIRED)

# espalier_found(<library> <header>): a target <library>::<library>, for a library that comes without a file for CMake.
function(espalier_found library header)
  find_path(folder ${header} NO_CACHE REQUIRED)
  find_library(file ${library} NO_CACHE REQUIRED)
  add_library(${library}::${library} UNKNOWN IMPORTED GLOBAL)
  set_target_properties(${library}::${library} PROPERTIES
                        IMPORTED_LOCATION "${file}" INTERFACE_INCLUDE_DIRECTORIES "${folder}")
endfunction()
espalier_found(re2 re2/re2.h)
espalier_found(csv csv.h)
espalier_found(minizip minizip/unzip.h)
espalier_found(webp webp/decode.h)
# What the static form of libtiff needs, besides LERC (plugins/datasets/image_folder/lerc.cpp).
espalier_found(jbig jbig.h)
espalier_found(lzma lzma.h)
espalier_found(zstd zstd.h)
espalier_found(deflate libdeflate.h)
find_path(ESPALIER_STB_INCLUDE_DIR stb/stb_image.h REQUIRED)

espalier_dependency(yaml-cpp yaml-cpp)
espalier_dependency(re2 re2::re2 Threads::Threads)
espalier_dependency(sqlite3 SQLite::SQLite3 Threads::Threads ${CMAKE_DL_LIBS} m)
espalier_dependency(minizip minizip::minizip espalier_z)
espalier_dependency(csv csv::csv)
espalier_dependency(z ZLIB::ZLIB)
espalier_dependency(crypto OpenSSL::Crypto)
espalier_dependency(archive LibArchive::LibArchive espalier_z)
espalier_dependency(jpeg JPEG::JPEG)
espalier_dependency(png PNG::PNG espalier_z m)
espalier_dependency(webp webp::webp Threads::Threads m)
foreach(library jbig lzma zstd deflate)
  espalier_dependency(${library} ${library}::${library})
endforeach()
espalier_dependency(tiff TIFF::TIFF espalier_webp espalier_jbig espalier_lzma espalier_zstd espalier_deflate
                    espalier_jpeg
  espalier_z m)

# Header files alone.
add_library(espalier_stb INTERFACE)
target_include_directories(espalier_stb SYSTEM INTERFACE ${ESPALIER_STB_INCLUDE_DIR})

# Boost.DLL is headers when it takes the standard library's filesystem; Boost's own is a library, and not
# position-independent on Debian.
add_library(espalier_boost INTERFACE)
target_link_libraries(espalier_boost INTERFACE Boost::headers ${CMAKE_DL_LIBS})
target_compile_definitions(espalier_boost INTERFACE BOOST_DLL_USE_STD_FS)
