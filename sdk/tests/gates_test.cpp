// Gates whose coefficients several channels share, by an index; several gates of the same coefficients; substitutes.
#include <numeric>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "edited_network.h"
#include "espalier/builder.h"
#include "espalier/error.h"
#include "espalier/mixture.h"
#include "espalier/operation.h"
#include "espalier/rewrite.h"

namespace espalier {
namespace {

using testing::HasSubstr;

// conv1 (6 channels) - batch norm - ReLU - conv2 (4) - ReLU - linear - linear; and a sum of two layers on the way.
Graph network() {
  GraphBuilder b({2, 5, 5});
  Edge x = b.relu(b.batch_norm("bn1", b.conv("conv1", b.input(), {.filters = 6, .padding = 1})));
  const Edge y = b.conv("conv2", x, {.filters = 4});
  const Edge z = b.conv("conv3", x, {.filters = 4});
  x = b.relu(b.add(b.batch_norm("bn2", y), z));
  return b.output(b.linear("fc2", b.linear("fc1", b.flatten(x), {.features = 5}), {.features = 3}));
}

Value coefficient(double initial = 1) {
  return Value::map({{"use", "coefficient"}, {"initial", initial}});
}
InsertGates one_gate(const std::string& edge, Indices index, int64_t count, std::vector<std::string> readers = {}) {
  return {.coefficients = "c",
          .operation = coefficient(),
          .count = count,
          .places = {{.gate = "gate", .edge = edge, .readers = std::move(readers), .index = std::move(index)}}};
}

// The network's own nodes one by one, with what each gives multiplied by a factor for each channel.
at::Tensor multiplied(const Network& n, const Weights& w, const std::string& node, const std::vector<double>& factors,
                      const std::string& reader = "") {
  const Graph& g = n.graph;
  const Pass pass{.training = false, .key = RandomKey(1), .fuse = false};
  std::vector<at::Tensor> values(g.edges().size());
  values[static_cast<size_t>(g.inputs()[0].edge.id)] = n.x;
  for (const Node& each : g.nodes()) {
    std::vector<at::Tensor> inputs;
    for (const Edge e : each.inputs) {
      at::Tensor v = values[static_cast<size_t>(e.id)];
      if (e == g.node(node).outputs[0] && (reader.empty() || reader == each.name)) {
        std::vector<int64_t> sizes(static_cast<size_t>(v.dim()), 1);
        sizes[1] = -1;
        v = v * at::tensor(factors, at::kDouble).reshape(sizes);
      }
      inputs.push_back(v);
    }
    if (each.op->type() == "cross_entropy") continue;
    values[static_cast<size_t>(each.outputs[0].id)] = each.op->forward({g, each, w, pass, inputs})[0];
  }
  return values[static_cast<size_t>(g.output("logits").id)];
}

const Indices shared{2, 0, 0, 1, 2, 0};           // of six channels, the position among three coefficients
const std::vector<double> three{0.5, -2.0, 0.0};  // the coefficients

std::vector<double> along(const Indices& index, const std::vector<double>& c) {
  std::vector<double> all;
  for (const int64_t i : index) all.push_back(c[static_cast<size_t>(i)]);
  return all;
}

TEST(SharedGate, MultipliesEachChannelByItsCoefficient) {
  const Network plain(network());
  const c10::NoGradGuard no_grad;
  for (const char* node : {"conv1", "bn1", "relu1"}) {
    Network n(network());
    n.edit({{one_gate(node, shared, 3)}});
    set(n, "c.value", at::tensor(three, at::kDouble));
    EXPECT_LE(largest(n.logits() - multiplied(plain, plain.weights, node, along(shared, three))), 1e-12) << node;
    EXPECT_EQ(n.graph.parameter_count(), plain.graph.parameter_count() + 3);
    EXPECT_EQ(n.graph.macs(), plain.graph.macs());
  }
  // One of two readers.
  Network n(network());
  n.edit({{one_gate("relu1", shared, 3, {"conv3"})}});
  set(n, "c.value", at::tensor(three, at::kDouble));
  EXPECT_LE(largest(n.logits() - multiplied(plain, plain.weights, "relu1", along(shared, three), "conv3")), 1e-12);
  // Of features, and one coefficient for all.
  Network v(network());
  v.edit({{one_gate("fc1", {0, 0, 0, 0, 0}, 1)}});
  set(v, "c.value", at::tensor({-3.0}, at::kDouble));
  EXPECT_LE(largest(v.logits() - multiplied(plain, plain.weights, "fc1", {-3, -3, -3, -3, -3})), 1e-12);
}

// The coefficient's gradient is the sum over its channels, and that of the weights is that of the product.
TEST(SharedGate, GradientsAreThoseOfFiniteDifferences) {
  for (const char* node : {"conv1", "bn1", "relu1", "bn2"}) {
    for (const bool fuse : {true, false}) {
      Network n(network());
      const Indices index = std::string(node) == "bn2" ? Indices{1, 0, 0, 2} : shared;
      n.edit({{one_gate(node, index, 3)}});
      set(n, "c.value", at::tensor({0.5, -2.0, 1.5}, at::kDouble));
      const at::Tensor y = testkit::target_of(3, 16, 1);
      const Pass pass{.training = true, .key = RandomKey(1), .fuse = fuse};
      const auto loss = [&] {
        return at::cross_entropy_loss(run(n.graph, n.weights, {{"input", n.x}}, {"logits"}, pass)[0], y);
      };
      n.weights.zero_gradients();
      loss().backward();
      const c10::NoGradGuard no_grad;
      for (const char* name : {"c.value", "conv1.weight", "bn1.weight", "bn2.bias", "conv2.weight"}) {
        at::Tensor p = n[name];
        const at::Tensor start = p.clone(), direction = normal(p.sizes().vec(), 1, RandomKey(10));
        constexpr double step = 1e-6;  // leaves 1e-9 of a loss of size one
        p.copy_(start + direction * step);
        double difference = loss().item<double>();
        p.copy_(start - direction * step);
        difference -= loss().item<double>();
        p.copy_(start);
        const double derivative = (n.weights.gradient(n.graph.parameter(name)) * direction).sum().item<double>();
        EXPECT_NEAR(difference / (2 * step), derivative, 1e-6 * std::max(1.0, std::abs(derivative))) << node << name;
        EXPECT_GT(std::abs(derivative), 1e-6) << node << " " << name;
      }
    }
  }
}

TEST(SharedGate, FollowsTheWidthThatItMultiplies) {
  Network n(network());
  n.edit({{one_gate("bn1", shared, 3)}});
  set(n, "c.value", at::tensor({0.5, -2.0, 1.5}, at::kDouble));
  const Indices keep{0, 3, 5};
  Network zeroed(n);
  const Edit e = shrink(n.graph, n.graph.axis("conv1"), keep);
  const at::Tensor masked = masked_logits(zeroed, plan(n.graph, e).changes).value();
  n.edit({e});
  EXPECT_LE(largest(n.logits() - masked), 1e-12);
  EXPECT_EQ(n["c.value"].numel(), 3) << "the coefficients stay, read or not";
  const Value index = n.graph.node("gate").op->options().at("index");
  EXPECT_EQ(to_json(index), "[2,1,0]");
  // It grows only by a plan that nobody has made.
  EXPECT_THAT(refusal(n, {{Grow{"conv1", 2}}}), HasSubstr("a new position would have none"));
  // Coefficients that nothing reads may go, others not; what is read keeps its coefficient.
  Network m(network());
  m.edit({{one_gate("bn1", {3, 0, 0, 1, 3, 0}, 4)}});
  set(m, "c.value", at::tensor({0.5, -2.0, 7.0, 1.5}, at::kDouble));
  const at::Tensor before = m.logits();
  EXPECT_THAT(refusal(m, {shrink(m.graph, m.graph.axis("c"), {0, 2, 3})}), HasSubstr("needs the coefficient"));
  m.edit({shrink(m.graph, m.graph.axis("c"), {0, 1, 3})});
  EXPECT_TRUE(at::equal(m.logits(), before));
  EXPECT_EQ(to_json(m.graph.node("gate").op->options().at("index")), "[2,0,0,1,2,0]");
  // A graph that is written and read again multiplies the same.
  EXPECT_EQ(Graph::from_value(m.graph.to_value()).node("gate").op->options(), m.graph.node("gate").op->options());
}

// A concatenation that loses a segment takes the gate's channels with it.
TEST(SharedGate, LosesTheChannelsOfASegment) {
  GraphBuilder b({2, 5, 5});
  const Edge x = b.conv("a", b.input(), {.filters = 3}), y = b.conv("b", b.input(), {.filters = 2}),
             z = b.conv("c", b.input(), {.filters = 2});
  const Graph g = b.output(b.linear("fc", b.flatten(b.relu(b.concat({x, y, z}))), {.features = 3}));
  Network n(g);
  n.edit({{InsertGates{.coefficients = "k",
                       .operation = coefficient(),
                       .count = 3,
                       .places = {{.gate = "gate", .edge = "relu1", .readers = {}, .index = {0, 0, 0, 1, 1, 2, 2}}}}}});
  set(n, "k.value", at::tensor({0.5, 0.0, 1.5}, at::kDouble));
  const at::Tensor before = n.logits();
  n.edit({{Disconnect{.node = "concat1", .input = 1, .exact = true}}});
  EXPECT_LE(largest(n.logits() - before), 1e-12);
  EXPECT_EQ(to_json(n.graph.node("gate").op->options().at("index")), "[0,0,0,2,2]");
  EXPECT_EQ(n["k.value"].numel(), 3);
}

TEST(SharedGate, IsFoldedIntoWhatIsBeforeAndIntoWhatIsBehind) {
  struct Case {
    const char* edge;
    std::vector<std::string> into;
    Indices index;
  };
  for (const Case& c :
       {Case{"conv1", {"conv1.weight", "conv1.bias"}, shared}, Case{"bn1", {"bn1.weight", "bn1.bias"}, shared},
        Case{"relu1", {"conv2.weight", "conv3.weight"}, shared}, Case{"bn2", {"bn2.weight", "bn2.bias"}, {1, 0, 0, 2}},
        Case{"flatten1", {"fc1.weight"}, {}}, Case{"fc1", {"fc1.weight", "fc1.bias"}, {1, 0, 0, 2, 1}}}) {
    Network n(network());
    Indices index = c.index;
    // Four channels of nine pixels: neighbours of a channel have coefficients of their own, too.
    for (int64_t i = 0; index.size() < 36 && c.index.empty(); ++i) index.push_back(i % 3);
    n.edit({{one_gate(c.edge, index, 3)}});
    set(n, "c.value", at::tensor({0.5, -2.0, 1.5}, at::kDouble));
    const at::Tensor before = n.logits();
    std::vector<at::Tensor> was;
    for (const std::string& p : c.into) was.push_back(n[p].clone());
    n.edit({{FoldGate{"gate"}}});
    EXPECT_LE(largest(n.logits() - before), 1e-12) << c.edge;
    for (size_t i = 0; i < c.into.size(); ++i) EXPECT_FALSE(at::equal(n[c.into[i]], was[i])) << c.into[i];
    EXPECT_FALSE(n.has("c") || n.has("gate"));
    EXPECT_EQ(n.graph.parameter_count(), network().parameter_count());
  }
}

TEST(InsertGates, SeveralShareTheCoefficientsUntilTheLastIsFolded) {
  Network n(network());
  const at::Tensor plain = n.logits();
  n.edit({{InsertGates{.coefficients = "c",
                       .operation = coefficient(2),
                       .count = 2,
                       .places = {{.gate = "one", .edge = "bn2", .readers = {"add1"}, .index = {0, 0, 0, 0}},
                                  {.gate = "two", .edge = "conv3", .readers = {}, .index = {1, 1, 1, 1}}}}}});
  EXPECT_EQ(n.graph.node("one").inputs[1], n.graph.node("two").inputs[1]);
  EXPECT_GT(largest(n.logits() - plain), 1e-3);
  set(n, "c.value", at::tensor({1.0, 1.0}, at::kDouble));
  EXPECT_LE(largest(n.logits() - plain), 1e-12);
  set(n, "c.value", at::tensor({0.5, -1.0}, at::kDouble));
  const at::Tensor before = n.logits();
  n.edit({{FoldGate{"one"}}});
  EXPECT_LE(largest(n.logits() - before), 1e-12);
  EXPECT_TRUE(n.has("c")) << "the other still reads it";
  n.edit({{FoldGate{"two"}}});
  EXPECT_LE(largest(n.logits() - before), 1e-12);
  EXPECT_FALSE(n.has("c") || n.has("two"));
  EXPECT_THROW(n.graph.axis("c"), Error);
}

TEST(InsertGates, AreRefusedWithTheReason) {
  Network n(network());
  const auto refused = [&](const std::function<void(InsertGates&)>& damage) {
    InsertGates e = one_gate("bn1", shared, 3);
    damage(e);
    return refusal(n, {{e}});
  };
  EXPECT_THAT(refused([](InsertGates& e) { e.coefficients = ""; }), HasSubstr("the coefficients of gates need a name"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places.clear(); }), HasSubstr("there is no place for them"));
  EXPECT_THAT(refused([](InsertGates& e) { e.coefficients = "conv1"; }), HasSubstr("'conv1'"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places[0].gate = "relu1"; }), HasSubstr("'relu1'"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places[0].gate = "c"; }), HasSubstr("'c'")) << "its own coefficients";
  EXPECT_THAT(refused([](InsertGates& e) { e.places.push_back(e.places[0]); }), HasSubstr("'gate'"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places[0].edge = "bn7"; }), HasSubstr("'bn7'"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places[0].readers = {"conv2"}; }),
              HasSubstr("'bn1': the node 'conv2' does not read an edge of this name"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places[0].readers = {"conv9"}; }), HasSubstr("'conv9'"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places[0].index[1] = 3; }), HasSubstr("there is no coefficient 3"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places[0].index[1] = -1; }), HasSubstr("there is no coefficient -1"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places[0].index.pop_back(); }), HasSubstr("do not belong to dimension 0"));
  EXPECT_THAT(refused([](InsertGates& e) { e.places[0].index.clear(); }), HasSubstr("do not belong to dimension 0"));
  EXPECT_THAT(refused([](InsertGates& e) { e.operation = Value::map({{"use", "relu"}}); }), HasSubstr("'c'"));
  EXPECT_THAT(refused([](InsertGates& e) {
                e.operation = Value::map({{"use", "coeficient"}});
              }),
              HasSubstr("coeficient"));
  EXPECT_THAT(refused([](InsertGates& e) {
                e.operation = Value::map({{"use", "sparse_constant"}, {"size", 3}, {"rows", {0}}, {"columns", {1}}});
              }),
              HasSubstr("its operation does not give one number for each of 3"));
  EXPECT_THAT(refused([](InsertGates& e) { e.count = 0; }), testing::Not(HasSubstr("(carried out)")));
  EXPECT_EQ(refused([](InsertGates&) {}).substr(0, 9), "(changed)") << "without damage it is carried out";
}

