#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/loss.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<Loss> loss(const std::string& options, int64_t classes = 3) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libauxiliary.so");
  auto made = Registry::instance().create<Loss>(from_json(R"({"use": "auxiliary")" + options + "}"));
  const TargetSpec target{classes};
  made->check(target);
  made->begin({.target = target, .class_counts = {}, .dtype = at::kDouble, .networks = {}});
  return made;
}

at::Tensor values(uint64_t seed) {
  const Graph graph = testkit::build(R"({"use": "linear"})", {.channels = 3}, {3});
  return testkit::input_of(graph, 5, seed);
}

// The sum is the definition: the loss of the logits, and the weight times that of each other output, in training only.
TEST(AuxiliaryLoss, AddsTheLossesOfFurtherOutputsInTraining) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblinear.so");
  const at::Tensor logits = values(1), first = values(2), second = values(3), target = testkit::target_of(3, 5, 4);
  const NamedTensors outputs{{"logits", logits}, {"first", first}, {"second", second}};
  const Batch batch{.inputs = {{"input", logits}}, .targets = {{"target", target}}};
  const auto ce = [&](const at::Tensor& x, double smoothing) {
    return at::cross_entropy_loss(x, target, {}, at::Reduction::Mean, -100, smoothing).item<double>();
  };
  for (const double smoothing : {0.0, 0.1}) {
    const auto made = loss(
        R"(, "outputs": ["first", "second"], "weight": 0.3, "loss": {"use": "cross_entropy", "label_smoothing": )" +
        std::to_string(smoothing) + "}");
    EXPECT_THAT(made->outputs(), ElementsAre("logits", "first", "second"));
    const auto value = [&](bool training) {
      return made->value({.outputs = outputs, .batch = batch, .training = training}).item<double>();
    };
    EXPECT_NEAR(value(true), ce(logits, smoothing) + 0.3 * (ce(first, smoothing) + ce(second, smoothing)), 1e-12);
    EXPECT_NEAR(value(false), ce(logits, 0), 1e-12) << "what only helps training is left out";
  }
  // Without a loss it is that of the task, and the weight is that of DARTS.
  const NamedTensors usual{{"logits", logits}, {"auxiliary", first}};
  EXPECT_NEAR(loss("")->value({.outputs = usual, .batch = batch, .training = true}).item<double>(),
              ce(logits, 0) + 0.4 * ce(first, 0), 1e-12);
}

TEST(AuxiliaryLoss, RefusesWhatHasNoMeaning) {
  EXPECT_THROW(loss(R"(, "outputs": [])"), Error);
  EXPECT_THROW(loss(R"(, "outputs": ["logits"])"), Error);
  EXPECT_THROW(loss(R"(, "weight": -1)"), Error);
  EXPECT_THROW(loss(R"(, "loss": {"use": "mse"})"), Error) << "for classes";
}

}  // namespace
}  // namespace espalier
