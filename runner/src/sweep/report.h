#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/value.h"
#include "record/summary.h"

namespace espalier {

// A run of a sweep, as sweep.json holds it.
struct SweepRun {
  std::string name;                // also of its folder
  Value values;                    // what the matrix sets, a map: path -> value
  std::optional<int64_t> draw;     // its number in a matrix of random draws
  std::string status = "waiting";  // running, finished, failed, interrupted
  std::string error;               // of a failed one
  double seconds = 0;              // of its process; of all of them where it was resumed
  std::optional<Summary> summary;  // none: it has none yet

  Value to_value() const;
  static SweepRun from_value(const Value& v);
};

// A network's size, where a smaller one is better, and a score, where a larger one is.
struct SizeAndScore {
  double size = 0;
  double score = 0;
};

// Whether each is on the Pareto front: no other is at least as good in both and better in one. Equal ones are on it
// together. What is not finite is on none.
std::vector<bool> pareto_front(const std::vector<SizeAndScore>& points);

// What a front compares with the leading metric.
constexpr int64_t NetworkSize::*size_of_front(std::string_view name) {
  return name == "macs" ? &NetworkSize::macs : &NetworkSize::params;
}

// The names of the finished runs on the front of the final size and the leading metric on the test part, as the run
// ended; smaller networks first. Empty where fewer than two have finished, or not all have the same leading metric.
std::vector<std::string> front_of(const std::vector<SweepRun>& runs, int64_t NetworkSize::*size);

// A row for each run: the number of its draw, the varied values, the leading metric on the test part, parameters and
// MACs and their share of the network's as first built, time, status, and a star where it is in `front`.
std::string runs_table(const std::vector<SweepRun>& runs, const std::vector<std::string>& front = {});

// Of finished runs that differ in nothing but `seed`: [{values, seeds, metric: its name, NAME: {mean, deviation},
// params, macs, seconds}]; deviation is the sample's (n - 1), null of a single run. Empty where the matrix does not
// vary the seed.
Value over_seeds(const std::vector<SweepRun>& runs);
// The same as a table; "" of an empty list.
std::string seeds_table(const Value& groups);

// The matrix's part of a plan: {name, runs: [{name, draw, values, plan}]} as a table of parameters and MACs.
std::string matrix_plan_table(const Value& plans);

}  // namespace espalier
