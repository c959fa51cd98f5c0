#include <cmath>

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <espalier/loss.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

at::Tensor focal(double gamma, const at::Tensor& logits, const at::Tensor& classes) {
  const auto loss = Registry::instance().create<Loss>(Value::map({{"use", "focal_loss"}, {"gamma", gamma}}));
  const NamedTensors outputs{{"logits", logits}};
  const Batch batch{.inputs = {{"input", logits}}, .targets = {{"target", classes}}};
  return loss->value({outputs, batch, true});
}

TEST(Focal, IsItsFormulaAndCrossEntropyAtZero) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libfocal_loss.so");
  // Two samples of two classes, whose probabilities are 3/4 and 1/2.
  const at::Tensor logits = at::tensor({std::log(3.0), 0.0, 0.0, 0.0}, at::kDouble).reshape({2, 2});
  const at::Tensor classes = at::tensor({0, 1}, at::kLong);
  EXPECT_NEAR(focal(2, logits, classes).item<double>(), (-std::log(0.75) / 16 - std::log(0.5) / 4) / 2, 1e-12);
  EXPECT_NEAR(focal(0, logits, classes).item<double>(), at::cross_entropy_loss(logits, classes).item<double>(), 1e-12);
}

}  // namespace
}  // namespace espalier
