#include <espalier/metric.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

#include <ATen/ops/tensor.h>

namespace espalier {
namespace {

TEST(@CLASS@, IsTheMeanProbabilityOfTheTruth) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  const auto metric = Registry::instance().create<Metric>(from_json(R"({"use": "@NAME@"})"));
  // Probabilities 1/2 and 4/5 of the truth.
  const NamedTensors outputs{{"logits", at::tensor({0.0, 0.0, 1.3862943611198906, 0.0}, at::kDouble).reshape({2, 2})}};
  const Batch batch{.inputs = {{"input", outputs[0].second}}, .targets = {{"target", at::tensor({0, 0}, at::kLong)}}};
  EXPECT_NEAR(metric->value(metric->contribution({outputs, batch})), 65, 1e-9);
}

}  // namespace
}  // namespace espalier
