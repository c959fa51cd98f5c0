#pragma once

#include <string>
#include <vector>

#include "espalier/value.h"

namespace espalier {

// Where a run takes place, as far as its results depend on it: {espalier, torch, cpu, cores, threads, isa, torch_isa,
// device}. device: "cpu" or "cuda:0".
Value environment_of(const std::string& device);

// What differs between the environment of a run and that of its continuation, a line each; empty: the same bytes are to
// be expected (on the CPU).
std::vector<std::string> differences(const Value& before, const Value& now);

// A name for a run that no other has: 12 hexadecimal digits, drawn by the system and not of the recipe's seed.
std::string random_id();

// Seconds since 1970.
double wall_time();

}  // namespace espalier
