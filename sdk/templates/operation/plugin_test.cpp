#include <ATen/core/Tensor.h>
#include <espalier/execute.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

#include <cmath>

namespace espalier {
namespace {

TEST(@CLASS@, ComputesItsFormula) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  Graph g;
  const Edge x = g.add_input("x", {Dim::of(int64_t{3})});
  const Value options = from_json(R"({"use": "@NAME@", "beta": 2})");
  const int32_t node = g.add_node("act", Registry::instance().create<Operation>(options), {x});
  g.add_output("y", g.nodes()[static_cast<size_t>(node)].outputs[0]);
  const Weights weights(g, at::kDouble, at::kCPU);
  at::Tensor values = testkit::target_of(5, 3, 1).to(at::kDouble).reshape({1, 3});
  const at::Tensor y = run(g, weights, {{"x", values}}, {"y"})[0];
  for (int64_t i = 0; i < 3; ++i) {
    const double v = values[0][i].item<double>();
    EXPECT_NEAR(y[0][i].item<double>(), v / (1 + std::exp(-2 * v)), 1e-12);
  }
}

}  // namespace
}  // namespace espalier
