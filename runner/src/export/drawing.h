#pragma once

#include <filesystem>
#include <string>

#include "espalier/graph.h"

namespace espalier {

// The network in Graphviz's language: a box for each node, widths on the edges, and a frame for each prefix of names
// ("layer1.0." of "layer1.0.conv1").
std::string network_dot(const Graph& graph, const std::string& title);

// The same as a file .dot, or drawn by Graphviz as .svg or .png. Throws InputError for another ending, and Error where
// Graphviz is missing or fails.
void draw_network(const Graph& graph, const std::string& title, const std::filesystem::path& file);

}  // namespace espalier
