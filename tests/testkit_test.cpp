// What the SDK offers to the tests of plugins.
#include "espalier/testkit.h"

#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/build_config.h"
#include "espalier/builder.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Writes down when it is called.
class Diary final : public Controller {
 public:
  void stage_begin(Run&) override { write("stage_begin"); }
  void epoch_begin(Run& run) override { write("epoch_begin " + std::to_string(run.epoch())); }
  void backward_end(Run&, Weights&) override { write("backward_end"); }
  void update_begin(Run&, Weights&) override { write("update_begin"); }
  void update_end(Run&, Weights&) override { write("update_end"); }
  void step_end(Run& run) override { write("step_end " + std::to_string(run.step())); }
  void evaluation_begin(Run&) override { write("evaluation_begin"); }
  void evaluation_end(Run&) override { write("evaluation_end"); }
  void epoch_end(Run&) override { write("epoch_end"); }
  void stage_end(Run&) override { write("stage_end"); }
  std::vector<std::string> lines;

 private:
  void write(std::string line) { lines.push_back(std::move(line)); }
};

class Idle final : public Controller {};

TEST(TestRun, CallsAControllerInTheOrderThatItsHeaderGives) {
  testkit::TestRun run(testkit::small_network(), 1);
  run.classes = 3, run.samples = 4, run.descent = 0.1;
  run.of_epochs = 2, run.of_steps = 1;
  Diary diary;
  std::vector<int64_t> told;
  run.train(diary, [&](int64_t done) { told.push_back(done); });
  EXPECT_THAT(diary.lines, ElementsAre("stage_begin", "epoch_begin 0", "backward_end", "update_begin", "update_end",
                                       "step_end 0", "evaluation_begin", "evaluation_end", "epoch_end", "epoch_begin 1",
                                       "backward_end", "update_begin", "update_end", "step_end 0", "evaluation_begin",
                                       "evaluation_end", "epoch_end", "stage_end"));
  EXPECT_THAT(told, ElementsAre(1, 2));
}

// A plain step is w - lr * gradient, whoever does it.
TEST(TestRun, DescendsAsGradientDescentDoes) {
  testkit::load_plugin(testkit::plugins_folder() / "libsgd.so");
  testkit::TestRun ours(testkit::small_network(), 1), theirs(testkit::small_network(), 1);
  const at::Tensor before = ours.weights().bank(Role::weight).values.flat().clone();
  ours.descent = 0.1;
  theirs.optimize_with(R"({"use": "sgd", "lr": 0.1})");
  for (testkit::TestRun* run : {&ours, &theirs}) {
    run->classes = 3, run->samples = 16, run->of_steps = 5;
    Idle idle;
    run->train(idle);
  }
  const at::Tensor a = ours.weights().bank(Role::weight).values.flat(),
                   b = theirs.weights().bank(Role::weight).values.flat();
  EXPECT_LE((a - b).abs().max().item<double>(), 1e-14);
  EXPECT_GE((a - before).abs().max().item<double>(), 1e-3);
}

TEST(TestRun, TrainsOnABatchThatItIsGiven) {
  testkit::TestRun run(testkit::small_network(), 1);
  const Batch batch{.inputs = {{"input", testkit::input_of(run.graph(), 16, 2)}},
                    .targets = {{"target", testkit::target_of(3, 16, 3)}}};
  run.batches = [&](int64_t) { return batch; };
  run.descent = 0.2, run.of_steps = 60;
  const double first = run.loss(batch, {}).item<double>();
  Idle idle;
  run.train(idle);
  // 16 samples can be learned by heart.
  EXPECT_LE(run.loss(batch, {}).item<double>(), first / 2);
}

// The gradient of weight / 2 * |w|^2 is what weight decay adds.
TEST(TestRun, AddsPenaltiesToTheGradients) {
  for (const char* library : {"libsgd.so", "libl2.so"}) testkit::load_plugin(testkit::plugins_folder() / library);
  testkit::TestRun penalised(testkit::small_network(), 1), decayed(testkit::small_network(), 1);
  penalised.descent = 0.1;
  penalised.regularize_with(R"({"use": "l2", "weight": 0.3, "on": "all"})");
  decayed.optimize_with(R"({"use": "sgd", "lr": 0.1, "weight_decay": 0.3, "decay_on": "all"})");
  for (testkit::TestRun* run : {&penalised, &decayed}) {
    run->classes = 3, run->samples = 16, run->of_steps = 5;
    Idle idle;
    run->train(idle);
  }
  const at::Tensor a = penalised.weights().bank(Role::weight).values.flat(),
                   b = decayed.weights().bank(Role::weight).values.flat();
  EXPECT_LE((a - b).abs().max().item<double>(), 1e-14);
}

