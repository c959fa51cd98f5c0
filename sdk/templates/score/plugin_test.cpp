#include <espalier/builder.h>
#include <espalier/score.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

namespace espalier {
namespace {

TEST(@CLASS@, IsTheMeanAbsoluteWeight) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  GraphBuilder g({2});
  const Graph graph = g.output(g.linear("b", g.relu(g.linear("a", g.input(), {.features = 2})), {.features = 3}));
  Weights weights(graph, at::kDouble, at::kCPU);
  {
    const c10::NoGradGuard no_grad;
    at::Tensor(weights[graph.parameter("a.weight")]).copy_(at::tensor({1., -3., 0., 1.}, at::kDouble).reshape({2, 2}));
  }
  const auto score = Registry::instance().create<Score>(from_json(R"({"use": "@NAME@"})"));
  const std::vector<AxisScores> scores = score->scores({graph, weights}, {graph.axis("a")});
  EXPECT_EQ(scores[0].scores, (std::vector<double>{2, 0.5}));
}

}  // namespace
}  // namespace espalier
