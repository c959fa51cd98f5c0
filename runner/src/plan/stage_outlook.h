#pragma once

#include <cstdint>

#include "espalier/controller.h"
#include "espalier/dataset.h"
#include "espalier/graph.h"
#include "espalier/own_step.h"
#include "plan/awaited.h"
#include "plan/beginning_values.h"
#include "recipe/recipe.h"

// What a plan says of a stage: what it does, what its steps take, and what its components foresee.
namespace espalier {

bool concerns_controllers(const Awaited& awaited, const StageSection& stage);

// What a step of the stage takes: that of a controller that composes its own, or else an ordinary one. Not known yet
// where a controller takes something from an earlier stage, or from a run that does not exist yet.
StepCost step_cost_of(const StageSection& stage, const Awaited& awaited);

// Steps of an epoch, or 0 where the data set must be read to know.
int64_t steps_of(const DataSection& data, const DatasetInfo& info, int64_t batches);

// Bytes of hopeless plans do not fit into 64 bits.
int64_t saturated(double bytes);

// {passes, copies, data, macs, steps}; macs: of a step of `samples` samples, of which a backward pass has twice those
// of a forward pass; steps: of an epoch, 0 where the data must be read to know.
Value step_line(const StepCost& cost, const Graph& graph, int64_t samples, int64_t steps);

// resolved: the stage in the resolved recipe.
Value stage_line(const StageSection& s, const Value& resolved, const Value& outlook, const Value& norms,
                 const Value& step);

// What the optimizers of a stage that begins with a new network say of a round of its controller, or of the whole
// stage.
Value outlook_of(const StageSection& stage, const DataSection& data, const DatasetInfo& info, const Graph& graph,
                 BeginningValues& values);

// What its controllers say of the values that its network begins with.
Value found_by_controllers(const StageSection& stage, const Graph& graph, BeginningValues& values);

// The changes that a controller will make of the values that its network begins with; `lines` gets why not.
Edits foreseen_edits(const Controller& controller, const Value& spec, const Graph& graph, const Weights* values,
                     Value& lines);

}  // namespace espalier
