#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph resnet(const std::string& spec, int64_t size, int64_t classes) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet.so");
  return testkit::build(spec, {3, size, size}, {classes});
}

TEST(Resnet, HasThePublishedCounts) {
  const Graph r18 = resnet(R"({"use": "resnet18"})", 224, 1000);
  EXPECT_EQ(r18.parameter_count(), 11'689'512);
  EXPECT_EQ(r18.macs(), 1'814'073'344);
  // torchvision's.
  EXPECT_EQ(resnet(R"({"use": "resnet34"})", 224, 1000).parameter_count(), 21'797'672);
  const Graph r50 = resnet(R"({"use": "resnet50"})", 224, 1000);
  EXPECT_EQ(r50.parameter_count(), 25'557'032);
  EXPECT_EQ(r50.macs(), 4'089'184'256);
  EXPECT_EQ(resnet(R"({"use": "resnet101"})", 224, 1000).parameter_count(), 44'549'160);
  EXPECT_EQ(resnet(R"({"use": "resnet152"})", 224, 1000).parameter_count(), 60'192'808);
}

TEST(Resnet, TakesSmallImagesWithEitherStem) {
  EXPECT_EQ(resnet(R"({"use": "resnet18"})", 32, 10).parameter_count(), 11'689'512 - 990 * 513);
  // 3x3 instead of 7x7; the published 11,173,962 of ResNet-18 for CIFAR-10.
  EXPECT_EQ(resnet(R"({"use": "resnet18", "stem": "cifar"})", 32, 10).parameter_count(), 11'173'962);
}

TEST(Resnet, TakesFiltersInsideOfBlocks) {
  int64_t expected = 11'689'512;
  int64_t before = 64;
  for (const int64_t w : {64, 128, 256, 512}) {
    for (int b = 0; b < 2; ++b) {
      expected += 9 * before * (16 - w) + 9 * (16 - w) * w + 2 * (16 - w);
      before = w;
    }
  }
  EXPECT_EQ(resnet(R"({"use": "resnet18", "inner": [16]})", 224, 1000).parameter_count(), expected);
  EXPECT_EQ(resnet(R"({"use": "resnet18", "inner": [64, 128, 256, 512]})", 224, 1000).parameter_count(), 11'689'512);
  EXPECT_THROW(resnet(R"({"use": "resnet18", "inner": [64, 128]})", 224, 1000), Error);
}

int64_t option(const Graph& g, const std::string& node, const char* name) {
  return g.node(node).op->options().at(name).as_int();
}

// Files of the same names and shapes compute with other strides, dilations, epsilons and activations.
TEST(Resnet, TakesTheArithmeticOfOtherFrameworks) {
  const Graph usual = resnet(R"({"use": "resnet50", "width": 0.125})", 64, 10);
  const Graph first = resnet(R"({"use": "resnet50", "width": 0.125, "stride_in": "1x1"})", 64, 10);
  for (const char* block : {"layer2.0.", "layer3.0.", "layer4.0."}) {
    EXPECT_EQ(option(usual, block + std::string("conv1"), "stride"), 1);
    EXPECT_EQ(option(usual, block + std::string("conv2"), "stride"), 2);
    EXPECT_EQ(option(first, block + std::string("conv1"), "stride"), 2);
    EXPECT_EQ(option(first, block + std::string("conv2"), "stride"), 1);
  }
  EXPECT_EQ(first.parameter_count(), usual.parameter_count());
  EXPECT_LT(first.macs(), usual.macs());

  // torchvision's replace_stride_with_dilation=[False, True, True]: strides of 8 in all, dilations 1, 2, ... and 2, 4,
  // ...
  const Graph dilated = resnet(R"({"use": "resnet50", "width": 0.125, "dilated": 2})", 64, 10);
  const Edge last = dilated.node("layer4.2.conv3").outputs[0];
  EXPECT_EQ(dilated.sizes(dilated[last].shape), (std::vector<int64_t>{256, 8, 8}));
  for (const auto& [conv, dilation] : std::vector<std::pair<const char*, int64_t>>{{"layer2.1.conv2", 1},
                                                                                   {"layer3.0.conv2", 1},
                                                                                   {"layer3.1.conv2", 2},
                                                                                   {"layer4.0.conv2", 2},
                                                                                   {"layer4.1.conv2", 4},
                                                                                   {"layer4.1.conv1", 1}})
    EXPECT_EQ(option(dilated, conv, "dilation"), dilation) << conv;
  EXPECT_EQ(dilated.parameter_count(), usual.parameter_count());

  const Graph other =
      resnet(R"({"use": "resnet18", "width": 0.125, "norm_eps": 1.001e-5, "activation": "silu"})", 32, 10);
  for (const Node& n : other.nodes()) {
    EXPECT_NE(n.op->type(), "relu") << n.name;
    if (n.op->type() == "batch_norm") {
      EXPECT_EQ(n.op->options().at("eps").as_double(), 1.001e-5) << n.name;
    }
  }
}

TEST(Resnet, BeginsWithEmptyBranchesWhereAskedFor) {
  const Graph g = resnet(R"({"use": "resnet50", "zero_init": true, "width": 0.125})", 32, 10);
  EXPECT_EQ(g[g.parameter("layer2.1.bn3.weight")].init.a, 0);
  EXPECT_EQ(g[g.parameter("layer2.1.bn2.weight")].init.a, 1);
  EXPECT_EQ(g[g.parameter("layer2.0.downsample.1.weight")].init.a, 1);
}

}  // namespace
}  // namespace espalier
