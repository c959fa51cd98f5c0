#include <gtest/gtest.h>

#include <espalier/error.h>
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

TEST(Resnet, BeginsWithEmptyBranchesWhereAskedFor) {
  const Graph g = resnet(R"({"use": "resnet50", "zero_init": true, "width": 0.125})", 32, 10);
  EXPECT_EQ(g[g.parameter("layer2.1.bn3.weight")].init.a, 0);
  EXPECT_EQ(g[g.parameter("layer2.1.bn2.weight")].init.a, 1);
  EXPECT_EQ(g[g.parameter("layer2.0.downsample.1.weight")].init.a, 1);
}

}  // namespace
}  // namespace espalier
