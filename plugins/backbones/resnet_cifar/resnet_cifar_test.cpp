#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph cifar(const std::string& spec, int64_t classes = 10) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet_cifar.so");
  return testkit::build(spec, {3, 32, 32}, {classes});
}

// Without shortcuts' parameters, of three stages of n blocks with widths 16k, 32k, 64k.
int64_t parameters(int64_t n, int64_t k, int64_t classes = 10) {
  int64_t total = 3 * 16 * k * 9 + 2 * 16 * k + 64 * k * classes + classes;
  int64_t before = 16 * k;
  for (const int64_t w : {16 * k, 32 * k, 64 * k}) {
    total += 9 * before * w + (2 * n - 1) * 9 * w * w + 2 * n * 2 * w;
    before = w;
  }
  return total;
}

TEST(ResnetCifar, HasThePublishedCounts) {
  EXPECT_EQ(cifar(R"({"use": "resnet20"})").parameter_count(), 269'722);
  EXPECT_EQ(cifar(R"({"use": "resnet20"})").macs(), 40'551'040);
  // Paper 000, table 1: ResNet-32 with 3, 4 and 5 times the width, and BASE networks of n-n-n blocks (table 3).
  struct Wide {
    int width;
    int64_t parameters;
    double macs;
  };
  for (const Wide& w : {Wide{3, 4'157'242, 0.617e9}, Wide{4, 7'386'186, 1.0965e9}, Wide{5, 11'536'730, 1.7127e9}}) {
    const Graph wide = cifar(R"({"use": "resnet32", "width": )" + std::to_string(w.width) + "}");
    EXPECT_EQ(wide.parameter_count(), w.parameters);
    EXPECT_NEAR(static_cast<double>(wide.macs()), w.macs, 0.0005e9);
  }
  const Graph g = cifar(R"({"use": "resnet20", "blocks": [42, 42, 42]})");
  EXPECT_EQ(g.parameter_count(), 4'061'146);
  EXPECT_EQ(g.macs(), 592'626'304);
  const Graph h = cifar(R"({"use": "resnet20", "blocks": [54, 53, 53]})", 100);
  EXPECT_EQ(h.parameter_count(), 5'141'044);
  EXPECT_EQ(h.macs(), 753'064'192);
  for (const auto& [name, n] :
       std::vector<std::pair<std::string, int64_t>>{{"resnet44", 7}, {"resnet56", 9}, {"resnet110", 18}})
    EXPECT_EQ(cifar(R"({"use": ")" + name + R"("})").parameter_count(), parameters(n, 1)) << name;
}

// Hu et al. 2018, eq. (5): 2 / r times the sum of C^2 over all blocks.
TEST(ResnetCifar, SqueezeAndExcitationAddsItsTwoLayers) {
  const int64_t squares = 3 * (16 * 16 + 32 * 32 + 64 * 64);
  const Graph g = cifar(R"({"use": "se_resnet20"})");
  EXPECT_EQ(g.parameter_count(), 269'722 + 2 * squares / 16);
  EXPECT_EQ(g.macs(), 40'551'040 + 2 * squares / 16);
  EXPECT_EQ(cifar(R"({"use": "resnet56", "reduction": 4})").parameter_count(), parameters(9, 1) + 2 * 3 * squares / 4);
}

TEST(ResnetCifar, OptionBAddsConvolutionsAndThePlainNetworkNothing) {
  const int64_t b = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64;
  EXPECT_EQ(cifar(R"({"use": "resnet20", "shortcut": "B"})").parameter_count(), 269'722 + b);
  const Graph plain = cifar(R"({"use": "resnet20", "shortcut": "none"})");
  EXPECT_EQ(plain.parameter_count(), 269'722);
  for (const Node& n : plain.nodes()) EXPECT_NE(n.op->type(), "add") << n.name;
}

TEST(ResnetCifar, TheResidualStreamIsOneAxisAStage) {
  const Graph g = cifar(R"({"use": "resnet20"})");
  EXPECT_TRUE(g[g.parameter("layer1.2.conv2.weight")].shape[0].reads(g.axis("conv1")));
  EXPECT_TRUE(g[g.parameter("layer2.2.conv2.weight")].shape[0].reads(g.axis("layer2.0.conv2")));
  EXPECT_TRUE(g[g.parameter("layer2.1.conv2.weight")].shape[1].reads(g.axis("layer2.1.conv1")));
  const Graph own = cifar(R"({"use": "resnet20", "own_widths": true})");
  EXPECT_EQ(own.parameter_count(), 269'722);
  EXPECT_TRUE(own[own.parameter("layer1.2.conv2.weight")].shape[0].reads(own.axis("layer1.2.conv2")));
}

TEST(ResnetCifar, TakesWidthsOfStagesAndOfBlocks) {
  const Graph g = cifar(R"({"use": "resnet20", "widths": [4, 6, 5], "inner": [1, 2, 3, 4, 5, 6, 7, 8, 9], "stem": 7})");
  EXPECT_EQ(g[g.axis("conv1")].size, 7);
  EXPECT_EQ(g[g.axis("layer2.1.conv1")].size, 5);
  // Cropped: 6 to 5 leaves the last one out (the smaller half, none, at the front).
  EXPECT_EQ(g.node("layer3.0.shortcut1").op->options().at("index"), Value(Indices{0, 1, 2, 3, 4}));
  EXPECT_EQ(g.node("layer1.0.shortcut1").op->options().at("index"), Value(Indices{1, 2, 3, 4}));
  EXPECT_THROW(cifar(R"({"use": "resnet20", "widths": [4, 6]})"), Error);
  EXPECT_THROW(cifar(R"({"use": "resnet20", "width": 1e30})"), Error) << "beyond the integers";
}

}  // namespace
}  // namespace espalier
