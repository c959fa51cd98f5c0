// What an evaluation asks of a network and of metrics.
#include "train/evaluator.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/registry.h"

namespace espalier {
namespace {

using testing::ElementsAre;
using testing::Pair;

// Sums an output that is not the logits, and says besides how many rows it saw.
class OfHidden final : public Metric {
 public:
  using Options = NoOptions;
  explicit OfHidden(Options) {}
  std::vector<std::string> outputs() const override { return {"hidden"}; }
  at::Tensor contribution(const Prediction& p) const override {
    const at::Tensor x = p.output("hidden").to(at::kDouble);
    return at::stack({x.sum(), at::full({}, static_cast<double>(x.size(0)), at::kDouble)});
  }
  double value(const at::Tensor& all) const override { return all[0].item<double>(); }
  std::vector<std::pair<std::string, double>> further(const at::Tensor& all) const override {
    return {{"rows", all[1].item<double>()}};
  }
};

TEST(Evaluator, GivesMetricsTheirOutputsAndRecordsAllTheirNumbers) {
  static const bool known = (Registry::instance().add(component<OfHidden>("of_hidden", "for this test"), {}), true);
  static_cast<void>(known);
  GraphBuilder g({.channels = 3});
  const Edge hidden = g.relu(g.input());
  Graph graph = g.output(g.linear("fc", hidden, {.features = 1}));
  graph.add_output("hidden", hidden);
  const Weights weights(graph, at::kDouble, at::kCPU);
  const at::Tensor x = at::arange(21, at::kDouble).reshape({7, 3}) - 5;
  const DataPipeline part({.inputs = {{"input", x}}, .targets = {{"target", x.slice(1, 0, 1)}}}, {}, at::kCPU,
                          at::kDouble);
  Metrics metrics;
  metrics.make({Value("of_hidden")}, {.outputs = 1, .task = task::regression});
  const Evaluation e = evaluate(graph, weights, part, Made<Loss>::make(Value("mse")), metrics,
                                {.precision = "float64", .batch = 3}, Processes());
  // The weights are zero: what is left of the mean squared error is the mean of the squared targets, -5, -2, ..., 13.
  EXPECT_NEAR(e.loss, (25 + 4 + 1 + 16 + 49 + 100 + 169) / 7.0, 1e-12);
  // 1 + 2 + ... + 15 is what ReLU leaves of -5, -4, ..., 15.
  EXPECT_THAT(e.metrics, ElementsAre(Pair("of_hidden", 120.0), Pair("of_hidden.rows", 7.0)));
}

}  // namespace
}  // namespace espalier
