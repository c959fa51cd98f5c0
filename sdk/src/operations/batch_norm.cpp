#include <ATen/TensorOperators.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "builtin.h"
#include "coefficients.h"
#include "espalier/error.h"
#include "espalier/onnx.h"
#include "espalier/weights.h"
#include "fast_cpu.h"
#include "fast_mixture.h"
#include "onnx_forms.h"

namespace espalier {
namespace {

// [C, H, W] or [F], normalised per channel over the batch and the pixels (Ioffe & Szegedy 2015), in evaluation by the
// running statistics where it keeps them.
class BatchNorm final : public OperationOf<BatchNorm, BatchNormOptions>, public AsTerm, public FoldableNorm {
 public:
  static constexpr const char* name = "batch_norm";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    if (x.size() != 3 && x.size() != 1)
      n.refuse("batch norm needs an input of [channels, height, width] or [features]");
    if (o_.affine) {
      n.parameter("weight", "norm_weight", {NodeBuilder::makes(x[0])}, {Initializer::Kind::constant, o_.init_weight});
      n.parameter("bias", "norm_bias", {NodeBuilder::makes(x[0])}, {Initializer::Kind::constant, 0});
    }
    if (o_.track_running_stats) {
      n.buffer("running_mean", "running_mean", {NodeBuilder::makes(x[0])}, 0, 0);
      n.buffer("running_var", "running_var", {NodeBuilder::makes(x[0])}, 1, 1);
    }
    n.output(x);
  }

  std::vector<at::Tensor> forward(const Forward& f) const override {
    require_several(f);
    if (f.pass.fuse && is_fast(f)) {
      if (at::Tensor y = fast(f, {}); y.defined()) return {y};
    }
    const NormTerm p = parameters(f);
    if (p.sum) return {over_parts(f.inputs[0], p)};
    return {at::batch_norm(f.inputs[0], p.weight, p.bias, p.running_mean, p.running_var, p.by_batch, p.momentum, p.eps,
                           /*cudnn_enabled=*/true)};
  }

  bool mixes_samples() const override { return !o_.track_running_stats; }

  // With what follows of a gate of its channels, a sum (the end of a residual block) and a ReLU, in this order.
  Fused forward_chain(const Forward& f, const std::vector<Link>& chain) const override {
    const at::Tensor& x = f.inputs[0];
    if (!is_fast(f)) return {};
    const auto [after, links] = what_follows(f, chain, x.sizes(), x.scalar_type());
    if (links == 0) return {};
    require_several(f);
    return {fast(f, after), links};
  }

  std::optional<FoldedNorm> fold(const Forward& f, std::span<const Link> chain, at::IntArrayRef sizes) const override {
    if (by_batch(f)) return std::nullopt;
    const auto [after, links] = what_follows(f, chain, sizes, at::kFloat);
    return fold_norm(parameters(f), after, links);
  }

  // Of what a chain does to an output of these sizes and this type, as much as is computed at once with the norm, and
  // how many nodes that is.
  static std::pair<AfterNorm, size_t> what_follows(const Forward& f, std::span<const Link> chain, at::IntArrayRef sizes,
                                                   at::ScalarType number) {
    AfterNorm after;
    size_t links = 0;
    const auto is = [&](const char* type) { return links < chain.size() && chain[links].node.op->type() == type; };
    if (is("gate") && gates_channels(f, chain[0])) {
      const auto& gate = dynamic_cast<const ChannelGate&>(*chain[0].node.op);
      after.gate = gate.along_dimension(f.graph, chain[0].node, chain[links++].inputs[1]);
    }
    if (is("add") && chain[links].inputs.size() == 2) {
      const at::Tensor& other = chain[links].inputs[chain[links].inputs[0].defined() ? 0 : 1];
      if (other.defined() && is_fast_activation(other) && other.sizes() == sizes && other.scalar_type() == number) {
        after.added = other;
        ++links;
      }
    }
    if (is("relu")) {
      after.relu = true;
      ++links;
    }
    return {after, links};
  }

