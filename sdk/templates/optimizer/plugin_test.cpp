#include <ATen/core/Tensor.h>
#include <espalier/builder.h>
#include <espalier/optimizer.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(@CLASS@, MovesEveryWeightByTheLearningRateAgainstItsGradient) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  GraphBuilder g({4, 0, 0});
  const Graph graph = g.output(g.linear("fc", g.input(), {.features = 3}));
  Weights weights(graph, at::kDouble, at::kCPU);  // all zero
  const auto optimizer = Registry::instance().create<Optimizer>(from_json(R"({"use": "@NAME@", "lr": 0.25})"));
  optimizer->attach(graph, weights, {}, "@NAME@");
  at::Tensor(weights.gradient(graph.parameter("fc.weight"))).fill_(-7);
  optimizer->step(weights, 0.25);
  const at::Tensor w = weights[graph.parameter("fc.weight")].detach();
  EXPECT_EQ(w.min().item<double>(), 0.25);
  EXPECT_EQ(w.max().item<double>(), 0.25);
}

}  // namespace
}  // namespace espalier
