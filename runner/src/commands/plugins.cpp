#include "commands/plugins.h"

#include <iostream>
#include <memory>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/plugin_options.h"
#include "espalier/registry.h"
#include "espalier/value.h"
#include "plugins/builtin.h"
#include "system/terminal.h"

namespace espalier {

namespace {

Value problems_value(const std::vector<PluginProblem>& problems) {
  Value result = Value::list();
  for (const PluginProblem& p : problems)
    result.push_back(Value::map({{"path", p.path.string()}, {"reason", p.reason}}));
  return result;
}

Value to_value(const PluginReport& report) {
  Value result = Value::map({{"components", Value::list()}, {"plugins", Value::list()}});
  for (const Registered* r : Registry::instance().all()) {
    result["components"].push_back(Value::map({{"kind", r->component.kind},
                                               {"name", r->component.name},
                                               {"doc", r->component.doc},
                                               {"plugin", r->origin.plugin},
                                               {"version", r->origin.version},
                                               {"path", r->origin.path}}));
  }
  for (const LoadedPlugin& p : report.plugins) {
    result["plugins"].push_back(Value::map({{"name", p.origin.plugin},
                                            {"version", p.origin.version},
                                            {"path", p.origin.path},
                                            {"components", p.components}}));
  }
  result["problems"] = problems_value(report.problems);
  result["notes"] = problems_value(report.notes);
  result["searched"] = Value::list();
  for (const auto& folder : report.searched) result["searched"].push_back(folder.string());
  return result;
}

void print(const PluginReport& report) {
  const size_t width = terminal_width();
  std::vector<std::vector<std::string>> rows = {{"kind", "name", "plugin", "what it is"}};
  for (const Registered* r : Registry::instance().all()) {
    rows.push_back({r->component.kind, r->component.name, r->origin.plugin, r->component.doc});
  }
  std::cout << table(rows, width);
  if (!report.plugins.empty()) {
    rows = {{"plugin", "version", "file"}};
    for (const LoadedPlugin& p : report.plugins) rows.push_back({p.origin.plugin, p.origin.version, p.origin.path});
    std::cout << "\n" << table(rows, 0);
  }
  for (const auto* list : {&report.notes, &report.problems}) {
    if (list->empty()) continue;
    std::cout << "\n" << (list == &report.notes ? "Notes:" : "Problems:") << "\n";
    for (const PluginProblem& p : *list) std::cout << "  " << p.path.string() << ": " << p.reason << "\n";
  }
  if (report.plugins.empty()) {
    std::cout << "\nNo plugin was loaded. Searched:" << (report.searched.empty() ? " no folder; see --plugins" : "")
              << "\n";
    for (const auto& folder : report.searched) std::cout << "  " << folder.string() << "\n";
  }
}

}  // namespace

void add_plugins_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "plugins", "Lists the components that are loaded, where they come from, and what could not be loaded");
  struct Flags {
    PluginOptions plugins;
    bool json = false;
  };
  auto flags = std::make_shared<Flags>();
  flags->plugins.add_to(*command);
  command->add_flag("--json", flags->json, "Prints JSON: {components, plugins, problems, notes, searched}");
  command->footer(
      "Folders are searched in the order: --plugins, $ESPALIER_PLUGINS (separated by colons), that of `espalier\n"
      "install`, the program's own.\n"
      "Example:\n  espalier plugins --plugins my-penalty/build\n");
  command->callback([flags] {
    register_builtin(Registry::instance());
    const PluginReport report = load_plugins(plugin_search_path(flags->plugins.folders), Registry::instance());
    if (flags->json) {
      std::cout << to_json(to_value(report), 1) << "\n";
    } else {
      print(report);
    }
  });
}

}  // namespace espalier
