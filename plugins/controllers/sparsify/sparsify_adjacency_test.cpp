// The controller `sparsify` with the adjacency of graph convolutions: what may be connected, what is left, what is
// folded.
#include <ATen/ops/eye.h>
#include <gmock/gmock.h>

#include "sparsify_run.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

constexpr double exact = 1e-12;  // of sums of ten numbers in another order
constexpr int64_t nodes = 5;

// A given graph: a ring, in which node 4 is seen by nobody but itself, and no entry of node 2 with itself.
at::Tensor given() {
  at::Tensor a = at::zeros({nodes, nodes}, at::kDouble);
  for (int64_t i = 0; i < nodes; ++i) {
    a[i][i].fill_(0.5);
    a[i][(i + 1) % 4].fill_(0.3 + 0.1 * static_cast<double>(i));
    a[i][(i + 3) % 4].fill_(0.2);
  }
  a[2][2].fill_(0);
  return a;
}

struct Gcn {
  Graph before;
  std::unique_ptr<Controller> controller;
  testkit::TestRun run;
  at::Tensor x = normal({1, nodes, 3}, 1, RandomKey(3));
  explicit Gcn(const std::string& options, bool begin = true)
      : before(network()),
        controller(sparsify(R"("groups": "adjacency")" + (options.empty() ? "" : ", " + options))),
        run(Started::begun(before, *controller), 3) {
    run.batches = [this](int64_t) {
      return Batch{{{"input", x}, {"adjacency", given().unsqueeze(0)}}, {{"target", at::zeros({1, nodes}, at::kLong)}}};
    };
    if (begin) controller->stage_begin(run);
  }
  static Graph network() {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libgcn.so");
    return testkit::build(R"({"use": "gcn", "hidden": [4]})",
                          {.channels = 3, .nodes = nodes, .others = {{"adjacency", {nodes, nodes}}}}, {2});
  }
  at::Tensor value(const std::string& name) { return run.weights()[run.graph().parameter(name)].detach(); }
  at::Tensor alpha() { return value("adjacency.competition.alpha"); }
  at::Tensor mask() { return value("adjacency.competition.mask"); }
  // What the layers read.
  at::Tensor matrix() {
    const c10::NoGradGuard no_grad;
    Graph g = run.graph();
    g.add_output("matrix", g.node("conv1").inputs[1]);
    EXPECT_EQ(g.node("conv1").inputs[1], g.node("conv2").inputs[1]);
    return espalier::run(g, run.weights(), {}, {"matrix"})[0][0];
  }
  at::Tensor logits() { return logits_of(run.graph(), run.weights(), x); }
  // By two products of matrices and a ReLU.
  at::Tensor by_hand(const at::Tensor& a) {
    const auto layer = [&](const std::string& name, const at::Tensor& in) {
      return a.matmul(in.matmul(value(name + ".weight").t())) + value(name + ".bias");
    };
    return layer("conv2", layer("conv1", x[0]).clamp_min(0)).unsqueeze(0);
  }
};

TEST(SparsifyAdjacency, CandidatesAreThoseOfTheGraphOrAll) {
  const at::Tensor eye = at::eye(nodes, at::kDouble);
  EXPECT_TRUE(Gcn("").mask().equal((given() + eye).ne(0).to(at::kDouble)));
  EXPECT_TRUE(Gcn(R"("adjacency": {"self_loops": false})").mask().equal((given() * (1 - eye)).ne(0).to(at::kDouble)));
  EXPECT_TRUE(Gcn(R"("adjacency": {"candidates": "all"})").mask().equal(at::ones({nodes, nodes}, at::kDouble)));
  EXPECT_TRUE(Gcn(R"("adjacency": {"candidates": "all", "self_loops": false})").mask().equal(1 - eye));
  EXPECT_TRUE(Gcn(R"("coefficients": "free")").alpha().equal(given())) << "a free one begins as what is given";
}

TEST(SparsifyAdjacency, TheOptionsAreThoseOfTheOperation) {
  Gcn g(R"("gamma": "exp", "revive": "leaky", "slope": 0.3,
           "adjacency": {"thresholds": "sum", "normalize": "balanced", "iterations": 7, "symmetric": true})");
  const Value o = g.run.graph().node("adjacency.competition").op->options();
  EXPECT_EQ(o.at("size").as_int(), nodes);
  EXPECT_EQ(o.at("gamma").as_string(), "exp");
  EXPECT_EQ(o.at("revive").as_string(), "leaky");
  EXPECT_EQ(o.at("slope").as_double(), 0.3);
  EXPECT_EQ(o.at("thresholds").as_string(), "sum");
  EXPECT_EQ(o.at("normalize").as_string(), "balanced");
  EXPECT_EQ(o.at("iterations").as_int(), 7);
  EXPECT_TRUE(o.at("symmetric").as_bool());
}

