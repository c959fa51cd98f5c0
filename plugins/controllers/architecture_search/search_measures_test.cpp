// What searches measure beside their losses: the skip ratio, and the Hessian of the loss in the architecture
// parameters.
#include <algorithm>
#include <string>
#include <vector>

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tanh.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/error.h>

#include "search_run.h"

namespace espalier {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr int64_t features = 3, hidden = 4, classes = 3, samples = 8;
constexpr const char* sgd = R"({"use": "sgd", "lr": 0.1})";

std::unique_ptr<Controller> controller(const std::string& spec) {
  for (const char* name : {"architecture_search", "sgd"})
    testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + name + ".so");
  return SearchRun::make<Controller>(spec);
}

// Two layers, each of three operations that are mixed by the softmax of a row of alpha.
Graph network() {
  GraphBuilder g({.channels = features});
  const Edge alpha = g.softmax(g.node("coefficient", "alpha", {}, Value::map({{"deviation", 1.0}}), {2, 3}));
  Edge x = g.input();
  for (int64_t row = 0; row < 2; ++row) {
    const Edge y = g.linear("fc" + std::to_string(row), x, {.features = hidden});
    x = g.node("weighted_sum", "mixed" + std::to_string(row),
               {g.activation("tanh", y), g.activation("sigmoid", y), y, alpha}, Value::map({{"row", row}}));
  }
  return g.output(g.linear("fc2", x, {.features = classes}));
}

Batch batch_of(const Graph& graph, uint64_t seed) {
  return {.inputs = {{"input", testkit::input_of(graph, samples, seed)}},
          .targets = {{"target", testkit::target_of(classes, samples, seed)}}};
}

// The loss of the network, written again.
at::Tensor loss_of(const Weights& w, const Graph& graph, const at::Tensor& alpha, const Batch& batch) {
  const auto parameter = [&](const std::string& name) { return w[graph.parameter(name)].detach(); };
  const at::Tensor p = at::softmax(alpha, 1);
  at::Tensor x = batch.input();
  for (int64_t row = 0; row < 2; ++row) {
    const std::string fc = "fc" + std::to_string(row);
    const at::Tensor y = at::linear(x, parameter(fc + ".weight"), parameter(fc + ".bias"));
    x = p[row][0] * at::tanh(y) + p[row][1] * at::sigmoid(y) + p[row][2] * y;
  }
  return at::cross_entropy_loss(at::linear(x, parameter("fc2.weight"), parameter("fc2.bias")), batch.target());
}

// The eigenvalue of the largest absolute value of the exact Hessian in alpha.
double exact_eigenvalue(const Weights& w, const Graph& graph, const Batch& batch) {
  const at::Tensor alpha = w[graph.parameter("alpha.value")].detach().clone().set_requires_grad(true);
  const at::Tensor first = torch::autograd::grad({loss_of(w, graph, alpha, batch)}, {alpha}, {}, true, true)[0];
  std::vector<at::Tensor> rows;
  for (const at::Tensor& element : first.flatten().unbind())
    rows.push_back(torch::autograd::grad({element}, {alpha}, {}, true)[0].flatten());
  const at::Tensor values = at::linalg_eigvalsh(at::stack(rows));
  return values[values.abs().argmax().item<int64_t>()].item<double>();
}

TEST(Hessian, HasTheDominantEigenvalueWithItsSign) {
  int positive = 0, negative = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const auto c = controller(R"({"use": "darts", "hessian_every": 2})");
    SearchRun run(network(), sgd, sgd);
    run.of_epochs = 4;
    Weights& w = run.weights();
    w.initialize(run.graph(), RandomKey(seed));
    run.validation = [&](int64_t) { return batch_of(run.graph(), seed); };
    c->stage_begin(run);
    const at::Tensor before = w.bank(Role::architecture).values.flat().clone();
    c->epoch_end(run);
    EXPECT_FALSE(run.metrics().contains("hessian_eigenvalue")) << "every second epoch";
    c->stage_end(run);
    const double expected = exact_eigenvalue(w, run.graph(), run.validation(0));
    EXPECT_NEAR(run.metrics().at("hessian_eigenvalue") / expected, 1, 1e-4) << seed;
    EXPECT_TRUE(before.equal(w.bank(Role::architecture).values.flat())) << "the values are as before";
    EXPECT_TRUE(w[run.graph().parameter("fc0.weight")].requires_grad());
    ++(expected > 0 ? positive : negative);
  }
  EXPECT_GT(positive, 0);
  EXPECT_GT(negative, 0);
}

// ---- the skip ratio ----

Value genotype(const std::string& normal, const std::string& reduce) {
  return from_json(R"({"normal": [)" + normal + R"(], "reduce": [)" + reduce + "]}");
}

TEST(SkipRatio, IsTheShareOfSkipConnectInTheDerivedCells) {
  for (const char* use : {"rarts", "darts", "milenas", "joint"}) {
    const auto c = controller(R"({"use": ")" + std::string(use) + "\"}");
    SearchRun run(network(), sgd, sgd);
    run.derived = genotype(R"("skip_connect<-0", "sep_conv_3x3<-1", "skip_connect<-1", "skip_connect<-2")",
                           R"("max_pool_3x3<-0", "none<-1", "avg_pool_3x3<-0", "max_pool_3x3<-1")");
    c->stage_begin(run);
    c->epoch_end(run);
    EXPECT_EQ(run.metrics().at("skip_ratio"), 3. / 8) << use;
    EXPECT_EQ(run.metrics().at("skip_ratio.normal"), 3. / 4) << use;
    EXPECT_EQ(run.metrics().at("skip_ratio.reduce"), 0) << use;
    EXPECT_FALSE(run.ended);
    EXPECT_TRUE(run.published.empty());
    c->stage_end(run);
    EXPECT_EQ(to_json(run.published.at("genotype")), to_json(run.derived)) << use;
  }
}

TEST(SkipRatio, EndsTheStageWhereItIsReached) {
  const auto ended = [](const char* stop, int64_t epoch, const char* last = "none") {
    const auto c = controller(R"({"use": "darts", "stop_at_skip_ratio": )" + std::string(stop) + "}");
    SearchRun run(network(), sgd, sgd);
    run.derived = from_json(R"({"cell": "|skip_connect~0|+|skip_connect~0|)" + std::string(last) + "~1|\"}");
    run.of_epochs = epoch;
    c->stage_begin(run);
    c->epoch_end(run);
    return run.ended;
  };
  EXPECT_FALSE(ended("0.7", 2));
  EXPECT_TRUE(ended("0.66", 2));
  EXPECT_TRUE(ended("1", 2, "skip_connect")) << "it is reached";
  EXPECT_FALSE(ended("0.66", 1)) << "the last epoch ends the stage anyway";
}

TEST(SkipRatio, IsNotMeasuredWhereNothingIsDerived) {
  SearchRun run(network(), sgd, sgd);
  run.derived = {};
  const auto c = controller(R"({"use": "darts"})");
  c->stage_begin(run);
  c->epoch_end(run);
  c->stage_end(run);
  EXPECT_FALSE(run.metrics().contains("skip_ratio"));
  EXPECT_TRUE(run.published.empty());
  EXPECT_THROW(controller(R"({"use": "darts", "stop_at_skip_ratio": 0.5})")->stage_begin(run), Error);
  run.derived = from_json(R"({"widths": [3, 4]})");
  EXPECT_THROW(controller(R"({"use": "darts", "stop_at_skip_ratio": 0.5})")->stage_begin(run), Error);
}

}  // namespace
}  // namespace espalier
