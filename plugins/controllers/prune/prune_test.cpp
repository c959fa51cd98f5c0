#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/foresight.h>
#include <espalier/pruning.h>
#include <espalier/selector.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Graph chain() {
  GraphBuilder g({2, 8, 8});
  Edge x = g.relu(g.batch_norm("bn1", g.conv("conv1", g.input(), {.filters = 20, .padding = 1, .bias = false})));
  x = g.relu(g.conv("conv2", x, {.filters = 24, .padding = 1}));
  return g.output(g.linear("fc2", g.relu(g.linear("fc1", g.flatten(x), {.features = 16})), {.features = 3}));
}

struct Bench {
  testkit::TestRun run;

  explicit Bench(Graph graph = chain()) : run(std::move(graph), 1) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libprune.so");
    run.batches = [this](int64_t n) { return batch(static_cast<uint64_t>(n), 4); };
  }
  Batch batch(uint64_t seed, int64_t size) const {
    const int64_t classes = run.graph().sizes(run.graph()[run.graph().output("logits")].shape).back();
    return {.inputs = {{"input", testkit::input_of(run.graph(), size, seed)}},
            .targets = {{"target", testkit::target_of(classes, size, seed)}}};
  }
  static std::unique_ptr<Controller> make(const std::string& options) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libprune.so");
    return Registry::instance().create<Controller>(from_json(R"({"use": "prune")" + options + "}"));
  }
  void begin(const std::string& options = "") { make(options)->stage_begin(run); }
  // A stage of so many epochs without training; what is left of the multiply-accumulates after each, in percent.
  std::vector<int64_t> stage(const std::string& options, int64_t epochs) {
    const double first = static_cast<double>(run.graph().macs());
    std::vector<int64_t> left;
    const auto look = [&] { left.push_back(std::llround(100 * static_cast<double>(run.graph().macs()) / first)); };
    const auto c = make(options);
    run.of_epochs = epochs;
    c->stage_begin(run);
    look();
    for (int64_t e = 0; e < epochs; ++e) {
      run.at_epoch = e;
      c->epoch_begin(run);
      c->epoch_end(run);
      look();
    }
    c->stage_end(run);
    look();
    return left;
  }
  std::string refusal(const std::string& options) {
    try {
      begin(options);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  int64_t width(const char* axis) const { return run.graph()[run.graph().axis(axis)].size; }
  at::Tensor values(const char* name) { return run.weights()[run.graph().parameter(name)].detach(); }
};

TEST(Prune, MeetsTargetsOfCosts) {
  for (const char* scope : {"global", "layer", "block"}) {
    for (const char* what : {"macs", "params"}) {
      for (const double share : {0.5, 0.25, 0.125}) {
        Bench b;
        const auto cost = [&] {
          return static_cast<double>(*what == 'm' ? b.run.graph().macs() : b.run.graph().parameter_count());
        };
        const double wanted = share * cost();
        b.begin(R"(, "protect": 0, "scope": ")" + std::string(scope) + R"(", "target": {")" + what +
                "\": " + std::to_string(share) + "}");
        // There are 60 positions in all, and within layers not every choice is possible.
        EXPECT_NEAR(cost(), wanted, (*scope == 'l' ? 0.01 : 0.005) * wanted) << scope << " " << what << " " << share;
      }
    }
  }
  Bench b;
  b.begin(R"(, "target": {"macs": 100000})");
  EXPECT_NEAR(static_cast<double>(b.run.graph().macs()), 100000, 500) << "above 1 it is the number itself";
}

TEST(Prune, TakesAShareOfThePositions) {
  Bench b;
  b.begin(R"(, "target": {"share": 0.3})");
  EXPECT_EQ(60 - b.width("conv1") - b.width("conv2") - b.width("fc1"), 18);
  Bench layers;
  layers.begin(R"(, "target": {"share": 0.3}, "scope": "layer")");
  EXPECT_EQ(layers.width("conv1"), 14);
  EXPECT_EQ(layers.width("conv2"), 17);
  EXPECT_EQ(layers.width("fc1"), 11) << "18 go in all: 6, 7 and 4, and then the next";
}

