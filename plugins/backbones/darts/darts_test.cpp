#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph darts(const std::string& spec, int64_t size = 32, int64_t classes = 10) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libdarts.so");
  return testkit::build(spec, {3, size, size}, {classes});
}

TEST(Darts, HasThePublishedCounts) {
  EXPECT_EQ(darts(R"({"use": "darts_v1"})").parameter_count(), 3'169'414);
  EXPECT_EQ(darts(R"({"use": "darts_v2"})").parameter_count(), 3'349'342);
  // Liu et al. 2019, table 3.
  const Graph imagenet = darts(R"({"use": "darts_v2", "layers": 14, "channels": 48, "stem": "imagenet"})", 224, 1000);
  EXPECT_NEAR(static_cast<double>(imagenet.parameter_count()), 4.7e6, 0.05e6);
}

TEST(Darts, TakesAnyGenotype) {
  const std::string all = R"(["none<-0", "max_pool_3x3<-1", "avg_pool_3x3<-0", "skip_connect<-1", "sep_conv_3x3<-2",
                              "sep_conv_5x5<-0", "dil_conv_3x3<-4", "dil_conv_5x5<-1"])";
  const Graph g = darts(R"({"use": "darts", "layers": 3, "channels": 4, "drop_path": 0.2, "normal": )" + all +
                        R"(, "reduce": )" + all + "}");
  EXPECT_EQ(g.sizes(g[g.node("global_avg_pool1").inputs[0]].shape), (Indices{4 * 16, 8, 8}));
  // The identity is not dropped; in the first, normal cell it is the only operation that is not.
  int dropped = 0;
  for (const Node& n : g.nodes()) dropped += n.op->type() == "drop_path" && n.name.starts_with("cells.0.");
  EXPECT_EQ(dropped, 6);
}

TEST(Darts, RefusesWhatIsNoGenotype) {
  EXPECT_THROW(darts(R"({"use": "darts", "normal": ["sep_conv_3x3<-0"]})"), Error);
  for (const char* wrong : {"conv_3x3<-0", "max_pool_3x3<-2", "max_pool_3x3", "max_pool_3x3<-x"}) {
    std::string cell = std::string("[\"") + wrong + "\"";
    for (int i = 1; i < 8; ++i) cell += ", \"skip_connect<-1\"";
    EXPECT_THROW(darts(R"({"use": "darts", "normal": )" + cell + "]}"), Error) << wrong;
  }
}

}  // namespace
}  // namespace espalier
