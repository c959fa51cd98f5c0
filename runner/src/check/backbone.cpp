// What holds for every backbone, on inputs of several kinds.
#include "espalier/backbone.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/random_fill.h"
#include "espalier/rewrite.h"
#include "espalier/testkit.h"

namespace espalier {

namespace {

// float32: networks may be large.
constexpr double tolerance = 1e-3;
constexpr int64_t classes = 10;
const RandomKey key(3);

struct Network {
  std::string input;
  Graph graph;
};

// For every input that the backbone takes, or the first.
std::vector<Network> networks_of(const Registered& r, bool first = false) {
  const std::pair<const char*, InputSpec> inputs[] = {
      {"3 x 32 x 32", {.channels = 3, .height = 32, .width = 32}},
      {"1 x 28 x 28", {.channels = 1, .height = 28, .width = 28}},
      {"20 features", {.channels = 20}},
      {"a graph of 8 nodes with 5 features", {.channels = 5, .nodes = 8}},
  };
  const auto backbone = make_example<Backbone>(r);
  std::vector<Network> networks;
  std::string why;
  for (const auto& [name, input] : inputs) {
    if (first && !networks.empty()) break;
    try {
      networks.push_back({name, backbone->build(input, {.outputs = classes})});
    } catch (const Error& e) {
      if (why.empty()) why = e.what();
    }
  }
  if (networks.empty()) throw CheckSkipped("it takes none of the inputs that are tried; of 3 x 32 x 32: " + why);
  return networks;
}

NamedTensors feed(const Graph& g, int64_t batch) {
  NamedTensors fed;
  for (const Port& p : g.inputs()) {
    std::vector<int64_t> sizes = g.sizes(g[p.edge].shape);
    sizes.insert(sizes.begin(), batch);
    fed.emplace_back(p.name, normal(sizes, 1, RandomKey(2).with(p.name)).to(at::kFloat));
  }
  return fed;
}

at::Tensor logits_of(const Graph& g, const Weights& w, int64_t batch,
                     const std::vector<AxisChange>* without = nullptr) {
  const c10::NoGradGuard no_grad;
  return run(g, w, feed(g, batch), {"logits"}, {.training = false, .key = {}, .without = without})[0];
}

std::string check_builds(const Registered& r) {
  std::string taken;
  for (const Network& n : networks_of(r)) {
    taken += (taken.empty() ? "" : ", ") + n.input;
    const Graph& g = n.graph;
    expect(g.find_output("logits") != nullptr, "the output 'logits' for " + n.input,
           "none; end with GraphBuilder::output()");
    const std::vector<int64_t> logits = g.sizes(g[g.output("logits")].shape);
    expect(!logits.empty() && logits.back() == classes, "logits of 10 classes for " + n.input, to_string(logits));
    int64_t numel = 0;
    for (const Parameter& p : g.parameters()) {
      if (p.role != Role::buffer) numel += g.numel(p.shape);
    }
    expect(g.parameter_count() == numel,
           "as many parameters for " + n.input + " as its tensors have elements, " + std::to_string(numel),
           std::to_string(g.parameter_count()));
    expect(g.macs() > 0, "multiply-accumulates for " + n.input, std::to_string(g.macs()));
  }
  const std::vector<Network> first = networks_of(r), second = networks_of(r);
  for (size_t i = 0; i < first.size(); ++i) {
    expect(to_json(first[i].graph.to_value()) == to_json(second[i].graph.to_value()),
           "the same graph for " + first[i].input + " a second time", "another");
  }
  return "takes " + taken;
}

std::string check_passes(const Registered& r) {
  for (const Network& n : networks_of(r)) {
    const Graph& g = n.graph;
    Weights w(g, at::kFloat, at::kCPU);
    w.initialize(g, key);
    expect_finite("the logits of one sample of " + n.input + " in evaluation", logits_of(g, w, 1));
    const at::Tensor logits = run(g, w, feed(g, 2), {"logits"}, {.training = true, .key = key})[0].flatten(0, -2);
    const at::Tensor loss = at::cross_entropy_loss(logits, testkit::target_of(classes, logits.size(0), 2));
    expect_finite("the loss for " + n.input, loss);
    loss.backward();
    bool any = false;
    for (size_t i = 0; i < g.parameters().size(); ++i) {
      const ParamId p{static_cast<int32_t>(i)};
      if (g[p].role == Role::buffer) {
        expect_finite("the buffer '" + g[p].name + "' for " + n.input, w[p]);
        continue;
      }
      expect_finite("the gradient of '" + g[p].name + "' for " + n.input, w.gradient(p));
      any = any || w.gradient(p).abs().max().item<double>() > 0;
    }
    expect(any, "a gradient for " + n.input, "zero for all parameters");
  }
  return {};
}

std::string check_samples(const Registered& r) {
  constexpr int64_t batch = 2;
  const c10::NoGradGuard no_grad;
  for (const Network& n : networks_of(r, /*first=*/true)) {
    const Graph& g = n.graph;
    const auto mixing = std::ranges::find_if(g.nodes(), [](const Node& node) { return node.op->mixes_samples(); });
    if (mixing != g.nodes().end())
      throw CheckSkipped("'" + mixing->name + "' (" + mixing->op->type() + ") normalises over the batch in evaluation");
    Weights w(g, at::kFloat, at::kCPU);
    w.initialize(g, key);
    const NamedTensors all = feed(g, batch);
    const at::Tensor together = run(g, w, all, {"logits"})[0];
    for (int64_t i = 0; i < batch; ++i) {
      NamedTensors one;
      for (const auto& [name, x] : all) one.emplace_back(name, x.narrow(0, i, 1));
      expect_near("the logits of sample " + std::to_string(i) + " of " + std::to_string(batch) + " of " + n.input +
                      ", evaluated alone",
                  run(g, w, one, {"logits"})[0], together.narrow(0, i, 1), tolerance);
    }
  }
  return {};
}

std::string check_serialization(const Registered& r) {
  for (const Network& n : networks_of(r, /*first=*/true)) {
    const std::string text = to_json(n.graph.to_value());
    const Graph read = Graph::from_value(from_json(text));
    expect(to_json(read.to_value()) == text, "the same graph for " + n.input + " after writing and reading it",
           "another");
    Weights w(n.graph, at::kFloat, at::kCPU), v(read, at::kFloat, at::kCPU);
    w.initialize(n.graph, key);
    v.copy_from(w);
    expect_equal("the same logits for " + n.input + " after writing and reading the graph", logits_of(n.graph, w, 1),
                 logits_of(read, v, 1));
  }
  return {};
}

std::string check_edits(const Registered& r) {
  constexpr size_t rounds = 4;
  size_t exact = 0;
  for (Network& n : networks_of(r, /*first=*/true)) {
    Graph& g = n.graph;
    Weights w(g, at::kFloat, at::kCPU);
    w.initialize(g, key);
    for (size_t round = 0; round < rounds; ++round) {
      const std::vector<Axis> axes = free_axes(g);
      if (axes.empty()) break;
      const RandomKey draw = RandomKey(7).with(n.input).with(round);
      const Axis axis = axes[draw.with("axis").value() % axes.size()];
      const int64_t size = g[axis].size;
      Indices keep;
      for (int64_t i = 0; i < size; ++i) {
        if (draw.with(static_cast<uint64_t>(i)).value() % 10 < 6) keep.push_back(i);
      }
      if (keep.empty()) keep.push_back(0);
      const std::string what = n.input + " after '" + g[axis].name + "' shrinks from " + std::to_string(size) + " to " +
                               std::to_string(keep.size());
      std::vector<AxisChange> changes;
      try {
        changes = plan(g, shrink(g, axis, keep)).changes;
      } catch (const EditError&) {
        continue;  // refused with a reason: the coefficients of a mixture, say
      }
      const bool claimed =
          std::ranges::all_of(changes, [&](const AxisChange& change) { return inexact_at(g, change.axis).empty(); });
      const Graph whole = g;
      const std::vector<at::Tensor> values = copied_values(g, w);
      const at::Tensor before = logits_of(g, w, 2, &changes);
      for (const AxisChange& change : changes) zero(g, w, change.axis, complement(change.from, g[change.axis].size));
      apply(g, {&w}, shrink(g, axis, keep));
      expect_rest_unchanged(what, whole, values, g, w, changes);
      const at::Tensor after = logits_of(g, w, 2);
      expect_finite("the logits for " + what, after);
      if (!claimed) continue;
      ++exact;
      expect_near("the logits for " + what + ", which read as zeros before", before, after, tolerance);
    }
  }
  return std::to_string(exact) + " exact";
}

}  // namespace

std::vector<Check> backbone_checks() {
  const std::string kind = Backbone::kind;
  return {{kind, "builds", "the same graph each time, with logits, and as many parameters as its tensors hold",
           check_builds},
          {kind, "passes", "loss and gradients are finite; one sample can be evaluated", check_passes},
          {kind, "samples", "a sample's logits are the same alone and in a batch", check_samples},
          {kind, "serialization", "written to a graph file and read again, it is the same", check_serialization},
          {kind, "edits", "widths shrink at random, exactly where that is claimed", check_edits}};
}

}  // namespace espalier
