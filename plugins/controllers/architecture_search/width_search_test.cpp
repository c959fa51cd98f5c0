// Searches of widths: gates behind batch norms, which the searches train as architecture parameters.
#include <algorithm>
#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/edit.h>
#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/operation.h>

#include "search_run.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

constexpr int64_t classes = 3, samples = 6;

void load_plugins() {
  for (const char* name : {"architecture_search", "sgd", "preresnet", "mobilenet_v2"})
    testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + name + ".so");
}

std::unique_ptr<Controller> controller(const std::string& options) {
  load_plugins();
  return SearchRun::make<Controller>("{" + options + "}");
}

Graph backbone(const std::string& spec, int64_t pixels = 32) {
  load_plugins();
  return testkit::build(spec, {3, pixels, pixels}, {10});
}

Graph gated(Graph graph, const std::string& gates = R"("norms")") {
  apply(graph, {}, controller(R"("use": "joint", "gates": )" + gates)->begin(graph));
  return graph;
}

// Two layers with batch norms, and a classifier.
Graph small() {
  GraphBuilder g({.channels = 2, .height = 5, .width = 5});
  Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = 4, .padding = 1, .bias = false})));
  x = g.relu(g.batch_norm("bn2", g.conv("conv2", x, {.filters = 3, .padding = 1, .bias = false})));
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = classes}));
}

Batch batch_of(const Graph& graph, uint64_t seed) {
  return {.inputs = {{"input", testkit::input_of(graph, samples, seed)}},
          .targets = {{"target", testkit::target_of(classes, samples, seed)}}};
}

const Node& maker_of(const Graph& g, Edge e) {
  return g.nodes()[static_cast<size_t>(g[e].producer)];
}

// One for each channel that network slimming ranks: 12,112 in PreResNet-164 (003-X15). Each lies behind batch norm,
// view and ReLU, and before the layer that reads them.
TEST(WidthSearch, GivesEveryScaleOfABatchNormACoefficient) {
  for (const auto& [name, coefficients, norms] :
       {std::tuple("preresnet164", 12'112, 3 * 54 + 1), std::tuple("preresnet56", 4'048, 3 * 18 + 1)}) {
    const Graph plain = backbone(R"({"use": ")" + std::string(name) + R"(", "select": true})");
    const Graph g = gated(plain);
    int64_t count = 0;
    for (const GateInfo& gate : g.gates()) {
      EXPECT_EQ(g[gate.parameter].role, Role::architecture);
      EXPECT_EQ(g[gate.parameter].init.a, 1);
      ASSERT_GE(gate.axis.id, 0) << "along one width";
      count += g[gate.axis].size;
      const Node& node = g.nodes()[static_cast<size_t>(gate.node)];
      EXPECT_EQ(maker_of(g, node.inputs[0]).op->type(), "relu");
      for (const Node& n : g.nodes()) {
        if (std::ranges::find(n.inputs, node.outputs[0]) == n.inputs.end()) continue;
        EXPECT_THAT(n.op->type(), ::testing::AnyOf("conv2d", "global_avg_pool")) << n.name;
      }
    }
    EXPECT_EQ(g.gates().size(), static_cast<size_t>(norms));
    EXPECT_EQ(count, coefficients) << name;
    EXPECT_EQ(g.parameter_count(), plain.parameter_count() + coefficients);
    EXPECT_EQ(g.macs(), plain.macs());
  }
}

TEST(WidthSearch, GatesInvertedResidualsBehindTheirActivations) {
  const Graph g = gated(backbone(R"({"use": "mobilenet_v2"})"), R"(["stem_bn", "*depthwise_bn", "head_bn"])");
  // Hidden widths of Sandler et al. 2018, table 2: 6 times what goes in, and 32 in the first block.
  std::vector<int64_t> found;
  for (const GateInfo& gate : g.gates()) {
    const Node& node = g.nodes()[static_cast<size_t>(gate.node)];
    EXPECT_EQ(maker_of(g, node.inputs[0]).op->type(), "relu6");
    found.push_back(g[gate.axis].size);
  }
  EXPECT_EQ(found, (std::vector<int64_t>{32, 32, 96, 144, 144, 192, 192, 192, 384, 384, 384, 384, 576, 576, 576, 960,
                                         960, 960, 1280}));
  // A projection is followed by no activation.
  const Graph all = gated(backbone(R"({"use": "mobilenet_v2"})"));
  EXPECT_EQ(all.gates().size(), 52U);
  const Node& after = all.node("blocks.3.project_bn.gate");
  EXPECT_EQ(maker_of(all, after.inputs[0]).name, "blocks.3.project_bn");
}

TEST(WidthSearch, GatesLeaveTheFunctionAsItIsAndCountBehindTheBatchNorm) {
  for (const char* spec : {R"({"use": "preresnet56", "width": 0.25, "select": true})",
                           R"({"use": "mobilenet_v2", "width": 0.25, "stem": "cifar", "dropout": 0})"}) {
    Graph graph = backbone(spec, 8);
    Weights weights(graph, at::kDouble, at::kCPU);
    weights.initialize(graph, RandomKey(1));
    const at::Tensor x = testkit::input_of(graph, samples, 2);
    const c10::NoGradGuard no_grad;
    // By the statistics of the batch, as in training: a factor before the batch norm would be without effect.
    const auto logits = [&] {
      return run(graph, weights, {{"input", x}}, {"logits"}, {.training = true, .key = {}})[0];
    };
    const at::Tensor before = logits();
    apply(graph, {&weights}, controller(R"("use": "rarts", "gates": "norms")")->begin(graph));
    EXPECT_TRUE(at::allclose(logits(), before, 1e-10, 1e-12)) << spec;
    for (const char* name : {"layer1.0.bn2.gate", "blocks.1.expand_bn.gate"}) {
      const bool there = std::ranges::any_of(graph.nodes(), [&](const Node& n) { return n.name == name; });
      if (!there) continue;
      weights[graph.parameter(std::string(name) + ".coefficient.value")].detach()[0].fill_(3);
      EXPECT_GT((logits() - before).abs().max().item<double>(), 1e-3) << name;
    }
  }
}

