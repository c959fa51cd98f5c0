#pragma once

#include <cstddef>
#include <cstdint>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/operation.h"

// Second bases of operations whose work depends on what a sample holds, such as the regions of an image.
namespace espalier {

// A second base for operations that read some of their inputs in some passes only. What chooses by the truth in
// training reads targets there and nowhere else; what takes the end of a network's evaluation as its input leaves that
// end uncomputed in training. An input that a pass does not read is an undefined tensor in Forward::inputs, and neither
// it nor what makes it need be there.
//
// An input of the graph that is called "target" or "target.NAME" is the target "target" or NAME of the batch
// (Batch::targets). Training steps hand them in. Its rows may be those of all samples one below the other.
class ESPALIER_API ReadsByPass {
 public:
  ReadsByPass() = default;
  ReadsByPass(const ReadsByPass&) = delete;
  ReadsByPass& operator=(const ReadsByPass&) = delete;
  virtual ~ReadsByPass();
  // Returns whether the node reads its input i, from 0, in such a pass.
  virtual bool reads(size_t input, const Pass& pass) const = 0;
};

// A second base for operations whose outputs have a number of rows of their own in place of the batch: the regions of
// all images one below the other. Operations behind it compute each row by itself, as they do with samples.
class ESPALIER_API MakesRows {
 public:
  MakesRows();
  MakesRows(const MakesRows&) = delete;
  MakesRows& operator=(const MakesRows&) = delete;
  virtual ~MakesRows();
  // Returns how many rows one sample gives in evaluation, at most: multiply-accumulates of the nodes behind are counted
  // for so many, until another node makes rows.
  virtual int64_t rows(const Graph& graph, const Node& node) const = 0;
};

// Returns how many rows the output of a node has for one sample: those of the operation in front that makes rows, or 1.
ESPALIER_API int64_t rows_for_a_sample(const Graph& graph, const Node& node);

}  // namespace espalier
