#pragma once

#include "espalier/operation.h"

// What both kinds of attention share: queries, keys and values of [..., heads x head dimension], numbers read from
// axes.
namespace espalier {

struct HeadSizes {
  int64_t heads = 0;
  int64_t query = 0;  // head dimension of queries and keys
  int64_t value = 0;
};

// The sizes of a node whose inputs passed require_heads().
HeadSizes head_sizes(const Graph& graph, const Node& node);
// Refuses inputs that are no queries, keys and values of the same tokens and heads.
void require_heads(NodeBuilder& n);

}  // namespace espalier
