#pragma once

#include <filesystem>
#include <string>

#include "espalier/value.h"

namespace espalier {

// The files of one run:
//   recipe.yaml          resolved, with all defaults
//   metrics.jsonl        a line for each epoch
//   history.jsonl        a line for each edit of the structure
//   checkpoints/         last.safetensors, best.safetensors
//   model.safetensors    the final parameters and buffers
//   graph.json           the final structure
//   model.py             the network in plain PyTorch
//   summary.json
class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}

  // Makes the folder of a new run: `wanted`, which must be empty or absent, or where that is empty runs/NAME-seed0, -2,
  // -3 ...
  static std::filesystem::path make(const std::string& wanted, const std::string& name, int64_t seed);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path file(const std::string& name) const { return path_ / name; }
  std::filesystem::path checkpoint(const std::string& name) const {
    return path_ / "checkpoints" / (name + ".safetensors");
  }
  void add_metrics(const Value& line) const;
  void add_history(const Value& line) const;

 private:
  std::filesystem::path path_;
};

}  // namespace espalier
