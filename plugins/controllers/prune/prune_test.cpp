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

#include "../../../tests/made_up_latencies.h"
#include "../../../tests/published_networks.h"
#include "../../../tests/temp_folder.h"

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

// The option `target` for a table of this network in a folder.
std::string by_table(const TempFolder& folder, const std::string& target, const LatencyTable& table) {
  const std::string file = folder.write("t.json", to_json(table.to_value())).string();
  return R"(, "target": {)" + target + R"(, "table": ")" + file + "\"}";
}

TEST(Prune, MeetsATimeThatATableGives) {
  const Graph whole = chain();
  const LatencyTable table = made_up_table(whole);
  // The network's time as it follows from its widths alone: those of conv1, conv2 and fc1 (see latency_test.cpp).
  const auto by_hand = [](double a, double b, double c) {
    return 0.001 * a + 0.02 * a + 0.001 * a * b + 0.02 * b + 0.001 * b * c + 0.01 * c + 0.001 * c;
  };
  const double before = by_hand(20, 24, 16);
  for (const char* scope : {"global", "layer", "block"}) {
    for (const double share : {0.5, 0.25}) {
      const TempFolder folder;
      Bench b;
      b.begin(by_table(folder, "\"latency\": " + std::to_string(share), table) + R"(, "protect": 0, "scope": ")" +
              scope + "\"");
      const auto width = [&](const char* name) { return static_cast<double>(b.width(name)); };
      // A position of so few is up to two percent of what stays.
      EXPECT_NEAR(by_hand(width("conv1"), width("conv2"), width("fc1")) / before, share, 0.02 * share) << scope;
      EXPECT_THAT(b.run.notes.front(), HasSubstr(" of 1.94 ms ("));
    }
  }
  const TempFolder folder;
  Bench b;
  b.begin(by_table(folder, R"("latency_ms": 0.9)", table));
  EXPECT_NEAR(table.ms(b.run.graph()), 0.9, 0.018) << "the number itself, though it is below 1";
}

TEST(Prune, SaysBeforeWhatTimeIsLeft) {
  const TempFolder folder;
  Bench b;
  const auto c = Bench::make(by_table(folder, R"("latency": 0.5)", made_up_table(chain())));
  const std::vector<std::string> lines = dynamic_cast<const Foresight&>(*c).finds(b.run.graph(), b.run.weights());
  EXPECT_THAT(lines, Contains(HasSubstr("t.json: ")));
  EXPECT_THAT(lines, Contains(HasSubstr(", 1 thread, float32, batch 1, 2026-01-02")));
  c->stage_begin(b.run);
  EXPECT_THAT(lines, Contains(b.run.notes.front()));
}

TEST(Prune, RefusesTablesThatDoNotFit) {
  const TempFolder folder;
  const auto says = [&](const std::string& options, const char* text) {
    std::string message;
    try {
      message = Bench().refusal(options);
    } catch (const Error& e) {
      message = e.what();
    }
    EXPECT_THAT(message, HasSubstr(text)) << options;
  };
  says(R"(, "target": {"latency": 0.5})", "`espalier latency RECIPE_OR_RUN --out FILE` makes one");
  says(R"(, "target": {"latency": 2, "table": "t"})", "'target.latency' must be a number > 0 and <= 1");
  says(R"(, "target": {"macs": 0.5, "table": "t"})", "'table' and 'any_device' belong to latency");
  says(R"(, "target": {"latency": 0.5, "latency_ms": 3, "table": "t"})", "'target' names more than one thing");
  says(R"(, "target": {"latency": 0.5, "table": "/none.json"})", "/none.json: there is no such table of latencies");
  const LatencyTable table = made_up_table(chain());
  says(by_table(folder, R"("latency": 0.001)", table), "'target' cannot be met: the target is 0.00194 ms");
  says(by_table(folder, R"("latency_ms": 5)", table), "the network has 1.94 ms, and the target is 5 ms: nothing");
  const LatencyTable elsewhere = made_up_table(chain(), simple_time, "Abacus 3000");
  says(by_table(folder, R"("latency": 0.5)", elsewhere), "was measured on 'Abacus 3000'");
  says(by_table(folder, R"("latency": 0.5)", elsewhere), "`any_device: true` beside 'table'");
  EXPECT_EQ(Bench().refusal(by_table(folder, R"("latency": 0.5, "any_device": true)", elsewhere)), "");
  GraphBuilder g({2, 8, 8});
  const Graph other = g.output(g.linear("fc", g.flatten(g.conv("c", g.input(), {.filters = 4})), {.features = 3}));
  says(by_table(folder, R"("latency": 0.5)", made_up_table(other)), "the table of latencies does not know 'conv1'");
}

