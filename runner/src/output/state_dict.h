#pragma once

#include <filesystem>

#include "output/safetensors.h"

namespace espalier {

// Whether a file is one of PyTorch's, by its first bytes.
bool is_state_dict(const std::filesystem::path& path);

// The tensors of a state dict that torch.save() wrote, or of one called "state_dict" or "model" in a checkpoint. The
// pickle is read as data: nothing in it is called or imported. Throws InputError naming the file and what is wrong with
// it.
NamedTensors load_state_dict(const std::filesystem::path& path);

}  // namespace espalier
