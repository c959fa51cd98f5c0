#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

// A run whose optimizer has selected what the test says.
struct Bench {
  testkit::TestRun run;

  explicit Bench(Graph graph = chain(4)) : run(std::move(graph), 1) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libadenel.so");
    run.weights().add_state(run.graph(), {.name = "lbi.momentum"});
    run.weights().add_state(run.graph(),
                            {.name = "lbi.support", .shape = [](const Parameter& p) { return Shape{p.shape[0]}; }});
    run.of_epochs = 100;
  }
  static Graph chain(int64_t first = 4) {
    GraphBuilder g({2, 8, 8});
    Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = first, .padding = 1})));
    x = g.relu(g.conv("conv2", x, {.filters = 4, .padding = 1}));
    x = g.relu(g.conv("conv3", x, {.filters = 4, .kernel = 1}));
    return g.output(g.linear("fc2", g.relu(g.linear("fc1", g.flatten(x), {.features = 4})), {.features = 3}));
  }
  static Graph resnet(bool own) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet_cifar.so");
    return testkit::build(own ? R"({"use": "resnet20", "widths": [8, 8, 8], "stem": 16, "own_widths": true})"
                              : R"({"use": "resnet20", "widths": [8, 8, 8]})",
                          {3, 32, 32}, {10});
  }
  // The first `n` filters of a layer are selected.
  void select(const std::string& layer, int64_t n) {
    const c10::NoGradGuard no_grad;
    at::Tensor s = run.weights().state("lbi.support", run.graph().parameter(layer + ".weight"));
    s.zero_();
    s.narrow(0, 0, n).fill_(1);
  }
  int64_t width(const char* axis) const { return run.graph()[run.graph().axis(axis)].size; }
  at::Tensor values(const char* parameter) { return run.weights()[run.graph().parameter(parameter)].detach(); }
  void round(const std::string& options) {
    const auto c =
        Registry::instance().create<Controller>(from_json(R"({"use": "adenel", "every": 1)" + options + "}"));
    c->stage_begin(run);
    c->epoch_end(run);
  }
};

TEST(AdeNeL, GrowsLayersThatHaveSelectedTheirShare) {
  Bench b;
  b.select("conv1", 3);
  b.select("conv2", 2);
  b.select("conv3", 4);
  b.select("fc1", 4);
  b.round(R"(, "tau": 0.75, "add": 2, "ratio": 1)");
  EXPECT_EQ(b.width("conv1"), 6) << "a share that equals tau is enough";
  EXPECT_EQ(b.width("conv2"), 4);
  EXPECT_EQ(b.width("conv3"), 4) << "kernels of 1";
  EXPECT_EQ(b.width("fc1"), 4);
  EXPECT_EQ(b.run.metrics().at("selected.conv1"), 0.75);
  EXPECT_EQ(b.run.metrics().at("selected.conv2"), 0.5);
  EXPECT_EQ(b.run.metrics().at("grown"), 2);
  EXPECT_FALSE(b.run.ended);
}

TEST(AdeNeL, TakesTheLargerOfANumberAndARatio) {
  for (const auto& [width, after] : std::vector<std::pair<int64_t, int64_t>>{{4, 6}, {20, 22}, {39, 42}}) {
    Bench b(Bench::chain(width));
    b.select("conv1", width);
    b.round(R"(, "add": 2, "ratio": 1.1)");
    EXPECT_EQ(b.width("conv1"), after) << width;
  }
  Bench b;
  b.select("conv1", 4);
  b.round(R"(, "add": 0, "ratio": 1.1)");
  EXPECT_EQ(b.width("conv1"), 5) << "a tenth of 4 is less than a filter";
}

