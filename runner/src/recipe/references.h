#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "espalier/registry.h"
#include "espalier/value.h"

// What a recipe takes from runs: artefacts of earlier stages, and of runs of other recipes.
namespace espalier {

struct StageSection;

// {from: STAGE.NAME.KEY, run: FOLDER}; KEY may go on into the artefact's maps, or be left out. run: null for a stage of
// the same recipe.
struct Reference {
  Value from;
  Value run;
};

// `spec` with each reference replaced by what `find` gives for it; where that is nothing, it stays as it is.
Value with_artefacts(const Value& spec, const std::function<std::optional<Value>(const Reference&)>& find);

// What a stage publishes, by its components' declarations.
struct StageArtefacts {
  std::string stage;
  std::vector<std::string> names;
};
StageArtefacts published_by(const StageSection& stage, const Registry& registry);

// Throws InputError where no stage before publishes what the reference names.
void check_reference(const Reference& reference, const std::vector<StageArtefacts>& before, const Registry& registry);

// Whether a path is this folder or lies in it; both are absolute and normal.
bool lies_in(const std::filesystem::path& path, const std::filesystem::path& folder);

// The part of an artefact that a reference names. name: "STAGE.NAME"; throws InputError where a key is missing.
Value part_of_artefact(const Value& artefact, const std::string& name, const Value& from);

// The value in artefacts/STAGE.NAME.json of a run's folder. Throws InputError where there is none.
Value artefact_of_run(const Value& folder, const Value& from);

// Whether a folder's name is that of a run of a recipe: its name, alone or followed by '-' (and a scale, a seed).
bool is_called(const std::string& folder, const std::string& recipe);

// A recipe that another one needs.
struct NeededRecipe {
  std::filesystem::path path;       // absolute
  std::string name;                 // of its runs
  std::vector<std::string> scales;  // by which runs of other sizes are called
};
// Those under `needs`. Throws InputError where one cannot be read.
std::vector<NeededRecipe> needed_recipes(const Value& recipe);

// Which recipe makes the run in a folder, and by which command.
struct Maker {
  const NeededRecipe* recipe;
  std::string command;
};

// The one of these recipes whose runs are called like the folder: a part of its path is the recipe's name, alone or
// followed by '-' (and a scale). Of several the one with the longest name, since `search-kd-seed0` is a run of
// `search-kd` and not of `search`. None where no name fits.
std::optional<Maker> maker_of(const std::filesystem::path& folder, const std::vector<NeededRecipe>& needed);

}  // namespace espalier
