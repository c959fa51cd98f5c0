#include "chain_tables.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <espalier/error.h>
#include <espalier/groups.h>
#include <espalier/operation.h>

namespace espalier {

namespace {

const Node& node_of(const Graph& graph, ParamId p) {
  return graph.nodes()[static_cast<size_t>(graph[p].node)];
}

// The batch norm that alone reads what a layer gives.
const Node& batch_norm_of(const Graph& graph, const Node& layer) {
  const Node* found = nullptr;
  bool alone = true;
  for (const Node& n : graph.nodes()) {
    for (const Edge in : n.inputs) {
      if (in != layer.outputs.front()) continue;
      alone = !found;
      found = &n;
    }
  }
  if (!found || !alone || found->op->type() != "batch_norm") {
    throw Error("'norm: batch_norm' needs a batch norm behind every layer that is penalised, and behind '" +
                layer.name +
                "' there is none that alone reads it: leave the layer out of 'on', or choose another norm");
  }
  return *found;
}

ParamId parameter_of(const Graph& graph, const Node& node, const std::string& kind) {
  for (const ParamId p : node.parameters) {
    if (graph[p].kind == kind) return p;
  }
  return {};
}

template <class T>
at::Tensor copy_of(const std::vector<T>& values, at::Device device) {
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
  const at::Tensor host = at::empty({std::max<int64_t>(1, bytes)}, at::kByte);
  if (bytes > 0) std::memcpy(host.mutable_data_ptr(), values.data(), static_cast<size_t>(bytes));
  return host.to(device);
}

}  // namespace

ChainNorm chain_norm(const std::string& name) {
  if (name == "group_normalized") return ChainNorm::group_normalized;
  if (name == "group_scaled") return ChainNorm::group_scaled;
  if (name == "linf") return ChainNorm::linf;
  if (name == "batch_norm") return ChainNorm::batch_norm;
  return ChainNorm::l2;
}

void ChainTables::add_family(const Graph& graph, const Weights& weights, const GroupFamily& g,
                             const KernelShrinkage* shrinkage, ChainNorm norm) {
  const Slot& slot = weights.slot(g.parameter);
  const Node& node = node_of(graph, g.parameter);
  const int64_t row = slot.numel / slot.sizes[0];
  const bool square = slot.sizes.size() == 4 && slot.sizes[2] == slot.sizes[3] && g.size == row;
  const int64_t side = square ? slot.sizes[2] : 1;
  const bool nested = shrinkage && side > 1;
  const int64_t groups = nested ? shrinkage->count(side) : 1, positions = nested ? side * side : 1;
  if (groups > max_groups) {
    throw Error("kernels of up to " + std::to_string(max_groups) + " pixels have nested groups here, and those of '" +
                node.name + "' have " + std::to_string(side) + ": leave the layer out of 'on'");
  }
  has_kernels_ = has_kernels_ || nested;

  const auto begin = [](const auto& list) { return static_cast<int32_t>(list.size()); };
  families_.push_back({.channels = g.size / positions,
                       .stride = g.stride,
                       .parts = static_cast<int32_t>(g.pieces),
                       .positions = static_cast<int32_t>(positions),
                       .groups = static_cast<int32_t>(groups),
                       .piece_of = begin(piece_of_),
                       .starts = begin(starts_),
                       .factors = begin(factors_)});
  family_parameters_.push_back(g.parameter);

  Indices piece_of(static_cast<size_t>(positions), 0);
  int32_t place = 0;
  for (int64_t n = 1; n <= groups; ++n) {
    starts_.push_back(place);
    for (const int64_t p : nested ? shrinkage->piece(side, n) : Indices{0}) {
      piece_of[static_cast<size_t>(p)] = n - 1;
      order_.push_back(static_cast<int32_t>(p));
      ++place;
    }
  }
  starts_.push_back(place);
  for (const int64_t n : piece_of) piece_of_.push_back(static_cast<int32_t>(n));

  // |G_n| counts what a kernel that was cropped still has.
  const KernelCorner corner = node.op->kernel_corner();
  const auto elements = static_cast<double>(g.size / (side * side) * g.pieces);  // of a position, of all parts
  for (int64_t size = 0; size <= side; ++size) {
    const int64_t at = kernel_offset(side, size, corner);
    const auto inside = [&](int64_t p) {
      return p / side >= at && p / side < at + size && p % side >= at && p % side < at + size;
    };
    for (int64_t n = 1; n <= groups; ++n) {
      const int64_t cells = nested ? std::ranges::count_if(shrinkage->group(side, n), inside) : size * size;
      const double count = elements * static_cast<double>(cells);
      double factor = 1;
      if (norm == ChainNorm::group_normalized) factor = count > 0 ? 1 / std::sqrt(count) : 0;
      if (norm == ChainNorm::group_scaled) factor = std::sqrt(count);
      factors_.push_back(factor);
    }
  }

  Indices sizes = square ? node.op->kernel_sizes(graph, node) : Indices{};
  const int64_t first_filter = (g.offset - slot.offset) / row;
  ChainRow made{.family = static_cast<int32_t>(families_.size()) - 1, .size = static_cast<int32_t>(side)};
  ParamId scale, variance;
  if (norm == ChainNorm::batch_norm) {
    const Node& bn = batch_norm_of(graph, node);
    scale = parameter_of(graph, bn, "norm_weight");
    variance = parameter_of(graph, bn, "running_var");
    if (variance.id < 0 || g.pieces > 1 || g.size != row) {
      throw Error("'norm: batch_norm' needs running variances and layers without groups or heads, which '" + node.name +
                  "' does not have: leave it out of 'on', or choose another norm");
    }
    made.eps = bn.op->options().at("eps").as_double();
  }
  layers_.push_back({.parameter = g.parameter, .axis = g.axis, .first = rows(), .count = g.count, .relaxed = {}});
  for (int64_t k = 0; k < g.count; ++k) {
    ChainRow r = made;
    r.offset = g.offset + k * g.size;
    const auto filter = static_cast<size_t>(first_filter + k);
    if (filter < sizes.size()) r.size = static_cast<int32_t>(sizes[filter]);
    if (scale.id >= 0) r.scale_at = weights.slot(scale).offset + static_cast<int64_t>(filter);
    if (variance.id >= 0) r.variance_at = weights.slot(variance).offset + static_cast<int64_t>(filter);
    sizes_.push_back(static_cast<double>(r.size));
    rows_.push_back(r);
  }
}

void ChainTables::build(const Graph& graph, const Weights& weights, const Selector& on,
                        const KernelShrinkage* shrinkage, ChainNorm norm) {
  *this = {};
  for (const GroupFamily& g : output_groups(graph, weights, on)) add_family(graph, weights, g, shrinkage, norm);

  // What (34) needs of the structure.
  double most = 1;
  for (ChainLayer& l : layers_) {
    const Node& node = node_of(graph, l.parameter);
    const Shape& out = graph[node.outputs.front()].shape;
    l.positions = static_cast<double>(graph.numel(out)) / static_cast<double>(graph.size(out[channel_dim(out)]));
    most = std::max(most, l.positions);
    const Parameter& p = graph[l.parameter];
    for (size_t d = 0; d < p.shape.size(); ++d) {
      if (!p.input[d]) continue;
      for (const Segment& s : p.shape[d].segments) {
        double others = 1;
        Axis made;
        for (const Factor& f : s.factors) {
          const bool is_made =
              made.id < 0 && f.axis.id >= 0 && std::ranges::find(layers_, f.axis, &ChainLayer::axis) != layers_.end();
          if (is_made) {
            made = f.axis;
          } else {
            others *= static_cast<double>(f.axis.id >= 0 ? graph[f.axis].size : f.constant);
          }
        }
        if (made.id >= 0) {
          l.relaxed.emplace_back(made, others);
        } else {
          l.constant += others;
        }
      }
      break;
    }
    if (l.relaxed.empty() && l.constant == 0) l.constant = 1;
  }
  for (ChainLayer& l : layers_) l.positions /= most;

  int64_t elements = 0;
  for (const ChainRow& r : rows_) {
    const ChainFamily& f = families_[static_cast<size_t>(r.family)];
    elements += f.channels * f.positions * f.parts;
  }
  grain_ = std::max<int64_t>(1, (1 << 14) * rows() / std::max<int64_t>(1, elements));

  on_device_ = {copy_of(families_, weights.device()), copy_of(rows_, weights.device()),
                copy_of(piece_of_, weights.device()), copy_of(order_, weights.device()),
                copy_of(starts_, weights.device()),   copy_of(factors_, weights.device())};
  chains_ = {.families = static_cast<const ChainFamily*>(on_device_[0].const_data_ptr()),
             .rows = static_cast<const ChainRow*>(on_device_[1].const_data_ptr()),
             .piece_of = static_cast<const int32_t*>(on_device_[2].const_data_ptr()),
             .order = static_cast<const int32_t*>(on_device_[3].const_data_ptr()),
             .starts = static_cast<const int32_t*>(on_device_[4].const_data_ptr()),
             .factors = static_cast<const double*>(on_device_[5].const_data_ptr())};
  areas_ = at::tensor(sizes_, at::kDouble).to(weights.device()).square();
}

}  // namespace espalier