TEST(Prune, TakesTheSmallestScores) {
  Bench b;
  const c10::NoGradGuard no_grad;
  at::Tensor w = b.values("conv1.weight");
  for (int64_t k = 0; k < 20; ++k) w[k].fill_(k % 2 ? 1 : 1e-3 * static_cast<double>(k));
  b.begin(R"(, "target": {"share": 0.5}, "on": "conv1", "score": "l1")");
  EXPECT_TRUE(at::equal(b.values("conv1.weight"), at::ones_like(b.values("conv1.weight"))));
  EXPECT_EQ(b.width("conv2"), 24) << "`on` does not name it";
}

TEST(Prune, ProtectsAShareOfEachWidthAndRounds) {
  Bench b;
  const c10::NoGradGuard no_grad;
  b.values("conv1.weight").mul_(1e-6);
  b.begin(R"(, "target": {"share": 0.3}, "protect": 0.25)");
  EXPECT_EQ(b.width("conv1"), 5);
  Bench r;
  r.begin(R"(, "target": {"params": 0.5}, "round_to": 4)");
  for (const char* axis : {"conv1", "conv2", "fc1"}) EXPECT_EQ(r.width(axis) % 4, 0) << axis;
  EXPECT_LT(r.run.graph().parameter_count(), Bench().run.graph().parameter_count() * 6 / 10);
}

TEST(Prune, ReachesTheTargetInSteps) {
  EXPECT_THAT(Bench().stage(R"(, "target": {"macs": 0.5})", 2), ElementsAre(50, 50, 50, 50));
  EXPECT_THAT(Bench().stage(R"(, "target": {"macs": 0.5}, "schedule": "once", "when": "end")", 2),
              ElementsAre(100, 100, 100, 50));
  EXPECT_THAT(Bench().stage(R"(, "target": {"macs": 0.4}, "schedule": {"steps": 3, "every": 2})", 6),
              ElementsAre(80, 80, 60, 60, 40, 40, 40, 40));
  EXPECT_THAT(Bench().stage(R"(, "target": {"macs": 0.4}, "schedule": {"steps": 3}, "when": "epochs")", 4),
              ElementsAre(100, 80, 60, 40, 40, 40));
  // 1 - (1 - t)^3 of 60 percent: 42, 58 and 60 percent are gone.
  EXPECT_THAT(Bench().stage(R"(, "target": {"macs": 0.4}, "schedule": {"steps": 3, "curve": "cubic"})", 2),
              ElementsAre(AnyOf(57, 58), AnyOf(42, 43), 40, 40));
  EXPECT_THAT(Bench().stage(R"(, "target": {"macs": 0.4}, "schedule": {"steps": 9}, "when": "epochs")", 1),
              ElementsAre(100, 93, 40))
      << "what is left of the removal is done at the end";
}

TEST(Prune, GoesOnFromACheckpointInTheMiddle) {
  const std::string options = R"(, "target": {"macs": 0.3}, "schedule": {"steps": 4}, "when": "epochs")";
  Bench whole, half;
  const std::vector<int64_t> expected = whole.stage(options, 4);
  const auto first = Bench::make(options), second = Bench::make(options);
  first->stage_begin(half.run);
  for (int64_t e = 0; e < 2; ++e) half.run.at_epoch = e, first->epoch_end(half.run);
  second->resume(half.run, from_json(to_json(first->save())));
  for (int64_t e = 2; e < 4; ++e) half.run.at_epoch = e, second->epoch_end(half.run);
  second->stage_end(half.run);
  EXPECT_EQ(to_json(half.run.graph().to_value()), to_json(whole.run.graph().to_value()));
}

