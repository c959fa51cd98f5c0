// Losses and metrics against PyTorch, NumPy and closed forms.
#include <cmath>
#include <filesystem>
#include <fstream>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/dataset.h"
#include "espalier/error.h"
#include "espalier/loss.h"
#include "espalier/metric.h"
#include "espalier/random_fill.h"
#include "espalier/run.h"
#include "espalier/testkit.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

Value values_of(const at::Tensor& t) {
  const at::Tensor c = t.detach().to(at::kDouble).contiguous();
  const auto* first = c.const_data_ptr<double>();
  return Value(std::vector<double>(first, first + c.numel()));
}

// A loss of ours and the same as an expression of PyTorch over x, y (class numbers, numbers or probabilities) and n
// (how often each class occurs).
struct LossCase {
  std::string name, spec;
  TargetSpec target;
  std::string truth;  // classes, nodes, mixed, values, labels
  std::string torch;
  bool training = true;
};

constexpr int64_t samples = 11;

at::Tensor truth_of(const LossCase& c) {
  const int64_t n = c.target.outputs;
  const RandomKey key = RandomKey(3).with(c.truth);
  if (c.truth == "classes") return at::cat({at::arange(n, at::kLong), at::zeros({samples - n}, at::kLong).add_(1)});
  if (c.truth == "nodes") {
    at::Tensor y = uniform({samples, 3}, 0, static_cast<double>(n), key).to(at::kLong);
    y.select(1, 1).fill_(-100);
    return y;
  }
  if (c.truth == "mixed") return at::softmax(normal({samples, n}, 1, key), -1);
  if (c.truth == "labels") return normal({samples, n}, 1, key).gt(0.2).to(at::kDouble);
  return normal({samples, n}, 1, key);
}

const std::vector<LossCase>& loss_cases() {
  const TargetSpec classes{4, task::classification}, values{3, task::regression}, labels{5, task::multilabel};
  static const std::vector<LossCase> all = {
      {"cross_entropy", R"({"use": "cross_entropy"})", classes, "classes", "F.cross_entropy(x, y.long())"},
      {"smoothed", R"({"use": "cross_entropy", "label_smoothing": 0.2})", classes, "classes",
       "F.cross_entropy(x, y.long(), label_smoothing=0.2)"},
      {"not smoothed in evaluation", R"({"use": "cross_entropy", "label_smoothing": 0.2})", classes, "classes",
       "F.cross_entropy(x, y.long())", false},
      {"balanced", R"({"use": "cross_entropy", "class_weights": "balanced"})", classes, "classes",
       "F.cross_entropy(x, y.long(), weight=n.sum() / (len(n) * n))"},
      {"weighted", R"({"use": "cross_entropy", "class_weight_values": [1, 0.5, 2, 3]})", classes, "classes",
       "F.cross_entropy(x, y.long(), weight=torch.tensor([1, 0.5, 2, 3]))"},
      {"nodes", R"({"use": "cross_entropy"})", classes, "nodes",
       "F.cross_entropy(x.flatten(0, 1), y.long().flatten(), ignore_index=-100)"},
      {"mixed", R"({"use": "cross_entropy", "label_smoothing": 0.1})", classes, "mixed",
       "F.cross_entropy(x, y, label_smoothing=0.1)"},
      {"mse", R"({"use": "mse"})", values, "values", "F.mse_loss(x, y)"},
      {"huber", R"({"use": "huber", "delta": 0.6})", values, "values", "F.huber_loss(x, y, delta=0.6)"},
      {"bce", R"({"use": "bce"})", labels, "labels", "F.binary_cross_entropy_with_logits(x, y)"},
      {"bce weighted", R"({"use": "bce", "positive_weights": [1, 2, 3, 4, 5]})", labels, "labels",
       "F.binary_cross_entropy_with_logits(x, y, pos_weight=torch.tensor([1.0, 2, 3, 4, 5]))"},
      // Lin et al. 2017, (4) and (5), from probabilities.
      {"focal", R"({"use": "focal", "gamma": 2.5})", classes, "classes",
       "(lambda p: (-(1 - p) ** 2.5 * p.log()).mean())(x.softmax(1)[torch.arange(len(x)), y.long()])"},
      {"focal of mixed", R"({"use": "focal", "gamma": 2})", classes, "mixed",
       "(lambda p: (-(1 - p) ** 2 * p.log() * y).sum(1).mean())(x.softmax(1))"},
      {"focal of labels", R"({"use": "focal", "gamma": 2, "alpha": 0.25})", labels, "labels",
       "(lambda p: (-(1 - p) ** 2 * p.log() * (0.25 * y + 0.75 * (1 - y))).mean())"
       "(x.sigmoid() * y + (1 - x.sigmoid()) * (1 - y))"},
  };
  return all;
}

