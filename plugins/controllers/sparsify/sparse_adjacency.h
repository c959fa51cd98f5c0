#pragma once

#include <espalier/controller.h>
#include <espalier/edit.h>
#include <espalier/graph.h>

#include "sparsify_options.h"

namespace espalier {

// What `groups: adjacency` does: the entries of the adjacency that graph convolutions share compete, and become a
// constant matrix when the stage ends.
class SparseAdjacency {
 public:
  // The options must live as long as this.
  explicit SparseAdjacency(const SparsifyOptions& options) : o_(options) {}

  // Returns the edits with which the stage begins: the competition takes the adjacency's place.
  Edits begin(const Graph& graph) const;
  // Throws Error where the network has no graph convolution.
  void check(const Graph& graph) const;
  // Returns what the stage will do at its end to any values.
  Edits edits_at_end(const Graph& graph) const;

  void stage_begin(Run& run) const;
  void stage_end(Run& run) const;

 private:
  const SparsifyOptions& o_;
};

}  // namespace espalier
