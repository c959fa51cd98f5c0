#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/kernel_support.h>
#include <espalier/operation.h>
#include <espalier/random_fill.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Edge conv_bn(GraphBuilder& g, const std::string& n, Edge x, int64_t filters, int64_t kernel, int64_t stride = 1) {
  x = g.conv("conv" + n, x,
             {.filters = filters, .kernel = kernel, .stride = stride, .padding = kernel / 2, .bias = false});
  return g.batch_norm("bn" + n, x);
}

// A stem and three residual blocks, the last of which halves the image.
Graph residual() {
  GraphBuilder g({2, 8, 8});
  Edge x = g.relu(conv_bn(g, "", g.input(), 4, 5));
  for (int i = 1; i <= 3; ++i) {
    const auto scope = g.scope("b" + std::to_string(i));
    const int64_t width = i == 3 ? 6 : 4, stride = i == 3 ? 2 : 1;
    const Edge past = i == 3 ? g.pad_or_crop(x, width, stride) : x;
    const Edge y = conv_bn(g, "2", g.relu(conv_bn(g, "1", x, 3, 5, stride)), width, 5);
    x = g.relu(g.add(y, past));
  }
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = 3}));
}

Graph plain() {
  GraphBuilder g({2, 8, 8});
  Edge x = g.relu(conv_bn(g, "_a", g.input(), 3, 3));
  x = g.relu(conv_bn(g, "_b", x, 4, 5));
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = 3}));
}

struct Bench {
  testkit::TestRun run;

  explicit Bench(Graph graph) : run(std::move(graph), 3) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libkernel_threshold.so");
    const c10::NoGradGuard no_grad;
    // No weight is small, and batch norms are as after a training.
    for (const Parameter& p : run.graph().parameters()) {
      at::Tensor v = (*this)[p.name];
      const RandomKey key = RandomKey(6).with(p.name);
      if (p.kind == "weight") {
        const at::Tensor n = normal(v.sizes().vec(), 0.3, key);
        v.copy_(n + 0.1 * n.sign());
      } else if (p.kind != "bias") {
        v.copy_(uniform(v.sizes().vec(), 0.5, 1.5, key));
      }
    }
  }
  at::Tensor operator[](const std::string& name) { return run.weights()[run.graph().parameter(name)].detach(); }
  // Leaves a kernel of a size in the way that the paper's groups shrink: what goes is small, and not yet zero.
  void shrink_to(const std::string& conv, int64_t filter, int64_t size, const char* corner = "top_left") {
    at::Tensor w = (*this)[conv + ".weight"][filter];
    const at::Tensor mask = kernel_mask({size}, w.size(1), w.options(), kernel_shrinkage("half_ring", corner).first)[0];
    w.mul_(mask + (1 - mask) * 1e-4);
  }
  double loss() {
    return testkit::cross_entropy(run.graph(), run.weights(), testkit::input_of(run.graph(), 5, 1),
                                  testkit::target_of(3, 5, 2))
        .item<double>();
  }
  Indices sizes(const std::string& node) const {
    const Node& n = run.graph().node(node);
    return n.op->kernel_sizes(run.graph(), n);
  }
  bool has(const std::string& node) const {
    return std::ranges::find(run.graph().nodes(), node, &Node::name) != run.graph().nodes().end();
  }
  void end(const std::string& options = "") {
    const auto c = Registry::instance().create<Controller>(
        from_json(R"({"use": "kernel_threshold", "tau": 0.05)" + options + "}"));
    c->stage_begin(run);
    c->stage_end(run);
  }
};

TEST(KernelThreshold, CropsKernelsRemovesFiltersAndDropsBlocks) {
  Bench b(residual());
  const c10::NoGradGuard no_grad;
  b.shrink_to("conv", 0, 4);
  b.shrink_to("conv", 1, 3);
  b.shrink_to("b1.conv1", 2, 0);
  for (int64_t f = 0; f < 4; ++f) b.shrink_to("b2.conv2", f, 0);
  // A kernel of the stem alone: its channel stays, since b1 makes it, too.
  b.shrink_to("conv", 2, 0);
  // What the network is then, by hand: nothing comes of what is zero, neither from kernels nor from shifts.
  Bench expected(residual());
  for (const auto& [conv, bn, filter, size] : std::vector<std::tuple<std::string, std::string, int64_t, int64_t>>{
           {"conv", "bn", 0, 4}, {"conv", "bn", 1, 3}, {"conv", "bn", 2, 0}, {"b1.conv1", "b1.bn1", 2, 0}}) {
    expected[conv + ".weight"][filter].mul_(kernel_mask({size}, 5, at::kDouble)[0]);
    if (size > 0) continue;
    expected[bn + ".bias"][filter] = 0;
    expected[bn + ".running_mean"][filter] = 0;
  }
  for (const char* name : {"b2.conv2.weight", "b2.bn2.bias", "b2.bn2.running_mean"}) expected[name].zero_();

  b.end();
  EXPECT_THAT(b.sizes("conv"), ElementsAre(4, 3, 0, 5));
  EXPECT_THAT(b.sizes("b1.conv1"), ElementsAre(5, 5));
  EXPECT_FALSE(b.has("b2.conv1"));
  EXPECT_FALSE(b.has("b2.add1"));
  EXPECT_TRUE(b.has("b3.conv1"));
  EXPECT_NEAR(b.loss(), expected.loss(), 1e-10);
  EXPECT_EQ(b.run.metrics().at("layers_vanished"), 1);
  // 4 + 3 + 0 + 5, of b1 two of 5 and one of 0, then four of 5; of b2 three of 5 and four of 0; of b3 nine of 5.
  EXPECT_NEAR(b.run.metrics().at("kernel_size_mean"), (12 + 10 + 20 + 15 + 45) / 27.0, 1e-12);
  EXPECT_EQ(b.run.artefacts.at("test.kernels").value.at("conv"), Value(Indices{1, 0, 0, 1, 1, 1}));
  EXPECT_EQ(b.run.artefacts.at("test.kernels").value.at("b2.conv2"), Value(Indices{4, 0, 0, 0, 0, 0}));
}