TEST(Prune, SoftFormOnlyZeroesUntilTheEnd) {
  Bench b;
  const auto c = Bench::make(R"(, "target": {"share": 0.5}, "on": "conv1", "soft": true)");
  c->stage_begin(b.run);
  EXPECT_EQ(b.width("conv1"), 20);
  c->epoch_end(b.run);
  EXPECT_EQ(b.width("conv1"), 20);
  const at::Tensor norms = b.values("conv1.weight").flatten(1).norm(2, 1);
  EXPECT_EQ(norms.eq(0).sum().item<int64_t>(), 10);
  EXPECT_GT(b.values("bn1.weight").min().item<double>(), 0) << "batch norm stays";
  c->stage_end(b.run);
  EXPECT_EQ(b.width("conv1"), 10);
  EXPECT_GT(b.values("conv1.weight").flatten(1).norm(2, 1).min().item<double>(), 0) << "the zeros went";
}

TEST(Prune, DropsWholeBlocks) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet_cifar.so");
  const std::string spec = R"({"use": "resnet20", "widths": [4, 8, 16]})";
  Bench b(testkit::build(spec, {3, 32, 32}, {10}));
  const c10::NoGradGuard no_grad;
  b.values("layer2.1.conv1.weight").mul_(0.01);
  b.values("layer3.2.conv1.weight").mul_(0.1);
  // Seven of nine blocks keep the shape; a share of .3 of them is two.
  const auto c = Bench::make(R"(, "what": "blocks", "target": {"share": 0.3})");
  const std::vector<std::string> lines = dynamic_cast<const Foresight&>(*c).finds(b.run.graph(), b.run.weights());
  EXPECT_THAT(lines, Contains("to go: 'layer2.1'"));
  EXPECT_THAT(lines, Contains("to go: 'layer3.2'"));
  EXPECT_THAT(lines, Contains(HasSubstr("cannot go: 'layer2.0'")));
  c->stage_begin(b.run);
  const Graph expected =
      testkit::build(R"({"use": "resnet20", "widths": [4, 8, 16], "blocks": [3, 2, 2]})", {3, 32, 32}, {10});
  EXPECT_EQ(b.run.graph().parameter_count(), expected.parameter_count());
  EXPECT_EQ(b.run.graph().macs(), expected.macs());
  Bench half(testkit::build(spec, {3, 32, 32}, {10}));
  const double before = static_cast<double>(half.run.graph().macs());
  half.begin(R"(, "what": "blocks", "target": {"macs": 0.5})");
  EXPECT_LE(static_cast<double>(half.run.graph().macs()), 0.5 * before);
  EXPECT_GT(static_cast<double>(half.run.graph().macs()), 0.35 * before) << "a block is a ninth";
  EXPECT_THAT(Bench(testkit::build(spec, {3, 32, 32}, {10})).refusal(R"(, "what": "blocks", "target": {"macs": 0.1})"),
              HasSubstr("'target' cannot be met: without"));
  EXPECT_THAT(Bench().refusal(R"(, "what": "blocks")"), HasSubstr("no whole block can go"));
}

TEST(Prune, ScoresThatNeedDataGetThem) {
  for (const char* use : {"taylor", "obd", "apoz", "hrank", "thinet", "channel_pruning"}) {
    Bench b;
    b.begin(R"(, "target": {"macs": 0.6}, "on": ["conv1", "conv2"], "score": {"use": ")" + std::string(use) +
            R"(", "batches": 1})");
    EXPECT_NEAR(static_cast<double>(b.run.graph().macs()) / static_cast<double>(chain().macs()), 0.6, 0.02) << use;
  }
}