// Entries that are exactly zero, at both ends of thresholds.
void sparsen(Gcn& g, double gone = -9) {
  const c10::NoGradGuard no_grad;
  at::Tensor alpha = g.alpha();
  alpha.copy_(normal({nodes, nodes}, 0.3, RandomKey(2)));
  alpha[0][1].fill_(gone);
  alpha[1][0].fill_(gone);
  alpha[3][2].fill_(gone);
}

TEST(SparsifyAdjacency, LearnedEntriesAreFoldedIntoASparseMatrix) {
  for (const char* options : {"", R"("adjacency": {"normalize": "balanced", "symmetric": true, "iterations": 100})",
                              R"("coefficients": "free")"}) {
    Gcn g(options);
    sparsen(g, std::string(options).find("free") == std::string::npos ? -9 : 0);
    const at::Tensor matrix = g.matrix().clone(), before = g.logits();
    EXPECT_LE(difference(before, g.by_hand(matrix)), exact) << options;
    const auto left = matrix.ne(0).sum().item<int64_t>();
    ASSERT_LT(left, g.mask().sum().item<double>()) << options;
    for (int step = 0; step < 20; ++step) g.controller->step_end(g.run);
    EXPECT_EQ(g.run.edits(), 0) << "its entries leave when the stage ends";
    g.controller->stage_end(g.run);
    EXPECT_TRUE(g.matrix().equal(matrix)) << options;
    EXPECT_LE(difference(g.logits(), before), exact) << options;
    EXPECT_FALSE(has_node(g.run.graph(), "adjacency.competition"));
    EXPECT_EQ(to_json(g.run.artefacts.at("test.left").value), "[" + std::to_string(left) + "]");
    EXPECT_TRUE(g.run.artefacts.at("test.components").tensors.at(0).second.equal(matrix));
    EXPECT_EQ(g.run.graph().parameter_count(), g.before.parameter_count());
    // 5 nodes: 3 -> 4 and 4 -> 2 features, and the entries times the features of each layer.
    EXPECT_EQ(g.run.graph().macs(), nodes * (3 * 4 + 4 * 2) + left * (4 + 2));
    EXPECT_EQ(g.before.macs(), nodes * (3 * 4 + 4 * 2) + nodes * nodes * (4 + 2));
    // What is folded is not trained any more, and a graph that is written and read again has the same entries.
    const Graph read = Graph::from_value(g.run.graph().to_value());
    EXPECT_EQ(read.macs(), g.run.graph().macs());
    EXPECT_TRUE(g.run.notes.empty());
  }
}

TEST(SparsifyAdjacency, StaysAsItIsWithoutFolding) {
  Gcn g(R"("fold": false)");
  sparsen(g);
  const at::Tensor before = g.logits();
  g.controller->stage_end(g.run);
  EXPECT_EQ(g.run.edits(), 0);
  EXPECT_TRUE(g.logits().equal(before));
  EXPECT_EQ(g.run.metrics().at("components") + g.run.metrics().at("zeros"), g.mask().sum().item<double>());
  EXPECT_GE(g.run.metrics().at("zeros"), 3);
}

TEST(SparsifyAdjacency, AnEmptyRowIsSaid) {
  Gcn g("");
  assign(g.run.graph(), g.run.weights(), "adjacency.competition.beta_row", {60, 0, 0, 0, 0});
  g.controller->stage_end(g.run);
  ASSERT_EQ(g.run.notes.size(), 1U);
  EXPECT_THAT(g.run.notes[0], HasSubstr("1 rows and "));
  EXPECT_THAT(g.run.notes[0], HasSubstr("of the adjacency have no entry left"));
  EXPECT_EQ(g.matrix()[0].abs().max().item<double>(), 0);
}

TEST(SparsifyAdjacency, OfWhichNothingIsLeftIsAnError) {
  Gcn g("");
  assign(g.run.graph(), g.run.weights(), "adjacency.competition.beta_row", {60, 60, 60, 60, 60});
  try {
    g.controller->stage_end(g.run);
    FAIL() << "a network without a graph";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("no entry of the adjacency is left: the penalty is too strong"));
  }
}

