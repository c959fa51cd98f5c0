#include <algorithm>

#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph made(const std::string& name, const std::string& options = "", const InputSpec& input = {3, 32, 32},
           int64_t classes = 10) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libkernelnet.so");
  return testkit::build(R"({"use": "kernelnet_)" + name + "\"" + options + "}", input, {classes});
}
Graph imagenet(const std::string& name, const std::string& options = "") {
  return made(name, options, {3, 224, 224}, 1000);
}
int64_t sums(const Graph& g) {
  return std::ranges::count_if(g.nodes(), [](const Node& n) { return n.op->type() == "add"; });
}

// With 19 convolutions of 3x3 it is ResNet-20 of He et al. 2016, and with 17 for ImageNet ResNet-18, of which the
// counts are published (torchvision's, with shortcuts of option B).
TEST(Kernelnet, HasThePublishedCounts) {
  for (const char* residual : {"true", "false"}) {
    const Graph g = made("cifar19", std::string(R"(, "residual": )") + residual);
    EXPECT_EQ(g.parameter_count(), 269'722);
    EXPECT_EQ(g.macs(), 40'551'040);
  }
  const Graph resnet18 = imagenet("imagenet17", R"(, "shortcut": "B")");
  EXPECT_EQ(resnet18.parameter_count(), 11'689'512);
  EXPECT_EQ(resnet18.macs(), 1'814'073'344);
  // Option A has no convolutions of 1x1: 64 to 128, 128 to 256 and 256 to 512 less, with their batch norms.
  EXPECT_EQ(imagenet("imagenet17").parameter_count(), 11'689'512 - 172'032 - 2 * 896);
}

// By hand, from table 2.
TEST(Kernelnet, HasTheCountsOfTable2) {
  const Graph seven = imagenet("imagenet7", R"(, "residual": false)");
  const int64_t kernels = 64 * 3 * 49 + 2 * 64 * 64 * 9 + 128 * 64 * 9 + 128 * 128 * 9 + 256 * 128 * 9 + 256 * 256 * 9;
  EXPECT_EQ(seven.parameter_count(), kernels + 2 * (3 * 64 + 2 * 128 + 2 * 256) + 257 * 1000);
  EXPECT_EQ(seven.macs(), int64_t{64} * 3 * 49 * 112 * 112 + int64_t{2} * 64 * 64 * 9 * 56 * 56 +
                              int64_t{128} * (64 + 128) * 9 * 28 * 28 + int64_t{256} * (128 + 256) * 9 * 14 * 14 +
                              256 * 1000);
  EXPECT_EQ(imagenet("imagenet7").parameter_count(), seven.parameter_count());
  EXPECT_EQ(sums(imagenet("imagenet7")), 3);
  EXPECT_EQ(sums(seven), 0);

  const Graph five = made("cifar18x5");
  const int64_t layer = 64 * 64 * 25;
  EXPECT_EQ(five.parameter_count(), 64 * 3 * 25 + 17 * layer + 18 * 128 + 650);
  EXPECT_EQ(five.macs(), 1024 * (64 * 3 * 25 + 6 * layer) + 256 * 6 * layer + 64 * 5 * layer + 640);
  // 18 are the first, eight pairs and one more; the nineteenth of D = 20 makes it a pair (001-X5).
  EXPECT_EQ(sums(five), 8);
  EXPECT_EQ(sums(made("cifar18x5", R"(, "layers": 19)")), 9);
  EXPECT_EQ(made("cifar18x5", R"(, "halve_at": [])").macs(), 1024 * (64 * 3 * 25 + 17 * layer) + 640);
}

TEST(Kernelnet, TakesWidthsSizesAndLayers) {
  const Graph g = made("cifar18x5", R"(, "width": 0.125, "kernel": 3, "layers": 5, "halve_at": [2, 4])", {1, 28, 28});
  EXPECT_EQ(g.parameter_count(), 8 * 9 + 4 * 8 * 8 * 9 + 5 * 16 + 90);
  EXPECT_EQ(g.macs(), 8 * 9 * 784 + 576 * (2 * 196 + 2 * 49) + 80);
  EXPECT_EQ(made("cifar19", R"(, "batch_norm": false)").parameter_count(),
            269'722 - 2 * (7 * 16 + 6 * 96) + 7 * 16 + 6 * 96);
  EXPECT_TRUE(g[g.parameter("block2.conv2.weight")].shape[0].reads(g.axis("block2.conv2")));
  EXPECT_THROW(made("cifar19", R"(, "kernel": 4)"), Error);
  EXPECT_THROW(made("cifar19", R"(, "halve_at": [20])"), Error);
}

}  // namespace
}  // namespace espalier
