#pragma once

#include <espalier/edit.h>
#include <espalier/graph.h>
#include <espalier/selector.h>

namespace espalier {

// Returns the edits that give channels coefficients of the role `architecture`, which begin as 1, for a search of
// widths (paper 003, (4.1)): one for each channel that a selected batch norm or layer makes. The gate stands as far
// behind it as each channel is still by itself and has one reader: behind the batch norm of a layer, a view of its
// channels, and the activation function (003-X13: before a batch norm a positive factor would be without effect). A
// selected batch norm and its layer have one gate, and what has its gate already gets no other. Gates are called
// NODE.gate. An empty selector gives no edits. Throws Error with the name if a selected parameter belongs to neither a
// layer nor a batch norm, or if its width is given from outside.
Edits channel_gates(const Graph& graph, const Selector& on);

}  // namespace espalier
