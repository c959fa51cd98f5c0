#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "espalier/value.h"
#include "system/files.h"

namespace espalier {

// The files of one run:
//   recipe.yaml          resolved, with all defaults
//   environment.json     machine, versions, command, folders; what a continuation is compared with
//   metrics.jsonl        a line for each epoch; seconds, images_per_second and the two of memory depend on the machine
//   history.jsonl        a line for each edit of the structure
//   events.out.tfevents.0.espalier   the metrics, the recipe, widths and weights, for TensorBoard
//   records/             what a controller keeps for figures
//   artefacts/           what stages hand on, STAGE.NAME.json and .safetensors: other recipes refer to it
//   checkpoints/         last.safetensors, previous.safetensors (the one before), best.safetensors
//   model.safetensors    the final parameters and buffers
//   graph.json           the final structure
//   model.py             the network in plain PyTorch
//   model.onnx, model.pt what `espalier export` writes unless it is told where
//   summary.json
//   finished-1/ ...      what a finished run left that was then trained further: summary, network and exports
class RunFolder {
 public:
  // Claims an existing folder until the end of the process's work on it. Throws Error where another process has it.
  explicit RunFolder(std::filesystem::path path);

  // Makes the folder of a new run: `wanted`, which must be empty or absent, or where that is empty runs/NAME-seed0, -2,
  // -3 ...
  static std::filesystem::path make(const std::string& wanted, const std::string& name, int64_t seed);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path file(const std::string& name) const { return path_ / name; }
  std::filesystem::path checkpoint(const std::string& name) const {
    return path_ / "checkpoints" / (name + ".safetensors");
  }
  void add_metrics(const Value& line) const;
  // Records of formats/tensorboard.h.
  void add_events(const std::string& records) const;
  void add_history(const Value& line) const;

  // Bytes of the files that grow, on the disk when it returns: {"metrics.jsonl": n, ...}.
  Value sizes() const;
  // Cuts what is behind those sizes (null: everything). Returns the files that are shorter than they should be. Throws
  // InputError, and cuts nothing, where a line of metrics.jsonl or history.jsonl that would stay is no JSON map.
  std::vector<std::string> cut_to(const Value& sizes) const;

  // Moves what a finished run left at its end into the first of finished-1, finished-2 ... that is not there.
  void put_results_away() const;

 private:
  void check_lines(const std::string& name, size_t size) const;

  std::filesystem::path path_;
  std::unique_ptr<Descriptor> lock_;
};

// The folder of a new run, made as RunFolder::make does. It goes again if an exception ends the run before its first
// checkpoint (data that are missing, say) and if it was not there before: nothing is in it that anybody could want, and
// the next run of this name takes its place.
class NewRunFolder {
 public:
  NewRunFolder(const std::string& wanted, const std::string& name, int64_t seed);
  NewRunFolder(const NewRunFolder&) = delete;
  NewRunFolder& operator=(const NewRunFolder&) = delete;
  ~NewRunFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  bool was_there_;
  int exceptions_;
  std::filesystem::path path_;
};

}  // namespace espalier
