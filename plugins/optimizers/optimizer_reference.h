#pragma once

// Optimizers against PyTorch's (or another transcription in Python): 100 steps of a small network on the same data from
// the same weights.
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/max.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/edit.h>
#include <espalier/execute.h>
#include <espalier/optimizer.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>

namespace espalier {

inline Graph small_network() {
  GraphBuilder g({2, 6, 6});
  Edge x = g.relu(g.batch_norm("bn", g.conv("conv", g.input(), {.filters = 4, .kernel = 3})));
  return g.output(g.linear("fc", g.flatten(x), {.features = 3}));
}

struct OptimizerCase {
  std::string name;
  std::string spec;
  std::string torch;        // over the list of parameters p
  std::string python = {};  // what it needs defined
  int steps = 100;
  std::string plugin = {};  // empty: of the optimizer's name
  // How far a bias without a gradient may go: rounding (1e-17 and less), divided by an eps of the optimizer's.
  double of_rounding = 1e-9;
};

inline Value values_of(const at::Tensor& t) {
  const at::Tensor c = t.detach().to(at::kDouble).contiguous();
  const auto* first = c.const_data_ptr<double>();
  return Value(std::vector<double>(first, first + c.numel()));
}

// `look`, if any, sees the network after the last step, and what the reference's report() tells.
inline void expect_equal_to_pytorch(
    const OptimizerCase& c, const std::function<void(const Graph&, const Weights&, const Value& report)>& look = {}) {
  SCOPED_TRACE(c.name);
  const std::string python = ESPALIER_PYTHON;
  const std::string name = from_json(c.spec).at("use").as_string();
  testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + (c.plugin.empty() ? name : c.plugin) + ".so");
  const Graph g = small_network();
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(2));
  const auto optimizer = Registry::instance().create<Optimizer>(from_json(c.spec));
  optimizer->attach(g, w, {}, name);
  const at::Tensor x = testkit::input_of(g, 16, 1);
  const at::Tensor y = testkit::target_of(3, 16, 1);
  Value start = Value::map({{"x", values_of(x)}, {"y", values_of(y)}});
  for (const ParamId p : Selector("all").match(g)) start["weights"][g[p].name] = values_of(w[p]);

  for (int step = 0; step < c.steps; ++step) {
    w.zero_gradients();
    testkit::cross_entropy(g, w, x, y, {.training = true, .key = RandomKey()}).backward();
    const c10::NoGradGuard no_grad;
    optimizer->step(w, optimizer->learning_rate());
  }

  const Value end = from_json(testkit::run_python(python, R"py(
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
)py",
                                                  {to_json(start), c.torch, c.python, std::to_string(c.steps)}));

  for (const ParamId p : Selector("all").match(g)) {
    const Value ours = values_of(w[p]);
    const Value& theirs = end.at(g[p].name);
    double error = 0;
    double moved = 0;
    for (size_t i = 0; i < ours.size(); ++i) {
      error = std::max(error, std::abs(ours.as_list()[i].as_double() - theirs.as_list()[i].as_double()));
      moved = std::max(
          moved, std::abs(ours.as_list()[i].as_double() - start.at("weights").at(g[p].name).as_list()[i].as_double()));
    }
    // float64 rounding, grown over 100 steps of a network that is not convex.
    EXPECT_LE(error, g[p].name == "conv.bias" ? c.of_rounding : 1e-9) << g[p].name;
    // A bias before batch norm has no gradient but rounding.
    if (g[p].name != "conv.bias") {
      EXPECT_GT(moved, 1e-3) << g[p].name;
    }
  }
  if (look) look(g, w, end.at("report"));
}

}  // namespace espalier
