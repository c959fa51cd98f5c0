#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <espalier/graph.h>
#include <espalier/pruning.h>

// One threshold for the scores of all widths, as network slimming (Liu et al. 2017) and searches of widths have it.
namespace espalier {

// Returns the score number n of all, in order from 0.
double score_at(const RemovalOrder& order, int64_t n);
// Returns how many scores are greater than the threshold.
int64_t count_above(const std::vector<double>& scores, double threshold);
// Returns what is left of each width if only greater scores stay, as far as the order lets the width shrink.
std::vector<int64_t> left_above(const RemovalOrder& order, double threshold);

// Returns the gates that layers or batch norms beside them can take up, by their names.
std::vector<std::string> foldable_gates(const Graph& graph);

}  // namespace espalier
