#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/graph.h"
#include "formats/safetensors.h"
#include "recipe/layout.h"
#include "recipe/recipe.h"

namespace espalier {

// The values of a network under the names and in the arrangement of a table, with the buffers that other programs keep
// and the table names. Throws Error listing the parameters that the table has no name for.
NamedTensors in_layout(const Layout& layout, const Graph& graph, const NamedTensors& values);

// The spec of the backbone that a run's network came from, after so many stages: that of the run whose structure it
// took over, where it did.
Value backbone_of(const Recipe& recipe, size_t stages);

// The table that `--layout WORD` means for this backbone, which knows all of the network's parameters. Throws
// InputError where there is none, or where the backbone would build another network than this one (which was pruned or
// grown): then the library could not load it.
std::shared_ptr<const Layout> layout_for_export(const std::string& word, const Value& backbone, const Graph& graph,
                                                const Graph& built);

// Where the backbone was made otherwise than the table says: a line each.
std::vector<std::string> differences(const Layout& layout, const Value& backbone);

}  // namespace espalier
