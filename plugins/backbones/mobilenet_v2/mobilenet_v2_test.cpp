#include <gtest/gtest.h>

#include <espalier/operation.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(MobilenetV2, HasThePublishedCounts) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libmobilenet_v2.so");
  const Graph g = testkit::build(R"({"use": "mobilenet_v2"})", {3, 224, 224}, {1000});
  EXPECT_EQ(g.parameter_count(), 3'504'872);  // torchvision's
  EXPECT_EQ(g.macs(), 300'774'272);
  EXPECT_EQ(testkit::build(R"({"use": "mobilenet_v2"})", {3, 224, 224}, {20}).parameter_count(),
            3'504'872 - 980 * 1281);
}

TEST(MobilenetV2, DepthwiseConvolutionsShareTheExpandedAxis) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libmobilenet_v2.so");
  const Graph g = testkit::build(R"({"use": "mobilenet_v2", "width": 0.5, "stem": "cifar"})", {3, 32, 32}, {10});
  const Axis expanded = g.axis("blocks.3.expand");
  EXPECT_EQ(g.producers(expanded).size(), 2U);
  EXPECT_TRUE(g[g.parameter("blocks.3.depthwise.weight")].shape[0].reads(expanded));
  EXPECT_TRUE(g[g.parameter("blocks.3.project.weight")].shape[1].reads(expanded));
}

// TensorFlow's files: one more row and column of zeros behind where a stride needs an odd number, and another epsilon.
TEST(MobilenetV2, TakesTheArithmeticOfTensorFlow) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libmobilenet_v2.so");
  const Graph usual = testkit::build(R"({"use": "mobilenet_v2", "width": 0.25})", {3, 64, 64}, {10});
  const Graph g = testkit::build(
      R"({"use": "mobilenet_v2", "width": 0.25, "padding": "same", "norm_eps": 0.001, "activation": "relu"})",
      {3, 64, 64}, {10});
  EXPECT_EQ(g.parameter_count(), usual.parameter_count());
  EXPECT_EQ(g.macs(), usual.macs()) << "as many outputs";
  int strided = 0, padded = 0;
  for (const Node& n : g.nodes()) {
    EXPECT_NE(n.op->type(), "relu6");
    if (n.op->type() == "batch_norm") {
      EXPECT_EQ(n.op->options().at("eps").as_double(), 0.001) << n.name;
    }
    if (n.op->type() == "zero_pad") ++padded;
    if (n.op->type() == "conv2d" && n.op->options().at("stride").as_int() == 2) {
      ++strided;
      EXPECT_EQ(n.op->options().at("padding").as_int(), 0) << n.name << ": even sizes, so the zeros are behind";
      EXPECT_EQ(g.nodes()[static_cast<size_t>(g[n.inputs[0]].producer)].op->type(), "zero_pad");
    }
  }
  EXPECT_EQ(strided, 5);
  EXPECT_EQ(padded, 5);
}

}  // namespace
}  // namespace espalier
