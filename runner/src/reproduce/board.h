#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "espalier/value.h"

namespace espalier {

// What `reproduce` shows while it works: on a terminal a table that moves, below the lines that stay; elsewhere lines
// alone.
class Board {
 public:
  struct Running {
    std::string name;
    std::filesystem::path folder;
    const Value* recipe;  // resolved
    double seconds = 0;   // since its process began
    std::optional<double> estimate;
  };

  explicit Board(bool quiet);
  bool is_live() const { return live_; }
  // A line that stays.
  void say(const std::string& text);
  // The runs at work with their epoch and their leading metric, and how much is done. At most twice a second.
  void show(const std::vector<Running>& running, size_t done, size_t all, double seconds_left);
  void clear();

 private:
  bool quiet_, live_;
  size_t lines_ = 0;  // of the table, on the screen
  double shown_ = 0;
};

// How far a run is, read from its folder: epochs done, and all that its recipe has.
struct RunPosition {
  int64_t epochs = 0, of = 0;
  std::string stage;
  std::string metric;  // "accuracy 61.2" of the last evaluation; empty: none yet
};
RunPosition position_of(const std::filesystem::path& run, const Value& recipe);

}  // namespace espalier
