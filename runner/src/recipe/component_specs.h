#pragma once

#include <string>
#include <vector>

#include "espalier/registry.h"
#include "espalier/value.h"
#include "recipe/recipe.h"
#include "recipe/references.h"

namespace espalier {

// Checks the components that a recipe names, and what these take from earlier stages and from runs of other recipes.
class ComponentSpecs {
 public:
  // needs: the recipes whose runs may be missing.
  ComponentSpecs(const Registry& registry, std::vector<NeededRecipe> needs)
      : registry_(registry), needs_(std::move(needs)) {}

  // A component's spec, checked, with all defaults and absolute paths: the run folder's recipe lies elsewhere.
  Value check(const std::string& kind, const Value& spec) const;

  // Whether the folder, which does not exist, is that of a run which the recipe says that it needs.
  bool is_needed(const Value& folder) const;

  // From now on specs may refer to what this stage publishes.
  void add_stage(StageArtefacts artefacts) { stages_so_far_.push_back(std::move(artefacts)); }

  const Registry& registry() const { return registry_; }
  const std::vector<NeededRecipe>& needs() const { return needs_; }
  const std::vector<MissingRun>& missing() const { return missing_; }

 private:
  // The spec with what other runs published in place of what refers to it. References to stages of this recipe stay,
  // and are checked.
  Value with_references(const Value& spec) const;
  void make_paths_absolute(const std::string& kind, Value& spec) const;
  void make_paths_absolute(const std::vector<ParameterInfo>& parameters, Value& options) const;

  const Registry& registry_;
  std::vector<NeededRecipe> needs_;
  mutable std::vector<MissingRun> missing_;  // runs of needs_ that are read and do not exist
  std::vector<StageArtefacts> stages_so_far_;
};

}  // namespace espalier
