#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "formats/safetensors.h"

namespace espalier {

// Whether a file is one of PyTorch's, by its first bytes.
bool is_state_dict(const std::filesystem::path& path);

struct StateDict {
  NamedTensors tensors;
  std::string key;                  // where in the file it lay, "model.state_dict"; empty: it is all of the file
  std::vector<std::string> others;  // keys of dictionaries that would have done as well
};

// The tensors of a state dict that torch.save() wrote, alone or in a checkpoint. `key` says which of a checkpoint's
// dictionaries is meant, "ema" or "model.state_dict"; without it, it is one called as state dicts mostly are
// (state_dict, model, net ...), or the one that there is. The pickle is read as data: nothing in it is called or
// imported. Sparse tensors become dense. Throws InputError naming the file and what is wrong with it.
StateDict load_state_dict(const std::filesystem::path& path, const std::string& key = {});

}  // namespace espalier