TEST(SparsifyAdjacency, KeepsTheLargestEntries) {
  for (const char* form : {"softmax", "free", "competition"}) {
    Gcn g(R"("keep": [6], "coefficients": ")" + std::string(form) + "\"");
    sparsen(g);
    const at::Tensor matrix = g.matrix().clone();
    g.controller->stage_end(g.run);
    const at::Tensor kept = g.matrix();
    // The largest are those that were the largest.
    Numbers sizes = numbers_of(matrix.abs());
    std::ranges::sort(sizes, std::greater<>());
    EXPECT_TRUE(kept.ne(0).logical_and(matrix.abs().lt(sizes[5])).logical_not().all().item<bool>()) << form;
    const auto left = kept.ne(0).sum().item<int64_t>();
    EXPECT_LE(left, 6) << form;
    EXPECT_GE(left, std::string(form) == "competition" ? 1 : 6) << form;
    EXPECT_TRUE(g.run.artefacts.at("test.components").tensors.at(0).second.equal(kept))
        << form << ": what is published is what is left\n"
        << g.run.artefacts.at("test.components").tensors.at(0).second << kept;
    EXPECT_EQ(to_json(g.run.artefacts.at("test.left").value), "[" + std::to_string(left) + "]") << form;
    if (std::string(form) != "softmax") continue;
    const at::Tensor sums = kept.sum(1);
    for (int64_t i = 0; i < nodes; ++i)
      EXPECT_NEAR(sums[i].item<double>(), kept[i].abs().max().item<double>() > 0 ? 1 : 0, 1e-12);
  }
}

// The grid of an image's pixels is given by the network itself.
TEST(SparsifyAdjacency, OfPixelsBeginsWithTheirGrid) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libgcn.so");
  const Graph image = testkit::build(R"({"use": "gcn", "hidden": [4]})", {2, 2, 3}, {2});
  const auto controller = sparsify(R"("groups": "adjacency")");
  testkit::TestRun run(Started::begun(image, *controller), 3);
  const at::Tensor x = testkit::input_of(image, 3, 1);
  run.batches = [&](int64_t) { return Batch{{{"input", x}}, {{"target", testkit::target_of(2, 3, 1)}}}; };
  controller->stage_begin(run);
  const at::Tensor mask = run.weights()[run.graph().parameter("adjacency.competition.mask")];
  // Two rows of three pixels: each with itself, its left and right and the one above or below.
  for (int64_t i = 0; i < 6; ++i) {
    for (int64_t j = 0; j < 6; ++j) {
      const bool near = std::abs(i / 3 - j / 3) + std::abs(i % 3 - j % 3) <= 1;
      EXPECT_EQ(mask[i][j].item<double>(), near ? 1 : 0) << i << " " << j;
    }
  }
  const at::Tensor before = logits_of(run.graph(), run.weights(), x);
  controller->stage_end(run);
  EXPECT_LE(difference(logits_of(run.graph(), run.weights(), x), before), exact);
  EXPECT_EQ(nodes_of_type(run.graph(), "grid_adjacency"), 0) << "nothing reads it any more";
  EXPECT_EQ(nodes_of_type(run.graph(), "sparse_constant"), 1);
}

// What has parameters of many kinds cannot begin with the values of another.
TEST(SparsifyAdjacency, ACompetitionHoldsNoGivenValues) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsparsify.so");
  GraphBuilder b({.channels = 2, .nodes = 3});
  const Value operation = from_json(R"({"use": "adjacency_competition", "size": 3})");
  const Edge a = b.node("adjacency_competition", "c", {}, operation);
  Graph g = b.output(b.graph_conv("conv", b.input(), a, 3));
  try {
    apply(g, {}, Edits{{Substitute{.edge = "c", .node = "d", .operation = operation, .keep_values = true}}});
    FAIL() << "it would begin with something else";
  } catch (const EditError& e) {
    EXPECT_THAT(e.what(), HasSubstr("an operation 'adjacency_competition' holds no values"));
  }
}

TEST(SparsifyAdjacency, ASecondStageGoesOnWithWhatTheFirstLeft) {
  Gcn g(R"("fold": false)");
  sparsen(g);
  const auto again = sparsify(R"("groups": "adjacency")");
  EXPECT_TRUE(again->begin(g.run.graph()).empty());
  again->check(g.run.graph());
  const at::Tensor before = g.logits();
  again->stage_begin(g.run);
  EXPECT_TRUE(g.logits().equal(before));
  EXPECT_THROW(sparsify(R"("groups": "adjacency", "keep": [1, 2])")->check(g.run.graph()), Error);
}

}  // namespace
}  // namespace espalier
