#pragma once

#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include <espalier/graph.h>
#include <espalier/kernel_support.h>
#include <espalier/selector.h>
#include <espalier/weights.h>

#include "kernel_chain.h"

namespace espalier {

// Which norm a group has (paper 001, section 3.4.1).
enum class ChainNorm {
  l2,
  group_normalized,  // (25), read as the root of the mean square (001-X1)
  group_scaled,      // (29), read as the root of |G| times the sum of squares (001-X1)
  linf,              // the largest size
  batch_norm,        // l2 of the kernel times |a| / sigma of the batch norm behind it, (30) and (31)
};

// Returns the norm that a word of a recipe names.
ChainNorm chain_norm(const std::string& name);

// A layer whose filters are penalised: rows [first, first + count).
struct ChainLayer {
  ParamId parameter;
  Axis axis;  // its width
  int64_t first = 0;
  int64_t count = 0;
  // For (34): the positions of its output (r_i c_i) over the most that a penalised layer has, and what the relaxed
  // width of its input is made of.
  double positions = 1;
  double constant = 0;                           // numbers of channels that no penalised layer makes
  std::vector<std::pair<Axis, double>> relaxed;  // widths that penalised layers make, and how often each counts
};

// The filters and units of the selected layers with their nested groups, for the passes.
class ChainTables {
 public:
  // Lists them. shrinkage: the nested groups of square kernels; null: each filter is one group. Throws Error if the
  // norm needs a batch norm behind a layer that has none.
  void build(const Graph& graph, const Weights& weights, const Selector& on, const KernelShrinkage* shrinkage,
             ChainNorm norm);

  // Returns the tables in the memory of the device that the weights are on.
  const Chains& chains() const { return chains_; }
  const std::vector<ChainLayer>& layers() const { return layers_; }
  // Returns the layer of each family, whose learning rate counts.
  const std::vector<ParamId>& family_parameters() const { return family_parameters_; }
  int64_t rows() const { return static_cast<int64_t>(rows_.size()); }
  // Returns the squares of the sizes of the kernels, float64 [rows], where the weights are.
  const at::Tensor& areas() const { return areas_; }
  // Returns how many rows are worth a thread.
  int64_t grain() const { return grain_; }
  // Returns whether a kernel larger than 1 has nested groups.
  bool has_kernels() const { return has_kernels_; }

 private:
  void add_family(const Graph& graph, const Weights& weights, const struct GroupFamily& family,
                  const KernelShrinkage* shrinkage, ChainNorm norm);

  std::vector<ChainFamily> families_;
  std::vector<ChainRow> rows_;
  std::vector<int32_t> piece_of_, order_, starts_;
  std::vector<double> factors_, sizes_;
  std::vector<ParamId> family_parameters_;
  std::vector<ChainLayer> layers_;
  std::vector<at::Tensor> on_device_;
  at::Tensor areas_;
  Chains chains_;
  int64_t grain_ = 1;
  bool has_kernels_ = false;
};

}  // namespace espalier
