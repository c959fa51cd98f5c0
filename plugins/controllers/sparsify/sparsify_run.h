#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones.h>

#include <espalier/controller.h>
#include <espalier/edit.h>
#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/registry.h>

#include "coefficients_by_hand.h"

// Networks, runs and oracles for tests of the controller `sparsify`.
namespace espalier {

inline std::unique_ptr<Controller> sparsify(const std::string& options = "") {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsparsify.so");
  return Registry::instance().create<Controller>(
      from_json(R"({"use": "sparsify")" + (options.empty() ? "" : ", " + options) + "}"));
}

inline Graph backbone(const std::string& plugin, const std::string& spec, int64_t size = 8, int64_t classes = 5) {
  testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + plugin + ".so");
  return testkit::build(spec, {3, size, size}, {classes});
}
inline Graph resnet20(const std::string& more = "", int64_t size = 8) {
  return backbone("resnet_cifar", R"({"use": "resnet20", "widths": [4, 6, 8])" + more + "}", size);
}
inline Graph resnext29(const std::string& options = R"("cardinality": 4, "base_width": 2)") {
  return backbone("resnext", R"({"use": "resnext29_8x64d", )" + options + "}");
}
inline Graph densenet40(int64_t growth = 3) {
  return backbone("densenet", R"({"use": "densenet40", "growth": )" + std::to_string(growth) + "}");
}
// A sum of four terms, of which three are made by a layer of their own and one is read elsewhere, too. `activation`:
// what stands behind the second layer, and before the sum's only reader; empty: nothing, and a layer reads the sum.
inline Graph sum_of_terms(const std::string& activation = "") {
  GraphBuilder b({4});
  const Edge x = b.relu(b.linear("fc0", b.input(), {.features = 5}));
  const Edge one = b.linear("one", x, {.features = 5});
  Edge two = b.linear("two", x, {.features = 5});
  if (!activation.empty()) two = b.activation(activation, two);
  Edge sum = b.add({one, two, b.linear("three", x, {.features = 5}), x});
  if (!activation.empty()) sum = b.relu(sum);
  return b.output(b.linear("fc", sum, {.features = 3}));
}

inline bool has_node(const Graph& g, const std::string& name) {
  return std::ranges::find(g.nodes(), name, &Node::name) != g.nodes().end();
}
inline int64_t nodes_of_type(const Graph& g, const std::string& type) {
  return std::ranges::count_if(g.nodes(), [&](const Node& n) { return n.op->type() == type; });
}

// Values that are not those of the beginning: norms with scales, shifts and statistics of both signs.
inline void stir(const Graph& g, Weights& w, uint64_t seed) {
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const Parameter& p = g.parameters()[i];
    at::Tensor t = w[{static_cast<int32_t>(i)}].detach();
    const RandomKey key = RandomKey(seed).with(p.name);
    if (p.kind == "norm_weight" || p.kind == "norm_var" || p.name.ends_with("running_var"))
      t.copy_(uniform(t.sizes().vec(), 0.5, 1.5, key));
    if (p.kind == "norm_bias" || p.name.ends_with("running_mean")) t.copy_(uniform(t.sizes().vec(), -0.5, 0.5, key));
  }
}

inline at::Tensor logits_of(const Graph& g, const Weights& w, const at::Tensor& x) {
  const c10::NoGradGuard no_grad;
  return run(g, w, {{"input", x.to(w.dtype())}}, {"logits"})[0];
}

// The logits of a network with some nodes' outputs multiplied, channel by channel: node after node, without what the
// library puts together or makes of gates.
inline at::Tensor multiplied_logits(const Graph& g, const Weights& w, const at::Tensor& x,
                                    const std::map<std::string, Numbers>& factors) {
  const c10::NoGradGuard no_grad;
  const Pass pass{.training = false, .key = RandomKey(1), .fuse = false};
  std::vector<at::Tensor> values(g.edges().size());
  for (const Port& port : g.inputs()) values[static_cast<size_t>(port.edge.id)] = x;
  size_t used = 0;
  for (const Node& node : g.nodes()) {
    if (node.op->type() == "cross_entropy") continue;
    std::vector<at::Tensor> inputs;
    for (const Edge e : node.inputs) inputs.push_back(values[static_cast<size_t>(e.id)]);
    at::Tensor y = node.op->forward({g, node, w, pass, inputs})[0];
    if (const auto f = factors.find(node.name); f != factors.end()) {
      std::vector<int64_t> sizes(static_cast<size_t>(y.dim()), 1);
      sizes[1] = -1;
      y = y * tensor_of(f->second).reshape(sizes);
      ++used;
    }
    values[static_cast<size_t>(node.outputs[0].id)] = y;
  }
  EXPECT_EQ(used, factors.size()) << "there is no such node";
  return values[static_cast<size_t>(g.output("logits").id)];
}

// Relative to the largest logit.
inline double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

// A controller at the beginning of its stage.
struct Started {
  Graph before;  // without what the controller has inserted
  std::unique_ptr<Controller> controller;
  testkit::TestRun run;
  at::Tensor x;
  Started(const Graph& network, const std::string& options)
      : before(network),
        controller(sparsify(options)),
        run(begun(network, *controller), 3),
        x(testkit::input_of(run.graph(), 4, 2)) {
    stir(run.graph(), run.weights(), 5);
    controller->stage_begin(run);
  }
  static Graph begun(Graph g, const Controller& c) {
    apply(g, {}, c.begin(g));
    return g;
  }
  const Graph& graph() const { return run.graph(); }
  at::Tensor value(const std::string& name) { return run.weights()[run.graph().parameter(name)].detach(); }
  void set(const std::string& name, const Numbers& values) { assign(run.graph(), run.weights(), name, values); }
  at::Tensor logits() { return logits_of(run.graph(), run.weights(), x); }
  // The network as it was, with the values of today.
  Weights& old_weights() {
    old_ = std::make_unique<Weights>(before, at::kDouble, at::kCPU);
    const c10::NoGradGuard no_grad;
    for (const Parameter& p : before.parameters())
      at::Tensor((*old_)[before.parameter(p.name)]).copy_(run.weights()[run.graph().parameter(p.name)]);
    return *old_;
  }
  void step_end() {
    controller->step_end(run);
    ++run.at_step;
  }
  bool has(const std::string& node) const { return has_node(run.graph(), node); }

 private:
  std::unique_ptr<Weights> old_;
};

// The group that the controller's edits make of `name`; null: there is none.
inline const InsertGates* group_of(const Edits& edits, const std::string& name) {
  for (const Edit& e : edits) {
    const auto* g = std::get_if<InsertGates>(&e.what);
    if (g && g->coefficients == name + ".competition") return g;
  }
  return nullptr;
}

// Alphas of which those at the places in `dead` are far below the threshold, and no two others are alike.
inline Numbers alphas(size_t n, const std::vector<size_t>& dead) {
  Numbers a;
  for (size_t i = 0; i < n; ++i)
    a.push_back(std::ranges::count(dead, i) ? -9 : 0.4 * std::cos(static_cast<double>(2 * i)));
  return a;
}
// What the competition makes of them with the threshold that it begins with.
inline Numbers competing(const Numbers& alpha) {
  return ByHand{}.of(alpha, beta_of(static_cast<int64_t>(alpha.size()))).values;
}

}  // namespace espalier
