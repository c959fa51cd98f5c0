#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/foresight.h>
#include <espalier/operation.h>
#include <espalier/random_fill.h>
#include <espalier/testkit.h>

#include "scored_stage.h"

namespace espalier {
namespace {

using namespace sidt_testing;
using ::testing::HasSubstr;

std::unique_ptr<Controller> sidt(const std::string& options = "") {
  return controller_of("sidt", options);
}

struct SidtStage : Stage {
  explicit SidtStage(Graph graph, const std::string& options = "") : Stage(std::move(graph), "sidt", options) {}
};

// The sizes of all score vectors, by the kind of layer.
std::pair<int64_t, int64_t> scores_of(const Graph& graph) {
  int64_t attention = 0, mlp = 0;
  for (const Parameter& p : graph.parameters()) {
    if (p.kind != "gate") continue;
    (p.name.find("attn") != std::string::npos ? attention : mlp) += graph.numel(p.shape);
  }
  return {attention, mlp};
}

// 12 blocks of 32 dimensions, and the hidden units of 12 MLPs.
TEST(Sidt, SwinTHas18048Scores) {
  Graph graph = swin_t(100);
  EXPECT_EQ(graph.parameter_count(), 27'596'254);
  apply(graph, {}, sidt()->begin(graph));
  EXPECT_EQ(scores_of(graph), (std::pair<int64_t, int64_t>{384, 17'664}));
  EXPECT_EQ(graph.parameter_count(), 27'596'254 + 18'048);
  for (const Parameter& p : graph.parameters()) {
    if (p.kind == "gate") {
      EXPECT_EQ(p.role, Role::architecture) << p.name;
    }
  }
  // Once: a second stage finds the scores of the first one.
  EXPECT_TRUE(sidt()->begin(graph).empty());
}

// Of every attention and every MLP the same share stays. The multiply-accumulates were counted by hand, too, to 10
// million; they do not count norms, which are 0.2 % of them.
TEST(Sidt, UniformRatiosGiveTheSizesOfAHandCount) {
  struct Size {
    const char* ratio;
    int64_t params;  // with 100 classes
    double gmacs;
  };
  for (const Size& size : {Size{"0.2", 22'524'126, 3.65},
                           {"0.4", 17'179'712, 2.76},
                           {"0.6", 12'103'356, 1.92},
                           {"0.8", 6'758'942, 1.03}}) {
    for (const int64_t classes : {100, 20}) {
      Graph graph = swin_t(classes);
      const auto controller = sidt(R"("scope": "layer", "ratio": )" + std::string(size.ratio));
      apply(graph, {}, controller->begin(graph));
      apply(graph, {}, controller->expected_edits(graph));
      EXPECT_EQ(graph.parameter_count(), size.params - (100 - classes) * (768 + 1)) << size.ratio;
      EXPECT_NEAR(static_cast<double>(graph.macs()) / 1e9, size.gmacs, 0.01) << size.ratio;
    }
  }
}

TEST(Sidt, ScoresOfOneChangeNothing) {
  for (const char* mlp : {"before", "after"}) {
    for (const Graph& graph : {small_swin(), small_vit()}) {
      SidtStage s(graph, R"("ratio": 0, "fold": false, "mlp": ")" + std::string(mlp) + "\"");
      const at::Tensor scored = s.logits();
      Edits removals;
      for (const Node& n : s.run.graph().nodes()) {
        if (n.op->type() == "gate") removals.push_back({RemoveGate{n.name}});
      }
      // Three of each attention, one of each MLP.
      const auto blocks = std::ranges::count_if(s.run.graph().nodes(), [](const Node& n) {
        return n.op->type() == "attention" || n.op->type() == "window_attention";
      });
      EXPECT_EQ(std::ssize(removals), 4 * blocks);
      s.run.edit(removals);
      EXPECT_EQ(largest(s.logits() - scored), 0) << "a product with one is exact";
    }
  }
}

// By hand: a score multiplies its dimension of queries, keys and values in every head.
TEST(Sidt, AScoreMultipliesItsDimensionInAllHeads) {
  SidtStage s(small_vit(), R"("ratio": 0, "fold": false)"), by_hand(small_vit(), R"("ratio": 0, "fold": false)");
  const c10::NoGradGuard no_grad;
  const at::Tensor alpha = at::tensor({0.5, -2.0, 1.5, 0.25}, at::kDouble);
  s.scores("blocks.1.attn.heads.scores").copy_(alpha);
  for (const char* name : {"q", "k", "v"}) {
    for (const char* kind : {".weight", ".bias"}) {
      at::Tensor w = by_hand.run.weights()[by_hand.run.graph().parameter("blocks.1.attn." + std::string(name) + kind)];
      for (int64_t head = 0; head < 2; ++head) {
        for (int64_t d = 0; d < 4; ++d) w[head * 4 + d].mul_(alpha[d]);
      }
    }
  }
  // Rounding of products in another order.
  EXPECT_LE(largest(s.logits() - by_hand.logits()), 1e-12);
  EXPECT_GT(largest(s.logits() - SidtStage(small_vit(), R"("ratio": 0, "fold": false)").logits()), 1e-3);
}

// Zeros go without a trace, with the scale of the attention as it was; what is left is folded without a trace.
TEST(Sidt, DimensionsWithScoresOfZeroGoWithoutATrace) {
  for (const char* mlp : {"before", "after"}) {
    for (const Graph& graph : {small_swin(), small_vit()}) {
      // gelu(0) is 0, so a score before it may go, too.
      SidtStage s(graph, R"("ratio": 0.25, "mlp": ")" + std::string(mlp) + "\"");
      const c10::NoGradGuard no_grad;
      ASSERT_EQ(s.zero_a_quarter() % 4, 0);
      const at::Tensor before = s.logits();
      s.controller->stage_end(s.run);
      EXPECT_LE(largest(s.logits() - before), 1e-12 * std::max(1.0, largest(before)));
      EXPECT_FALSE(s.has_gates());
      const auto [attention, units] = scores_of(s.run.graph());
      EXPECT_EQ(attention + units, 0);
      for (const AxisInfo& a : s.run.graph().axes()) {
        if (a.name.ends_with("attn.q") || a.name.ends_with("attn.v")) {
          EXPECT_EQ(a.size, 3) << a.name;
        }
        if (a.name.ends_with("fc1")) {
          EXPECT_EQ(a.size % 12, 0) << a.name << ": three quarters of 16 or 32";
        }
      }
    }
  }
}

// The oracle sorts all numbers itself.
TEST(Sidt, TheSmallestOfAllScoresGo) {
  SidtStage s(small_swin(), R"("ratio": 0.3)");
  const c10::NoGradGuard no_grad;
  std::vector<double> all;
  std::map<std::string, std::vector<double>> by_layer;
  for (const Parameter& p : s.run.graph().parameters()) {
    if (p.kind != "gate") continue;
    at::Tensor a = s.run.weights()[s.run.graph().parameter(p.name)].detach();
    a.copy_(uniform(a.sizes().vec(), -1, 1, RandomKey(9).with(p.name)));
    for (int64_t i = 0; i < a.numel(); ++i) {
      all.push_back(std::abs(a[i].item<double>()));
      by_layer[p.name.substr(0, p.name.find(".scores"))].push_back(all.back());
    }
  }
  std::ranges::sort(all);
  const auto gone = static_cast<size_t>(0.3 * static_cast<double>(all.size()));
  s.controller->stage_end(s.run);
  const Value& kept = s.run.artefacts.at("test.kept").value;
  EXPECT_EQ(kept.size(), by_layer.size());
  for (const auto& [layer, values] : by_layer) {
    const auto stay = std::ranges::count_if(values, [&](double v) { return v >= all[gone]; });
    ASSERT_GE(stay, 1) << "or the test must allow for `keep`";
    EXPECT_NEAR(kept.at(layer).as_double(), static_cast<double>(stay) / static_cast<double>(values.size()), 1e-12)
        << layer;
  }
}

TEST(Sidt, KeepsSomeOfEachLayer) {
  SidtStage s(small_vit(), R"("ratio": 0.9, "keep": 2)");
  s.controller->stage_end(s.run);
  for (const AxisInfo& a : s.run.graph().axes()) {
    if (a.name.ends_with("attn.q") || a.name.ends_with("attn.v") || a.name.ends_with("fc1")) {
      EXPECT_GE(a.size, 2) << a.name;
    }
  }
}

// sqrt(d / d') on the queries is the scale of what is left: 1/sqrt(d') in place of 1/sqrt(d).
TEST(Sidt, RescalesByTheDimensionsThatAreLeft) {
  const std::string options = R"("ratio": 0.25, "scope": "layer", "mlp": "none")";
  SidtStage plain(small_vit(), options), rescaled(small_vit(), options + R"(, "rescale": true)");
  plain.controller->stage_end(plain.run);
  rescaled.controller->stage_end(rescaled.run);
  for (const char* name : {"blocks.0.attn.q.weight", "blocks.1.attn.q.bias"}) {
    const at::Tensor a = plain.run.weights()[plain.run.graph().parameter(name)],
                     b = rescaled.run.weights()[rescaled.run.graph().parameter(name)];
    EXPECT_LE(largest(b - a * std::sqrt(4.0 / 3.0)), 1e-14) << name;
  }
  const at::Tensor a = plain.run.weights()[plain.run.graph().parameter("blocks.0.attn.k.weight")],
                   b = rescaled.run.weights()[rescaled.run.graph().parameter("blocks.0.attn.k.weight")];
  EXPECT_EQ(largest(a - b), 0);
}

// By weights: of an MLP the rows of its first layer, of an attention those of queries, keys and values in all heads.
TEST(Sidt, RanksByMagnitudeToCompare) {
  SidtStage s(small_vit(), R"("ratio": 0.25, "scope": "layer", "rank": "magnitude", "mlp": "none")");
  EXPECT_FALSE(s.has_gates());
  const c10::NoGradGuard no_grad;
  for (const char* name : {"q", "k", "v"}) {
    at::Tensor w = s.run.weights()[s.run.graph().parameter("blocks.0.attn." + std::string(name) + ".weight")];
    for (const int64_t row : {2, 6}) w[row].mul_(0.01);
  }
  const at::Tensor before = s.run.weights()[s.run.graph().parameter("blocks.0.attn.v.weight")].detach().clone();
  s.controller->stage_end(s.run);
  const at::Tensor after = s.run.weights()[s.run.graph().parameter("blocks.0.attn.v.weight")];
  EXPECT_EQ(largest(after - before.index_select(0, at::tensor({0, 1, 3, 4, 5, 7}, at::kLong))), 0);
}

TEST(Sidt, SaysWhatIsWrong) {
  const auto message = [](const auto& body) -> std::string {
    try {
      body();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(message([] { sidt(R"("attention": false, "mlp": "none")"); }), HasSubstr("nothing to score"));
  EXPECT_THAT(message([] { sidt(R"("ratio": 0, "rank": "random")"); }), HasSubstr("nothing would happen"));
  EXPECT_THAT(message([] { sidt(R"("ratio": 1)"); }), HasSubstr("< 1"));
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblinear.so");
  const Graph linear = testkit::build(R"({"use": "linear"})", {1, 28, 28}, {10});
  EXPECT_THAT(message([&] { sidt()->begin(linear); }), HasSubstr("no attention and no MLP of a transformer"));
  // Scores that nothing would use any more, and those of another controller.
  Graph scored = small_vit();
  apply(scored, {}, sidt(R"("ratio": 0)")->begin(scored));
  EXPECT_THAT(message([&] { sidt(R"("rank": "random")")->begin(scored); }),
              HasSubstr("has scores of an earlier stage"));
  EXPECT_THAT(message([&] { controller_of("vtp")->begin(scored); }), HasSubstr("has scores of another controller"));
  const auto keeps = sidt(R"("keep": 100)");
  EXPECT_THAT(dynamic_cast<const Foresight&>(*keeps).idle(scored, 1).at(0), HasSubstr("nothing goes"));
  const auto says = sidt(R"("ratio": 0, "rescale": true)");
  EXPECT_THAT(dynamic_cast<const Foresight&>(*says).idle(linear, 1).at(0), HasSubstr("'rescale' is without effect"));
}

}  // namespace
}  // namespace espalier
