#pragma once

#include <filesystem>
#include <vector>

#include "espalier/value.h"
#include "recipe/recipe.h"

namespace espalier {

// What a recipe awaits: runs of needed recipes that do not exist yet, and artefacts of its own earlier stages.
class Awaited {
 public:
  explicit Awaited(const Recipe& recipe) : missing_(recipe.missing_runs) {}

  // Whether the path is a missing run, or would lie in its folder. An empty path is not.
  bool covers(const std::filesystem::path& path) const;
  // Whether something in a spec, checked, is a path that a missing run covers.
  bool names_run(const Value& spec) const;
  // Whether something in a spec is known only when what it awaits is there: a component cannot be made of it before.
  bool concerns(const Value& spec) const;

 private:
  std::vector<MissingRun> missing_;
};

}  // namespace espalier
