#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/optimizer.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(Lion, StepsByTheSignAndKeepsTheMomentumOfAllGradients) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblion.so");
  GraphBuilder g({4, 0, 0});
  const Graph graph = g.output(g.linear("fc", g.input(), {.features = 3}));
  Weights weights(graph, at::kDouble, at::kCPU);  // all zero
  const auto lion = Registry::instance().create<Optimizer>(
      from_json(R"({"use": "lion", "lr": 0.25, "beta1": 0.9, "beta2": 0.5, "weight_decay": 0.1})"));
  lion->attach(graph, weights, {}, "lion");
  const ParamId fc = graph.parameter("fc.weight");
  const auto step = [&](double gradient) {
    at::Tensor(weights.gradient(fc)).fill_(gradient);
    lion->step(weights, 0.25);
    const at::Tensor w = weights[fc].detach();
    EXPECT_EQ(w.min().item<double>(), w.max().item<double>());
    return w.max().item<double>();
  };
  // By hand: m = 0 and c = -.4, so w = .25; then m = -2, c = -1.8 + .1 has the old sign, w = .25 + .25 - .1 * .25 *
  // .25.
  EXPECT_DOUBLE_EQ(step(-4), 0.25);
  EXPECT_DOUBLE_EQ(step(1), 0.25 + 0.25 * (1 - 0.1 * 0.25));
}

}  // namespace
}  // namespace espalier
