#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(LinearBackbone, IsOneLayerOfImagesOrVectors) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblinear.so");
  EXPECT_EQ(testkit::build(R"({"use": "linear"})", {1, 28, 28}, {10}).parameter_count(), 7850);
  EXPECT_EQ(testkit::build(R"({"use": "linear"})", {50, 0, 0}, {2}).parameter_count(), 102);
}

}  // namespace
}  // namespace espalier
