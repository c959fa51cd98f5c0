#pragma once

#include <string>
#include <vector>

#include "espalier/stamp.h"

namespace espalier {

// What keeps a plugin from being loaded into a program, in words: "SDK ABI 3, this program has 1". Empty: nothing does.
std::vector<std::string> differences(const Stamp& plugin, const Stamp& program);

// This program's own stamp.
Stamp program_stamp();

// Why the plugin is not loaded, each difference named, and the commands that rebuild it.
std::string rejection(const Stamp& plugin, const std::vector<std::string>& differences);

}  // namespace espalier
