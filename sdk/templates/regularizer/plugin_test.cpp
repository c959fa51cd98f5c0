#include <espalier/builder.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(@CLASS@, GradientEqualsFiniteDifferences) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  GraphBuilder g({2, 6, 6});
  const Edge x = g.relu(g.conv("conv", g.input(), {.filters = 4, .kernel = 3}));
  const Graph graph = g.output(g.linear("fc", g.flatten(x), {.features = 3}));
  Weights weights(graph, at::kDouble, at::kCPU);
  weights.initialize(graph, RandomKey(1));
  const auto regularizer = Registry::instance().create<Regularizer>(from_json(R"({"use": "@NAME@", "weight": 0.5})"));
  EXPECT_LE(testkit::gradient_error(*regularizer, graph, weights), 1e-6);
}

}  // namespace
}  // namespace espalier