TEST(Losses, ValuesAndGradientsAreThoseOfPyTorch) {
  const std::string python = ESPALIER_PYTHON;
  if (python.empty()) GTEST_SKIP() << "no Python with PyTorch: ESPALIER_PYTHON is empty";
  Value all = Value::list();
  std::vector<std::pair<double, at::Tensor>> ours;
  for (const LossCase& c : loss_cases()) {
    const at::Tensor y = truth_of(c);
    std::vector<int64_t> sizes{samples, c.target.outputs};
    if (c.truth == "nodes") sizes.insert(sizes.begin() + 1, 3);
    at::Tensor x = normal(sizes, 2, RandomKey(4).with(c.name));
    x.requires_grad_(true);
    LossSetup setup{.target = c.target, .class_counts = {}, .device = at::kCPU, .dtype = at::kDouble, .networks = {}};
    if (c.truth == "classes") setup.class_counts = y.bincount({}, c.target.outputs);
    const auto loss = Registry::instance().create<Loss>(from_json(c.spec));
    loss->check(c.target);
    loss->begin(setup);
    const NamedTensors outputs{{"logits", x}};
    const Batch batch{.inputs = {{"input", x}}, .targets = {{"target", y}}};
    const at::Tensor value = loss->value({.outputs = outputs, .batch = batch, .training = c.training});
    value.backward();
    ours.emplace_back(value.item<double>(), x.grad().contiguous());
    all.push_back(Value::map({{"x", values_of(x)},
                              {"shape", sizes},
                              {"y", values_of(y)},
                              {"yshape", y.sizes().vec()},
                              {"counts", c.truth == "classes" ? values_of(setup.class_counts) : Value::list()},
                              {"torch", c.torch}}));
  }
  const Value theirs = from_json(testkit::run_python(python, R"py(
import json, sys, torch
import torch.nn.functional as F
torch.set_default_dtype(torch.float64)
result = []
for c in json.loads(sys.argv[1]):
    x = torch.tensor(c["x"]).reshape(c["shape"]).requires_grad_(True)
    y, n = torch.tensor(c["y"]).reshape(c["yshape"]), torch.tensor(c["counts"])
    loss = eval(c["torch"])
    loss.backward()
    result.append({"loss": loss.item(), "gradient": x.grad.flatten().tolist()})
print(json.dumps(result))
)py",
                                                     {to_json(all)}));
  for (size_t i = 0; i < loss_cases().size(); ++i) {
    SCOPED_TRACE(loss_cases()[i].name);
    const Value& t = theirs.as_list()[i];
    EXPECT_NEAR(ours[i].first, t.at("loss").as_double(), 1e-10);
    const auto* gradient = ours[i].second.const_data_ptr<double>();
    double largest = 0;
    for (size_t k = 0; k < t.at("gradient").size(); ++k) {
      EXPECT_NEAR(gradient[k], t.at("gradient").as_list()[k].as_double(), 1e-10);
      largest = std::max(largest, std::abs(gradient[k]));
    }
    EXPECT_GT(largest, 1e-4);
  }
}

