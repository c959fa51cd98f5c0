#include "kernel_cut.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <espalier/groups.h>
#include <espalier/operation.h>
#include <espalier/rewrite.h>

namespace espalier {

namespace {

const Node& node_of(const Graph& graph, ParamId p) {
  return graph.nodes()[static_cast<size_t>(graph[p].node)];
}

std::vector<const Node*> readers_of(const Graph& graph, Edge e) {
  std::vector<const Node*> readers;
  for (const Node& n : graph.nodes()) {
    if (std::ranges::find(n.inputs, e) != n.inputs.end()) readers.push_back(&n);
  }
  return readers;
}

// The batch norm that alone reads what a node gives; null: there is none.
const Node* batch_norm_of(const Graph& graph, const Node& node) {
  const std::vector<const Node*> readers = readers_of(graph, node.outputs.front());
  return readers.size() == 1 && readers.front()->op->type() == "batch_norm" ? readers.front() : nullptr;
}

// The name of the scope that a node is in: "layer1.0" of "layer1.0.add1".
std::string scope_of(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

bool is_never_negative(const Graph& graph, Edge e) {
  const int32_t maker = graph[e].producer;
  if (maker < 0) return false;
  const Node& n = graph.nodes()[static_cast<size_t>(maker)];
  if (n.op->type() == "relu") return true;
  return n.op->type() == "max_pool" && is_never_negative(graph, n.inputs.front());
}

}  // namespace

KernelCut::KernelCut(const Graph& graph, const Weights& weights, const Selector& on, const PerSelector& tau,
                     Settings settings)
    : s_(std::move(settings)) {
  const c10::NoGradGuard no_grad;
  for (const ParamId id : (on.empty() ? Selector("weights") : on).match(graph)) {
    const Parameter& p = graph[id];
    if (p.kind != "weight" || p.shape.size() < 2 || p.input[0]) continue;
    // What nobody may remove (the classes) is not judged.
    if (filter_axes(graph, Selector(p.name.c_str())).empty()) continue;
    if (const auto t = value_for(tau, graph, id)) judge(graph, weights, id, *t);
  }
  find_blocked(graph);
  zero_ = zeros(graph, dead());
  find_filters(graph);
  find_drops(graph);
}

void KernelCut::judge(const Graph& graph, const Weights& weights, ParamId weight, double tau) {
  const Node& node = node_of(graph, weight);
  const at::Tensor w = weights[weight].detach().to(at::kCPU, at::kDouble);
  const int64_t filters = w.size(0), side = w.dim() == 4 ? w.size(2) : 1;
  Layer layer{.weight = weight, .node = node.name, .had = {}, .sizes = {}};
  layer.had = node.op->kernel_sizes(graph, node);
  if (w.dim() != 4 || layer.had.empty()) layer.had = Indices(static_cast<size_t>(filters), 1);
  layer.crops = w.dim() == 4 && node.op->with_kernel_sizes(layer.had, s_.shrinkage.first) != nullptr;
  const bool nested = s_.nested && layer.crops && side > 1;
  // Of each position of the kernels.
  const at::Tensor squares = w.dim() == 4 ? w.square().sum(1).flatten(1) : w.square().flatten(1).sum(1, true);
  const at::Tensor sizes = squares.contiguous();
  const auto* at = sizes.const_data_ptr<double>();
  std::vector<Indices> pieces;
  for (int64_t n = 1; nested && n <= s_.shrinkage.count(side); ++n) pieces.push_back(s_.shrinkage.piece(side, n));
  for (int64_t f = 0; f < filters; ++f, at += sizes.size(1)) {
    const int64_t had = layer.had[static_cast<size_t>(f)];
    int64_t size = had;
    double sum = 0;
    if (nested) {
      int64_t gone = 0;
      for (const Indices& piece : pieces) {
        for (const int64_t p : piece) sum += at[p];
        if (std::sqrt(sum) > tau) break;
        ++gone;
      }
      size = std::min(had, s_.shrinkage.size_left(side, gone));
    } else {
      for (int64_t i = 0; i < sizes.size(1); ++i) sum += at[i];
      if (std::sqrt(sum) <= tau) size = 0;
    }
    layer.sizes.push_back(size);
  }
  layers_.push_back(std::move(layer));
}

const KernelCut::Layer* KernelCut::layer_of(ParamId weight) const {
  const auto it = std::ranges::find(layers_, weight, &Layer::weight);
  return it == layers_.end() ? nullptr : &*it;
}

std::vector<const KernelCut::Layer*> KernelCut::dead() const {
  std::vector<const Layer*> all;
  for (const Layer& l : layers_) {
    if (std::ranges::max(l.sizes) == 0) all.push_back(&l);
  }
  return all;
}

std::vector<std::string> KernelCut::vanished() const {
  std::vector<std::string> names;
  for (const Layer* l : dead()) names.push_back(l->node);
  return names;
}

std::vector<bool> KernelCut::zeros(const Graph& graph, const std::vector<const Layer*>& dead) const {
  std::vector<bool> zero(graph.edges().size(), false);
  const auto is_zero = [&](Edge e) { return static_cast<bool>(zero[static_cast<size_t>(e.id)]); };
  for (const Node& n : graph.nodes()) {
    const bool gives_none = std::ranges::any_of(dead, [&](const Layer* l) { return l->node == n.name; });
    bool follows = !n.inputs.empty() && n.op->preserves_zero() && std::ranges::all_of(n.inputs, is_zero);
    if (n.op->multiplies_inputs()) follows = std::ranges::any_of(n.inputs, is_zero);
    for (const Edge out : n.outputs) zero[static_cast<size_t>(out.id)] = gives_none || follows;
  }
  return zero;
}

void KernelCut::find_blocked(const Graph& graph) {
  const auto cuts = [&](const std::vector<const Layer*>& layers) {
    // The last layer adds a bias, but what it reads is nothing.
    const std::vector<bool> zero = zeros(graph, layers);
    return std::ranges::any_of(graph.outputs(),
                               [&](const Port& p) { return static_cast<bool>(zero[static_cast<size_t>(p.edge.id)]); });
  };
  for (Layer& l : layers_) {
    if (std::ranges::max(l.sizes) > 0 || !cuts({&l})) continue;
    if (s_.identity && make_identity(graph, l)) {
      identities_.push_back(l.node);
    } else {
      blocked_.push_back(l.node);
    }
  }
  // Several together, as the first layer and all branches behind it.
  if (blocked_.empty() && cuts(dead())) blocked_ = vanished();
}

// (24): the r-th filter gives the r-th channel of the input, from the middle of the kernel; further filters are zero.
bool KernelCut::make_identity(const Graph& graph, Layer& layer) {
  const Parameter& p = graph[layer.weight];
  const int64_t filters = graph.size(p.shape[0]), channels = graph.size(p.shape[1]);
  const Node& node = node_of(graph, layer.weight);
  if (p.shape.size() == 4 && !layer.crops) {
    why_ = "'" + layer.node + "' has groups or dilation";
    return false;
  }
  if (channels > filters) {
    why_ = "'" + layer.node + "' reads " + std::to_string(channels) + " channels and has only " +
           std::to_string(filters) + " filters";
    return false;
  }
  if (node.op->type() != "conv2d" && node.op->type() != "linear") {
    why_ = "'" + layer.node + "' is neither a convolution nor a linear layer";
    return false;
  }
  // Channels that are to go need no filter.
  const Axis read = p.shape[1].whole();
  for (int64_t r = 0; r < channels; ++r) {
    bool comes = true;
    if (read.id >= 0) {
      const std::vector<ParamId> makers = graph.producers(read);
      comes = makers.empty() || std::ranges::any_of(makers, [&](ParamId m) {
                const Layer* l = layer_of(m);
                return !l || r >= std::ssize(l->sizes) || l->sizes[static_cast<size_t>(r)] > 0;
              });
    }
    layer.sizes[static_cast<size_t>(r)] = comes ? 1 : 0;
  }
  return true;
}

void KernelCut::find_filters(const Graph& graph) {
  for (const Axis axis : filter_axes(graph, {})) {
    std::vector<bool> keep(static_cast<size_t>(graph[axis].size), false);
    bool judged = true;
    for (const ParamId id : graph.producers(axis)) {
      const Layer* l = layer_of(id);
      judged = judged && l;
      if (!l) break;
      const Indices at = axis_positions(graph, graph[id].shape[0], axis);
      for (size_t f = 0; f < at.size(); ++f) {
        if (at[f] >= 0 && l->sizes[f] > 0) keep[static_cast<size_t>(at[f])] = true;
      }
    }
    if (!judged) continue;
    const Indices kept = indices_of(keep);
    // A width of which nothing is left belongs to a branch that goes as a whole, or blocks the network.
    if (!kept.empty() && kept.size() < keep.size()) keeps_[graph[axis].name] = kept;
  }
}

void KernelCut::find_drops(const Graph& graph) {
  if (!blocked_.empty()) return;
  const auto is_zero = [&](Edge e) { return static_cast<bool>(zero_[static_cast<size_t>(e.id)]); };
  for (const Node& n : graph.nodes()) {
    const auto gone = std::ranges::count_if(n.inputs, is_zero);
    if (gone == 0 || is_zero(n.outputs.front()) || !n.op->without_input(n, 0)) continue;
    // A sum of the block's input and of nothing: the block is the identity.
    const std::string block = scope_of(n.name);
    const auto inside = [&](const Node& m) { return !block.empty() && m.name.starts_with(block + "."); };
    if (n.op->type() == "add" && gone + 1 == std::ssize(n.inputs) && !block.empty()) {
      const Edge rest = *std::ranges::find_if_not(n.inputs, is_zero);
      const int32_t maker = graph[rest].producer;
      bool whole = maker < 0 || !inside(graph.nodes()[static_cast<size_t>(maker)]);
      // Behind the sum there is at most a ReLU that would change nothing, and no other sum.
      for (const Node& m : graph.nodes()) {
        if (!inside(m) || &m == &n) continue;
        const bool behind = std::ranges::find(m.inputs, n.outputs.front()) != m.inputs.end();
        if (behind) whole = whole && m.op->type() == "relu" && is_never_negative(graph, rest);
        if (!behind && !is_zero(m.outputs.front())) {
          // Layers before the one that vanished give something, which nobody else may read.
          for (const Node* reader : readers_of(graph, m.outputs.front())) whole = whole && inside(*reader);
          whole = whole && m.op->type() != "add";
        }
      }
      if (whole) {
        const Edit drop{DropBlock{block}};
        try {
          static_cast<void>(plan(graph, drop));
          drops_.push_back(drop);
          continue;
        } catch (const EditError&) {
          // Widths differ, for example: then the sum loses its terms.
        }
      }
    }
    // From the last one on, so that the numbers of the others stay.
    for (auto i = std::ssize(n.inputs) - 1; i >= 0; --i) {
      if (is_zero(n.inputs[static_cast<size_t>(i)])) drops_.push_back({Disconnect{n.name, i}});
    }
  }
}

void KernelCut::zero_groups(const Graph& graph, Weights& weights) const {
  const c10::NoGradGuard no_grad;
  for (const Layer& l : layers_) {
    at::Tensor w = weights[l.weight].detach();
    if (std::ranges::find(identities_, l.node) != identities_.end()) {
      w.zero_();
      continue;
    }
    if (l.sizes == l.had) continue;
    const Node& node = node_of(graph, l.weight);
    if (w.dim() == 4 && l.crops) {
      w.mul_(kernel_mask(l.sizes, w.size(2), w.options(), s_.nested ? s_.shrinkage.first : node.op->kernel_corner()));
    } else {
      Indices keeps;
      for (const int64_t s : l.sizes) keeps.push_back(s > 0 ? 1 : 0);
      std::vector<int64_t> shape(static_cast<size_t>(w.dim()), 1);
      shape[0] = w.size(0);
      w.mul_(at::tensor(keeps, at::kLong).to(w.options()).view(shape));
    }
  }
}

void KernelCut::zero_rest(const Graph& graph, Weights& weights) const {
  const c10::NoGradGuard no_grad;
  // What a node adds to nothing.
  for (const Node& n : graph.nodes()) {
    if (n.outputs.empty() || !zero_[static_cast<size_t>(n.outputs.front().id)]) continue;
    for (const ParamId p : n.parameters) {
      if (graph[p].kind != "weight") weights[p].detach().fill_(graph[p].removed);
    }
  }
  // What is added to filters without a kernel that stay because other layers make their channel, too.
  for (const Layer& l : layers_) {
    const Node& node = node_of(graph, l.weight);
    const Node* norm = batch_norm_of(graph, node);
    const bool identity = std::ranges::find(identities_, l.node) != identities_.end();
    for (const Node* n : {&node, norm}) {
      if (!n) continue;
      for (const ParamId p : n->parameters) {
        const std::string& kind = graph[p].kind;
        at::Tensor values = weights[p].detach();
        if (kind == "weight" || values.dim() != 1 || values.size(0) != std::ssize(l.sizes)) continue;
        if (identity) {
          // A batch norm that gives back what it is given.
          const bool scale = kind == "norm_weight";
          const double eps = scale ? n->op->options().at("eps").as_double() : 0;
          values.fill_(scale ? std::sqrt(1 + eps) : graph[p].removed);
        }
        if (kind != "bias" && kind != "norm_bias" && kind != "running_mean") continue;
        for (size_t f = 0; f < l.sizes.size(); ++f) {
          if (l.sizes[f] == 0) values[static_cast<int64_t>(f)] = 0;
        }
      }
    }
    if (!identity) continue;
    at::Tensor w = weights[l.weight].detach();
    w.zero_();
    for (int64_t r = 0; r < w.size(1); ++r) {
      if (l.sizes[static_cast<size_t>(r)] == 0) continue;
      if (w.dim() == 2) {
        w[r][r] = 1;
      } else {
        const int64_t middle = kernel_offset(w.size(2), 1, s_.shrinkage.first);
        w[r][r][middle][middle] = 1;
      }
    }
  }
  for (const auto& [name, kept] : keeps_) {
    const Axis axis = graph.axis(name);
    zero(graph, weights, axis, complement(kept, graph[axis].size));
  }
}

void KernelCut::remove(const std::function<const Graph&()>& graph,
                       const std::function<void(const Edits&)>& edit) const {
  if (!drops_.empty()) edit(drops_);
  Edits edits;
  const auto has_axis = [&](const std::string& name) {
    return std::ranges::find(graph().axes(), name, &AxisInfo::name) != graph().axes().end();
  };
  for (const auto& [name, kept] : keeps_) {
    if (has_axis(name)) edits.push_back(shrink(graph(), graph().axis(name), kept));
  }
  if (!edits.empty()) edit(edits);
  edits.clear();
  for (const Layer& l : layers_) {
    const auto node = std::ranges::find(graph().nodes(), l.node, &Node::name);
    if (!l.crops || node == graph().nodes().end()) continue;
    const Parameter& weight = graph()[node->parameters.front()];
    Indices sizes = l.sizes;
    const Axis axis = weight.shape[0].whole();
    if (axis.id >= 0) {
      if (const auto it = keeps_.find(graph()[axis].name); it != keeps_.end()) {
        sizes.clear();
        for (const int64_t f : it->second) sizes.push_back(l.sizes[static_cast<size_t>(f)]);
      }
    }
    if (std::ssize(sizes) != graph().size(weight.shape[0]) || sizes == node->op->kernel_sizes(graph(), *node)) continue;
    // The side from which they were cropped before stays.
    const Indices have = node->op->kernel_sizes(graph(), *node);
    const bool cropped =
        std::ranges::any_of(have, [&](int64_t s) { return s > 0 && s < graph().size(weight.shape[2]); });
    const bool from_left = node->op->kernel_corner() == KernelCorner::top_left;
    edits.push_back({CropKernels{l.node, sizes, cropped ? (from_left ? "top_left" : "bottom_right") : s_.corner}});
  }
  if (!edits.empty()) edit(edits);
}

}  // namespace espalier
