#pragma once

#include <CLI/App.hpp>

namespace espalier {

// `espalier latency NETWORK_OR_RECIPE_OR_RUN`: measures what the operations of a network take on a device.
void add_latency_command(CLI::App& app);

}  // namespace espalier
