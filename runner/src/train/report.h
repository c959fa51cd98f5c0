#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/dataset.h"
#include "espalier/graph.h"
#include "espalier/weights.h"
#include "recipe/recipe.h"
#include "record/summary.h"

namespace espalier {

// MACs of the network that train costs are relative to: the recipe's `base`, else the network as first built.
double base_macs(const Recipe& recipe, const DatasetInfo& info, const Graph& first);

// Multiply-accumulates of the training of a run that another begins with, as its summary has them. Throws InputError if
// it has none.
double training_before(const std::filesystem::path& run);

// The share of the columns of all weights of `first` that are gone from `last`, or below 1e-3 in all their elements.
double sparsity_of(const Graph& first, const Graph& last, const Weights& weights);

// Tables for the end of a run: each layer's width, parameters and MACs before and after; each stage's result.
std::string before_and_after(const Graph& first, const Graph& last);
std::string stage_table(const std::vector<StageSummary>& stages, const LeadingMetric& leading);

// A recipe's `expect` beside what a summary says: each metric's {value, within, found, met}; found is null where the
// summary has no such number. The table is empty where nothing is expected.
Value compared(const Value& expect, const Summary& summary);
std::string expectation_table(const Value& compared);

}  // namespace espalier
