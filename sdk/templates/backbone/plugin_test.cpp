#include <espalier/testkit.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(@CLASS@, HasTheParametersCountedByHand) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  const Graph g = testkit::build(R"({"use": "@NAME@", "width": 8})", {3, 16, 16}, {10});
  EXPECT_EQ(g.parameter_count(), 3 * 8 * 9 + 2 * 8 + 8 * 16 * 9 + 2 * 16 + 16 * 10 + 10);
}

}  // namespace
}  // namespace espalier
