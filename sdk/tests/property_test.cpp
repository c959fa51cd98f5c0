// Random networks under random edits: what must hold whatever the structure is.
#include <cmath>
#include <cstdlib>
#include <sstream>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <ATen/record_function.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/operation.h"
#include "espalier/random.h"
#include "espalier/rewrite.h"
#include "espalier/testkit.h"

namespace espalier {
namespace {

// Draws, one after the other.
class Dice {
 public:
  explicit Dice(uint64_t seed) : key_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(key_.with(next_++).value() % static_cast<uint64_t>(n)); }
  bool chance(int64_t percent) { return below(100) < percent; }
  int64_t between(int64_t low, int64_t high) { return low + below(high - low + 1); }

 private:
  RandomKey key_;
  uint64_t next_ = 0;
};

// A case is a number, and how much of what it stands for is used: fewer blocks and edits make a smaller case.
struct Case {
  uint64_t seed = 0;
  int64_t blocks = 4;
  int64_t edits = 4;
  std::string str() const { return std::to_string(seed) + ":" + std::to_string(blocks) + ":" + std::to_string(edits); }
};

Graph random_network(const Case& c) {
  Dice d(c.seed);
  const int64_t channels = d.between(1, 3), side = d.between(5, 7);
  GraphBuilder g({.channels = channels, .height = side, .width = side});
  const char* activations[] = {"relu", "gelu", "tanh", "sigmoid"};
  Edge x = g.conv("stem", g.input(), {.filters = 2 * d.between(1, 4), .kernel = 3, .padding = 1});
  bool one_axis = true;  // x's width, which sums need
  for (int64_t b = 0; b < c.blocks; ++b) {
    const auto scope = g.scope("block" + std::to_string(b));
    // Each block draws from a stream of its own, so that fewer blocks are the same ones.
    Dice e(RandomKey(c.seed).with(static_cast<uint64_t>(b)).value());
    const int64_t width = g.channels(x);
    const auto activation = [&](Edge y) { return g.activation(activations[e.below(e.chance(20) ? 4 : 3)], y); };
    const auto conv = [&](const char* name, Edge y, int64_t filters) {
      return g.conv(name, y, {.filters = filters, .kernel = 3, .padding = 1, .bias = e.chance(50)});
    };
    int64_t kind = e.below(8);
    if (!one_axis && (kind == 1 || kind == 6)) kind = 0;
    one_axis = kind != 3 && kind != 4;
    switch (kind) {
      case 0:
        x = activation(g.batch_norm("bn", conv("conv", x, 2 * e.between(1, 4))));
        break;
      case 1:  // residual
        x = activation(
            g.add(conv("conv2", activation(g.batch_norm("bn", conv("conv1", x, e.between(2, 6)))), width), x));
        break;
      case 2: {  // a shortcut between unequal widths
        const Edge y = conv("conv", x, 2 * e.between(1, 5));
        x = activation(g.add(y, g.pad_or_crop(x, g.channels(y))));
        break;
      }
      case 3:  // concatenation, of an input that goes on too
        x = activation(g.batch_norm("bn", g.concat({x, conv("conv", x, 2 * e.between(1, 2))})));
        break;
      case 4:  // groups
        x = activation(conv("conv1", x, 2 * e.between(1, 3)));
        x = activation(g.conv("conv2", x, {.filters = 2 * e.between(1, 2), .kernel = 3, .padding = 1, .groups = 2}));
        break;
      case 5:  // depthwise
        x = activation(g.batch_norm("bn", conv("conv1", x, e.between(2, 6))));
        x = g.conv("conv2", x, {.kernel = 3, .padding = 1, .depthwise = true});
        break;
      case 6: {  // a mixture with coefficients of free parameters
        const Edge a = g.node("coefficient", "alpha", {}, Value::map({{"deviation", 0.5}}), {3});
        const Edge y = conv("conv1", x, width), z = conv("conv2", x, width);
        const Edge sum = g.add({x, y, z});  // one width for all
        x = g.node("weighted_sum", "mixed", {x, y, sum, g.softmax(a)});
        break;
      }
      default:
        x = g.avg_pool(conv("conv", x, e.between(2, 6)), 2, 1);
    }
  }
  Edge y;
  if (d.chance(50)) {
    y = g.activation("relu", g.linear("hidden", g.flatten(g.max_pool(x, 2)), {.features = d.between(3, 8)}));
  } else {  // attention
    y = g.to_tokens(x, /*flat=*/true);
    const int64_t heads = d.between(1, 3), features = heads * d.between(2, 4);
    y = g.linear("embed", y, {.features = d.between(3, 6)});
    if (d.chance(50)) y = g.layer_norm("norm", y);
    const Edge q = g.linear("q", y, {.features = features, .heads = heads});
    const Edge k = g.linear("k", y, {.features = features, .heads = heads});
    const Edge v = g.linear("v", y, {.features = features, .heads = heads});
    y = g.add(y, g.linear("out", g.attention("attention", q, k, v), {.features = g.channels(y)}));
    y = g.mean(y);
  }
  return g.output(g.linear("logits", y, {.features = 3}));
}

struct Network {
  explicit Network(Graph g) : graph(std::move(g)), weights(graph, at::kDouble, at::kCPU) {
    const c10::NoGradGuard no_grad;
    weights.initialize(graph, RandomKey(11));
    weights.add_state(graph, {.name = "momentum"});
    x = testkit::input_of(graph, 5, 2);
    run(graph, weights, {{"input", x}}, {"logits"}, {.training = true, .key = RandomKey(1)});  // running statistics
    for (size_t i = 0; i < graph.parameters().size(); ++i) {
      at::Tensor v = weights[{static_cast<int32_t>(i)}];
      if (graph.parameters()[i].kind == "norm_bias") v.add_(0.2);
    }
    for (const Role r : {Role::weight, Role::architecture}) {
      Bank& b = weights.bank(r);
      fill(b.gradients, 1.3);
      for (auto& [name, state] : b.states) fill(state, 0.7);
    }
  }
  static void fill(const Arena& a, double factor) {
    for (const Slot& s : a.slots()) {
      auto* v = a.flat().data_ptr<double>() + s.offset;
      for (int64_t i = 0; i < s.numel; ++i) v[i] = std::sin(factor * static_cast<double>(i + s.offset));
    }
  }
  at::Tensor logits() const {
    const c10::NoGradGuard no_grad;
    return run(graph, weights, {{"input", x}}, {"logits"}).front();
  }
  void edit(const Edits& edits) { apply(graph, {&weights}, edits); }
  std::string bytes() const {
    std::string all = to_json(graph.to_value());
    for (const Role r : {Role::weight, Role::architecture, Role::buffer}) {
      const Bank& b = weights.bank(r);
      for (const Arena* a : {&b.values, &b.gradients}) {
        if (a->flat().defined()) all.append(static_cast<const char*>(a->flat().const_data_ptr()), a->flat().nbytes());
      }
      for (const auto& [name, a] : b.states)
        all.append(static_cast<const char*>(a.flat().const_data_ptr()), a.flat().nbytes());
    }
    return all;
  }
  // Momentum, element by element.
  void step() {
    for (const Role r : {Role::weight, Role::architecture}) {
      Bank& b = weights.bank(r);
      if (b.values.numel() == 0) continue;
      at::Tensor v = b.states.at("momentum").flat();
      v.mul_(0.9).add_(b.gradients.flat());
      at::Tensor(b.values.flat()).sub_(v, 0.05);
    }
  }
  Graph graph;
  Weights weights;
  at::Tensor x;
};

Indices random_positions(Dice& d, int64_t size) {
  Indices keep;
  for (int64_t i = 0; i < size; ++i) {
    if (d.chance(60)) keep.push_back(i);
  }
  if (keep.empty()) keep.push_back(d.below(size));
  return keep;
}

std::vector<Axis> free_axes(const Graph& g) {
  std::vector<Axis> axes;
  for (size_t i = 0; i < g.axes().size(); ++i) {
    if (!g.axes()[i].fixed && !g.axes()[i].name.ends_with("alpha")) axes.push_back({static_cast<int32_t>(i)});
  }
  return axes;
}

// Multiply-accumulates as LibTorch carries them out: convolutions and products of matrices of one sample.
class CountedForward {
 public:
  static int64_t macs(const Network& n) {
    counted = depth = 0;
    const at::CallbackHandle handle = at::addThreadLocalCallback(
        at::RecordFunctionCallback(
            [](const at::RecordFunction& f) -> std::unique_ptr<at::ObserverContext> {
              const std::string name = f.name();
              const auto inputs = f.inputs();
              const auto tensor = [&](size_t i) { return inputs[i].toTensor(); };
              if (name == "aten::convolution") {
                convolution = tensor(1).numel() / tensor(1).size(0);
                ++depth;
              } else if (depth == 0 && name == "aten::mm") {
                counted += tensor(0).numel() * tensor(1).size(1);
              } else if (depth == 0 && name == "aten::addmm") {
                counted += tensor(1).numel() * tensor(2).size(1);
              } else if (depth == 0 && name == "aten::bmm") {
                counted += tensor(0).numel() * tensor(1).size(2);
              } else if (depth == 0 && name == "aten::_scaled_dot_product_flash_attention_for_cpu") {
                counted += 2 * tensor(0).numel() * tensor(1).size(2);
              }
              return nullptr;
            },
            [](const at::RecordFunction& f, at::ObserverContext*) {
              if (std::string(f.name()) != "aten::convolution") return;
              --depth;
              counted += f.outputs().front().toTensor().numel() * convolution;
            })
            .needsInputs(true)
            .needsOutputs(true)
            .scopes({at::RecordScope::FUNCTION}));
    const c10::NoGradGuard no_grad;
    run(n.graph, n.weights, {{"input", n.x.narrow(0, 0, 1)}}, {"logits"});
    at::removeCallback(handle);
    return counted;
  }

