#!/usr/bin/env bash
# What an author does with the plugins of a folder: build, test, check and run them. Runs where nothing of Espalier's
# source tree is; scripts/check-examples calls it.
#   check_examples.sh FOLDER     FOLDER/espalier: the unpacked package; FOLDER/plugins: the plugins
set -euo pipefail
cd "$1"
folder=$PWD
export ESPALIER_STORE=none XDG_DATA_HOME=$folder/data
program=$folder/espalier/bin/espalier
{
  echo 'cmake_minimum_required(VERSION 3.25)'
  echo 'project(examples LANGUAGES CXX)'
  echo 'enable_testing()'
  for plugin in plugins/*/; do echo "add_subdirectory($(basename "$plugin"))"; done
} >plugins/CMakeLists.txt
launcher=()
if command -v ccache >/dev/null; then
  launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  export CCACHE_BASEDIR=$folder CCACHE_NOHASHDIR=1
fi
echo "Building $(ls -d plugins/*/ | wc -l) plugins in $folder" >&2
cmake -S plugins -B build -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 "${launcher[@]}" \
  -DCMAKE_PREFIX_PATH="$folder/espalier" >configure.txt 2>&1 || { cat configure.txt >&2; exit 1; }
cmake --build build >build.txt || { cat build.txt >&2; exit 1; }
ctest --test-dir build --output-on-failure
for plugin in plugins/*/; do
  name=$(basename "$plugin")
  with=()
  # What needs a file is checked with the one beside it.
  if [[ $name == pixel_csv ]]; then
    with=(--with 'train: train.csv, test: test.csv, size: 4, classes: 2' --data "$plugin")
  fi
  "$program" check --strict "build/$name/lib$name.so" "${with[@]}"
done
for plugin in plugins/*/; do
  name=$(basename "$plugin")
  echo "Running $name.yaml" >&2
  fewer=()
  if [[ $name == relative_prune ]]; then fewer=(--set data.limit=4000); fi  # the tutorial's takes all of Fashion-MNIST
  "$program" run -q "$plugin$name.yaml" "${fewer[@]}" --plugins "build/$name" --data "$plugin" --out "runs/$name"
done
echo "All $(ls -d plugins/*/ | wc -l) plugins build, pass their tests and checks, and run."