// A teacher of one linear layer, whose logits are known.
TEST(Losses, DistillationIsTheFormulaWithTheSquareOfTheTemperature) {
  GraphBuilder b({.channels = 2});
  const Graph graph = b.output(b.linear("fc", b.input(), {.features = 2, .bias = false}));
  const auto teacher = std::make_shared<FrozenNetwork>(graph, at::kDouble, at::kCPU);
  {
    const c10::NoGradGuard no_grad;
    at::Tensor(teacher->weights[graph.parameter("fc.weight")]).copy_(at::tensor({2.0, 0.0, 0.0, 1.0}).reshape({2, 2}));
  }
  const auto loss = Registry::instance().create<Loss>(
      from_json(R"({"use": "distillation", "teacher": "/runs/teacher", "temperature": 3, "weight": 0.75})"));
  EXPECT_EQ(loss->networks(), std::vector<std::string>{"/runs/teacher"});
  loss->begin({.target = {2, task::classification},
               .class_counts = {},
               .device = at::kCPU,
               .dtype = at::kDouble,
               .networks = {teacher}});
  // The teacher gives (2, 0) and (0, 1), the network (u, 0) and (0, v).
  at::Tensor x = at::tensor({0.5, 0.0, 0.0, -0.25}, at::kDouble).reshape({2, 2});
  x.requires_grad_(true);
  const NamedTensors outputs{{"logits", x}};
  const Batch batch{.inputs = {{"input", at::tensor({1.0, 0.0, 0.0, 1.0}, at::kDouble).reshape({2, 2})}},
                    .targets = {{"target", at::tensor({0, 1}, at::kLong)}}};
  const at::Tensor value = loss->value({.outputs = outputs, .batch = batch, .training = true});
  const auto sigmoid = [](double z) { return 1 / (1 + std::exp(-z)); };
  // Of two classes the divergence is p log(p / q) + (1 - p) log((1 - p) / (1 - q)) with sigmoids of the differences.
  double expected = 0;
  for (const auto& [taught, learned] : {std::pair(2.0, 0.5), std::pair(1.0, -0.25)}) {
    const double p = sigmoid(taught / 3), q = sigmoid(learned / 3);
    const double divergence = p * std::log(p / q) + (1 - p) * std::log((1 - p) / (1 - q));
    expected += (0.25 * -std::log(sigmoid(learned)) + 0.75 * 9 * divergence) / 2;
  }
  EXPECT_NEAR(value.item<double>(), expected, 1e-12);
  value.backward();
  // d/du: (1 - w) (sigmoid(u) - 1) + w T (q - p), over the two samples.
  EXPECT_NEAR(x.grad()[0][0].item<double>(),
              (0.25 * (sigmoid(0.5) - 1) + 0.75 * 3 * (sigmoid(0.5 / 3) - sigmoid(2.0 / 3))) / 2, 1e-12);
  const c10::NoGradGuard no_grad;
  EXPECT_NEAR(loss->value({.outputs = outputs, .batch = batch}).item<double>(),
              (-std::log(sigmoid(0.5)) - std::log(sigmoid(-0.25))) / 2, 1e-12)
      << "without the teacher in evaluation";
}

// Touvron et al. 2021, equation 3: half of the cross-entropy of one head and the targets, half of that of the other and
// the teacher's classes.
TEST(Losses, HardDistillationOfTwoHeadsIsDeitsFormula) {
  GraphBuilder b({.channels = 2});
  const Graph graph = b.output(b.linear("fc", b.input(), {.features = 2, .bias = false}));
  const auto teacher = std::make_shared<FrozenNetwork>(graph, at::kDouble, at::kCPU);
  {
    const c10::NoGradGuard no_grad;
    at::Tensor(teacher->weights[graph.parameter("fc.weight")]).copy_(at::tensor({0.0, 2.0, 1.0, 0.0}).reshape({2, 2}));
  }
  const auto loss = Registry::instance().create<Loss>(from_json(
      R"({"use": "distillation", "teacher": "t", "hard": true, "weight": 0.5, "learner": "b", "other": "a"})"));
  EXPECT_EQ(loss->outputs(), (std::vector<std::string>{"logits", "b", "a"}));
  loss->begin({.target = {2, task::classification},
               .class_counts = {},
               .device = at::kCPU,
               .dtype = at::kDouble,
               .networks = {teacher}});
  const auto logits = [](double x, double y) { return at::tensor({x, 0.0, 0.0, y}, at::kDouble).reshape({2, 2}); };
  const NamedTensors outputs{{"logits", logits(9, 9)}, {"a", logits(0.5, -0.25)}, {"b", logits(0.75, 1.5)}};
  // The teacher's classes are 1 and 0, the targets 0 and 1.
  const Batch batch{.inputs = {{"input", at::tensor({1.0, 0.0, 0.0, 1.0}, at::kDouble).reshape({2, 2})}},
                    .targets = {{"target", at::tensor({0, 1}, at::kLong)}}};
  const auto ce = [](double right, double wrong) { return std::log(1 + std::exp(wrong - right)); };
  const double of_targets = (ce(0.5, 0) + ce(-0.25, 0)) / 2, of_teacher = (ce(0, 0.75) + ce(0, 1.5)) / 2;
  EXPECT_NEAR(loss->value({.outputs = outputs, .batch = batch, .training = true}).item<double>(),
              (of_targets + of_teacher) / 2, 1e-12);
  EXPECT_NEAR(loss->value({.outputs = outputs, .batch = batch}).item<double>(), ce(9, 0), 1e-12)
      << "the mean of both heads in evaluation";
}

