#include <algorithm>

#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/selector.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph swin(const std::string& spec, int64_t size, int64_t classes) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libswin.so");
  return testkit::build(spec, {3, size, size}, {classes});
}

TEST(Swin, HasThePublishedCounts) {
  const Graph g = swin(R"({"use": "swin_t"})", 224, 1000);
  EXPECT_EQ(g.parameter_count(), 28'288'354);
  // The reference's 4,494,405,120 count the elements of its layer norms too, one each, but those of the last one, on 7
  // x 7 tokens, four times.
  int64_t norms = 0;
  for (const Node& n : g.nodes()) norms += n.op->type() == "layer_norm" ? g.numel(g[n.outputs[0]].shape) : 0;
  EXPECT_EQ(g.macs(), 4'490'566'656);
  EXPECT_EQ(g.macs() + norms + 3 * 7 * 7 * 768, 4'494'405'120);
  EXPECT_EQ(swin(R"({"use": "swin_t"})", 224, 100).parameter_count(), 27'596'254);
  EXPECT_EQ(swin(R"({"use": "swin_t"})", 224, 20).parameter_count(), 27'534'734);
}

TEST(Swin, HeadDimensionsAreSharedByQueriesKeysAndValues) {
  const Graph g = swin(R"({"use": "swin_t"})", 224, 1000);
  const Axis dim = g.axis("layers.2.blocks.3.attn.q");
  const Axis heads = g.axis("layers.2.blocks.3.attn.q.heads");
  EXPECT_EQ(g[dim].size, 32);
  EXPECT_EQ(g[heads].size, 12);
  for (const char* n : {"q", "k", "v"}) {
    const Parameter& w = g[g.parameter(std::string("layers.2.blocks.3.attn.") + n + ".weight")];
    EXPECT_TRUE(w.shape[0].reads(dim) && w.shape[0].reads(heads)) << n;
  }
  EXPECT_TRUE(g[g.parameter("layers.2.blocks.3.attn.proj.weight")].shape[1].reads(dim));
  // All head dimensions and hidden widths: SiDT's 384 + 17,664 scores.
  int64_t scores = 0, hidden = 0;
  for (const AxisInfo& a : g.axes()) {
    if (a.name.ends_with(".attn.q")) scores += a.size;
    if (a.name.ends_with(".mlp.fc1")) hidden += a.size;
  }
  EXPECT_EQ(scores, 384);
  EXPECT_EQ(hidden, 17'664);
}

TEST(Swin, TakesMapsThatAreNoMultiplesOfTheWindow) {
  const Graph g = swin(R"({"use": "swin_t", "dim": 12, "depths": [2, 2], "heads": [2, 3], "window": 3})", 28, 10);
  EXPECT_EQ(g.sizes(g[g.node("layers.0.blocks.1.attn.windows").inputs[0]].shape), (Indices{9, 9, 12}));
  EXPECT_EQ(g.sizes(g[g.node("layers.0.blocks.1.attn.windows").outputs[0]].shape), (Indices{7, 7, 12}));
  EXPECT_EQ(g.node("layers.0.blocks.1.attn.windows").op->options().at("shift"), Value(1));
  // torchvision's windows stay as large, and its table of positions, too.
  const Graph fixed =
      swin(R"({"use": "swin_t", "dim": 12, "depths": [2], "heads": [2], "fixed_window": true})", 16, 10);
  EXPECT_EQ(fixed.sizes(fixed[fixed.node("layers.0.blocks.1.attn.windows").inputs[0]].shape), (Indices{7, 7, 12}));
  EXPECT_EQ(fixed.sizes(fixed[fixed.parameter("layers.0.blocks.1.attn.windows.relative_position_bias")].shape),
            (Indices{169, 2}));
  // One window: there is nothing to shift.
  const Graph one = swin(R"({"use": "swin_t", "dim": 12, "depths": [2], "heads": [2]})", 16, 10);
  EXPECT_EQ(one.node("layers.0.blocks.1.attn.windows").op->options().at("shift"), Value(0));
  EXPECT_THROW(swin(R"({"use": "swin_t", "heads": [2, 3, 5, 24]})", 224, 10), Error);
}

// The authors' program decays neither tensors of one dimension (biases, norms) nor the tables of positions.
TEST(Swin, WhatItsAuthorsDecayAreTheWeights) {
  const Graph g = swin(R"({"use": "swin_t"})", 224, 1000);
  const std::vector<ParamId> weights = Selector("weights").match(g);
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const Parameter& p = g.parameters()[i];
    const bool decayed = std::ranges::find(weights, ParamId{static_cast<int32_t>(i)}) != weights.end();
    EXPECT_EQ(decayed, p.shape.size() > 1 && !p.name.ends_with("relative_position_bias")) << p.name;
  }
}

}  // namespace
}  // namespace espalier
