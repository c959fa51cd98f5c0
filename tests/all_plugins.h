#pragma once

#include <filesystem>

#include "espalier/testkit.h"

namespace espalier {

// Every plugin of the build, in this process; a second time it does nothing.
inline void load_all_plugins() {
  for (const auto& entry : std::filesystem::directory_iterator(ESPALIER_PLUGIN_DIR)) {
    if (entry.path().extension() == ".so") testkit::load_plugin(entry.path());
  }
}

}  // namespace espalier
