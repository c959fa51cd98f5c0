#include <c10/core/GradMode.h>

#include <espalier/error.h>

#include "../regularizer_reference.h"

namespace espalier {
namespace {

TEST(BnScale, IsTheSumOfTheAbsoluteScalesAlone) {
  RegularizerBench b("bn_scale", R"({"use": "bn_scale", "weight": 0.5})");
  {
    const c10::NoGradGuard no_grad;
    b.weight("bn.weight")[1].fill_(-2);
    b.weight("bn.bias").fill_(3);
  }
  EXPECT_NEAR(b.add(), 0.5 * (1 + 2 + 1 + 1), 1e-12);
  EXPECT_EQ(b.gradient("bn.weight")[1].item<double>(), -0.5);
  for (const char* name : {"bn.bias", "conv.weight", "fc1.weight"})
    EXPECT_EQ(b.gradient(name).abs().max().item<double>(), 0) << name;
  b.weights->zero_gradients();
  EXPECT_LE(testkit::gradient_error(*b.regularizer, b.graph, *b.weights), 1e-6);
}

TEST(BnScale, SaysThatThereIsNoBatchNorm) {
  RegularizerBench b("bn_scale", R"({"use": "bn_scale"})");
  const auto of_layer = Registry::instance().create<Regularizer>(from_json(R"({"use": "bn_scale", "on": "fc1"})"));
  EXPECT_THROW(of_layer->attach(b.graph, *b.weights), Error);
}

}  // namespace
}  // namespace espalier