 private:
  static inline int64_t counted = 0, depth = 0, convolution = 0;
};

// What is wrong with a case; empty where nothing is.
std::string failure(const Case& c) {
  std::ostringstream wrong;
  try {
    Network n(random_network(c));
    Network replayed(n.graph);
    Dice d(RandomKey(c.seed).with("edits").value());
    const auto check_counts = [&](const char* when) {
      int64_t numbers = 0;
      for (const Role r : {Role::weight, Role::architecture}) {
        for (const Slot& s : n.weights.bank(r).values.slots()) numbers += s.numel;
      }
      if (numbers != n.graph.parameter_count())
        wrong << when << ": " << n.graph.parameter_count() << " parameters counted, the tensors hold " << numbers
              << "\n";
      const int64_t macs = CountedForward::macs(n);
      if (macs != n.graph.macs())
        wrong << when << ": " << n.graph.macs() << " MACs counted, a forward pass makes " << macs << "\n";
    };
    check_counts("as built");
    if (to_json(Graph::from_value(from_json(to_json(n.graph.to_value()))).to_value()) != to_json(n.graph.to_value()))
      wrong << "the graph is another after being written and read\n";

    // Edits that are none.
    const std::string before = n.bytes();
    for (const Axis a : free_axes(n.graph)) {
      Indices all;
      for (int64_t i = 0; i < n.graph[a].size; ++i) all.push_back(i);
      if (d.chance(30)) n.edit({shrink(n.graph, a, all)});
      if (!d.chance(30)) continue;
      n.edit({grow(n.graph, a, d.between(1, 3), "random", RandomKey(c.seed))});
      n.edit({shrink(n.graph, a, all)});
    }
    if (n.bytes() != before) wrong << "growing and shrinking back, or keeping all, changed something\n";

    for (int64_t i = 0; i < c.edits; ++i) {
      const std::vector<Axis> axes = free_axes(n.graph);
      const Axis axis = axes[static_cast<size_t>(d.below(static_cast<int64_t>(axes.size())))];
      const std::string name = n.graph[axis].name;
      if (d.chance(30)) {
        const char* inits[] = {"random", "preserving"};
        const Edit e = grow(n.graph, axis, d.between(1, 2), inits[d.below(2)], RandomKey(c.seed + 1));
        const at::Tensor was = n.logits();
        const auto effect = plan(n.graph, e).effect;
        n.edit({e});
        replayed.edit({Edit::from_value(e.to_value())});
        const double difference = (n.logits() - was).abs().max().item<double>();
        if (effect == Rewrite::Effect::preserves && difference > 1e-10 * std::max(1., was.abs().max().item<double>()))
          wrong << e.str() << ": the function was to stay and changed by " << difference << "\n";
        continue;
      }
      const Indices keep = random_positions(d, n.graph[axis].size);
      const Edit e = shrink(n.graph, axis, keep);
      const Rewrite r = plan(n.graph, e);
      std::string inexact;
      for (const AxisChange& change : r.changes) {
        if (inexact.empty()) inexact = inexact_at(n.graph, change.axis);
        zero(n.graph, n.weights, change.axis, complement(change.from, n.graph[change.axis].size));
      }
      const at::Tensor zeroed = n.logits();
      // Step and edit commute, element by element.
      Network other(n.graph);
      other.weights.copy_from(n.weights);
      Network first(n.graph);
      first.weights.copy_from(n.weights);
      other.step();
      other.edit({e});
      first.edit({e});
      first.step();
      if (other.bytes() != first.bytes()) wrong << e.str() << ": step and edit do not commute\n";

      n.edit({e});
      replayed.edit({Edit::from_value(from_json(to_json(e.to_value())))});
      const double difference = (n.logits() - zeroed).abs().max().item<double>();
      if (inexact.empty() && !(difference <= 1e-10 * std::max(1., zeroed.abs().max().item<double>())))
        wrong << e.str() << " (keep " << to_json(Value(keep)) << "): the function changed by " << difference << "\n";
      check_counts(e.str().c_str());
    }
    if (to_json(replayed.graph.to_value()) != to_json(n.graph.to_value()))
      wrong << "the history replayed gives another structure\n";
  } catch (const std::exception& e) {
    wrong << "threw: " << std::string(e.what()).substr(0, 400) << "\n";
  }
  return wrong.str();
}

// The smallest case with fewer blocks and edits that still fails.
Case smaller(Case c) {
  for (bool again = true; again;) {
    again = false;
    for (Case next : {Case{c.seed, c.blocks - 1, c.edits}, Case{c.seed, c.blocks, c.edits - 1}}) {
      if (next.blocks < 0 || next.edits < 0 || failure(next).empty()) continue;
      c = next;
      again = true;
      break;
    }
  }
  return c;
}

TEST(Property, HoldsForRandomNetworksAndEdits) {
  // ESPALIER_CASE=SEED:BLOCKS:EDITS repeats one, ESPALIER_CASES=N runs more.
  if (const char* one = std::getenv("ESPALIER_CASE")) {
    Case c;
    ASSERT_EQ(std::sscanf(one, "%lu:%ld:%ld", &c.seed, &c.blocks, &c.edits), 3) << one;
    EXPECT_EQ(failure(c), "") << to_json(random_network(c).to_value(), 1);
    return;
  }
  const char* count = std::getenv("ESPALIER_CASES");
  const uint64_t cases = count ? std::strtoull(count, nullptr, 10) : 2000;
  int failed = 0;
  for (uint64_t seed = 0; seed < cases && failed < 3; ++seed) {
    const Case c{seed, static_cast<int64_t>(seed % 5), 4};
    if (failure(c).empty()) continue;
    const Case small = smaller(c);
    ADD_FAILURE() << failure(small) << "repeat it with ESPALIER_CASE=" << small.str();
    ++failed;
  }
}

}  // namespace
}  // namespace espalier
