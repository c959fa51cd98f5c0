#include <ATen/TensorOperators.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_lstsq.h>
#include <ATen/ops/matmul.h>

#include "table_samples.h"

namespace espalier {
namespace {

using testing::HasSubstr;

std::unique_ptr<Dataset> synthetic(Value options) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsynthetic_table.so");
  options["use"] = "synthetic_table";
  return samples::table(options);
}

TEST(SyntheticTable, IsAsLargeAsItsOptionsSay) {
  for (const std::string task : {"regression", "classification", "multilabel"}) {
    const auto data =
        synthetic(Value::map({{"task", task}, {"features", 6}, {"outputs", 4}, {"count", 100}, {"noise", 0}}));
    EXPECT_EQ(data->info().input, (InputSpec{.channels = 6}));
    EXPECT_EQ(data->info().target, (TargetSpec{.outputs = 4, .task = task}));
    const Split train = data->load("train", {}), test = data->load("test", {});
    EXPECT_EQ(train.input().sizes(), (std::vector<int64_t>{100, 6}));
    EXPECT_EQ(train.input().scalar_type(), at::kFloat);
    EXPECT_EQ(test.size(), 25);
    const bool classes = task == "classification";
    EXPECT_EQ(train.target().scalar_type(), classes ? at::kLong : at::kFloat);
    EXPECT_EQ(train.target().sizes(), classes ? std::vector<int64_t>{100} : (std::vector<int64_t>{100, 4}));
    EXPECT_TRUE(train.input().equal(data->load("train", {}).input()));
    EXPECT_FALSE(train.input().slice(0, 0, 25).equal(test.input()));
  }
  EXPECT_THAT(samples::option_error(Value::map({{"use", "synthetic_table"}, {"task", "classification"}})),
              HasSubstr("classification needs at least two classes, got 1"));
  EXPECT_THAT(samples::input_error([] { synthetic(Value::map())->load("validation", {}); }),
              HasSubstr("synthetic_table has no part 'validation'"));
}

// Both parts have one teacher, and least squares find it: what is left is the noise.
TEST(SyntheticTable, HasALinearTeacher) {
  const auto data = synthetic(Value::map({{"outputs", 3}, {"seed", 5}}));
  const Split train = data->load("train", {}), test = data->load("test", {});
  const at::Tensor x = train.input().to(at::kDouble), y = train.target().to(at::kDouble);
  const at::Tensor w = std::get<0>(at::linalg_lstsq(x, y));
  EXPECT_NEAR(w.square().sum(at::IntArrayRef{0}).mean().item<double>(), 1, 0.02);
  const at::Tensor rest = at::matmul(test.input().to(at::kDouble), w) - test.target().to(at::kDouble);
  EXPECT_NEAR(rest.square().mean().sqrt().item<double>(), 0.1, 0.01);
  // Well-conditioned: the features are independent and of variance 1.
  const at::Tensor covariance = at::matmul(x.t(), x) / 2000.0;
  EXPECT_LT((covariance - at::eye(20, at::kDouble)).abs().max().item<double>(), 0.12);
  EXPECT_FALSE(synthetic(Value::map({{"outputs", 3}, {"seed", 6}}))->load("train", {}).input().equal(train.input()));
}

// With the same seed, the tasks are of one teacher.
TEST(SyntheticTable, GivesTheLargestAndThePositiveOutputs) {
  const auto target = [](const std::string& task) {
    return synthetic(Value::map({{"task", task}, {"outputs", 4}}))->load("train", {}).target();
  };
  const at::Tensor values = target("regression");
  EXPECT_TRUE(target("classification").equal(values.argmax(1)));
  EXPECT_TRUE(target("multilabel").equal(values.gt(0).to(at::kFloat)));
}

}  // namespace
}  // namespace espalier
