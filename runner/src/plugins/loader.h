#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/component.h"
#include "espalier/registry.h"

namespace espalier {

struct LoadedPlugin {
  Origin origin;
  std::vector<std::string> components;  // "regularizer 'kernel_number'"
};

struct PluginProblem {
  std::filesystem::path path;
  std::string reason;
  std::string kind{}, name{};  // of a component that was skipped, where the rest of the plugin was not
};

struct PluginReport {
  std::vector<std::filesystem::path> searched;
  std::vector<LoadedPlugin> plugins;
  std::vector<PluginProblem> problems;
  std::vector<PluginProblem>
      notes;  // nothing is wrong, but somebody may wonder: a plugin hidden by another of its name
};

// The kinds of components that plugins may offer.
const std::vector<std::string>& component_kinds();

// Loads the plugins (*.so) in each folder, in order of their names, and adds their components to the registry; a path
// to a single library is as good as a folder. A library's stamp is read first: of one that is rejected, no code runs.
// Of two plugins of one name the first counts. What is wrong with one plugin is reported and keeps nothing else from
// being loaded, and what others can write to is a problem. Libraries stay loaded until the process ends, since LibTorch
// does not survive unloading. Throws Error where a path does not exist.
PluginReport load_plugins(const std::vector<std::filesystem::path>& folders, Registry& registry);

// Where plugins are looked for: the folders given by flags, then those of the variable ESPALIER_PLUGINS (separated by
// colons), then that of `espalier install`, then the program's own.
std::vector<std::filesystem::path> plugin_search_path(const std::vector<std::string>& from_flags);

}  // namespace espalier