TEST(AdeNeL, TestsEveryFewEpochsButNotAtTheLast) {
  Bench b;
  b.run.of_epochs = 6;
  b.select("conv1", 4);
  const auto c = Registry::instance().create<Controller>(from_json(R"({"use": "adenel", "every": 3, "add": 1})"));
  std::vector<int64_t> widths;
  for (b.run.at_epoch = 0; b.run.at_epoch < 6; ++b.run.at_epoch) {
    c->epoch_end(b.run);
    widths.push_back(b.width("conv1"));
    b.select("conv1", widths.back());
  }
  EXPECT_EQ(widths, (std::vector<int64_t>{4, 4, 5, 5, 5, 5}));
  EXPECT_FALSE(b.run.ended);
}

TEST(AdeNeL, EndsTheStageWhenNothingGrows) {
  Bench b;
  b.select("conv1", 2);
  b.round(R"(, "tau": 0.75)");
  EXPECT_TRUE(b.run.ended);
  EXPECT_EQ(b.run.edits(), 0);
}

TEST(AdeNeL, UsesItsBudgetsAndNeverExceedsThem) {
  const Graph first = Bench::chain();
  for (const char* what : {"macs", "params"}) {
    const auto cost = [&](const Graph& g) { return what == std::string("macs") ? g.macs() : g.parameter_count(); };
    const int64_t budget = cost(first) * 3 / 2;
    Bench b;
    int rounds = 0;
    for (; !b.run.ended && rounds < 50; ++rounds) {
      b.select("conv1", b.width("conv1"));
      b.select("conv2", b.width("conv2"));
      b.round(R"(, "add": 3, ")" + std::string(what) + "\": " + std::to_string(budget));
      EXPECT_LE(cost(b.run.graph()), budget);
    }
    EXPECT_TRUE(b.run.ended);
    EXPECT_GT(rounds, 1);
    for (const char* axis : {"conv1", "conv2"}) {
      Graph g = b.run.graph();
      apply(g, {}, grow(g, g.axis(axis), 1, "random", RandomKey(0)));
      EXPECT_GT(cost(g), budget) << "there was room for one more filter of " << axis;
    }
  }
}

TEST(AdeNeL, ABlockGrowsOnceAndStemsAndSharedWidthsDoNot) {
  Bench own(Bench::resnet(true));
  own.select("conv1", 16);
  own.select("layer1.0.conv1", 8);
  own.select("layer1.0.conv2", 8);
  own.select("layer2.1.conv2", 8);
  own.round(R"(, "add": 4, "ratio": 1)");
  EXPECT_EQ(own.width("conv1"), 16);
  EXPECT_EQ(own.width("layer1.0.conv1"), 12);
  EXPECT_EQ(own.width("layer1.0.conv2"), 12);
  EXPECT_EQ(own.width("layer2.1.conv1"), 12) << "all of a block has one width, whichever layer asks";
  EXPECT_EQ(own.width("layer2.1.conv2"), 12);
  EXPECT_EQ(own.width("layer2.0.conv1"), 8);

  Bench shared(Bench::resnet(false));
  for (const char* layer : {"conv1", "layer1.0.conv1", "layer1.0.conv2"}) shared.select(layer, 8);
  shared.round(R"(, "add": 4, "ratio": 1)");
  EXPECT_EQ(shared.width("layer1.0.conv1"), 12);
  EXPECT_EQ(shared.width("conv1"), 8) << "the residual stream belongs to no block";
}

TEST(AdeNeL, GrowsWhatItsSelectorNames) {
  Bench stem(Bench::resnet(true));
  stem.select("conv1", 16);
  stem.round(R"(, "on": "conv1", "add": 4, "ratio": 1)");
  EXPECT_EQ(stem.width("conv1"), 20);

  Bench linear;
  const c10::NoGradGuard no_grad;
  at::Tensor share = linear.run.weights().state("lbi.support", linear.run.graph().parameter("fc1.weight"));
  share.fill_(0.25);  // of the weights of each unit
  linear.round(R"(, "on": ["convolutions", "fc1"], "tau": 0.3)");
  EXPECT_EQ(linear.width("fc1"), 4) << "of a linear layer weights are counted, not units";
  linear.run.ended = false;
  linear.round(R"(, "on": ["convolutions", "fc1"], "tau": 0.2)");
  EXPECT_EQ(linear.width("fc1"), 8);
}