TEST(Losses, ABatchOfWhichNothingCountsAddsNothing) {
  at::Tensor x = normal({3, 2}, 1, RandomKey(1));
  x.requires_grad_(true);
  const NamedTensors outputs{{"logits", x}};
  const Batch batch{.inputs = {{"input", x}}, .targets = {{"target", at::tensor({1, 1, 1}, at::kLong)}}};
  const auto loss =
      Registry::instance().create<Loss>(from_json(R"({"use": "cross_entropy", "class_weight_values": [1, 0]})"));
  loss->begin({.target = {2, task::classification},
               .class_counts = {},
               .device = at::kCPU,
               .dtype = at::kDouble,
               .networks = {}});
  const at::Tensor value = loss->value({.outputs = outputs, .batch = batch, .training = true});
  EXPECT_EQ(value.item<double>(), 0);
  value.backward();
  EXPECT_EQ(x.grad().abs().max().item<double>(), 0);
  EXPECT_EQ(loss->weight(batch).item<double>(), 0);
}

std::string refusal(const std::string& spec, const TargetSpec& target) {
  try {
    Registry::instance().create<Loss>(from_json(spec))->check(target);
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing";
}

TEST(Losses, RefuseWhatTheyAreNotFor) {
  const TargetSpec classes{4, task::classification}, values{1, task::regression};
  EXPECT_THAT(refusal(R"({"use": "mse"})", classes), HasSubstr("mse is a loss for regression"));
  EXPECT_THAT(refusal(R"({"use": "cross_entropy"})", values), HasSubstr("the task of the data is regression"));
  EXPECT_THAT(refusal(R"({"use": "cross_entropy", "class_weight_values": [1, 2]})", classes),
              HasSubstr("2 numbers for 4 classes"));
  EXPECT_THAT(refusal(R"({"use": "focal", "alpha": 0.5})", classes), HasSubstr("several labels"));
  EXPECT_THAT(refusal(R"({"use": "distillation"})", classes), HasSubstr("needs a teacher"));
  EXPECT_THAT(refusal(R"({"use": "cross_entropy", "class_weights": "balanced", "class_weight_values": [1]})", classes),
              HasSubstr("exclude each other"));
}

double metric_of(const std::string& name, const at::Tensor& x, const at::Tensor& y) {
  const auto metric = Registry::instance().create<Metric>(Value(name));
  // In parts of unequal size, as evaluations go.
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < x.size(0); begin += 7) {
    const int64_t end = std::min(x.size(0), begin + 7);
    const NamedTensors outputs{{"logits", x.slice(0, begin, end)}};
    const Batch batch{.inputs = {{"input", x.slice(0, begin, end)}}, .targets = {{"target", y.slice(0, begin, end)}}};
    const at::Tensor c = metric->contribution({.outputs = outputs, .batch = batch});
    if (metric->concatenates() || parts.empty()) {
      parts.push_back(c.clone());
    } else {
      parts.front().add_(c);
    }
  }
  return metric->value(at::cat(parts).contiguous());
}