// Where the shapes of both sides of a block differ, its branch goes and the shortcut stays.
TEST(KernelThreshold, TakesBranchesFromSums) {
  for (const char* gone : {"b3.conv1", "b3.conv2"}) {
    Bench b(residual());
    const c10::NoGradGuard no_grad;
    for (int64_t f = 0; f < b[std::string(gone) + ".weight"].size(0); ++f) b.shrink_to(gone, f, 0);
    Bench expected(residual());
    for (const char* name : {"b3.conv2.weight", "b3.bn2.bias", "b3.bn2.running_mean"}) expected[name].zero_();
    b.end();
    EXPECT_FALSE(b.has("b3.conv1"));
    EXPECT_TRUE(b.has("b3.add1"));
    EXPECT_NEAR(b.loss(), expected.loss(), 1e-10) << gone;
  }
}

TEST(KernelThreshold, RefusesToCutAPlainNetwork) {
  Bench b(plain());
  const c10::NoGradGuard no_grad;
  for (int64_t f = 0; f < 4; ++f) b.shrink_to("conv_b", f, 0);
  const at::Tensor before = b["conv_b.weight"].clone();
  try {
    b.end();
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("no kernel of 'conv_b'"));
    EXPECT_THAT(e.what(), HasSubstr("vanished: identity"));
  }
  EXPECT_TRUE(b["conv_b.weight"].equal(before)) << "nothing has changed";
  // The first layer reads 2 channels and has 3 filters, which may stand for them.
  Bench whole(residual());
  for (const char* conv : {"conv", "b1.conv2", "b2.conv2"}) {
    for (int64_t f = 0; f < 4; ++f) whole.shrink_to(conv, f, 0);
  }
  EXPECT_THROW(whole.end(), Error) << "several together cut it";
}

// (24): the network is then one without the layer.
TEST(KernelThreshold, PutsIdentitiesInThePlaceOfLayers) {
  for (const char* corner : {"top_left", "bottom_right"}) {
    Bench b(plain());
    const c10::NoGradGuard no_grad;
    for (int64_t f = 0; f < 4; ++f) b.shrink_to("conv_b", f, 0);
    GraphBuilder g({2, 8, 8});
    const Edge x = g.relu(conv_bn(g, "_a", g.input(), 3, 3));
    Bench without(g.output(g.linear("fc", g.global_avg_pool(x), {.features = 3})));
    for (const char* name :
         {"conv_a.weight", "bn_a.weight", "bn_a.bias", "bn_a.running_mean", "bn_a.running_var", "fc.bias"})
      without[name].copy_(b[name]);
    without["fc.weight"].copy_(b["fc.weight"].narrow(1, 0, 3));
    b.end(std::string(R"(, "vanished": "identity", "corner": ")") + corner + "\"");
    EXPECT_THAT(b.sizes("conv_b"), ElementsAre(1, 1, 1));
    EXPECT_NEAR(b.loss(), without.loss(), 1e-10);
  }
  // A layer with fewer filters than channels cannot be one.
  Bench narrow(plain());
  const c10::NoGradGuard no_grad;
  for (int64_t f = 0; f < 3; ++f) narrow.shrink_to("conv_a", f, 0);
  narrow.end(R"(, "vanished": "identity")");
  EXPECT_EQ(narrow["conv_a.weight"].size(0), 2) << "two channels of the image";
}

