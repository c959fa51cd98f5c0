#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "distributed/processes.h"
#include "recipe/recipe.h"
#include "system/scratch_folder.h"
#include "train/trainer.h"

namespace espalier {

// This process as one of those that torchrun or srun started for one run, or as the only one.
class Joined {
 public:
  // Looks at the environment. From now on a process that does not lead says nothing but errors, and each uses the GPU
  // of its machine that has its number. Throws InputError where the environment is wrong.
  Joined();
  bool several() const { return place_.count > 1; }
  bool leads() const { return place_.rank == 0; }
  int64_t count() const { return place_.count; }
  // Meets the others. Throws InputError at the recipe's place where a component of it works in one process only.
  void meet(Recipe& recipe, TrainerOptions& options);
  // Where a process that does not lead keeps what nobody reads.
  std::filesystem::path scratch();
  // Calls `body`; what it throws tells the others that this process ends.
  void together(const std::function<void()>& body) const;

 private:
  ProcessPlace place_;
  std::shared_ptr<const Processes> processes_;
  std::optional<ScratchFolder> scratch_;
};

}  // namespace espalier
