#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace espalier {

// One line for each epoch: on a terminal a bar that moves and is replaced by the epoch's result; elsewhere only the
// results, plain.
class Progress {
 public:
  explicit Progress(bool quiet);
  // `label`: "shrink 3/6". `step`: where in the epoch's `steps` it begins; `done`: steps of the run done, `total`: of
  // the whole run, for the remaining time.
  void begin(std::string label, int64_t steps, int64_t step, int64_t done, int64_t total);
  // `images`: of the epoch. At most ten times a second; costs nothing otherwise.
  void step(int64_t step, int64_t images);
  // A line of its own: an epoch's result, a note.
  void note(const std::string& text);

  // "1:05", "2:01:33"
  static std::string duration(double seconds);

 private:
  using Clock = std::chrono::steady_clock;
  void clear() const;

  bool quiet_;
  bool terminal_;
  std::string label_;
  int64_t steps_ = 0, done_ = 0, total_ = 0;
  int64_t first_ = -1;          // steps of the run done when this process began
  int64_t images_before_ = -1;  // of the epoch, before this process
  Clock::time_point run_began_ = Clock::now(), epoch_began_, shown_;
};

}  // namespace espalier
