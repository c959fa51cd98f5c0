#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/batch.h"

namespace espalier {

struct TensorFile {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata;
  bool checked = false;  // when loaded: the file had a checksum, and it is right
  // When loaded: tensors of types that PyTorch has not, "NAME (F4)". They are left out.
  std::vector<std::string> left = {};
};

// The safetensors format (github.com/huggingface/safetensors): a JSON header and the raw little-endian values,
// contiguous. The same tensors always give the same bytes. Written as AtomicFile does, with a checksum over all of it
// among the metadata; what was at the path before goes to `keep` where that is given.
void save_safetensors(const std::filesystem::path& path, const TensorFile& file,
                      const std::filesystem::path& keep = {});

// Throws InputError naming the file and what is wrong with it: its form, its length, its checksum, values that no
// tensor has or that two have.
TensorFile load_safetensors(const std::filesystem::path& path);

}  // namespace espalier