  // Activations may be bfloat16, the parameters and statistics not.
  bool is_fast(const Forward& f) const {
    const bool parameters = o_.affine || o_.track_running_stats;
    return is_fast_activation(f.inputs[0]) && (!parameters || f.parameter(0).scalar_type() == at::kFloat);
  }
  // Whether this pass normalises by the batch's own statistics.
  bool by_batch(const Forward& f) const { return f.pass.training || !o_.track_running_stats; }
  // The parameters, and undefined tensors for those that this norm has not.
  NormTerm parameters(const Forward& f) const {
    const auto get = [&](bool there, size_t i) { return there ? f.parameter(i) : at::Tensor(); };
    const size_t stats = o_.affine ? 2 : 0;
    const bool tracks = o_.track_running_stats;
    return {get(o_.affine, 0),
            get(o_.affine, 1),
            get(tracks, stats),
            get(tracks, stats + 1),
            by_batch(f),
            o_.momentum,
            o_.eps,
            by_batch(f) ? f.pass.part.sum : nullptr};
  }
  at::Tensor fast(const Forward& f, const AfterNorm& after) const {
    return fast_batch_norm(f.inputs[0], parameters(f), after);
  }
  std::optional<MixedTerm> as_term(const Forward& f) const override {
    if (!is_fast_cpu(f.inputs[0]) || (!by_batch(f) && c10::GradMode::is_enabled())) return std::nullopt;
    if (by_batch(f) && f.pass.part.sum) return std::nullopt;  // a mixture's sums are those of this process alone
    require_several(f);
    return MixedTerm{MixedTerm::Kind::norm, f.inputs[0], parameters(f)};
  }
  // Whether a gate behind it has one coefficient for each channel, the same for all samples.
  static bool gates_channels(const Forward& f, const Link& gate) {
    if (gate.inputs[0].defined() || !gate.inputs[1].defined()) return false;
    const at::Tensor& c = gate.inputs[1];
    const Dim& channels = f.graph[f.node.outputs[0]].shape[0];
    const auto& op = dynamic_cast<const ChannelGate&>(*gate.node.op);
    const bool fits = f.graph[gate.node.inputs[1]].shape[0] == channels || (!op.index().empty() && op.dimension() == 0);
    return channels.has_axis() && fits && c.size(0) == 1 && c.scalar_type() == at::kFloat && c.is_cpu() &&
           c.is_contiguous();
  }
  // One value has no variance.
  void require_several(const Forward& f) const {
    const at::Tensor& x = f.inputs[0];
    if (!by_batch(f) || x.numel() != x.size(1) || f.pass.part.sum) return;
    throw Error("batch norm '" + f.node.name + "' needs more than one value a channel " +
                (f.pass.training ? "in training; a batch of one image (the last of an epoch?) has none. "
                                   "data.drop_last: true leaves it out"
                                 : "where it keeps no running statistics; a batch of one image has none"));
  }

  // How many batches the running statistics have seen; PyTorch counts them and reads the number only where they are
  // plain means.
  std::vector<std::pair<std::string, at::Tensor>> constants(const Graph&, const Node&) const override {
    if (!o_.track_running_stats) return {};
    return {{"num_batches_tracked", at::zeros({}, at::kLong)}};
  }

  Scaling scaling() const override { return o_.affine ? Scaling::absorbs : Scaling::none; }
  // With a running mean of zero and no shift, as removal leaves them.
  bool preserves_zero() const override { return true; }

