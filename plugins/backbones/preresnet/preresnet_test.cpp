#include <gtest/gtest.h>

#include <espalier/operation.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph preresnet(const std::string& spec, int64_t classes = 10) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libpreresnet.so");
  return testkit::build(spec, {3, 32, 32}, {classes});
}

TEST(PreResnet, HasThePublishedCounts) {
  const Graph g = preresnet(R"({"use": "preresnet164"})");
  EXPECT_EQ(g.parameter_count(), 1'703'258);
  EXPECT_EQ(g.macs(), 247'646'720);
  int64_t scales = 0;
  for (const Parameter& p : g.parameters()) scales += p.kind == "norm_weight" ? g.numel(p.shape) : 0;
  EXPECT_EQ(scales, 12'112);  // over which network slimming sets one threshold
  EXPECT_EQ(preresnet(R"({"use": "preresnet164"})", 100).parameter_count(), 1'726'388);
}

TEST(PreResnet, SelectsTheInputsOfEachBlockAlone) {
  const Graph g = preresnet(R"({"use": "preresnet56", "select": true})");
  const Axis stream = g.axis("layer2.0.conv3");
  EXPECT_TRUE(g[g.parameter("layer2.3.bn1.weight")].shape[0].reads(stream));
  EXPECT_TRUE(g[g.parameter("layer2.3.conv1.weight")].shape[1].reads(g.axis("layer2.3.select")));
  EXPECT_FALSE(g[g.parameter("layer2.3.conv1.weight")].shape[1].reads(stream));
  // The views lose what the stream loses.
  const Node& view = g.node("layer2.3.select");
  Indices keep;
  for (int64_t i = 0; i < 128; ++i) {
    if (i != 5) keep.push_back(i);
  }
  const auto entailed = view.op->entail(g, view, {{stream, keep}});
  ASSERT_EQ(entailed.size(), 1U);
  EXPECT_EQ(entailed[0].axis, g.axis("layer2.3.select"));
  EXPECT_EQ(entailed[0].from, keep);
  // A view that shrinks leaves the stream as it is.
  EXPECT_TRUE(view.op->entail(g, view, {{entailed[0].axis, keep}}).empty());
}

}  // namespace
}  // namespace espalier
