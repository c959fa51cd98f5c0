// Table 4.3 of paper 003: parameters and multiply-accumulates of attention, of attention in windows and of MLPs, before
// and after a share rho of their dimensions stays, as functions of the dimension d, the heads h, the tokens n and the
// side of a window M. The graph counts them; the formulas are the table's, with the terms of lower order that it leaves
// out (biases, tables of positions).
#include <string>

#include <gtest/gtest.h>

#include "scored_stage.h"

namespace espalier {
namespace {

using namespace sidt_testing;

struct Count {
  int64_t params = 0, macs = 0;
};

// Of the nodes whose names begin so.
Count count(const Graph& graph, const std::string& prefix) {
  Count c;
  for (const Node& n : graph.nodes()) {
    if (!n.name.starts_with(prefix)) continue;
    c.macs += graph.macs(n);
    for (const ParamId p : n.parameters) c.params += graph.numel(graph[p].shape);
  }
  return c;
}

// The network after a share of all dimensions went, of each layer alike.
Graph pruned(Graph graph, const std::string& ratio) {
  const auto controller = controller_of("sidt", R"("scope": "layer", "ratio": )" + ratio);
  apply(graph, {}, controller->begin(graph));
  apply(graph, {}, controller->expected_edits(graph));
  return graph;
}

struct Size {
  int64_t d, heads, side, window;  // of the map of tokens, and of a window
};
// Heads have dimensions whose quarters are whole.
const Size sizes[] = {{16, 2, 4, 2}, {16, 4, 4, 2}, {32, 2, 4, 4}, {32, 2, 8, 2}, {96, 3, 8, 4}};

std::string text(int64_t i) {
  return std::to_string(i);
}

TEST(Complexity, OfAttention) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvit.so");
  for (const Size& s : sizes) {
    const Graph whole = testkit::build(
        R"({"use": "vit_tiny", "patch": 1, "depth": 1, "dim": )" + text(s.d) + R"(, "heads": )" + text(s.heads) + "}",
        {3, s.side, s.side}, {10});
    const int64_t n = s.side * s.side + 1, d = s.d;  // with the class token
    for (const auto& [ratio, left] : {std::pair("0", 4), {"0.25", 3}, {"0.5", 2}, {"0.75", 1}}) {
      const Count c = count(left == 4 ? whole : pruned(whole, ratio), "blocks.0.attn.");
      EXPECT_EQ(c.macs, left * (4 * n * d * d + 2 * n * n * d) / 4) << ratio;
      EXPECT_EQ(c.params, left * (4 * d * d + 3 * d) / 4 + d) << ratio;
    }
  }
}

TEST(Complexity, OfAttentionInWindows) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libswin.so");
  for (const Size& s : sizes) {
    const Graph whole =
        testkit::build(R"({"use": "swin_t", "patch": 1, "depths": [1], "drop_path": 0, "dim": )" + text(s.d) +
                           R"(, "heads": [)" + text(s.heads) + R"(], "window": )" + text(s.window) + "}",
                       {3, s.side, s.side}, {10});
    const int64_t n = s.side * s.side, d = s.d, m = s.window;
    for (const auto& [ratio, left] : {std::pair("0", 4), {"0.25", 3}, {"0.5", 2}, {"0.75", 1}}) {
      const Count c = count(left == 4 ? whole : pruned(whole, ratio), "layers.0.blocks.0.attn.");
      EXPECT_EQ(c.macs, left * (4 * n * d * d + 2 * n * m * m * d) / 4) << ratio;
      EXPECT_EQ(c.params, left * (4 * d * d + 3 * d) / 4 + d + (2 * m - 1) * (2 * m - 1) * s.heads) << ratio;
    }
  }
}

TEST(Complexity, OfAnMlp) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvit.so");
  for (const int64_t ratio_of_hidden : {1, 2, 4}) {
    const Graph whole = testkit::build(R"({"use": "vit_tiny", "patch": 1, "depth": 1, "dim": 16, "heads": 2,
                                           "mlp_ratio": )" +
                                           text(ratio_of_hidden) + "}",
                                       {3, 4, 4}, {10});
    const int64_t n = 4 * 4 + 1, d = 16, hidden = ratio_of_hidden * d;
    for (const auto& [ratio, left] : {std::pair("0", 4), {"0.25", 3}, {"0.5", 2}, {"0.75", 1}}) {
      const Count c = count(left == 4 ? whole : pruned(whole, ratio), "blocks.0.mlp.");
      EXPECT_EQ(c.macs, left * 2 * n * d * hidden / 4) << ratio;
      EXPECT_EQ(c.params, left * (2 * d * hidden + hidden) / 4 + d) << ratio;
    }
  }
}

}  // namespace
}  // namespace espalier