TEST(AdeNeL, TakesATauForEachSelector) {
  Bench b;
  b.select("conv1", 2);
  b.select("conv2", 2);
  b.round(R"(, "tau": {"conv2": 0.5})");
  EXPECT_EQ(b.width("conv2"), 8);
  EXPECT_EQ(b.width("conv1"), 4) << "no selector names it";
}

TEST(AdeNeL, OldFiltersStayAsTheyAreAndTheRestBeginsAnewOrIsKept) {
  for (const bool reset : {true, false}) {
    Bench b;
    b.select("conv1", 4);
    const c10::NoGradGuard no_grad;
    const at::Tensor filters = b.values("conv1.weight").clone(), readers = b.values("conv2.weight").clone();
    b.run.weights().state("lbi.momentum", b.run.graph().parameter("conv1.weight")).fill_(7);
    b.values("bn1.running_mean").fill_(3);
    b.round(reset ? R"(, "add": 2)" : R"(, "add": 2, "states": "keep", "statistics": "keep")");
    ASSERT_EQ(b.width("conv1"), 6);
    EXPECT_TRUE(at::equal(b.values("conv1.weight").narrow(0, 0, 4), filters));
    EXPECT_TRUE(at::equal(b.values("conv2.weight").narrow(1, 0, 4), readers));
    EXPECT_GT(b.values("conv1.weight").narrow(0, 4, 2).abs().min().item<double>(), 0);
    EXPECT_GT(b.values("conv2.weight").narrow(1, 4, 2).abs().min().item<double>(), 0) << "what reads them is drawn too";
    const at::Tensor momentum = b.run.weights().state("lbi.momentum", b.run.graph().parameter("conv1.weight"));
    EXPECT_EQ(momentum.narrow(0, 0, 4).abs().max().item<double>(), reset ? 0 : 7);
    EXPECT_EQ(momentum.narrow(0, 4, 2).abs().max().item<double>(), 0);
    EXPECT_EQ(b.values("bn1.running_mean")[0].item<double>(), reset ? 0 : 3);
    EXPECT_EQ(b.values("bn1.running_var")[5].item<double>(), 1);
  }
}

TEST(AdeNeL, LeavesTheFunctionWhereThatIsAskedFor) {
  Bench b;
  b.select("conv1", 4);
  b.round(R"(, "add": 2, "init": "preserving")");
  EXPECT_EQ(b.values("conv2.weight").narrow(1, 4, 2).abs().max().item<double>(), 0);
}

TEST(AdeNeL, KeepsWhatFiguresNeed) {
  Bench b;
  b.select("conv1", 3);
  const at::Tensor before = b.values("conv1.weight").clone();
  b.round(R"(, "tau": 0.5, "record": "conv1.weight")");
  const auto& kept = b.run.records.at("test-001");
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept[0].first, "conv1.weight");
  EXPECT_TRUE(at::equal(kept[0].second, before)) << "as tested, before growth";
  EXPECT_EQ(kept[1].first, "conv1.weight.support");
  EXPECT_EQ(kept[1].second.sum().item<double>(), 3);
}

TEST(AdeNeL, RefusesWhatCannotGrow) {
  EXPECT_THROW(Bench().round(R"(, "add": 0, "ratio": 1)"), Error);
  EXPECT_THROW(Bench().round(R"(, "params": 10)"), Error);
  EXPECT_THROW(Bench().round(R"(, "on": "conv7")"), Error);
  GraphBuilder g({5});
  EXPECT_THROW(Bench(g.output(g.linear("fc", g.input(), {.features = 3}))).round(""), Error);
}

}  // namespace
}  // namespace espalier