TEST(Prune, SaysWhatIsWrong) {
  const auto says = [](const std::string& options, const char* text) {
    std::string message;
    try {
      message = Bench().refusal(options);
    } catch (const Error& e) {
      message = e.what();
    }
    EXPECT_THAT(message, HasSubstr(text)) << options;
  };
  says(R"(, "target": {})", "'target' names nothing to reach; give one of macs, params and share");
  says(R"(, "target": {"macs": 0.5, "params": 0.5})", "'target' names more than one thing");
  says(R"(, "target": {"mac": 0.5})", "'target' has no parameter 'mac' (did you mean 'macs'?)");
  says(R"(, "target": 0.5)", "'target' must be a map of the options macs, params, share, got");
  says(R"(, "target": {"macs": 0})", "'target.macs' must be a number > 0");
  says(R"(, "target": {"share": 1})", "'target.share' must be a number > 0 and < 1");
  says(R"(, "target": {"macs": 0.001})", "'target' cannot be met: the target is");
  says(R"(, "target": {"macs": 0.001})", "what stays in any case is decided by 'protect' (0.1)");
  says(R"(, "target": {"macs": 1})", "nothing would go");
  says(R"(, "target": {"params": 1e9})", "nothing would go");
  says(R"(, "target": {"share": 0.99})", "at most");
  says(R"(, "on": "conv7")", "conv7");
  says(R"(, "on": "fc2")", "no width of 'fc2' can go");
  says(R"(, "score": {"use": "gate"})", "no gate");
  says(R"(, "score": {"use": "l3"})", "no score is called 'l3'");
  says(R"(, "score": {"use": "l2", "reduce": "most"})", "'reduce' must be one of");
  says(R"(, "schedule": "twice")", "'schedule' must be a map of the options steps, every, curve, or the word once");
  says(R"(, "schedule": {"steps": 0})", "'schedule.steps' must be an integer >= 1");
  says(R"(, "schedule": {"steps": 2}, "when": "end")", "`when: end` removes once");
  says(R"(, "when": "epochs")", "needs a 'schedule'");
}

TEST(Prune, ForeseesWhatGoesAndWhatCannot) {
  Bench b;
  const auto c = Bench::make(R"(, "target": {"macs": 0.5}, "on": ["conv1", "fc1"])");
  const std::vector<std::string> lines = dynamic_cast<const Foresight&>(*c).finds(b.run.graph(), b.run.weights());
  EXPECT_THAT(lines, Contains(HasSubstr("scores of")));
  EXPECT_THAT(lines, Contains(HasSubstr("cannot go: 'fc2' (3): its size is given from outside")));
  EXPECT_THAT(lines, Contains(HasSubstr("cannot go: 'conv2' (24): `on` does not name it")));
  c->stage_begin(b.run);
  // The line that was foreseen is the one that came.
  ASSERT_FALSE(b.run.notes.empty());
  EXPECT_THAT(lines, Contains(b.run.notes.front()));
  EXPECT_THAT(
      dynamic_cast<const Foresight&>(*Bench::make(R"(, "schedule": {"steps": 9}, "when": "epochs")")).idle(chain(), 4),
      ElementsAre(HasSubstr("9 epochs, and the stage has 4")));
  EXPECT_THAT(
      dynamic_cast<const Foresight&>(*Bench::make(R"(, "scope": "layer", "normalize": "max")")).idle(chain(), 4),
      ElementsAre(HasSubstr("'normalize' is without effect")));
}

TEST(Prune, ExpectsWhatALayerwiseRemovalLeaves) {
  Bench b;
  const auto c = Bench::make(R"(, "target": {"macs": 0.3}, "scope": "layer")");
  Graph expected = b.run.graph();
  apply(expected, {}, c->expected_edits(expected));
  c->stage_begin(b.run);
  EXPECT_EQ(expected.macs(), b.run.graph().macs());
}

// ---- the published networks ----

struct Published {
  const char* plugin;
  const char* spec;
  int64_t pixels;
  int64_t classes;
  const char* narrow;  // small enough for a step of training
};
void PrintTo(const Published& p, std::ostream* out) {
  *out << p.spec;
}

class PruneBackbone : public ::testing::TestWithParam<Published> {
 protected:
  static Graph build(const std::string& spec, int64_t pixels) {
    testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + GetParam().plugin + ".so");
    return testkit::build(spec, {3, pixels, pixels}, {GetParam().classes});
  }
};

