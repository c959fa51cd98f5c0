#pragma once

#include <string>
#include <vector>

#include <CLI/App.hpp>

#include "plugins/loader.h"

namespace espalier {

// The flag --plugins, and loading what it and the environment name.
struct PluginOptions {
  std::vector<std::string> folders;

  void add_to(CLI::App& command);
  // Loads all plugins; what is wrong with one, or hides another, goes to standard error and keeps nothing else from
  // being loaded.
  PluginReport load() const;
};

}  // namespace espalier
