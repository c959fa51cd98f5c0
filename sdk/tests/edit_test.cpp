// Edits beyond shrinking: growth, gates, and what they leave as it was.
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "edited_network.h"
#include "espalier/builder.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "espalier/rewrite.h"

namespace espalier {
namespace {

Graph chain() {
  GraphBuilder g({2, 8, 8});
  Edge x = g.conv("conv1", g.input(), {.filters = 6, .kernel = 3, .padding = 1});
  x = g.max_pool(g.relu(g.batch_norm("bn1", x)), 2);
  x = g.relu(g.conv("conv2", x, {.filters = 5, .kernel = 3}));
  x = g.relu(g.linear("fc1", g.flatten(x), {.features = 7}));
  return g.output(g.linear("fc2", x, {.features = 3}));
}

TEST(Grow, PreservesTheFunctionWhereAskedTo) {
  for (const char* init : {"preserving", "orthogonal"}) {
    for (const char* axis : {"conv1", "conv2", "fc1"}) {
      Network n(chain());
      const at::Tensor before = n.logits();
      const std::string name = std::string(axis) + ".weight";
      const at::Tensor old = n[name].clone();
      const int64_t size = old.size(0);
      n.edit({grow(n.graph, n.graph.axis(axis), 3, init, RandomKey(4))});
      EXPECT_LE(largest(n.logits() - before), 1e-12) << axis << " " << init;
      EXPECT_EQ(n[name].size(0), size + 3);
      EXPECT_TRUE(at::equal(n[name].narrow(0, 0, size), old)) << "old filters stay as they are";
      for (int64_t i = size; i < size + 3; ++i) EXPECT_GT(largest(n[name][i]), 1e-3) << "new filters are not empty";
    }
  }
}

TEST(Grow, ByTheInitializerChangesTheFunctionAndKeepsWhatWasThere) {
  Network n(chain());
  const at::Tensor before = n.logits();
  const at::Tensor old = n["fc1.weight"].clone();  // [7, 5 x 4]: its columns are channels x pixels
  const at::Tensor momentum = n.weights.state("momentum", n.graph.parameter("fc1.weight")).clone();
  n.edit({grow(n.graph, n.graph.axis("conv2"), 2, "random", RandomKey(4))});
  EXPECT_GT(largest(n.logits() - before), 1e-3);
  EXPECT_EQ(n["fc1.weight"].size(1), 28);
  EXPECT_TRUE(at::equal(n["fc1.weight"].narrow(1, 0, 20), old));
  EXPECT_GT(largest(n["fc1.weight"].narrow(1, 20, 8)), 1e-3);
  const at::Tensor now = n.weights.state("momentum", n.graph.parameter("fc1.weight"));
  EXPECT_TRUE(at::equal(now.narrow(1, 0, 20), momentum));
  EXPECT_EQ(largest(now.narrow(1, 20, 8)), 0) << "new slices of a state begin with its initial value";
  const at::Tensor per_filter = n.weights.state("per filter", n.graph.parameter("conv2.weight"));
  EXPECT_EQ(per_filter[5].item<double>(), 0.5);
  EXPECT_EQ(largest(n.weights.gradient(n.graph.parameter("conv2.weight")).narrow(0, 5, 2)), 0);
}

TEST(Grow, NewChannelsOfBatchNormBeginAsNew) {
  Network n(chain());
  n.edit({grow(n.graph, n.graph.axis("conv1"), 2, "random", RandomKey(4))});
  for (const auto& [name, value] : std::vector<std::pair<std::string, double>>{
           {"bn1.weight", 1}, {"bn1.bias", 0}, {"bn1.running_mean", 0}, {"bn1.running_var", 1}}) {
    EXPECT_EQ(largest(n[name].narrow(0, 6, 2) - value), 0) << name;
  }
  EXPECT_NE(largest(n["bn1.running_mean"].narrow(0, 0, 6)), 0) << "old statistics stay";
}

TEST(Grow, OrthogonalFiltersAre) {
  Network n(chain());
  n.edit({grow(n.graph, n.graph.axis("conv1"), 4, "orthogonal", RandomKey(4))});
  const at::Tensor rows = n["conv1.weight"].reshape({10, -1});
  const at::Tensor fresh = rows.narrow(0, 6, 4);
  EXPECT_LE(largest(fresh.mm(rows.narrow(0, 0, 6).t())), 1e-12);
  const at::Tensor among = fresh.mm(fresh.t());
  EXPECT_LE(largest(among - among.diagonal().diag()), 1e-12);
  // 18 directions: 6 + 12 fit, more cannot be orthogonal and keep what the initializer gave.
  n.edit({grow(n.graph, n.graph.axis("conv1"), 12, "orthogonal", RandomKey(5))});
  const at::Tensor all = n["conv1.weight"].reshape({22, -1});
  EXPECT_LE(largest(all.narrow(0, 10, 8).mm(all.narrow(0, 0, 10).t())), 1e-12);
  EXPECT_GT(largest(all.narrow(0, 18, 4)), 1e-3);
}

TEST(Grow, ThenShrunkBackRestoresEveryByte) {
  Network n(chain());
  const std::string before = n.bytes();
  for (const char* axis : {"conv1", "conv2", "fc1"}) {
    const int64_t size = n.graph[n.graph.axis(axis)].size;
    n.edit({grow(n.graph, n.graph.axis(axis), 5, "random", RandomKey(1))});
    EXPECT_NE(n.bytes(), before);
    Indices keep;
    for (int64_t i = 0; i < size; ++i) keep.push_back(i);
    n.edit({shrink(n.graph, n.graph.axis(axis), keep)});
    EXPECT_EQ(n.bytes(), before) << axis;
  }
}

TEST(Grow, IsReplayedWithTheSameValues) {
  Network a(chain()), b(chain()), c(chain());
  const Edit e = grow(a.graph, a.graph.axis("conv1"), 3, "random", RandomKey(9));
  a.edit({e});
  b.edit({Edit::from_value(from_json(to_json(e.to_value())))});
  EXPECT_EQ(a.bytes(), b.bytes());
  c.edit({grow(c.graph, c.graph.axis("conv1"), 3, "random", RandomKey(10))});
  EXPECT_NE(a.bytes(), c.bytes());
}

TEST(Edits, OfSeveralWidthsAtOnceAreTheSameAsOneAfterTheOther) {
  Network a(chain()), b(chain());
  const Edits edits{shrink(a.graph, a.graph.axis("conv1"), {0, 2, 5}), shrink(a.graph, a.graph.axis("conv2"), {1, 4}),
                    shrink(a.graph, a.graph.axis("fc1"), {0, 1, 2, 6})};
  size_t next = 0;
  plan(a.graph, edits, next);
  EXPECT_EQ(next, 3U) << "one pass";
  a.edit(edits);
  for (const Edit& e : edits) b.edit({e});
  EXPECT_EQ(a.bytes(), b.bytes());
}

TEST(Edits, AreAllCarriedOutOrNone) {
  Network n(chain());
  const std::string before = n.bytes();
  const at::Tensor held = n["conv1.weight"].clone();
  for (const Change& impossible : std::vector<Change>{
           Shrink{"fc1", {}}, Shrink{"conv2", {7}}, Grow{"fc2"}, Grow{"conv1", 0}, Grow{"conv1", 2, "kaiming"},
           Disconnect{"conv2", 0}, DropBlock{"layer1"}, Choose{"conv1", 0}, FoldGate{"bn1"}, RemoveGate{"relu1"},
           InsertGate{"bn1", "conv1", ""}, InsertGate{"gate", "conv1", "fc1"}}) {
    EXPECT_THROW(n.edit({shrink(n.graph, n.graph.axis("conv1"), {0, 2}), {InsertGate{"g", "bn1", ""}}, {impossible}}),
                 Error)
        << Edit{impossible}.str();
    EXPECT_EQ(n.bytes(), before) << Edit{impossible}.str();
  }
  EXPECT_TRUE(at::equal(n["conv1.weight"], held));
}

TEST(Edits, AreRefusedAsSuchWhateverIsWrong) {
  Network n(chain());
  const auto why = [&](const Change& change) {
    try {
      n.edit({{change}});
    } catch (const EditError& e) {
      return std::string(e.what());
    }
    return std::string("(carried out)");
  };
  EXPECT_EQ(why(Shrink{"conv3", {0}}),
            "cannot shrink conv3 to 1: the network has no axis 'conv3' (did you mean 'conv1'?)");
  EXPECT_EQ(why(SplitOff{"relu1", 0, "conv2.weight"}), "(carried out)") << "parameters are called otherwise";
  n.edit({{SplitOff{"conv2", 0, "view"}}});
  for (const char* taken : {"input", "view", "bn1"}) {
    const std::string reason = std::string("there is a node or an edge '") + taken + "' already";
    EXPECT_NE(why(InsertGate{taken, "conv1", ""}).find(reason), std::string::npos)
        << why(InsertGate{taken, "conv1", ""});
    EXPECT_NE(why(SplitOff{"conv2", 0, taken}).find(reason), std::string::npos) << taken;
  }
  EXPECT_EQ(why(FoldGate{"relu1"}), "cannot fold 'relu1': it is a 'relu', neither a gate nor a mixture");
}

// One of two that share a bank may register a state alone.
TEST(Edits, CarryAStateOfSharedArchitectureParametersWhoeverRegisteredIt) {
  Graph graph = chain();
  Weights lender(graph, at::kDouble, at::kCPU);
  apply(graph, {&lender}, Edit{InsertGate{"gate", "conv1", "", 1, "architecture"}});
  Weights borrower(graph, lender, {Role::architecture});
  borrower.add_state(graph, {.name = "pairs",
                             .shape =
                                 [](const Parameter& p) {
                                   return Shape{p.shape[0], p.shape[0]};
                                 },
                             .initial = 0.5});
  const auto pairs = [&] { return borrower.state("pairs", graph.parameter("gate.coefficient.value")); };
  at::Tensor(pairs()).select(0, 2).fill_(7);
  apply(graph, {&lender, &borrower}, shrink(graph, graph.axis("conv1"), {0, 2}));
  apply(graph, {&lender, &borrower}, grow(graph, graph.axis("conv1"), 1, "random", RandomKey(1)));
  const at::Tensor expected = at::tensor({.5, .5, .5, 7., 7., .5, .5, .5, .5}, at::kDouble).view({3, 3});
  EXPECT_TRUE(at::equal(pairs(), expected)) << pairs();
}

// The memory of an edit before is used again: what it held must not show.
TEST(Edits, ManyInARowLeaveWhatASingleOneLeaves) {
  Network many(chain()), one(chain());
  Indices left{0, 1, 2, 3, 4, 5};
  const auto fc = [&](const Indices& keep) { return shrink(many.graph, many.graph.axis("conv1"), keep); };
  many.edit({fc({0, 1, 2, 4, 5})});
  many.edit({fc({0, 2, 3, 4})});
  many.edit({grow(many.graph, many.graph.axis("conv1"), 1, "random", RandomKey(2))});
  many.edit({fc({0, 1, 3})});
  one.edit({shrink(one.graph, one.graph.axis("conv1"), {0, 2, 5})});
  EXPECT_EQ(many.bytes(), one.bytes());
}

at::Tensor coefficients(Network& n, const std::string& gate, const std::vector<double>& values) {
  const c10::NoGradGuard no_grad;
  at::Tensor c = n.weights[n.graph.parameter(gate + ".coefficient.value")];
  c.copy_(at::tensor(values, at::kDouble));
  return c;
}

TEST(Gate, IsInsertedMultipliesAndGoesAgain) {
  Network n(chain());
  const at::Tensor before = n.logits();
  n.edit({{InsertGate{"gate", "bn1", "conv1"}}});
  EXPECT_TRUE(at::equal(n.logits(), before)) << "coefficients of 1";
  EXPECT_EQ(n.graph[n.graph.parameter("gate.coefficient.value")].kind, "gate");
  coefficients(n, "gate", {1, 2, -1, 0, 1, 1});
  const at::Tensor gated = n.logits();
  EXPECT_GT(largest(gated - before), 1e-3);
  // The oracle: the same in batch norm's own scale and shift.
  Network m(chain());
  {
    const c10::NoGradGuard no_grad;
    for (const char* p : {"bn1.weight", "bn1.bias"})
      at::Tensor(m.weights[m.graph.parameter(p)]).mul_(at::tensor({1., 2., -1., 0., 1., 1.}, at::kDouble));
  }
  EXPECT_LE(largest(gated - m.logits()), 1e-13);
  n.edit({{RemoveGate{"gate"}}});
  EXPECT_TRUE(at::equal(n.logits(), before));
  EXPECT_EQ(n.graph.find_output("logits") != nullptr, true);
  EXPECT_THROW(n.graph.parameter("gate.coefficient.value"), Error) << "nothing reads it any more";
}

TEST(Gate, IsFoldedWithTheSameOutputWhereverThatIsPossible) {
  struct Case {
    const char* edge;
    const char* into;  // a parameter that must change
  };
  for (const Case& c : {Case{"conv1", "conv1.bias"}, Case{"bn1", "bn1.weight"}, Case{"conv2", "conv2.weight"},
                        Case{"relu2", "fc1.weight"}, Case{"max_pool1", "conv2.weight"}, Case{"flatten1", "fc1.weight"},
                        Case{"fc1", "fc1.bias"}, Case{"relu3", "fc2.weight"}}) {
    Network n(chain());
    const int64_t size = n.graph.size(n.graph[n.graph.node(c.edge).outputs[0]].shape[0]);
    n.edit({{InsertGate{"gate", c.edge, ""}}});
    std::vector<double> values;
    for (int64_t i = 0; i < size; ++i) values.push_back(std::cos(static_cast<double>(i)) * (i % 3 == 1 ? -2 : 1));
    coefficients(n, "gate", values);
    const at::Tensor gated = n.logits();
    const at::Tensor before = n[c.into].clone();
    n.edit({{FoldGate{"gate"}}});
    EXPECT_LE(largest(n.logits() - gated), 1e-12) << c.edge;
    EXPECT_FALSE(at::equal(n[c.into], before)) << c.edge << " into " << c.into;
    EXPECT_EQ(n.graph.parameter_count(), Network(chain()).graph.parameter_count()) << c.edge;
  }
}

TEST(Gate, StaysWhereFoldingWouldCrossANonlinearity) {
  GraphBuilder b({2, 6, 6});
  Edge x = b.relu(b.conv("conv", b.input(), {.filters = 4, .kernel = 3}));
  const Graph g = b.output(b.linear("fc", b.flatten(b.activation("tanh", x)), {.features = 3}));
  Network n(g);
  n.edit({{InsertGate{"gate", "relu1", ""}}});
  const std::string before = n.bytes();
  try {
    n.edit({{FoldGate{"gate"}}});
    FAIL() << "between ReLU and tanh nothing can take it in";
  } catch (const EditError& e) {
    EXPECT_NE(std::string(e.what()).find("cannot fold 'gate'"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("the gate stays"), std::string::npos) << e.what();
  }
  EXPECT_EQ(n.bytes(), before);
}

TEST(Edit, OfEveryKindIsReadAsItWasWritten) {
  for (const Change& c : std::vector<Change>{
           Shrink{"a", {0, 2}}, Grow{"a", 3, "orthogonal", 0xffffffffffffffffULL}, SplitOff{"n", 1, "v"},
           Disconnect{"n", 2}, DropBlock{"layer1.0"}, InsertBlock{"b", "l", "a", "preserving", 5}, Choose{"mixed", 1},
           InsertGate{"g", "e", "a", 0.25, "architecture", {"x", "y"}}, FoldGate{"g"}, RemoveGate{"g"},
           CropKernels{"conv", {0, 3, 5}}, Disconnect{"n", 2, true}, DropBlock{"layer1.0", true},
           InsertGates{"c",
                       from_json(R"({"use": "coefficient", "initial": 2})"),
                       3,
                       {{"g1", "e1", {"r", "s"}, {0, 2, 2}}, {"g2", "e2", {}, {1}}}},
           Substitute{"e",
                      "n",
                      from_json(R"({"use": "sparse_constant", "size": 2,
                                                         "rows": [0], "columns": [1]})"),
                      {"r"},
                      true}}) {
    const Value written = from_json(to_json(Edit{c}.to_value()));
    const Edit back = Edit::from_value(written);
    EXPECT_EQ(back.what.index(), c.index());
    EXPECT_TRUE(back.to_value() == written) << to_json(written);
    EXPECT_FALSE(back.str().empty());
  }
  EXPECT_EQ(
      std::get<Grow>(Edit::from_value(from_json(R"({"edit":"grow","axis":"a","seed":"18446744073709551615"})")).what)
          .seed,
      0xffffffffffffffffULL);
  EXPECT_THROW(Edit::from_value(from_json(R"({"edit":"prune"})")), InputError);
  EXPECT_THROW(Edit::from_value(from_json(R"({"edit":"shrink","axis":"a","keep":[0],"extra":1})")), InputError);
  EXPECT_THROW(Edit::from_value(from_json(R"({"edit":"grow","axis":"a","seed":"-1"})")), InputError);
  // Each field of what nests, and what is left out.
  const Edit gates = Edit::from_value(from_json(
      R"({"edit":"insert_gates","coefficients":"c","operation":{"use":"coefficient"},"count":3,
          "places":[{"gate":"g","edge":"e","readers":["r"],"index":[0,2]},{"gate":"h","edge":"f","index":[1]}]})"));
  const auto& of = std::get<InsertGates>(gates.what);
  EXPECT_EQ(of.coefficients, "c");
  EXPECT_EQ(of.operation.at("use").as_string(), "coefficient");
  EXPECT_EQ(of.count, 3);
  ASSERT_EQ(of.places.size(), 2U);
  EXPECT_EQ(of.places[0].gate + of.places[0].edge + of.places[0].readers.at(0), "ger");
  EXPECT_EQ(of.places[0].index, (Indices{0, 2}));
  EXPECT_TRUE(of.places[1].readers.empty());
  const Edit substitute = Edit::from_value(from_json(
      R"({"edit":"substitute","edge":"e","node":"n","operation":{"use":"o"},"readers":["r"],"keep_values":true})"));
  EXPECT_TRUE(std::get<Substitute>(substitute.what).keep_values);
  EXPECT_FALSE(std::get<Disconnect>(Edit::from_value(from_json(R"({"edit":"disconnect","node":"n"})")).what).exact);
  EXPECT_TRUE(
      std::get<DropBlock>(Edit::from_value(from_json(R"({"edit":"drop_block","block":"b","exact":true})")).what).exact);
  try {
    Edit::from_value(from_json(R"({"edit":"insert_gates","places":[{"gate":"g","edges":"e"}]})"));
    ADD_FAILURE() << "a place has no 'edges'";
  } catch (const InputError& e) {
    EXPECT_NE(std::string(e.what()).find("a place of the edit 'insert_gates' has no 'edges'"), std::string::npos)
        << e.what();
  }
}

}  // namespace
}  // namespace espalier
