#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Blocks = std::vector<int64_t>;

Graph resnet(const Blocks& blocks, const std::string& more = "") {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet_cifar.so");
  return testkit::build(R"({"use": "resnet20", "widths": [4, 6, 8], "blocks": )" + to_string(blocks) + more + "}",
                        {3, 8, 8}, {10});
}

// A run whose validation accuracy is what the test says. The test set's would never let anything grow.
struct Bench {
  testkit::TestRun run;
  std::unique_ptr<Controller> controller;
  std::string options;

  explicit Bench(std::string o = "", Graph graph = resnet({1, 2, 2}))
      : run(std::move(graph), 1), options(std::move(o)) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libautogrow.so");
    run.of_epochs = 1000;
    run.evaluations["test"].score = 1;
    controller = make();
  }
  std::unique_ptr<Controller> make() const {
    return Registry::instance().create<Controller>(from_json(R"({"use": "autogrow")" + options + "}"));
  }
  // Blocks of each sub-network after an epoch of this accuracy.
  Blocks epoch(double accuracy) {
    run.evaluations["validation"].score = accuracy;
    controller->epoch_end(run);
    ++run.at_epoch;
    Blocks counts;
    for (const char* layer : {"layer1.", "layer2.", "layer3."}) {
      int64_t n = 0;
      for (const Node& node : run.graph().nodes()) n += node.name.starts_with(layer) && node.name.ends_with(".conv2");
      counts.push_back(n);
    }
    return counts;
  }
  std::vector<Blocks> epochs(const std::vector<double>& accuracies) {
    std::vector<Blocks> all;
    for (const double a : accuracies) all.push_back(epoch(a));
    return all;
  }
  std::string refusal() {
    try {
      controller->stage_begin(run);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  at::Tensor values(const std::string& parameter) { return run.weights()[run.graph().parameter(parameter)].detach(); }
  at::Tensor logits() {
    const c10::NoGradGuard no_grad;
    return espalier::run(run.graph(), run.weights(), {{"input", testkit::input_of(run.graph(), 4, 3)}}, {"logits"})[0];
  }
};

TEST(AutoGrow, SubNetworksGrowInTurnAsLongAsAccuracyRises) {
  Bench b(R"(, "every": 2)");
  b.controller->stage_begin(b.run);
  EXPECT_THAT(b.epochs({10, 20, 30, 40, 50, 60, 70, 80}),
              ElementsAre(Blocks{1, 2, 2}, Blocks{2, 2, 2}, Blocks{2, 2, 2}, Blocks{2, 3, 2}, Blocks{2, 3, 2},
                          Blocks{2, 3, 3}, Blocks{2, 3, 3}, Blocks{3, 3, 3}));
  EXPECT_FALSE(b.run.ended);
  // As the backbone would have made it.
  const Graph made = resnet({3, 3, 3});
  EXPECT_EQ(b.run.graph().parameter_count(), made.parameter_count());
  EXPECT_EQ(b.run.graph().macs(), made.macs());
  std::vector<std::string> ours, theirs;
  for (const Parameter& p : b.run.graph().parameters()) ours.push_back(p.name);
  for (const Parameter& p : made.parameters()) theirs.push_back(p.name);
  EXPECT_THAT(ours, ::testing::UnorderedElementsAreArray(theirs));
  EXPECT_EQ(b.run.metrics().at("blocks.layer1"), 2) << "in the epoch that was trained";
  EXPECT_EQ(b.run.metrics().at("blocks.layer3"), 3);
}

TEST(AutoGrow, TheOneThatGrewLastStopsWhereAccuracyDoesNotRise) {
  Bench b(R"(, "every": 1)");
  b.controller->stage_begin(b.run);
  EXPECT_EQ(b.epoch(50), (Blocks{2, 2, 2}));
  EXPECT_EQ(b.epoch(50.05), (Blocks{2, 3, 2})) << "as much as counts";
  EXPECT_EQ(b.epoch(50.09), (Blocks{2, 3, 3})) << "layer2 stops";
  EXPECT_EQ(b.epoch(50.2), (Blocks{3, 3, 3}));
  EXPECT_EQ(b.epoch(50.3), (Blocks{3, 3, 4})) << "without layer2";
  EXPECT_EQ(b.epoch(40), (Blocks{4, 3, 4})) << "layer3 stops";
  EXPECT_EQ(b.epoch(50.36), (Blocks{5, 3, 4})) << "alone, and above the best so far";
  EXPECT_FALSE(b.run.ended);
  EXPECT_EQ(b.epoch(50.36), (Blocks{5, 3, 4}));
  EXPECT_TRUE(b.run.ended);
}

TEST(AutoGrow, AnAccuracyIsTheBestOfItsEpochs) {
  Bench b(R"(, "every": 3, "min_delta": 1)");
  b.controller->stage_begin(b.run);
  b.epochs({30, 50, 40});
  EXPECT_EQ(b.epochs({20, 51, 10}).back(), (Blocks{2, 3, 2}));
  b.epochs({51, 51, 51});  // no rise over 51: layer2 stops, layer3 grows
  EXPECT_EQ(b.epochs({60, 0, 0}).back(), (Blocks{3, 3, 3}));
  EXPECT_EQ(b.epochs({61, 0, 0}).back(), (Blocks{3, 3, 4}));
}

TEST(AutoGrow, WaitsForARiseAsLongAsItIsTold) {
  Bench b(R"(, "every": 1, "patience": 4)");
  b.controller->stage_begin(b.run);
  EXPECT_EQ(b.epochs({50, 50, 50, 50}).back(), (Blocks{3, 3, 3})) << "nothing is known of four epochs before";
  EXPECT_EQ(b.epoch(50), (Blocks{3, 4, 3})) << "layer1 stops: 50 four epochs ago";
  EXPECT_EQ(b.epoch(60), (Blocks{3, 4, 4}));
  EXPECT_EQ(b.epochs({60, 60, 60}).back(), (Blocks{3, 6, 5})) << "60 is above 50, in the last four epochs";
  EXPECT_EQ(b.epoch(60), (Blocks{3, 6, 6})) << "layer2 stops";
  EXPECT_FALSE(b.run.ended);
  EXPECT_EQ(b.epoch(60), (Blocks{3, 6, 6}));
  EXPECT_TRUE(b.run.ended);
}

TEST(AutoGrow, GrowsOnConvergence) {
  Bench b(R"(, "every": 2, "policy": "convergent")");
  b.controller->stage_begin(b.run);
  EXPECT_EQ(b.epochs({10, 20}).back(), (Blocks{1, 2, 2}));
  EXPECT_EQ(b.epochs({30, 30}).back(), (Blocks{1, 2, 2}));
  EXPECT_EQ(b.epochs({30, 30}).back(), (Blocks{2, 2, 2})) << "converged";
  EXPECT_EQ(b.epochs({35, 40}).back(), (Blocks{2, 2, 2})) << "it rises again";
  EXPECT_EQ(b.epochs({40, 40}).back(), (Blocks{2, 3, 2})) << "converged, and layer1 helped";
  EXPECT_EQ(b.epochs({40, 40}).back(), (Blocks{2, 3, 3})) << "layer2 did not: it stops";
  EXPECT_EQ(b.epochs({40, 40}).back(), (Blocks{3, 3, 3})) << "nor layer3";
  EXPECT_FALSE(b.run.ended);
  b.epochs({40, 40});
  EXPECT_TRUE(b.run.ended);
  EXPECT_EQ(b.run.edits(), 4);
}

TEST(AutoGrow, NeverHasMoreBlocksThanItMay) {
  Bench b(R"(, "every": 1, "max_blocks": 3)");
  b.controller->stage_begin(b.run);
  EXPECT_EQ(b.epochs({10, 20, 30, 40}).back(), (Blocks{3, 3, 3}));
  EXPECT_FALSE(b.run.ended);
  EXPECT_EQ(b.epoch(50), (Blocks{3, 3, 3}));
  EXPECT_TRUE(b.run.ended);
}

TEST(AutoGrow, GrowsTheSubNetworksThatAreNamed) {
  Bench b(R"(, "every": 1, "subnetworks": ["layer3", "layer1"])");
  b.controller->stage_begin(b.run);
  EXPECT_THAT(b.epochs({10, 20, 30}), ElementsAre(Blocks{1, 2, 3}, Blocks{2, 2, 3}, Blocks{2, 2, 4}));
}

TEST(AutoGrow, DoesNotGrowAtTheEndOfTheStage) {
  Bench b(R"(, "every": 2)");
  b.run.of_epochs = 4;
  b.controller->stage_begin(b.run);
  EXPECT_EQ(b.epochs({10, 20, 30, 40}).back(), (Blocks{2, 2, 2}));
}

TEST(AutoGrow, BeginsABlockAsItIsTold) {
  for (const std::string init : {"gaussian", "random", "preserving"}) {
    Bench b(R"(, "every": 1, "std": 3, "init": ")" + init + "\"",
            resnet({1, 2, 2}, R"(, "width": 32)"));  // 128 filters
    b.controller->stage_begin(b.run);
    const c10::NoGradGuard no_grad;
    b.run.weights().add_state(b.run.graph(), {.name = "sgd.momentum"});
    b.run.weights().state("sgd.momentum", b.run.graph().parameter("layer1.0.conv1.weight")).fill_(7);
    const at::Tensor before = b.logits(), old = b.values("layer1.0.conv2.weight").clone();
    ASSERT_EQ(b.epoch(10), (Blocks{2, 2, 2}));
    const at::Tensor scale = b.values("layer1.1.bn2.weight"), first = b.values("layer1.1.bn1.weight");
    EXPECT_EQ(first.min().item<double>(), 1) << init << ": the last batch norm alone";
    EXPECT_EQ(first.max().item<double>(), 1);
    EXPECT_GT(b.values("layer1.1.conv2.weight").abs().max().item<double>(), 0);
    if (init == "gaussian") {
      // Of 128 values: the mean's deviation is 3 / sqrt(128) = .27, that of the deviation 3 / sqrt(256) = .19.
      EXPECT_NEAR(scale.mean().item<double>(), 0, 1.2);
      EXPECT_NEAR(scale.std().item<double>(), 3, 0.8);
    } else {
      EXPECT_EQ(scale.min().item<double>(), init == "random" ? 1 : 0);
      EXPECT_EQ(scale.max().item<double>(), init == "random" ? 1 : 0);
    }
    const double difference = (b.logits() - before).abs().max().item<double>();
    if (init == "preserving") {
      EXPECT_LT(difference, 1e-12);
    } else {
      EXPECT_GT(difference, 1e-3) << init;
    }
    EXPECT_TRUE(at::equal(b.values("layer1.0.conv2.weight"), old));
    const auto momentum = [&](const char* p) {
      return b.run.weights().state("sgd.momentum", b.run.graph().parameter(p)).max().item<double>();
    };
    EXPECT_EQ(momentum("layer1.0.conv1.weight"), 7);
    EXPECT_EQ(momentum("layer1.1.conv1.weight"), 0);
  }
}

