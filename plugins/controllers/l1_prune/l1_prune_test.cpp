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

  explicit Bench(Graph graph = chain(4)) : run(std::move(graph), 1) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libl1_prune.so");
  }
  static Graph chain(int64_t first) {
    GraphBuilder g({2, 8, 8});
    Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = first, .padding = 1, .bias = false})));
    x = g.relu(g.conv("conv2", x, {.filters = 5, .padding = 1}));
    x = g.relu(g.conv("point", x, {.filters = 4, .kernel = 1}));
    return g.output(g.linear("fc2", g.relu(g.linear("fc1", g.flatten(x), {.features = 4})), {.features = 3}));
  }
  static Graph resnet(const std::string& options) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet_cifar.so");
    return testkit::build(R"({"use": "resnet20", "widths": [4, 8, 16])" + options + "}", {3, 32, 32}, {10});
  }
  static std::unique_ptr<Controller> make(const std::string& options) {
    return Registry::instance().create<Controller>(from_json(R"({"use": "l1_prune")" + options + "}"));
  }
  void begin(const std::string& options = "") { make(options)->stage_begin(run); }
  std::string refusal(const std::string& options) {
    try {
      begin(options);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  // One weight of each filter, the rest zero: both norms are what is given.
  void set(const char* layer, const std::vector<double>& norms) {
    const c10::NoGradGuard no_grad;
    at::Tensor w = values(layer);
    w.zero_();
    for (size_t k = 0; k < norms.size(); ++k) w[static_cast<int64_t>(k)][0][0][0] = norms[k];
  }
  at::Tensor values(const std::string& layer) {
    return run.weights()[run.graph().parameter(layer + ".weight")].detach();
  }
  int64_t width(const char* axis) const { return run.graph()[run.graph().axis(axis)].size; }
};

TEST(L1Prune, RemovesHalfOfEachLayerAtTheBeginning) {
  Bench b;
  b.set("conv1", {4, -1, 3, 2});
  b.set("conv2", {-1, 5, -2, 4, 3});
  const at::Tensor first = b.values("conv1").clone(), readers = b.values("point").clone();
  b.begin();
  EXPECT_TRUE(at::equal(b.values("conv1"), first.index_select(0, at::tensor({0, 2}, at::kLong))))
      << "a negative weight counts by its size";
  EXPECT_TRUE(at::equal(b.values("conv2").reshape({3, -1}).abs().sum(1), at::tensor({5., 4., 3.}, at::kDouble)))
      << "two of five";
  EXPECT_TRUE(at::equal(b.values("point"), readers.index_select(1, at::tensor({1, 3, 4}, at::kLong))));
  EXPECT_EQ(b.width("point"), 4) << "kernels of 1 are not pruned";
  EXPECT_EQ(b.width("fc1"), 4);
}

TEST(L1Prune, GoesByL1NotByL2) {
  Bench b;
  const c10::NoGradGuard no_grad;
  b.set("conv1", {3, 3, 3, 3});     // l1 3, l2 3
  b.values("conv1")[2].fill_(.25);  // 18 weights: l1 4.5, l2 1.06
  b.begin(R"(, "ratio": 0.75, "on": "conv1")");
  ASSERT_EQ(b.width("conv1"), 1);
  EXPECT_EQ(b.values("conv1").max().item<double>(), .25);
  EXPECT_EQ(b.width("conv2"), 5);
}

TEST(L1Prune, TakesTheNormsOfAllLayersThatMakeAWidthTogether) {
  GraphBuilder g({2, 4, 4});
  const Edge x = g.conv("stem", g.input(), {.filters = 3, .padding = 1});
  const Edge y = g.add(x, g.conv("branch", g.relu(x), {.filters = 3, .padding = 1}));
  Bench b(g.output(g.linear("fc", g.global_avg_pool(y), {.features = 3})));
  b.set("stem", {1, 2, 5});
  b.set("branch", {5, 2.5, 1});  // each alone would lose another
  b.begin(R"(, "ratio": 0.34, "on": "stem")");
  EXPECT_TRUE(at::equal(b.values("stem").reshape({2, -1}).sum(1), at::tensor({1., 5.}, at::kDouble)));
  EXPECT_TRUE(at::equal(b.values("branch").reshape({2, -1}).sum(1), at::tensor({5., 1.}, at::kDouble)));
}

TEST(L1Prune, LeavesTheResidualStream) {
  for (const char* own : {"", R"(, "own_widths": true)"}) {
    Bench b(Bench::resnet(own));
    b.begin();
    const Graph halved = Bench::resnet(own + std::string(R"(, "inner": [2, 4, 8])"));
    EXPECT_EQ(b.run.graph().parameter_count(), halved.parameter_count());
    EXPECT_EQ(b.run.graph().macs(), halved.macs());
  }
}

TEST(L1Prune, RoundsAShareDown) {
  for (const auto& [ratio, left] :
       std::vector<std::pair<const char*, int64_t>>{{"0.29", 71}, {"0.57", 43}, {"0.019", 99}, {"0.999", 1}}) {
    Bench b(Bench::chain(100));
    b.begin(R"(, "ratio": )" + std::string(ratio) + R"(, "on": ["conv1", "conv2"])");
    EXPECT_EQ(b.width("conv1"), left) << ratio;
  }
}

TEST(L1Prune, LeavesAtLeastSoMany) {
  Bench b;
  b.begin(R"(, "ratio": 0.99, "min_filters": 3)");
  EXPECT_EQ(b.width("conv1"), 3);
  EXPECT_EQ(b.width("conv2"), 3);
}

TEST(L1Prune, TakesARatioForEachSelector) {
  Bench b;
  b.begin(R"(, "on": ["convolutions", "fc1"], "ratio": {"conv1": 0.25, "point": 0, "fc*": 0.5})");
  EXPECT_EQ(b.width("conv1"), 3);
  EXPECT_EQ(b.width("conv2"), 5) << "no selector names it";
  EXPECT_EQ(b.width("point"), 4);
  EXPECT_EQ(b.width("fc1"), 2);
}

TEST(L1Prune, PrunesAtTheEndWhereThatIsAskedForAndOnlyOnce) {
  for (const bool end : {true, false}) {
    Bench b;
    const auto c = Bench::make(end ? R"(, "when": "end")" : "");
    c->stage_begin(b.run);
    c->epoch_end(b.run);
    EXPECT_EQ(b.width("conv1"), end ? 4 : 2);
    c->stage_end(b.run);
    EXPECT_EQ(b.width("conv1"), 2);
  }
}

TEST(L1Prune, SaysWhyThereIsNothingToPrune) {
  EXPECT_THAT(Bench().refusal(R"(, "on": "conv7")"), HasSubstr("conv7"));
  EXPECT_THAT(Bench().refusal(R"(, "ratio": {"conv7": 0.5})"), HasSubstr("conv7"));
  EXPECT_THAT(Bench().refusal(R"(, "on": "fc2")"), HasSubstr("no layer of 'fc2'"));
  EXPECT_THAT(Bench().refusal(R"(, "ratio": {"fc1": 0.5})"), HasSubstr("`ratio` names 'fc1'"));
  EXPECT_THAT(Bench().refusal(R"(, "ratio": 0.1)"), HasSubstr("leave every filter"));
  EXPECT_THAT(Bench().refusal(R"(, "min_filters": 5, "when": "end")"), HasSubstr("leave every filter"));
  GraphBuilder g({5});
  EXPECT_THAT(Bench(g.output(g.linear("fc", g.input(), {.features = 3}))).refusal(""),
              HasSubstr("name layers by `on`"));
}

}  // namespace
}  // namespace espalier
