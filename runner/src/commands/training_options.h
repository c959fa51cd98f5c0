#pragma once

#include <string>
#include <vector>

#include <CLI/App.hpp>

#include "commands/plugin_options.h"
#include "sweep/sweep.h"
#include "train/trainer.h"

namespace espalier {

// The flags of commands that train.
struct TrainingOptions {
  std::vector<std::string> data;
  bool quiet = false;
  double save_every = 60;

  void add_to(CLI::App& command);
  // From now on Ctrl-C and SIGTERM save and stop.
  TrainerOptions of_run(const PluginOptions& plugins) const;
  SweepOptions of_sweep(const PluginOptions& plugins) const;
};

}  // namespace espalier