// ---- substitutes ----

// Two graph convolutions over a matrix of six nodes that no sample changes; all its entries are known.
Graph graph_network() {
  GraphBuilder b({2, 2, 3});
  Indices rows, columns;
  for (int64_t i = 0; i < 36; ++i) {
    rows.push_back(i / 6);
    columns.push_back(i % 6);
  }
  const Edge a =
      b.node("sparse_constant", "given", {}, Value::map({{"size", 6}, {"rows", rows}, {"columns", columns}}));
  const Edge x = b.graph_conv("conv1", b.to_tokens(b.input(), true), a, 4);
  return b.output(b.mean(b.graph_conv("conv2", b.activation("tanh", x), a, 3)));
}
// The entries of the grid of two rows of three pixels, by which it is substituted.
Value grid_entries() {
  Indices rows, columns;
  for (int64_t i = 0; i < 6; ++i) {
    for (int64_t j = 0; j < 6; ++j) {
      if (std::abs(i / 3 - j / 3) + std::abs(i % 3 - j % 3) > 1) continue;
      rows.push_back(i);
      columns.push_back(j);
    }
  }
  return Value::map({{"use", "sparse_constant"}, {"size", 6}, {"rows", rows}, {"columns", columns}});
}

TEST(Substitute, KeepsTheValuesThatThereWere) {
  Network n(graph_network());
  const std::string edge = "given";
  const Value entries_of = grid_entries();
  at::Tensor values = at::zeros({6, 6}, at::kDouble);
  for (size_t i = 0; i < entries_of.at("rows").size(); ++i) {
    const auto at = [&](const char* key) { return entries_of.at(key).as_list()[i].as_int(); };
    values[at("rows")][at("columns")].fill_(0.1 + 0.3 * static_cast<double>(i % 5));
  }
  set(n, "given.value", values.flatten());
  const at::Tensor before = n.logits();
  const int64_t macs = n.graph.macs();
  n.edit({{Substitute{.edge = edge, .node = "learned", .operation = grid_entries(), .keep_values = true}}});
  EXPECT_LE(largest(n.logits() - before), 1e-14);
  // 6 pixels: 6 with themselves, and 7 neighbours in both directions.
  const int64_t entries = 6 + 2 * 7;
  EXPECT_EQ(n["learned.value"].numel(), entries);
  EXPECT_EQ(macs - n.graph.macs(), (36 - entries) * (4 + 3));
  EXPECT_EQ(n.graph[n.graph.parameter("learned.value")].role, Role::buffer);
  EXPECT_EQ(plan(graph_network(), {Substitute{edge, "learned", grid_entries(), {}, true}}).effect,
            Rewrite::Effect::preserves);
  EXPECT_EQ(plan(graph_network(), {Substitute{edge, "learned", grid_entries(), {}, false}}).effect,
            Rewrite::Effect::changes);
  // Without them it begins as the operation does, with zeros; and one reader may read it alone.
  Network zeros(graph_network());
  zeros.edit({{Substitute{.edge = edge, .node = "learned", .operation = grid_entries(), .readers = {"conv2"}}}});
  EXPECT_LE(largest(zeros.logits() - zeros["conv2.bias"]), 1e-14);
  EXPECT_EQ(zeros.graph[zeros.graph.node("conv1").inputs[1]].name, edge);
  set(zeros, "given.value", values.flatten());
  set(zeros, "learned.value", n["learned.value"]);
  EXPECT_LE(largest(zeros.logits() - before), 1e-14);
}

