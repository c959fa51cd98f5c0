#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(LeNet5, HasThePublishedCounts) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblenet5.so");
  const Graph g = testkit::build(R"({"use": "lenet5"})", {1, 28, 28}, {10});
  EXPECT_EQ(g.parameter_count(), 431'080);  // Caffe's LeNet
  EXPECT_EQ(g.macs(), 20 * 25 * 24 * 24 + 50 * 20 * 25 * 8 * 8 + 500 * 800 + 10 * 500);
}

TEST(LeNet5, HasSettableWidths) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblenet5.so");
  const Graph g = testkit::build(R"({"use": "lenet5", "conv1": 4, "conv2": 6, "hidden": 7})", {3, 32, 32}, {100});
  EXPECT_EQ(g.parameter_count(), (4 * 75 + 4) + (6 * 4 * 25 + 6) + (7 * 6 * 25 + 7) + (100 * 7 + 100));
}

TEST(LeNet5, RefusesImagesThatAreTooSmall) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblenet5.so");
  EXPECT_THROW(testkit::build(R"({"use": "lenet5"})", {1, 8, 8}, {10}), Error);
}

}  // namespace
}  // namespace espalier
