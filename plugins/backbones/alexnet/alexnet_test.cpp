#include <gtest/gtest.h>

#include <espalier/testkit.h>

namespace espalier {
namespace {

// 60,965,224 parameters are those of Caffe's reference model; Krizhevsky et al. 2012 say 60 million. 724,406,816
// multiply-accumulates are the sums of table 1's layers by hand (docs/papers.md).
TEST(Alexnet, HasThePublishedCounts) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libalexnet.so");
  const Graph g = testkit::build(R"({"use": "alexnet"})", {3, 227, 227}, {1000});
  EXPECT_EQ(g.parameter_count(), 60'965'224);
  EXPECT_EQ(g.macs(), 724'406'816);
  EXPECT_EQ(
      testkit::build(R"({"use": "alexnet", "width": 0.25, "dropout": 0})", {3, 67, 67}, {10}).output("logits").id >= 0,
      true);
}

}  // namespace
}  // namespace espalier
