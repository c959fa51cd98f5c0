#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/random_fill.h>

#include "scored_stage.h"

namespace espalier {
namespace {

using namespace sidt_testing;
using ::testing::HasSubstr;

struct VtpStage : Stage {
  explicit VtpStage(Graph graph, const std::string& options = "") : Stage(std::move(graph), "vtp", options) {}
};

// Of each of 12 blocks: what queries, keys and values read, what the projection and the first layer of the MLP read,
// 192 features each, and 768 hidden units.
TEST(Vtp, ScoresWhatEachLinearLayerReads) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvit.so");
  Graph graph = testkit::build(R"({"use": "vit_tiny"})", {3, 224, 224}, {1000});
  const int64_t before = graph.parameter_count();
  apply(graph, {}, controller_of("vtp")->begin(graph));
  EXPECT_EQ(graph.parameter_count(), before + 12 * (3 * 192 + 768));
  EXPECT_TRUE(controller_of("vtp")->begin(graph).empty()) << "a second stage finds the scores of the first one";
}

TEST(Vtp, ScoresOfOneChangeNothing) {
  for (const Graph& graph : {small_swin(), small_vit()}) {
    VtpStage s(graph, R"("ratio": 0)");
    const at::Tensor scored = s.logits();
    Edits removals;
    int64_t blocks = 0;
    for (const Node& n : s.run.graph().nodes()) {
      if (n.op->type() == "gate") removals.push_back({RemoveGate{n.name}});
      blocks += n.op->type() == "attention" || n.op->type() == "window_attention";
    }
    // Three for queries, keys and values, and one for each of the other layers.
    EXPECT_EQ(std::ssize(removals), 6 * blocks);
    s.run.edit(removals);
    EXPECT_EQ(largest(s.logits() - scored), 0) << "a product with one is exact";
  }
}

// By hand: a score multiplies a column of all layers that read the feature.
TEST(Vtp, AScoreMultipliesAFeatureForItsLayers) {
  const std::map<std::string, std::vector<std::string>> layers{{"attn.q", {"attn.q", "attn.k", "attn.v"}},
                                                               {"attn.proj", {"attn.proj"}},
                                                               {"mlp.fc1", {"mlp.fc1"}},
                                                               {"mlp.fc2", {"mlp.fc2"}}};
  const c10::NoGradGuard no_grad;
  for (const auto& [name, readers] : layers) {
    VtpStage s(small_vit(), R"("ratio": 0)"), by_hand(small_vit(), R"("ratio": 0)");
    at::Tensor scores = s.scores("blocks.1." + name + ".scores");
    scores.copy_(uniform(scores.sizes().vec(), -2, 2, RandomKey(4)));
    for (const std::string& reader : readers) {
      at::Tensor w = by_hand.run.weights()[by_hand.run.graph().parameter("blocks.1." + reader + ".weight")];
      w.mul_(scores);
    }
    // Rounding of products in another order.
    EXPECT_LE(largest(s.logits() - by_hand.logits()), 1e-12) << name;
    EXPECT_GT(largest(s.logits() - VtpStage(small_vit(), R"("ratio": 0)").logits()), 1e-3) << name;
  }
}

TEST(Vtp, FeaturesWithScoresOfZeroGoWithoutATrace) {
  for (const Graph& graph : {small_swin(), small_vit()}) {
    VtpStage s(graph, R"("ratio": 0.25)");
    ASSERT_EQ(s.zero_a_quarter() % 4, 0);
    const at::Tensor before = s.logits();
    s.controller->stage_end(s.run);
    EXPECT_LE(largest(s.logits() - before), 1e-12 * std::max(1.0, largest(before)));
    EXPECT_FALSE(s.has_gates());
    for (const Node& n : s.run.graph().nodes()) {
      const auto columns = [&](const Graph& g, const std::string& layer) {
        return g.size(g[g.parameter(layer + ".weight")].shape[1]);
      };
      const bool scored = n.op->type() == "linear" && n.name.find("blocks.") != std::string::npos;
      if (!scored) continue;
      EXPECT_EQ(4 * columns(s.run.graph(), n.name), 3 * columns(graph, n.name)) << n.name;
      // The residual stream and what makes queries, keys and values stay; hidden units go with what makes them.
      const int64_t rows = s.run.graph().size(s.run.graph()[s.run.graph().parameter(n.name + ".weight")].shape[0]);
      const int64_t had = graph.size(graph[graph.parameter(n.name + ".weight")].shape[0]);
      EXPECT_EQ(rows, n.name.ends_with("fc1") ? 3 * had / 4 : had) << n.name;
    }
  }
}

// A share rho of all features stays. Of queries, keys and values rho d of d columns; the hidden units go twice.
TEST(Vtp, UniformRatiosGiveTheSizesOfAHandCount) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvit.so");
  const int64_t d = 192, hidden = 768;
  for (const auto& [ratio, left] :
       std::map<std::string, std::pair<int64_t, int64_t>>{{"0.25", {144, 576}}, {"0.5", {96, 384}}}) {
    Graph graph = testkit::build(R"({"use": "vit_tiny"})", {3, 224, 224}, {1000});
    const int64_t before = graph.parameter_count();
    const auto controller = controller_of("vtp", R"("scope": "layer", "ratio": )" + ratio);
    apply(graph, {}, controller->begin(graph));
    apply(graph, {}, controller->expected_edits(graph));
    const auto [features, units] = left;
    const int64_t block = 4 * (features * d + d) + (features * units + units) + (units * d + d);
    const int64_t whole = 4 * (d * d + d) + (d * hidden + hidden) + (hidden * d + d);
    EXPECT_EQ(graph.parameter_count(), before - 12 * (whole - block)) << ratio;
  }
}

TEST(Vtp, SaysWhatIsWrong) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblinear.so");
  const Graph linear = testkit::build(R"({"use": "linear"})", {1, 28, 28}, {10});
  try {
    controller_of("vtp")->begin(linear);
    ADD_FAILURE() << "a network without layers of a transformer was taken";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("no attention and no MLP of a transformer"));
  }
  EXPECT_THAT([] { controller_of("vtp", R"("ratio": 1)"); }, ::testing::ThrowsMessage<Error>(HasSubstr("< 1")));
}

}  // namespace
}  // namespace espalier
