#include "espalier/rows.h"

#include <atomic>

namespace espalier {

namespace {

// Counting asks every node, so graphs are searched only where such an operation was ever made.
std::atomic<bool> made_any{false};

}  // namespace

ReadsByPass::~ReadsByPass() = default;

MakesRows::MakesRows() {
  made_any = true;
}
MakesRows::~MakesRows() = default;

// What an operation computes with stands first among its inputs, so that the way leads through first inputs.
int64_t rows_for_a_sample(const Graph& graph, const Node& node) {
  if (!made_any) return 1;
  for (const Node* n = &node;;) {
    if (const auto* makes = dynamic_cast<const MakesRows*>(n->op.get())) return makes->rows(graph, *n);
    if (n->inputs.empty()) return 1;
    const int32_t producer = graph[n->inputs.front()].producer;
    if (producer < 0) return 1;
    n = &graph.nodes()[static_cast<size_t>(producer)];
  }
}

}  // namespace espalier
