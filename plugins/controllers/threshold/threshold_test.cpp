#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

// Filters of norms 1, 2, 3, 4; units of norms 10, 20, 30.
struct Bench {
  testkit::TestRun run;

  Bench() : run(network(), 1) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libthreshold.so");
    const c10::NoGradGuard no_grad;
    set("conv.weight", 1);
    set("fc1.weight", 10);
  }
  static Graph network() {
    GraphBuilder g({1, 6, 6});
    const Edge x = g.relu(g.conv("conv", g.input(), {.filters = 4, .kernel = 3}));
    return g.output(g.linear("fc2", g.relu(g.linear("fc1", g.flatten(x), {.features = 3})), {.features = 2}));
  }
  void set(const char* name, double first) {
    const at::Tensor w = run.weights()[run.graph().parameter(name)].detach();
    for (int64_t k = 0; k < w.size(0); ++k) w[k].mul_(first * static_cast<double>(k + 1) / w[k].norm().item<double>());
  }
  int64_t width(const char* axis) const { return run.graph()[run.graph().axis(axis)].size; }
  static std::unique_ptr<Controller> make(const char* spec) {
    return Registry::instance().create<Controller>(from_json(spec));
  }
};

TEST(Threshold, RemovesNormsUpToTauAtTheEndOfTheStage) {
  Bench b;
  const auto c = Bench::make(R"({"use": "threshold", "tau": 2.5})");
  c->stage_begin(b.run);
  c->epoch_end(b.run);
  EXPECT_EQ(b.width("conv"), 4);
  c->stage_end(b.run);
  EXPECT_EQ(b.width("conv"), 2);
  EXPECT_EQ(b.width("fc1"), 3);
  EXPECT_NEAR(b.run.weights()[b.run.graph().parameter("conv.weight")].detach()[0].norm().item<double>(), 3, 1e-12)
      << "the larger ones stay";
}

TEST(Threshold, CountsANormThatEqualsTau) {
  Bench b;
  const c10::NoGradGuard no_grad;
  at::Tensor w = b.run.weights()[b.run.graph().parameter("conv.weight")].detach();
  w[0].zero_();
  w[0][0][0][0] = 0.5;
  Bench::make(R"({"use": "threshold", "tau": 0.5})")->stage_end(b.run);
  EXPECT_EQ(b.width("conv"), 3);
}

TEST(Threshold, TakesATauForEachSelector) {
  Bench b;
  Bench::make(R"({"use": "threshold", "tau": {"conv": 1.5, "fc1": 25}})")->stage_end(b.run);
  EXPECT_EQ(b.width("conv"), 3);
  EXPECT_EQ(b.width("fc1"), 1);
}

TEST(Threshold, LeavesTheLargestOfALayerThatWouldVanish) {
  Bench b;
  Bench::make(R"({"use": "threshold", "tau": 1000, "min_filters": 2})")->stage_end(b.run);
  EXPECT_EQ(b.width("conv"), 2);
  EXPECT_EQ(b.width("fc1"), 2);
}

TEST(Threshold, WorksOnItsSelectionAndEveryFewEpochs) {
  Bench b;
  b.run.of_epochs = 5;
  const auto c = Bench::make(R"({"use": "threshold", "tau": 15, "on": "fc1", "every": 2})");
  c->stage_begin(b.run);
  b.run.at_epoch = 0;
  c->epoch_end(b.run);
  EXPECT_EQ(b.width("fc1"), 3);
  b.run.at_epoch = 1;
  c->epoch_end(b.run);
  EXPECT_EQ(b.width("fc1"), 2);
  EXPECT_EQ(b.width("conv"), 4);
}

TEST(Threshold, RefusesASelectorThatMatchesNothingOrNoFilters) {
  for (const auto& [spec, why] :
       std::vector<std::pair<const char*, const char*>>{{R"("on": "conv7")", "'conv7' matches no parameter"},
                                                        {R"("on": "conv.bias")", "`on` names 'conv.bias'"},
                                                        {R"("on": ["conv", "*.bias"])", "`on` names '*.bias'"},
                                                        {R"("tau": {"biases": 1})", "`tau` names 'biases'"}}) {
    Bench b;
    try {
      Bench::make((R"({"use": "threshold", )" + std::string(spec) + "}").c_str())->stage_begin(b.run);
      ADD_FAILURE() << spec;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
    }
  }
}

TEST(Threshold, SaysWhatTheNormsAreWhereNoneIsUpToTau) {
  for (const auto& [tau, said] : std::vector<std::pair<const char*, size_t>>{{"0.5", 1}, {"1.5", 0}, {"30.001", 1}}) {
    Bench b;
    const auto c = Bench::make((R"({"use": "threshold", "tau": )" + std::string(tau) + "}").c_str());
    c->stage_begin(b.run);
    c->stage_end(b.run);
    ASSERT_EQ(b.run.notes.size(), said) << tau;
    // Of 1, 2, 3, 4, 10, 20, 30.
    if (tau == std::string("30.001")) {
      EXPECT_NE(b.run.notes[0].find("only what `min_filters` keeps is left"), std::string::npos) << b.run.notes[0];
    } else if (said == 1) {
      EXPECT_NE(b.run.notes[0].find("smallest of them is 1, the median 4, the largest 30"), std::string::npos)
          << b.run.notes[0];
    }
  }
}

// Two groups of four filters, of norms 1, 2, 3, 4 and 5, 6, 7, 8: equally in both, or one of them whole.
TEST(Threshold, TakesFiltersFromAllGroupsOrWholeGroups) {
  for (const bool whole : {false, true}) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libthreshold.so");
    GraphBuilder g({2, 6, 6});
    const Edge x = g.relu(g.conv("first", g.input(), {.filters = 4, .kernel = 1}));
    const Edge y = g.conv("conv", x, {.filters = 8, .kernel = 3, .groups = 2});
    testkit::TestRun run(g.output(g.linear("fc", g.flatten(y), {.features = 2})), 1);
    const c10::NoGradGuard no_grad;
    run.weights()[run.graph().parameter("first.weight")].detach().zero_();
    const at::Tensor w = run.weights()[run.graph().parameter("conv.weight")].detach();
    for (int64_t k = 0; k < 8; ++k) w[k].mul_(static_cast<double>(k + 1) / w[k].norm().item<double>());
    const auto width = [&](const char* axis) { return run.graph()[run.graph().axis(axis)].size; };
    // Together the filters have the norms sqrt(1 + 25), sqrt(4 + 36), ...; the groups sqrt(30) and sqrt(174).
    const auto c = Bench::make(whole ? R"({"use": "threshold", "tau": 6, "on": "conv", "of_groups": "whole"})"
                                     : R"({"use": "threshold", "tau": 6, "on": "conv"})");
    c->stage_begin(run);
    c->stage_end(run);
    EXPECT_EQ(width("conv.groups"), whole ? 1 : 2);
    EXPECT_EQ(width("conv"), whole ? 4 : 3);
    EXPECT_EQ(run.weights()[run.graph().parameter("conv.weight")].detach().size(0), whole ? 4 : 6);
    EXPECT_NEAR(run.weights()[run.graph().parameter("conv.weight")].detach()[0].norm().item<double>(), whole ? 5 : 2,
                1e-12);
    EXPECT_EQ(run.weights()[run.graph().parameter("first.weight")].detach().size(0), whole ? 2 : 4);
  }
}

}  // namespace
}  // namespace espalier