TEST(KernelThreshold, JudgesWhatItIsTold) {
  {
    Bench b(residual());
    const c10::NoGradGuard no_grad;
    b.shrink_to("b1.conv1", 0, 4, "bottom_right");
    b.end(R"(, "corner": "bottom_right")");
    EXPECT_THAT(b.sizes("b1.conv1"), ElementsAre(4, 5, 5));
    EXPECT_EQ(b["b1.conv1.weight"][0][0][4].abs().max().item<double>(), 0);
  }
  {
    Bench b(residual());
    const c10::NoGradGuard no_grad;
    b.shrink_to("b1.conv1", 0, 4);
    b.shrink_to("b1.conv1", 1, 3);
    b.end(R"(, "groups": "ring")");
    EXPECT_THAT(b.sizes("b1.conv1"), ElementsAre(5, 3, 5));
  }
  {
    Bench b(residual());
    const c10::NoGradGuard no_grad;
    b.shrink_to("b1.conv1", 0, 0);
    b.shrink_to("b1.conv1", 1, 3);
    b.end(R"(, "groups": "filter")");
    EXPECT_THAT(b.sizes("b1.conv1"), ElementsAre(5, 5));
  }
  {
    // A norm that equals tau is one that goes (15).
    Bench b(residual());
    const c10::NoGradGuard no_grad;
    at::Tensor w = b["b1.conv1.weight"][0];
    w.zero_();
    w[0][0][0] = 0.05;
    w[1][2][2] = 0.5;
    b.end(R"(, "on": "b1.conv1")");
    EXPECT_THAT(b.sizes("b1.conv1"), ElementsAre(1, 5, 5));
  }
}

// Kernels that were cropped before shrink on.
TEST(KernelThreshold, ShrinksCroppedKernelsFurther) {
  Bench b(residual());
  const c10::NoGradGuard no_grad;
  b.shrink_to("b1.conv1", 0, 4);
  b.end();
  EXPECT_THAT(b.sizes("b1.conv1"), ElementsAre(4, 5, 5));
  b.shrink_to("b1.conv1", 0, 2);
  b.shrink_to("b1.conv1", 1, 3);
  b.shrink_to("b1.conv1", 2, 0);
  b.end();
  EXPECT_THAT(b.sizes("b1.conv1"), ElementsAre(2, 3));
}

TEST(KernelThreshold, TriesThresholdsOnTheSameWeights) {
  Bench b(residual());
  const c10::NoGradGuard no_grad;
  b.shrink_to("b1.conv1", 0, 4);
  for (int64_t f = 0; f < 4; ++f) b.shrink_to("b2.conv2", f, 0);
  const int64_t params = b.run.graph().parameter_count(), macs = b.run.graph().macs();
  const at::Tensor before = b.run.weights().bank(Role::weight).values.flat().clone();
  b.end(R"(, "frontier": [0, 0.05, 1e6], "remove": false)");
  EXPECT_TRUE(b.run.weights().bank(Role::weight).values.flat().equal(before));
  EXPECT_EQ(b.run.graph().macs(), macs);
  const Value& points = b.run.artefacts.at("test.frontier").value;
  ASSERT_EQ(points.as_list().size(), 3U);
  const auto at = [&](size_t i) -> const Value& { return points.as_list()[i]; };
  EXPECT_EQ(at(0).at("macs").as_int(), macs);
  EXPECT_EQ(at(0).at("params").as_int(), params);
  EXPECT_THAT(at(2).at("blocked").as_list().front().as_string(), HasSubstr("conv"));
  EXPECT_EQ(at(2).find("macs"), nullptr);
  // What is counted is what removing gives.
  b.end();
  EXPECT_EQ(at(1).at("macs").as_int(), b.run.graph().macs());
  EXPECT_EQ(at(1).at("params").as_int(), b.run.graph().parameter_count());
  EXPECT_LT(b.run.graph().macs(), macs);
}

// Three filters, two of them the same but for size and sign, the third without correlation to them: a mean of 1, 0, 0.
TEST(KernelThreshold, MeasuresTheCorrelationOfFilters) {
  Bench b(plain());
  const c10::NoGradGuard no_grad;
  at::Tensor w = b["conv_a.weight"].zero_();
  w[0][0][0][0] = 1, w[0][0][0][1] = -1;
  w[1].copy_(w[0] * -3);
  w[2][1][0][0] = 1, w[2][1][0][1] = -1;
  const auto c = Registry::instance().create<Controller>(
      from_json(R"({"use": "kernel_threshold", "on": "conv_a", "correlation": true})"));
  c->stage_begin(b.run);
  c->epoch_end(b.run);
  EXPECT_NEAR(b.run.metrics().at("kernel_correlation"), 1.0 / 3, 1e-12);
}

TEST(KernelThreshold, RefusesOptionsThatMeanNothing) {
  Bench b(residual());
  EXPECT_THROW(b.end(R"(, "remove": false)"), Error);
  EXPECT_THROW(b.end(R"(, "on": "conv9")"), Error);
  EXPECT_THROW(b.end(R"(, "on": "fc")"), Error);
}

}  // namespace
}  // namespace espalier