TEST(AutoGrow, NewBlocksAreDrawnEachForItself) {
  Bench b(R"(, "every": 1, "subnetworks": ["layer1"])");
  b.controller->stage_begin(b.run);
  b.epochs({10, 20});
  for (const char* p : {"conv1.weight", "bn2.weight"})
    EXPECT_FALSE(at::equal(b.values(std::string("layer1.1.") + p), b.values(std::string("layer1.2.") + p))) << p;
}

TEST(AutoGrow, GoesOnAfterAnInterruption) {
  const std::vector<double> accuracies = {10, 20, 20, 30, 30, 40, 35, 50, 50.01, 60, 60, 60, 70, 70, 70, 70, 70, 70};
  for (const char* options :
       {R"(, "every": 1)", R"(, "every": 2, "patience": 3)", R"(, "every": 2, "policy": "convergent")"}) {
    Bench whole(options), parts(options);
    whole.controller->stage_begin(whole.run);
    parts.controller->stage_begin(parts.run);
    for (const double a : accuracies) {
      EXPECT_EQ(whole.epoch(a), parts.epoch(a)) << options << ", epoch " << whole.run.at_epoch;
      EXPECT_EQ(whole.run.ended, parts.run.ended);
      const Value saved = from_json(to_json(parts.controller->save()));
      parts.controller = parts.make();
      parts.controller->resume(parts.run, saved);
    }
    EXPECT_GT(whole.run.edits(), 2);
    EXPECT_TRUE(at::equal(whole.logits(), parts.logits()));
  }
}

