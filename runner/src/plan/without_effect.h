#pragma once

#include "espalier/dataset.h"
#include "espalier/graph.h"
#include "plan/awaited.h"
#include "recipe/recipe.h"

// Notes of what a recipe says without effect, each with its place.
namespace espalier {

// Of a stage: what its components know of their options, and its own keys.
void note_idle(const StageSection& stage, const Graph& graph, const Awaited& awaited, Value& notes);

// Of the data's keys.
void note_idle(const DataSection& data, const DatasetInfo& info, Value& notes);

}  // namespace espalier
