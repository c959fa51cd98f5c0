#include <c10/core/GradMode.h>
#include <gmock/gmock.h>

#include <espalier/error.h>

#include "../regularizer_reference.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

// Filters of the norms 1, 4, 2, 3 in l1: the first and the third are to go.
RegularizerBench bench(const std::string& options) {
  RegularizerBench b("growing_reg", R"({"use": "growing_reg", "on": "conv")" + options + "}");
  const c10::NoGradGuard no_grad;
  at::Tensor w = b.weight("conv.weight");
  w.zero_();
  const double norms[] = {1, 4, 2, 3};
  for (int64_t k = 0; k < 4; ++k) w[k][0][0][0] = norms[k];
  return b;
}

TEST(GrowingReg, PenalisesTheSmallestHalfMoreAndMore) {
  RegularizerBench b = bench(R"(, "delta": 0.1, "every": 2, "limit": 0.25)");
  const LearningRates rates(std::vector<double>(b.graph.parameters().size(), 0.1));
  for (const double factor : {0.1, 0.1, 0.2, 0.2, 0.25, 0.25, 0.25}) {
    b.weights->zero_gradients();
    EXPECT_NEAR(b.add(), 0.5 * factor * (1 + 4), 1e-12);
    const at::Tensor g = b.gradient("conv.weight");
    for (int64_t k = 0; k < 4; ++k)
      EXPECT_NEAR(g[k][0][0][0].item<double>(), k == 0 ? factor : k == 2 ? 2 * factor : 0, 1e-12) << k;
    EXPECT_EQ(b.gradient("fc1.weight").abs().max().item<double>(), 0);
    b.regularizer->after_update(b.graph, *b.weights, rates);
  }
}

TEST(GrowingReg, KeepsItsChoiceAcrossEditsAndWhenTheNormsChange) {
  RegularizerBench b = bench(R"(, "delta": 1, "every": 1)");
  b.add();
  {
    const c10::NoGradGuard no_grad;
    b.weight("conv.weight")[0][0][0][0] = 100;
  }
  apply(b.graph, {b.weights.get()}, shrink(b.graph, b.graph.axis("conv"), {0, 3}));
  b.regularizer->attach(b.graph, *b.weights);
  b.weights->zero_gradients();
  EXPECT_NEAR(b.add(), 0.5 * 100 * 100, 1e-9);
}

TEST(GrowingReg, WantsAScoreWithoutData) {
  RegularizerBench b = bench("");
  try {
    Registry::instance().create<Regularizer>(from_json(R"({"use": "growing_reg", "score": "taylor"})"));
    FAIL() << "a score that looks at batches";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'taylor' looks at batches"));
  }
}

}  // namespace
}  // namespace espalier
