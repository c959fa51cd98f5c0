#include <espalier/loss.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

#include <ATen/ops/tensor.h>

#include <cmath>

namespace espalier {
namespace {

TEST(@CLASS@, LeavesOutWhatIsLearned) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  const auto loss = Registry::instance().create<Loss>(from_json(R"({"use": "@NAME@", "margin": 0.1})"));
  // Two samples of two classes: one undecided, one that is sure and right.
  const NamedTensors outputs{{"logits", at::tensor({0.0, 0.0, 9.0, 0.0}, at::kDouble).reshape({2, 2})}};
  const Batch batch{.inputs = {{"input", outputs[0].second}}, .targets = {{"target", at::tensor({0, 0}, at::kLong)}}};
  EXPECT_NEAR(loss->value({outputs, batch, true}).item<double>(), std::log(2.0) / 2, 1e-12);
}

}  // namespace
}  // namespace espalier