  PythonForm python(const Graph& g, const Node& node) const override {
    const char* statistics = !o_.track_running_stats ? "None, None, True"
                             : o_.affine             ? "{p2}, {p3}, {training}"
                                                     : "{p0}, {p1}, {training}";
    const Shape& x = g[node.inputs[0]].shape;
    // Ones and zeros rather than None: TorchScript's optimizer for inference takes only norms with a scale and a shift.
    const auto plain = [&](const char* of) {
      return std::string("torch.") + of + "([" + std::to_string(g.size(x[0])) +
             "], dtype={0}.dtype, device={0}.device), ";
    };
    return {.expression = "torch.batch_norm({0}, " + (o_.affine ? "{p0}, {p1}, " : plain("ones") + plain("zeros")) +
                          statistics + ", " + to_json(o_.momentum) + ", " + to_json(o_.eps) + ", True)",
            .module = (x.size() == 3 ? "nn.BatchNorm2d(" : "nn.BatchNorm1d(") + std::to_string(g.size(x[0])) +
                      ", eps=" + to_json(o_.eps) + ", momentum=" + to_json(o_.momentum) +
                      (o_.affine ? "" : ", affine=False") +
                      (o_.track_running_stats ? ")" : ", track_running_stats=False)")};
  }

  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    if (!o_.track_running_stats) return {onnx_by_batch(to, g, node)};
    const size_t stats = o_.affine ? 2 : 0;
    const std::string mean = to.parameter(stats), variance = to.parameter(stats + 1);
    const std::string scale = o_.affine ? to.parameter(0) : to.constant(at::ones_like(to.values(stats)));
    const std::string shift = o_.affine ? to.parameter(1) : to.constant(at::zeros_like(to.values(stats)));
    return {to.add("BatchNormalization", {to.input(0), scale, shift, mean, variance}, {{"epsilon", o_.eps}})};
  }

 private:
  // By the statistics of the batch of all processes, of any type and on any device. It is put together of operations
  // that autograd knows, so it has all derivatives.
  static at::Tensor over_parts(const at::Tensor& x, const NormTerm& p) {
    const at::ScalarType type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    std::vector<int64_t> dims{0}, channels{1, -1};  // what is summed over; how a channel's numbers meet x
    for (int64_t d = 2; d < x.dim(); ++d) {
      dims.push_back(d);
      channels.push_back(1);
    }
    const at::Tensor values = x.to(type);
    const at::Tensor rows = at::full({1}, static_cast<double>(x.numel() / x.size(1)), values.options());
    const at::Tensor sums = sum_over_parts(at::cat({values.sum(dims), rows}), *p.sum);
    const at::Tensor counted = sums.slice(0, x.size(1)).detach();
    const at::Tensor mean = sums.slice(0, 0, x.size(1)) / counted;
    const at::Tensor centred = values - mean.view(channels);
    const at::Tensor squares = sum_over_parts(centred.square().sum(dims), *p.sum);
    at::Tensor y = centred * (squares / counted + p.eps).rsqrt().view(channels);
    if (p.weight.defined()) y = y * p.weight.view(channels) + p.bias.view(channels);
    if (p.running_mean.defined()) {
      const c10::NoGradGuard no_grad;
      at::Tensor(p.running_mean).lerp_(mean.to(p.running_mean.scalar_type()), p.momentum);
      at::Tensor(p.running_var).lerp_((squares / (counted - 1)).to(p.running_var.scalar_type()), p.momentum);
    }
    return y.to(x.scalar_type());
  }
  // By the statistics of the batch. ONNX's BatchNormalization does that in training alone, in another form in each
  // opset; written out, it is the same in all of them.
  std::string onnx_by_batch(OnnxNodes& to, const Graph& g, const Node& node) const {
    const Shape& x = g[node.inputs[0]].shape;
    const bool image = x.size() == 3;
    const std::vector<int64_t> dims = image ? std::vector<int64_t>{0, 2, 3} : std::vector<int64_t>{0};
    std::string y = onnx_normalized(to, to.input(0), dims, o_.eps);
    if (!o_.affine) return y;
    const auto each = [&](size_t parameter) {
      const at::Tensor values = to.values(parameter);
      return to.constant(image ? values.view({-1, 1, 1}) : values);
    };
    return to.add("Add", {to.add("Mul", {y, each(0)}), each(1)});
  }
};

}  // namespace

Component batch_norm_operation() {
  return component<BatchNorm>(BatchNorm::name, "batch normalisation");
}

}  // namespace espalier
