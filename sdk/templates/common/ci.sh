#!/bin/sh
# What continuous integration runs: build, test, check. ESPALIER_PACKAGE: the file or the address of a package.
set -eu
: "${ESPALIER_PACKAGE:?set it to an espalier-...-linux-x86_64.tar.gz, a file or an address}"
mkdir -p build/espalier
case $ESPALIER_PACKAGE in
  http*) curl -fsSL "$ESPALIER_PACKAGE" | tar -xz -C build/espalier --strip-components=1 ;;
  *) tar -xzf "$ESPALIER_PACKAGE" -C build/espalier --strip-components=1 ;;
esac
prefix=$PWD/build/espalier
cmake -G Ninja -B build/plugin -DCMAKE_PREFIX_PATH="$prefix"
cmake --build build/plugin
ctest --test-dir build/plugin --output-on-failure
"$prefix/bin/espalier" check build/plugin/lib@NAME@.so