TEST(Substitute, IsRefusedWithTheReason) {
  Network n(graph_network());
  const std::string edge = "given";
  const auto refused = [&](const std::function<void(Substitute&)>& damage) {
    Substitute e{.edge = edge, .node = "learned", .operation = grid_entries(), .keep_values = true};
    damage(e);
    return refusal(n, {{e}});
  };
  EXPECT_THAT(refused([](Substitute& e) { e.edge = "adjacent"; }), HasSubstr("'adjacent'"));
  EXPECT_THAT(refused([](Substitute& e) { e.node = "conv1"; }), HasSubstr("'conv1'"));
  EXPECT_THAT(refused([](Substitute& e) { e.readers = {"tanh1"}; }), HasSubstr("the node 'tanh1' does not read"));
  EXPECT_THAT(refused([](Substitute& e) { e.operation["size"] = 7; }), HasSubstr("it gives [7, 7] and not [6, 6]"));
  EXPECT_THAT(refused([](Substitute& e) { e.operation["size"] = 5; }), HasSubstr("lies outside of the matrix"));
  EXPECT_THAT(refused([](Substitute& e) {
                e.operation["rows"] = Indices{0, 1};
              }),
              HasSubstr("as many rows as columns"));
  EXPECT_THAT(refused([](Substitute& e) {
                e.operation["rows"] = Indices();
                e.operation["columns"] = Indices();
              }),
              HasSubstr("as many rows as columns"));
  EXPECT_THAT(refused([](Substitute& e) {
                e.edge = "conv1";
                e.operation = Value::map({{"use", "coefficient"}});
              }),
              testing::Not(HasSubstr("(carried out)")));
  // Values of the samples are not held; nor does every operation hold any.
  GraphBuilder b({.channels = 2, .nodes = 6});
  const Graph given = b.output(b.mean(b.graph_conv("conv", b.input(), b.input("adjacency", {6, 6}), 3)));
  const auto why = [&](const Substitute& e) -> std::string {
    try {
      plan(given, {e});
    } catch (const EditError& error) {
      return error.what();
    }
    return "(planned)";
  };
  Substitute of_samples{.edge = "adjacency", .node = "learned", .operation = grid_entries(), .keep_values = true};
  EXPECT_THAT(why(of_samples),
              HasSubstr("cannot substitute 'learned' for 'adjacency': its values depend on the sample"));
  of_samples.keep_values = false;
  EXPECT_EQ(why(of_samples), "(planned)");
  GraphBuilder p({3});
  const Edge c = p.softmax(p.node("coefficient", "c", {}, Value::map(), {4}));
  Network plain(p.output(p.scale(p.linear("fc", p.input(), {.features = 4}), c)));
  const Value mine = Value::map({{"use", "coefficient"}});
  EXPECT_THAT(refusal(plain, {{Substitute{.edge = "c", .node = "d", .operation = mine, .keep_values = true}}}),
              testing::Not(HasSubstr("(carried out)")));
}

TEST(Effects, OfDisconnectAndDropBlockAreSaidByTheEdit) {
  GraphBuilder b({2, 6, 6});
  Edge x = b.relu(b.conv("in", b.input(), {.filters = 4, .padding = 1}));
  {
    const auto scope = b.scope("layer1.0");
    x = b.relu(b.add(b.conv("conv", x, {.filters = 4, .padding = 1}), x));
  }
  const Graph g = b.output(b.linear("fc", b.flatten(x), {.features = 3}));
  for (const bool exact : {false, true}) {
    const Rewrite::Effect effect = exact ? Rewrite::Effect::preserves : Rewrite::Effect::changes;
    EXPECT_EQ(plan(g, {Disconnect{"layer1.0.add1", 0, exact}}).effect, effect);
    EXPECT_EQ(plan(g, {DropBlock{"layer1.0", exact}}).effect, effect);
  }
}

}  // namespace
}  // namespace espalier
