#pragma once

#include <string>
#include <vector>

#include "espalier/dataset.h"
#include "espalier/graph.h"
#include "plan/awaited.h"
#include "recipe/recipe.h"
#include "train/metrics.h"

// What the parts of a recipe must be to each other, seen once the network is built. Each throws InputError at the
// recipe's place.
namespace espalier {

// Of a share that rounds to no sample.
[[noreturn]] void refuse_empty_validation(const DataSection& data, int64_t samples);

// Normalisation by as many channels as there are, augmentations that leave something of an image, a validation share of
// at least one sample where the number of samples is known.
void check_data(const DataSection& data, const DatasetInfo& info);

// A network that a machine can hold. `spec` says where the recipe describes it.
void check_size(const Graph& graph, const Value& spec);

// New data under an old network: images and classes as before.
void check_same_data(const StageSection& stage, const DatasetInfo& before, const DatasetInfo& now);

// No parameter is updated by two optimizers. Returns the names of those that none updates, which may be meant; empty
// where the stage does not train or where its controller has an optimizer of its own.
std::vector<std::string> check_optimizers(const StageSection& stage, const Graph& graph);

// No optimizer is for weights and architecture parameters at once: a controller that updates them one after the other
// can only step both.
void check_roles_apart(const StageSection& stage, const Graph& graph);

// What such an optimizer is told, here and in the step that would do it.
extern const char* const roles_apart_advice;

// Metrics that the recipe names, and those that it compares with, are for the task.
void check_metrics(const Recipe& recipe, const TargetSpec& target, Value& notes);

// What the training keys of a stage name: parameters of its network, which are added to `selectors`, and a metric.
void check_training(const StageSection& s, const Metrics& metrics, const Graph& graph, Value& selectors);

// What components refuse beyond their declarations, they refuse when they are made: those of a stage whose network is
// not known yet.
void check_parts(const StageSection& stage, const TargetSpec& target, const Awaited& awaited);

}  // namespace espalier