// A proximal step of the learning rate times the weight zeroes what is smaller, and draws the rest towards zero by it.
TEST(TestRun, LetsRegularizersActAfterUpdatesWithTheRateOfTheStep) {
  testkit::load_plugin(testkit::plugins_folder() / "libl1.so");
  testkit::TestRun run(testkit::small_network(), 1), plain(testkit::small_network(), 1);
  run.regularize_with(R"({"use": "l1", "weight": 0.5, "on": "fc.weight", "solver": "proximal"})");
  for (testkit::TestRun* r : {&run, &plain}) {
    r->classes = 3, r->samples = 16, r->descent = 0.1;
    Idle idle;
    r->train(idle);
  }
  const ParamId fc = run.graph().parameter("fc.weight");
  const at::Tensor w = plain.weights()[fc].detach();
  const at::Tensor wanted = w.sign() * (w.abs() - 0.1 * 0.5).clamp_min(0);
  EXPECT_LE((run.weights()[fc].detach() - wanted).abs().max().item<double>(), 1e-15);
  EXPECT_TRUE(wanted.eq(0).any().item<bool>());
}

TEST(TestRun, SaysWhatIsMissing) {
  testkit::TestRun run(testkit::small_network(), 1);
  Idle idle;
  try {
    run.train(idle);
    FAIL() << "there are no data";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("set `batches`, or `classes`"));
  }
}

// The sum of the squares of all weights, with gradients by hand.
class Squares final : public Regularizer {
 public:
  Squares(double of_gradient, double of_value) : of_gradient_(of_gradient), of_value_(of_value) {}
  void attach(const Graph&, Weights&) override {}
  void add(const Graph&, Weights& weights, at::Tensor& value) override {
    const c10::NoGradGuard no_grad;
    const at::Tensor w = weights.bank(Role::weight).values.flat();
    at::Tensor(weights.bank(Role::weight).gradients.flat()).add_(w, 2 * of_gradient_);
    value.add_(w.square().sum() * of_value_);
  }

 private:
  double of_gradient_, of_value_;
};

TEST(Testkit, TellsTheGradientOfAPenaltyFromThatOfItsFormula) {
  const Graph g = testkit::small_network();
  Weights weights(g, at::kDouble, at::kCPU);
  weights.initialize(g, RandomKey(1));
  const auto formula = [](const Graph& graph, const Weights& w) {
    at::Tensor sum = at::zeros({}, at::kDouble);
    for (const ParamId p : Selector("all").match(graph)) sum = sum + w[p].square().sum();
    return sum;
  };
  Squares right(1, 1), half_gradient(0.5, 1), half_value(1, 0.5);
  EXPECT_LE(testkit::autograd_error(right, g, weights, formula), 1e-12);
  EXPECT_NEAR(testkit::autograd_error(half_gradient, g, weights, formula), 0.5, 1e-12);
  EXPECT_NEAR(testkit::autograd_error(half_value, g, weights, formula), 0.5, 1e-12);
}

TEST(Testkit, TellsAnOptimizerFromAnotherOfPyTorch) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  testkit::load_plugin(testkit::plugins_folder() / "libsgd.so");
  const testkit::OptimizerComparison same = testkit::compare_optimizer(
      ESPALIER_PYTHON, {.spec = R"({"use": "sgd", "lr": 0.1})", .torch = "torch.optim.SGD(p, lr=0.1)", .steps = 5});
  EXPECT_LE(same.differences.at("fc.weight"), 1e-13);
  EXPECT_GE(same.moved.at("fc.weight"), 1e-3);
  const testkit::OptimizerComparison other = testkit::compare_optimizer(
      ESPALIER_PYTHON,
      {.spec = R"({"use": "sgd", "lr": 0.1})", .torch = "torch.optim.SGD(p, lr=0.1, momentum=0.5)", .steps = 5});
  EXPECT_GE(other.differences.at("fc.weight"), 1e-4);
}

TEST(Testkit, RunsTheProgramOfItsOwnInstallation) {
  EXPECT_THAT(testkit::run_espalier({"--version"}), HasSubstr(ESPALIER_VERSION));
  try {
    testkit::run_espalier({"check", "/no/such/library.so"});
    FAIL() << "the exit status is not 0";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("there is no such plugin"));
  }
}

}  // namespace
}  // namespace espalier
