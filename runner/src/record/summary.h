#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/value.h"

namespace espalier {

struct NetworkSize {
  int64_t params = 0;
  int64_t macs = 0;  // multiply-accumulates of one sample
};

struct StageSummary {
  std::string name;
  int64_t epochs = 0;   // that it had
  double accuracy = 0;  // on the test part at its end, percent
  NetworkSize before, after;
  double seconds = 0;

  Value to_value() const;
  static StageSummary from_value(const Value& value);
};

// What a finished run came to.
struct RunResult {
  double accuracy = 0;         // of the final network on the test part, percent
  double accuracy_best = 0;    // the best of the epochs that had the final structure, percent
  std::optional<double> top5;  // percent; none where there are fewer than 20 classes
  double loss = 0;             // of the final network on the test part
  NetworkSize base, final;     // the network as first built, and as it is at the end
  double train_cost = 0;       // multiply-accumulates of the training over those of the base
  double seconds = 0;
  std::string device, precision;
  int64_t threads = 0;
};

// summary.json of a run's folder: its one writer and its one reader. A field that a later version adds is passed over.
struct Summary {
  static constexpr int64_t version = 1;
  std::string name;
  int64_t seed = 0;
  std::string status;  // finished, interrupted, failed
  std::string error;   // why it did not finish
  std::optional<RunResult> result;
  std::vector<StageSummary> stages;  // those that have ended
  Value
      expect;  // what the recipe expects, and whether it was met: metric -> {value, within, found, met}; null: nothing

  bool is_finished() const { return status == "finished" && result; }
  // A number of the result by the name that `expect` and tables use: accuracy, accuracy_best, top5, loss, params, macs
  // (both of the final network), train_cost, seconds.
  std::optional<double> metric(std::string_view metric_name) const;

  Value to_value() const;
  // Throws InputError where a field is missing or of another type.
  static Summary from_value(const Value& value);
  void write(const std::filesystem::path& run) const;
  // None where the run has none yet. Throws InputError naming the file where it cannot be read.
  static std::optional<Summary> read(const std::filesystem::path& run);
};

}  // namespace espalier
