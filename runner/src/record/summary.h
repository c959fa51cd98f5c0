#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/value.h"

namespace espalier {

struct NetworkSize {
  int64_t params = 0;
  int64_t macs = 0;  // multiply-accumulates of one sample
};

// Metrics of an evaluation by their names, the leading one first.
using MetricValues = std::vector<std::pair<std::string, double>>;

// The metric that chooses the best epoch.
struct LeadingMetric {
  std::string name = "accuracy";
  std::string unit = "%";
  bool larger_is_better = true;

  // A value such that larger is better, and back.
  double score(double value) const { return larger_is_better ? value : -value; }
};

// "91.25 %", or "0.01234" of a metric without a unit.
std::string metric_text(double value, const std::string& unit);

struct StageSummary {
  std::string name;
  int64_t epochs = 0;    // that it had
  MetricValues metrics;  // on the test part at its end
  NetworkSize before, after;
  double seconds = 0;
  MetricValues measured{};  // what its controller gave when the epochs were over

  Value to_value() const;
  static StageSummary from_value(const Value& value);
};

// What a finished run came to.
struct RunResult {
  MetricValues metrics;   // of the final network on the test part
  LeadingMetric leading;  // the first of them
  double best = 0;        // of the leading one, over the epochs that had the final structure
  // Of the leading one on the validation part, with the values of the best checkpoint; none: nothing was held out.
  std::optional<double> validation;
  double loss = 0;  // of the final network on the test part
  // The mean loss of the training steps of the last epoch, without penalties; none where nothing was trained.
  std::optional<double> train_loss;
  // The share of the columns (input features and channels) of the weights of the network as first built that are gone
  // or below 1e-3 in all their elements (002-M3).
  double sparsity = 0;
  NetworkSize base, final;  // the network as first built, and as it is at the end
  double train_cost = 0;    // multiply-accumulates of the training over those of the base
  // Multiply-accumulates of a sample's forward pass, summed over the epochs; none: an older program did not write it.
  std::optional<double> train_macs;
  double seconds = 0;
  std::string device, precision;
  int64_t threads = 0;
};

// summary.json of a run's folder: its one writer and its one reader. A field that a later version adds is passed over.
struct Summary {
  static constexpr int64_t version = 2;
  std::string name;
  int64_t seed = 0;
  std::string status;  // finished, interrupted, failed
  std::string error;   // why it did not finish
  std::optional<RunResult> result;
  std::vector<StageSummary> stages;  // those that have ended
  Value
      expect;  // what the recipe expects, and whether it was met: metric -> {value, within, found, met}; null: nothing

  bool is_finished() const { return status == "finished" && result; }
  // A number of the result by the name that `expect` and tables use: a metric, the leading metric with "_best" behind
  // its name, loss, params, macs (both of the final network), train_cost, seconds; or STAGE.NAME of what a stage
  // measured.
  std::optional<double> metric(std::string_view metric_name) const;

  Value to_value() const;
  // Throws InputError where a field is missing or of another type.
  static Summary from_value(const Value& value);
  void write(const std::filesystem::path& run) const;
  // None where the run has none yet. Throws InputError naming the file where it cannot be read.
  static std::optional<Summary> read(const std::filesystem::path& run);
};

}  // namespace espalier