TEST(WidthSearch, EveryControllerTrainsThem) {
  for (const char* options : {R"("use": "rarts")", R"("use": "darts")", R"("use": "darts", "order": "second")",
                              R"("use": "milenas")", R"("use": "joint")"}) {
    load_plugins();
    SearchRun run(small(), R"({"use": "sgd", "lr": 0.05})", R"({"use": "sgd", "lr": 0.05})");
    run.validation = [&](int64_t step) { return batch_of(run.graph(), 100 + static_cast<uint64_t>(step)); };
    const auto c = controller(std::string(options) + R"(, "gates": ["bn1", "conv2"])");
    run.edit(c->begin(run.graph()));
    c->check(run.graph());
    c->stage_begin(run);
    for (const char* gate : {"bn1.gate", "bn2.gate"}) {
      const ParamId p = run.graph().parameter(std::string(gate) + ".coefficient.value");
      EXPECT_EQ((run.weights()[p].detach() - 1).abs().max().item<double>(), 0);
    }
    const at::Tensor before = run.weights()[run.graph().parameter("conv1.weight")].detach().clone();
    for (uint64_t t = 0; t < 3; ++t) run.step(*c, batch_of(run.graph(), t));
    for (const char* gate : {"bn1.gate", "bn2.gate"}) {
      const ParamId p = run.graph().parameter(std::string(gate) + ".coefficient.value");
      EXPECT_GT((run.weights()[p].detach() - 1).abs().min().item<double>(), 0) << options << " " << gate;
    }
    EXPECT_FALSE(at::equal(run.weights()[run.graph().parameter("conv1.weight")].detach(), before)) << options;
  }
}

// A step on a coefficient is the learning rate times a central difference of the loss.
TEST(WidthSearch, AStepFollowsTheGradientOfTheLoss) {
  load_plugins();
  SearchRun run(small(), R"({"use": "sgd", "lr": 1e-9})", R"({"use": "sgd", "lr": 0.1})");
  const auto c = controller(R"("use": "joint", "gates": "norms")");
  run.edit(c->begin(run.graph()));
  c->stage_begin(run);
  const ParamId p = run.graph().parameter("bn1.gate.coefficient.value");
  const Batch batch = batch_of(run.graph(), 5);
  const auto loss_at = [&](int64_t k, double value) {
    const c10::NoGradGuard no_grad;
    at::Tensor element = run.weights()[p].detach()[k];
    const double kept = element.item<double>();
    element.fill_(value);
    const double loss =
        testkit::cross_entropy(run.graph(), run.weights(), batch.input(), batch.target(), {.training = true, .key = {}})
            .item<double>();
    element.fill_(kept);
    return loss;
  };
  std::vector<double> expected;
  for (int64_t k = 0; k < 4; ++k) expected.push_back(1 - 0.1 * (loss_at(k, 1 + 1e-6) - loss_at(k, 1 - 1e-6)) / 2e-6);
  run.step(*c, batch);
  for (int64_t k = 0; k < 4; ++k)
    EXPECT_NEAR(run.weights()[p].detach()[k].item<double>(), expected[static_cast<size_t>(k)], 1e-8);
}

TEST(WidthSearch, GatesAreNotPutInTwice) {
  Graph g = gated(small(), R"(["bn1", "conv1"])");
  EXPECT_EQ(g.gates().size(), 1U) << "a layer and its batch norm have one";
  g = gated(std::move(g), R"(["weights", "norms", "!fc"])");
  EXPECT_EQ(g.gates().size(), 2U) << "what an earlier stage gated is left alone";
  g = gated(std::move(g), R"(["all", "!fc"])");
  EXPECT_EQ(g.gates().size(), 2U) << "nor do its coefficients get some";
  EXPECT_TRUE(controller(R"("use": "milenas")")->begin(g).empty());
}

TEST(WidthSearch, RefusesGatesThatMeanNothing) {
  const auto refusal = [](const std::string& gates, const Graph& graph) -> std::string {
    try {
      controller(R"("use": "rarts", "gates": )" + gates)->begin(graph);
    } catch (const Error& e) {
      return e.what();
    }
    return "nothing was refused";
  };
  const Graph g = small();
  EXPECT_THAT(refusal(R"("bn3")", g), HasSubstr("matches no parameter"));
  EXPECT_THAT(refusal(R"("all")", g), HasSubstr("'gates' names 'fc', whose number of outputs is given from outside"));
  EXPECT_EQ(refusal(R"(["all", "!fc"])", g), "nothing was refused");
  GraphBuilder b({.channels = 3, .height = 8, .width = 8});
  const Edge x = b.layer_norm("norm", b.patch_embed("embed", b.input(), 4, 4, true));
  const Graph tokens = b.output(b.linear("fc", b.mean(x), {.features = 2}));
  EXPECT_THAT(refusal(R"("norms")", tokens), HasSubstr("'gates' names 'norm', a 'layer_norm'"));
}

}  // namespace
}  // namespace espalier
