#include <algorithm>
#include <cmath>
#include <memory>

#include <ATen/core/Tensor.h>
#include <c10/core/GradMode.h>

#include "espalier/builder.h"
#include "espalier/optimizer.h"
#include "espalier/testkit.h"

namespace espalier::testkit {

namespace {

constexpr int64_t classes = 3, samples = 16;

// The same network and data as in Python. It prints {name: values} and, under "report", what the optimizer reports.
constexpr const char* training = R"py(
import json, sys, torch
from torch import nn
data = json.loads(sys.argv[1])
torch.set_default_dtype(torch.float64)
model = nn.ModuleDict({"conv": nn.Conv2d(2, 4, 3), "bn": nn.BatchNorm2d(4), "fc": nn.Linear(64, 3)})
named = dict(model.named_parameters())
with torch.no_grad():
    for k, v in data["weights"].items():
        named[k].copy_(torch.tensor(v).reshape(named[k].shape))
p = list(model.parameters())
exec(sys.argv[3])
optimizer = eval(sys.argv[2])
x, y = torch.tensor(data["x"]).reshape(16, 2, 6, 6), torch.tensor(data["y"]).long()
for _ in range(int(sys.argv[4])):
    optimizer.zero_grad()
    h = torch.relu(model["bn"](model["conv"](x)))
    nn.functional.cross_entropy(model["fc"](h.flatten(1)), y).backward()
    optimizer.step()
result = {k: v.detach().flatten().tolist() for k, v in named.items()}
if hasattr(optimizer, "report"):
    result["report"] = optimizer.report(named)
print(json.dumps(result))
)py";

std::vector<double> numbers(const at::Tensor& t) {
  const at::Tensor c = t.detach().to(at::kDouble).contiguous();
  const auto* first = c.const_data_ptr<double>();
  return {first, first + c.numel()};
}

}  // namespace

Graph small_network() {
  GraphBuilder g({2, 6, 6});
  const Edge x = g.relu(g.batch_norm("bn", g.conv("conv", g.input(), {.filters = 4, .kernel = 3})));
  return g.output(g.linear("fc", g.flatten(x), {.features = classes}));
}

OptimizerComparison compare_optimizer(const std::string& python, const OptimizerTrial& trial) {
  OptimizerComparison found;
  found.graph = small_network();
  const Graph& g = found.graph;
  found.weights = std::make_unique<Weights>(g, at::kDouble, at::kCPU);
  Weights& w = *found.weights;
  w.initialize(g, RandomKey(2));
  const Value spec = from_json(trial.spec);
  const auto optimizer = Registry::instance().create<Optimizer>(spec);
  optimizer->attach(g, w, {}, spec.at("use").as_string());
  const at::Tensor x = input_of(g, samples, 1), y = target_of(classes, samples, 1);
  Value start = Value::map({{"x", Value(numbers(x))}, {"y", Value(numbers(y))}});
  const std::vector<ParamId> parameters = Selector("all").match(g);
  std::map<std::string, std::vector<double>> before;
  for (const ParamId p : parameters) {
    before[g[p].name] = numbers(w[p]);
    start["weights"][g[p].name] = Value(before[g[p].name]);
  }
  for (int64_t step = 0; step < trial.steps; ++step) {
    w.zero_gradients();
    cross_entropy(g, w, x, y, {.training = true, .key = RandomKey()}).backward();
    const c10::NoGradGuard no_grad;
    optimizer->step(w, optimizer->learning_rate());
  }
  const Value end =
      from_json(run_python(python, training, {to_json(start), trial.torch, trial.python, std::to_string(trial.steps)}));
  for (const ParamId p : parameters) {
    const std::string& name = g[p].name;
    const std::vector<double> ours = numbers(w[p]);
    const std::vector<Value>& theirs = end.at(name).as_list();
    double apart = 0, gone = 0;
    for (size_t i = 0; i < ours.size(); ++i) {
      apart = std::max(apart, std::abs(ours[i] - theirs[i].as_double()));
      gone = std::max(gone, std::abs(ours[i] - before[name][i]));
    }
    found.differences[name] = apart;
    found.moved[name] = gone;
  }
  if (const Value* report = end.find("report")) found.report = *report;
  return found;
}

}  // namespace espalier::testkit
