#include "commands/training_options.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/data_option.h"
#include "espalier/datasets/find.h"
#include "espalier/log.h"
#include "store/store.h"
#include "system/interrupt.h"

namespace espalier {

namespace {

Value absolute(const std::vector<std::string>& paths) {
  Value all = Value::list();
  for (const std::string& p : paths) all.push_back(std::filesystem::absolute(p).lexically_normal().string());
  return all;
}

}  // namespace

void TrainingOptions::add_to(CLI::App& command) {
  add_data_option(command, data);
  command
      .add_option("--save-every", save_every,
                  "Seconds between checkpoints (default 60; fewer where saving takes long); 0: after every step")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.0, 1e9));
  command.add_flag("-q,--quiet", quiet, "Prints nothing but warnings and errors");
}

TrainerOptions TrainingOptions::of_run(const PluginOptions& plugins) const {
  catch_interrupts();
  if (quiet) log::only_warnings();
  return {.out = {},
          .data = default_data_paths(data),
          .quiet = quiet,
          .save_every = save_every,
          .origin = Value::map({{"data", absolute(data)}, {"plugins", absolute(plugins.folders)}}),
          .recorded = StoreWriter()};
}

SweepOptions TrainingOptions::of_sweep(const PluginOptions& plugins) const {
  return {.out = "",
          .data = data,
          .plugins = plugins.folders,
          .source = "",
          .scale = "",
          .front = "",
          .quiet = quiet,
          .flags = {"--save-every", to_json(save_every)}};
}

}  // namespace espalier