TEST(Prune, GoesOnOnlyWithTheTableThatItBeganWith) {
  const TempFolder folder;
  const std::string options =
      by_table(folder, R"("latency": 0.4)", made_up_table(chain())) + R"(, "schedule": {"steps": 3}, "when": "epochs")";
  Bench whole, half;
  whole.stage(options, 3);
  const auto first = Bench::make(options), second = Bench::make(options);
  first->stage_begin(half.run);
  first->epoch_end(half.run);
  const Value saved = from_json(to_json(first->save()));
  second->resume(half.run, saved);
  for (int64_t e = 1; e < 3; ++e) half.run.at_epoch = e, second->epoch_end(half.run);
  second->stage_end(half.run);
  EXPECT_EQ(to_json(half.run.graph().to_value()), to_json(whole.run.graph().to_value()));
  by_table(folder, "", made_up_table(chain(), [](const std::string& type, const std::vector<double>& widths) {
             return 2 * simple_time(type, widths);
           }));
  try {
    Bench::make(options)->resume(half.run, saved);
    FAIL() << "the times have doubled";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("is another than the one that the stage began with"));
  }
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
  says(R"(, "target": {})",
       "'target' names nothing to reach; give one of macs, params, share, quantile, threshold, latency "
       "and latency_ms");
  says(R"(, "target": {"macs": 0.5, "params": 0.5})", "'target' names more than one thing");
  says(R"(, "target": {"mac": 0.5})", "'target' has no parameter 'mac' (did you mean 'macs'?)");
  says(R"(, "target": 0.5)", "'target' must be a map of the options macs, params, share, quantile, threshold, latency");
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

// What the stages behind it are checked with.
TEST(Prune, ForeseesWhatItTakesFromValuesThatAreKnown) {
  for (const char* options : {R"(, "target": {"macs": 0.4})", R"(, "target": {"share": 0.3}, "scope": "block")",
                              R"(, "target": {"params": 0.5}, "normalize": "mean", "score": "l1")"}) {
    Bench b;
    const auto c = Bench::make(options);
    const Foreseen f = dynamic_cast<const Foresight&>(*c).foresees(b.run.graph(), &b.run.weights());
    EXPECT_EQ(f.why_not, "");
    Graph expected = b.run.graph();
    apply(expected, {}, f.edits);
    c->stage_begin(b.run);
    EXPECT_EQ(to_json(expected.to_value()), to_json(b.run.graph().to_value())) << options;
  }
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet_cifar.so");
  Bench b(testkit::build(R"({"use": "resnet20", "widths": [4, 8, 16]})", {3, 32, 32}, {10}));
  const auto c = Bench::make(R"(, "what": "blocks", "target": {"share": 0.3})");
  Graph expected = b.run.graph();
  apply(expected, {}, dynamic_cast<const Foresight&>(*c).foresees(expected, &b.run.weights()).edits);
  c->stage_begin(b.run);
  EXPECT_EQ(to_json(expected.to_value()), to_json(b.run.graph().to_value()));
}

TEST(Prune, SaysWhyItForeseesNothing) {
  Bench b;
  const auto why = [&](const std::string& options, const Weights* values) {
    const Foreseen f = dynamic_cast<const Foresight&>(*Bench::make(options)).foresees(b.run.graph(), values);
    EXPECT_TRUE(f.edits.empty()) << options;
    return f.why_not;
  };
  const Weights* values = &b.run.weights();
  const std::string half = R"(, "target": {"macs": 0.5})";
  EXPECT_THAT(why(half, nullptr), HasSubstr("(50.00 %) are to stay; how much of each width goes is found in the run"));
  EXPECT_THAT(why(half, nullptr), HasSubstr("of values that the stages before it make"));
  EXPECT_THAT(why(half + R"(, "score": {"use": "taylor", "batches": 7})", values), HasSubstr("7 batches of training"));
  EXPECT_THAT(why(half + R"(, "score": "random")", values), HasSubstr("a score that draws at random"));
  EXPECT_THAT(why(half + R"(, "when": "end")", values), HasSubstr("the values that the stage ends with"));
  EXPECT_THAT(why(half + R"(, "schedule": {"steps": 3})", values), HasSubstr("at each step of 'schedule'"));
  EXPECT_THAT(why(R"(, "target": {"share": 0.3})", nullptr), HasSubstr("18 of 60 positions are to go"));
  EXPECT_EQ(why(half + R"(, "scope": "layer")", nullptr), "") << "expected_edits says it";
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

class PruneBackbone : public ::testing::TestWithParam<PublishedNetwork> {
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

INSTANTIATE_TEST_SUITE_P(Published, PruneBackbone, ::testing::ValuesIn(published_networks()));

}  // namespace
}  // namespace espalier
