#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "espalier/value.h"
#include "record/summary.h"

namespace espalier {

// Where a run stands between two steps, and what it has counted so far: the numbers of a checkpoint.
struct Position {
  size_t stage = 0;          // the stage under way, or the next one
  bool stage_begun = false;  // its components are at work
  std::string ended_by;      // early_stop or stop_below; empty: the controller
  bool ended = false;        // its controller ends it with the epoch under way
  int64_t epoch = 0;         // of the stage, 0-based
  bool epoch_begun = false;
  int64_t step = 0;                  // done in this epoch
  int64_t epochs_done = 0;           // of the run
  int64_t steps_done = 0;            // of the run
  int64_t steps_total = 0;           // of the run, as far as it is known
  double lr_factor = 1;              // of the schedule, in the last step
  std::optional<double> train_loss;  // of the last epoch
  double macs_sum = 0;               // multiply-accumulates of the network at each step, in epochs
  double base_macs = 0;              // that train costs are relative to
  // Scores of the leading metric, larger ones better: on the test part since the network's structure changed; of the
  // best checkpoint of this stage and structure; that early_stop compares with, and how many evaluations it waited.
  std::optional<double> best_score, best_selection, best_watched;
  int64_t waited = 0;
  std::vector<StageSummary> stages;  // those that have ended

  // Puts every field into the progress of a checkpoint, and takes it from there. read() throws InputError where one is
  // missing.
  void write(Value& progress) const;
  void read(const Value& progress);
};

}  // namespace espalier