// At their published sizes: counted, since the graph alone says what a choice costs.
TEST_P(PruneBackbone, MeetsHalfAQuarterAndAnEighthOfTheMultiplyAccumulates) {
  const Graph g = build(GetParam().spec, GetParam().pixels);
  std::vector<AxisScores> scores;
  std::vector<int64_t> keep;
  for (const Axis a : prunable_axes(g, {})) {
    AxisScores s{a, {}};
    for (int64_t k = 0; k < g[a].size; ++k) s.scores.push_back(static_cast<double>((k * 37 + a.id * 11) % 101));
    scores.push_back(std::move(s));
    keep.push_back(std::max<int64_t>(1, g[a].size / 20));
  }
  const RemovalOrder order(g, scores, keep, {.normalize = "mean"});
  const CostCounter counter(g);
  for (const double share : {0.5, 0.25, 0.125}) {
    const double wanted = share * static_cast<double>(g.macs());
    const Selection s = meet_cost(order, counter, "macs", wanted);
    Graph pruned = g;
    apply(pruned, {}, removal_of(g, order.gone(s.left)));
    EXPECT_EQ(pruned.macs(), s.cost.macs);
    EXPECT_NEAR(static_cast<double>(pruned.macs()), wanted, 0.005 * wanted) << share;
  }
}

// What is left computes and trains: the output is finite, and a step against the gradient makes the loss smaller.
TEST_P(PruneBackbone, ComputesAndTrainsAfterwards) {
  for (const char* share : {"0.5", "0.25"}) {
    Bench b(build(GetParam().narrow, 32));
    const double before = static_cast<double>(b.run.graph().macs());
    b.begin(R"(, "protect": 0.05, "normalize": "mean", "target": {"macs": )" + std::string(share) + "}");
    // Narrow networks have few positions, and each is a large part of a layer: 3 percent of what they cost.
    EXPECT_NEAR(static_cast<double>(b.run.graph().macs()) / before, std::stod(share), 0.03);
    const Batch batch = b.batch(3, 2);
    const auto loss = [&] { return b.run.loss(batch, nullptr); };
    b.run.weights().zero_gradients();
    const at::Tensor first = loss();
    first.backward();
    EXPECT_TRUE(std::isfinite(first.item<double>()));
    const c10::NoGradGuard no_grad;
    const Bank& bank = b.run.weights().bank(Role::weight);
    const at::Tensor gradient = bank.gradients.flat();
    const double norm = gradient.norm().item<double>();
    ASSERT_GT(norm, 0);
    at::Tensor(bank.values.flat()).sub_(gradient, 1e-3 / norm);
    EXPECT_LT(loss().item<double>(), first.item<double>());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Published, PruneBackbone,
    ::testing::Values(
        Published{"resnet_cifar", R"({"use": "resnet20"})", 32, 10, R"({"use": "resnet20", "widths": [8, 12, 16]})"},
        Published{"resnet", R"({"use": "resnet18"})", 224, 1000, R"({"use": "resnet18", "width": 0.25})"},
        Published{"vgg16", R"({"use": "vgg16"})", 32, 10, R"({"use": "vgg16", "width": 0.25, "hidden": 64})"},
        Published{"densenet", R"({"use": "densenet40"})", 32, 10, R"({"use": "densenet40", "growth": 4})"},
        Published{"resnext", R"({"use": "resnext29_8x64d"})", 32, 10,
                  R"({"use": "resnext29_8x64d", "cardinality": 2, "base_width": 4})"},
        Published{"mobilenet_v2", R"({"use": "mobilenet_v2"})", 224, 1000, R"({"use": "mobilenet_v2", "width": 0.25})"},
        Published{"swin", R"({"use": "swin_t"})", 224, 1000,
                  R"({"use": "swin_t", "dim": 24, "depths": [1, 1, 2, 1], "heads": [2, 2, 4, 4]})"},
        Published{"vit", R"({"use": "vit_tiny"})", 224, 1000, R"({"use": "vit_tiny", "dim": 48, "depth": 3})"},
        Published{"nasbench201",
                  R"({"use": "nasbench201", "cell": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|)"
                  R"(+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"})",
                  32, 10,
                  R"({"use": "nasbench201", "channels": 8, "cells": 1, "cell": "|nor_conv_3x3~0|)"
                  R"(+|nor_conv_3x3~0|nor_conv_3x3~1|)"
                  R"(+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"})"},
        Published{"resnet_cifar", R"({"use": "se_resnet20"})", 32, 10,
                  R"({"use": "se_resnet20", "widths": [8, 12, 16]})"}));

}  // namespace
}  // namespace espalier