TEST(AutoGrow, SaysWhatCannotGrow) {
  EXPECT_EQ(Bench().refusal(), "");
  EXPECT_THAT(Bench("", resnet({1, 1, 2})).refusal(),
              ::testing::AllOf(HasSubstr("'layer2' cannot grow"), HasSubstr("begin with two blocks")));
  EXPECT_THAT(Bench(R"(, "subnetworks": ["layer1", "layr2"])").refusal(),
              ::testing::AllOf(HasSubstr("no sub-network 'layr2'"), HasSubstr("layer2")));
  EXPECT_THAT(Bench("", resnet({1, 2, 2}, R"(, "own_widths": true)")).refusal(),
              HasSubstr("do not share their widths"));
  GraphBuilder g({2, 6, 6});
  const Edge x = g.relu(g.conv("conv1", g.input(), {.filters = 4}));
  EXPECT_THAT(Bench("", g.output(g.linear("fc", g.flatten(x), {.features = 3}))).refusal(), HasSubstr("no blocks"));

  const auto without_norm = [](const std::string& init) {
    GraphBuilder h({2, 6, 6});
    Edge y = h.conv("conv1", h.input(), {.filters = 4, .padding = 1});
    {
      const auto s = h.scope("stage.0");
      y = h.relu(h.add(y, h.conv("conv", y, {.filters = 4, .padding = 1})));
    }
    return Bench(R"(, "init": ")" + init + "\"", h.output(h.linear("fc", h.global_avg_pool(y), {.features = 3})))
        .refusal();
  };
  EXPECT_THAT(without_norm("gaussian"), HasSubstr("no batch norm"));
  EXPECT_EQ(without_norm("random"), "");
}

}  // namespace
}  // namespace espalier
