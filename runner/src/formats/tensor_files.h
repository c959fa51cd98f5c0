#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "formats/safetensors.h"

namespace espalier {

// Tensors as people have them in files.
struct LoadedTensors {
  NamedTensors tensors;
  std::vector<std::string> notes;  // which of several dictionaries was taken
  std::vector<std::string> left;   // what cannot be read: "NAME (F4)"
};

// Of a safetensors file, a PyTorch state dict or a checkpoint that holds one (`key` says which of several), an index of
// a file in parts (*.index.json), or a folder with one of these as Hugging Face's programs name them. Throws InputError
// naming the file and what it is instead: a pointer of Git LFS, a web page, an empty file ...
LoadedTensors load_tensors(const std::filesystem::path& path, const std::string& key = {});

// The file that load_tensors() reads of a folder; empty where it holds none.
std::filesystem::path tensor_file_in(const std::filesystem::path& folder);

}  // namespace espalier
