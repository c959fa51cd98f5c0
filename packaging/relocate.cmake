# cmake -DFILE=... -DRUNPATH=... -P relocate.cmake: replaces the run path of a program or library in place, as `cmake
# --install` does. (file(RPATH_SET) is what CMake's own install scripts call; it needs no patchelf.)
file(RPATH_SET FILE "${FILE}" NEW_RPATH "${RUNPATH}")
