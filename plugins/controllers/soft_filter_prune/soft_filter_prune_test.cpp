#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

using ::testing::HasSubstr;

struct Bench {
  testkit::TestRun run;

  explicit Bench(Graph graph = chain()) : run(std::move(graph), 1) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsoft_filter_prune.so");
    run.of_epochs = 10;
  }
  static Graph chain() {
    GraphBuilder g({2, 6, 6});
    Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = 4, .padding = 1})));
    x = g.relu(g.conv("point", x, {.filters = 4, .kernel = 1}));
    return g.output(g.linear("fc", g.global_avg_pool(x), {.features = 3}));
  }
  static Graph resnet(const std::string& options) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet_cifar.so");
    return testkit::build(R"({"use": "resnet20", "widths": [4, 8, 16])" + options + "}", {3, 32, 32}, {10});
  }
  static std::unique_ptr<Controller> make(const std::string& options) {
    return Registry::instance().create<Controller>(from_json(R"({"use": "soft_filter_prune")" + options + "}"));
  }
  void set(const std::vector<double>& norms) {
    const c10::NoGradGuard no_grad;
    at::Tensor w = values("conv1.weight");
    w.zero_();
    for (size_t k = 0; k < norms.size(); ++k) w[static_cast<int64_t>(k)][0][0][0] = norms[k];
  }
  void end_epoch(Controller& c, int64_t epoch) {
    run.at_epoch = epoch;
    c.epoch_end(run);
  }
  // Those filters of conv1 that are not zero.
  Indices left() {
    std::vector<bool> mask;
    const at::Tensor w = values("conv1.weight");
    for (int64_t k = 0; k < w.size(0); ++k) mask.push_back(w[k].abs().max().item<double>() > 0);
    return indices_of(mask);
  }
  at::Tensor values(const char* parameter) { return run.weights()[run.graph().parameter(parameter)].detach(); }
};

TEST(SoftFilterPrune, ZeroesTheSmallestFiltersWhichMayComeBack) {
  Bench b;
  const auto c = Bench::make(R"(, "ratio": 0.5)");
  c->stage_begin(b.run);
  b.set({4, -1, 3, -2});
  b.end_epoch(*c, 0);
  EXPECT_EQ(b.left(), (Indices{0, 2}));
  EXPECT_EQ(b.run.edits(), 0) << "the structure stays";
  b.set({4, 5, 1, 0.5});
  b.end_epoch(*c, 1);
  EXPECT_EQ(b.left(), (Indices{0, 1}));
}

TEST(SoftFilterPrune, GoesByL2NotByL1) {
  Bench b;
  const c10::NoGradGuard no_grad;
  b.set({3, 3, 3, 3});
  b.values("conv1.weight")[2].fill_(.25);  // 18 weights: l1 4.5, l2 1.06
  b.end_epoch(*Bench::make(R"(, "ratio": 0.25)"), 0);
  EXPECT_EQ(b.left(), (Indices{0, 1, 3}));
}

TEST(SoftFilterPrune, TouchesNothingButTheWeights) {
  Bench b;
  const c10::NoGradGuard no_grad;
  b.run.weights().add_state(b.run.graph(), {.name = "sgd.momentum"});
  const ParamId conv = b.run.graph().parameter("conv1.weight");
  b.run.weights().state("sgd.momentum", conv).fill_(7);
  b.values("conv1.bias").fill_(2);
  const at::Tensor point = b.values("point.weight").clone(), linear = b.values("fc.weight").clone();
  b.end_epoch(*Bench::make(R"(, "ratio": 0.5)"), 0);
  EXPECT_EQ(b.left().size(), 2U);
  EXPECT_EQ(b.run.weights().state("sgd.momentum", conv).min().item<double>(), 7) << "they go on as they were";
  EXPECT_EQ(b.values("conv1.bias").min().item<double>(), 2);
  EXPECT_EQ(b.values("bn1.weight").min().item<double>(), 1);
  EXPECT_TRUE(at::equal(b.values("point.weight"), point)) << "kernels of 1";
  EXPECT_TRUE(at::equal(b.values("fc.weight"), linear));
}

TEST(SoftFilterPrune, RemovesInTheEndWhatIsZero) {
  Bench b;
  const auto c = Bench::make(R"(, "ratio": 0.5)");
  b.set({1, 4, 2, 3});
  b.end_epoch(*c, 9);
  c->stage_end(b.run);
  EXPECT_TRUE(at::equal(b.values("conv1.weight").reshape({2, -1}).sum(1), at::tensor({4., 3.}, at::kDouble)));
  EXPECT_EQ(b.values("bn1.weight").size(0), 2);
  EXPECT_EQ(b.values("point.weight").size(1), 2);
}

TEST(SoftFilterPrune, ChoosesEveryFewEpochs) {
  Bench b;
  const auto c = Bench::make(R"(, "ratio": 0.5, "every": 3)");
  std::vector<size_t> left;
  for (int64_t epoch = 0; epoch < 6; ++epoch) {
    b.set({1, 2, 3, 4});
    b.end_epoch(*c, epoch);
    left.push_back(b.left().size());
  }
  EXPECT_EQ(left, (std::vector<size_t>{4, 4, 2, 4, 4, 2}));
}

TEST(SoftFilterPrune, LeavesTheResidualStream) {
  Bench b(Bench::resnet(""));
  const auto c = Bench::make(R"(, "ratio": 0.5)");
  const at::Tensor stem = b.values("conv1.weight").clone(), last = b.values("layer2.1.conv2.weight").clone();
  b.end_epoch(*c, 0);
  EXPECT_TRUE(at::equal(b.values("conv1.weight"), stem));
  EXPECT_TRUE(at::equal(b.values("layer2.1.conv2.weight"), last));
  c->stage_end(b.run);
  const Graph halved = Bench::resnet(R"(, "inner": [2, 4, 8])");
  EXPECT_EQ(b.run.graph().parameter_count(), halved.parameter_count());
  EXPECT_EQ(b.run.graph().macs(), halved.macs());
}

// All convolutions, as the paper does: zero in what makes the stream together.
TEST(SoftFilterPrune, ZeroesAStreamWhereItIsNamed) {
  Bench b(Bench::resnet(R"(, "blocks": [1, 1, 1])"));
  b.end_epoch(*Bench::make(R"(, "ratio": 0.5, "on": "convolutions")"), 0);
  const at::Tensor last = b.values("layer1.0.conv2.weight");
  int64_t zero = 0;
  for (int64_t k = 0; k < last.size(0); ++k) {
    const double size = last[k].abs().max().item<double>();
    EXPECT_EQ(size == 0, b.values("conv1.weight")[k].abs().max().item<double>() == 0) << k;
    zero += size == 0;
  }
  EXPECT_EQ(zero, 2);
}

TEST(SoftFilterPrune, SaysWhyThereIsNothingToPrune) {
  const auto refusal = [](const std::string& options) {
    Bench b;
    try {
      Bench::make(options)->stage_begin(b.run);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(refusal(R"(, "on": "conv7")"), HasSubstr("conv7"));
  EXPECT_THAT(refusal(R"(, "on": "fc")"), HasSubstr("no layer of 'fc'"));
  EXPECT_THAT(refusal(R"(, "ratio": 0.2)"), HasSubstr("leave every filter"));
  EXPECT_EQ(refusal(""), "");
}

}  // namespace
}  // namespace espalier
