#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

namespace espalier {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct TensorFile {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
};

// The safetensors format (github.com/huggingface/safetensors): a JSON header and the raw little-endian values,
// contiguous. The same tensors always give the same bytes. Written to a temporary file beside it and renamed: never
// half a file.
void save_safetensors(const std::filesystem::path& path, const TensorFile& file);

// Throws InputError naming the file and what is wrong with it.
TensorFile load_safetensors(const std::filesystem::path& path);

}  // namespace espalier
