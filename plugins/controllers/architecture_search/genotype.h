#pragma once

#include <optional>
#include <string>

#include <espalier/run.h>
#include <espalier/value.h>

namespace espalier {

// Returns the share of skip_connect among the operations that a genotype names (paper 003, section 3.2.3), from 0 to 1;
// none if it names no operations.
std::optional<double> skip_ratio(const Value& genotype);

// Gives the metric skip_ratio of a genotype, and skip_ratio.KEY of each of its cells if it has several.
void give_skip_ratios(Run& run, const Value& genotype);

// Publishes a genotype as the artefact "genotype" of the stage, and says it in words.
void publish_genotype(Run& run, const Value& genotype);

// Returns "33.3 %" of a share.
std::string percent(double share);

}  // namespace espalier