TEST(Metrics, AreThoseOfTheirDefinitions) {
  const std::string python = ESPALIER_PYTHON;
  if (python.empty()) GTEST_SKIP() << "no Python with PyTorch: ESPALIER_PYTHON is empty";
  constexpr int64_t n = 40;
  const RandomKey key(9);
  // Coarse scores, so that some are equal.
  const at::Tensor x = (normal({n, 6}, 1, key.with("x")) * 2).round();
  const at::Tensor y = uniform({n}, 0, 6, key.with("y")).square().div(6).to(at::kLong);  // unbalanced
  const at::Tensor labels = normal({n, 6}, 1, key.with("labels")).gt(0.8).to(at::kDouble);
  const at::Tensor p = normal({n, 3}, 1, key.with("p")), t = normal({n, 3}, 2, key.with("t")) + 5;
  const Value theirs = from_json(testkit::run_python(python, R"py(
import json, sys, numpy as np
d = {k: np.array(v) for k, v in json.loads(sys.argv[1]).items()}
x, y, labels = d["x"].reshape(40, 6), d["y"].astype(int), d["labels"].reshape(40, 6)
p, t = d["p"].reshape(40, 3), d["t"].reshape(40, 3)
first = x.argmax(1)
recalls = [np.mean(first[y == c] == c) for c in range(6) if np.any(y == c)]
def average_precision(score, truth):
    total = 0.0
    for i in np.flatnonzero(truth):          # precision among all that score at least as high
        above = score >= score[i]
        total += truth[above].sum() / above.sum()
    return total / truth.sum()
r2 = [1 - ((p[:, o] - t[:, o]) ** 2).sum() / ((t[:, o] - t[:, o].mean()) ** 2).sum() for o in range(3)]
print(json.dumps({
    "accuracy": 100 * np.mean(first == y),
    "balanced_accuracy": 100 * np.mean(recalls),
    "mean_average_precision": 100 * np.mean([average_precision(x[:, l], labels[:, l]) for l in range(6)]),
    "mse": np.mean((p - t) ** 2), "mae": np.mean(np.abs(p - t)), "r2": np.mean(r2)}))
)py",
                                                     {to_json(Value::map({{"x", values_of(x)},
                                                                          {"y", values_of(y)},
                                                                          {"labels", values_of(labels)},
                                                                          {"p", values_of(p)},
                                                                          {"t", values_of(t)}}))}));
  for (const char* name : {"accuracy", "balanced_accuracy"})
    EXPECT_NEAR(metric_of(name, x, y), theirs.at(name).as_double(), 1e-10) << name;
  EXPECT_NEAR(metric_of("accuracy", x.to(at::kFloat), y), theirs.at("accuracy").as_double(), 1e-10);
  EXPECT_NEAR(metric_of("mean_average_precision", x, labels), theirs.at("mean_average_precision").as_double(), 1e-10);
  for (const char* name : {"mse", "mae", "r2"})
    EXPECT_NEAR(metric_of(name, p, t), theirs.at(name).as_double(), 1e-10) << name;
}

TEST(Metrics, CountNodesThatCount) {
  const at::Tensor x = at::tensor({1.0, 0.0, 0.0, 1.0, 1.0, 0.0}, at::kDouble).reshape({1, 3, 2});
  const at::Tensor y = at::tensor({0, -100, 1}, at::kLong).reshape({1, 3});
  for (const auto type : {at::kDouble, at::kFloat}) EXPECT_EQ(metric_of("accuracy", x.to(type), y), 50);
  EXPECT_EQ(metric_of("balanced_accuracy", x, y), 50);
}

TEST(Metrics, TopFiveCountsTheFiveLargest) {
  at::Tensor x = at::zeros({2, 20}, at::kDouble);
  x[0][4] = 1, x[0][5] = 2, x[0][6] = 3, x[0][7] = 4, x[0][8] = 5, x[0][9] = 6;
  x[1] = x[0];
  EXPECT_EQ(metric_of("top5", x, at::tensor({5, 4}, at::kLong)), 50);
}

TEST(Tasks, HaveALossAndMetrics) {
  EXPECT_EQ(to_json(default_loss({10, task::classification})), R"({"use":"cross_entropy"})");
  EXPECT_EQ(default_metrics({10, task::classification}).size(), 1U);
  EXPECT_EQ(default_metrics({20, task::classification}).size(), 2U);
  EXPECT_EQ(default_metrics({2, task::regression}).front().at("use").as_string(), "mse");
  EXPECT_THROW(default_loss({2, "detection"}), Error);
  EXPECT_THROW(default_metrics({2, "detection"}), Error);
}

TEST(Batches, NameWhatTheyHold) {
  const Batch batch{.inputs = {{"input", at::zeros({2, 3})}, {"adjacency", at::zeros({2, 3, 3})}},
                    .targets = {{"target", at::zeros({2})}}};
  EXPECT_EQ(batch.size(), 2);
  EXPECT_EQ(batch.input("adjacency").dim(), 3);
  try {
    batch.input("adjacenzy");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "there is no input 'adjacenzy'; there are: input, adjacency");
  }
}

}  // namespace
}  // namespace espalier
