#include "commands/plugin_options.h"

#include "espalier/log.h"
#include "espalier/registry.h"

namespace espalier {

void PluginOptions::add_to(CLI::App& command) {
  command.add_option("--plugins", folders, "A folder of plugins or a library, searched first; may be repeated")
      ->type_name("DIR")
      ->allow_extra_args(false);
}

PluginReport PluginOptions::load() const {
  PluginReport report = load_plugins(plugin_search_path(folders), Registry::instance());
  for (const auto* list : {&report.notes, &report.problems}) {
    for (const PluginProblem& p : *list) log::warning(p.path.string() + ": " + p.reason);
  }
  return report;
}

}  // namespace espalier
