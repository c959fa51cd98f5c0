#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <unistd.h>

#include <espalier/edit.h>
#include <espalier/execute.h>

#include "../optimizer_reference.h"

namespace espalier {
namespace {

Value values_of(const at::Tensor& t) {
  const at::Tensor c = t.detach().to(at::kDouble).contiguous();
  const auto* first = c.const_data_ptr<double>();
  return Value(std::vector<double>(first, first + c.numel()));
}

// The authors' step for a list of tensors, as facts and paper 000 give it; written without the code under test.
constexpr const char* transcription = R"py(
class Lbi:
    def __init__(self, p, lr, kappa=1.0, nu=100.0, lam=1.0, momentum=0.9, wd=0.0, nesterov=False, rms=False,
                 scale_z=False, groups=True, linear=True):
        self.p, self.__dict__ = p, {**locals(), "p": p}
        self.history = {}
        self.buffer = [None] * len(p)
        self.z, self.gamma = [torch.zeros_like(q) for q in p], [torch.zeros_like(q) for q in p]
    def zero_grad(self):
        for q in self.p: q.grad = None
    @torch.no_grad()
    def step(self):
        for i, q in enumerate(self.p):
            g = q.grad + (self.wd * q if q.dim() > 1 else 0)
            self.buffer[i] = g.clone() if self.buffer[i] is None else self.momentum * self.buffer[i] + g
            d = g + self.momentum * self.buffer[i] if self.nesterov else self.buffer[i]
            if q.dim() == 1 or (q.dim() == 2 and not self.linear):
                q -= self.lr * self.kappa * d
                continue
            before = q.clone()
            q -= self.lr * self.kappa * d + self.lr * self.kappa / self.nu * (before - self.gamma[i])
            self.z[i] = self.z[i] - self.lr / (self.nu * (self.kappa if self.scale_z else 1)) * (self.gamma[i] - before)
            if q.dim() == 4 and self.groups:
                n = self.z[i].flatten(1).norm(dim=1)
                if self.rms: n = n / self.z[i][0].numel() ** 0.5
                n = n.reshape(-1, 1, 1, 1)
                self.gamma[i] = self.kappa * torch.where(n > self.lam, (1 - self.lam / n) * self.z[i], 0 * self.z[i])
            else:
                self.gamma[i] = self.kappa * torch.sign(self.z[i]) * torch.clamp(self.z[i].abs() - self.lam, min=0)
            if q.dim() == 4:
                self.history.setdefault(i, []).append((self.gamma[i] != 0).flatten(1).any(1))
    def report(self, named):
        names = {id(v): k for k, v in named.items()}
        moves = {"entered": 0, "left": 0}
        for h in self.history.values():
            now, before = torch.stack(h[1:]), torch.stack(h[:-1])
            moves["entered"] += (now & ~before).sum().item()
            moves["left"] += (before & ~now).sum().item()
        return {"moves": moves} | {
                names[id(q)]: {"z": z.flatten().tolist(), "support": (g != 0).double().flatten(1).mean(1).tolist()}
                for q, z, g in zip(self.p, self.z, self.gamma) if q.dim() == 4 or (q.dim() == 2 and self.linear)}
)py";

std::vector<OptimizerCase> cases() {
  std::vector<OptimizerCase> all = {
      {"as the authors", R"({"use": "lbi", "lr": 0.05, "nu": 3})", "Lbi(p, lr=.05, nu=3)"},
      {"without momentum, with weight decay",
       R"({"use": "lbi", "lr": 0.1, "nu": 4, "lambda": 0.3, "momentum": 0, "weight_decay": 0.02})",
       "Lbi(p, lr=.1, nu=4, lam=.3, momentum=0, wd=.02)"},
      {"momentum and weight decay", R"({"use": "lbi", "lr": 0.05, "nu": 3, "lambda": 0.3, "weight_decay": 0.01})",
       "Lbi(p, lr=.05, nu=3, lam=.3, wd=.01)"},
      {"kappa, nesterov, root mean squares",
       R"({"use": "lbi", "lr": 0.02, "kappa": 2, "nu": 3, "lambda": 0.25, "nesterov": true, "threshold": "rms"})",
       "Lbi(p, lr=.02, kappa=2, nu=3, lam=.25, nesterov=True, rms=True)"},
      {"Z scaled by kappa", R"({"use": "lbi", "lr": 0.05, "kappa": 1.5, "nu": 2, "lambda": 0.3, "scale_z": true})",
       "Lbi(p, lr=.05, kappa=1.5, nu=2, lam=.3, scale_z=True)"},
      {"weight by weight", R"({"use": "lbi", "lr": 0.05, "nu": 3, "lambda": 0.2, "groups": false})",
       "Lbi(p, lr=.05, nu=3, lam=.2, groups=False)"},
  };
  for (OptimizerCase& c : all) c.python = transcription, c.steps = 200;
  return all;
}

TEST(Lbi, EqualsATranscriptionOfTheAuthorsStepsOverTwoHundred) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  for (const OptimizerCase& c : cases()) {
    expect_equal_to_pytorch(c, [](const Graph& g, const Weights& w, const Value& report) {
      double selected = 0;
      for (const char* name : {"conv.weight", "fc.weight"}) {
        const ParamId p = g.parameter(name);
        const Value z = values_of(w.state("lbi.z", p));
        const Value support = values_of(w.state("lbi.support", p));
        const Value& theirs = report.at(name);
        for (size_t i = 0; i < z.size(); ++i)
          ASSERT_NEAR(z.as_list()[i].as_double(), theirs.at("z").as_list()[i].as_double(), 1e-9) << name;
        for (size_t i = 0; i < support.size(); ++i) {
          ASSERT_NEAR(support.as_list()[i].as_double(), theirs.at("support").as_list()[i].as_double(), 1e-12) << name;
          selected += support.as_list()[i].as_double();
        }
      }
      EXPECT_GT(selected, 0);  // else Gamma took no part
    });
  }
}

// A residual network of unequal widths with batch norm, on four batches in turn: filters enter and leave the support at
// different steps, and weights without Gamma stand beside those that have one.
Graph residual_network() {
  GraphBuilder g({3, 8, 8});
  const auto conv_bn = [&](const std::string& n, Edge x, int64_t filters, int64_t stride) {
    return g.batch_norm("bn" + n,
                        g.conv("conv" + n, x, {.filters = filters, .stride = stride, .padding = 1, .bias = false}));
  };
  Edge x = g.relu(conv_bn("0", g.input(), 8, 1));
  for (const auto& [name, width] : {std::pair{"1", 8}, {"2", 12}, {"3", 16}}) {
    const int64_t stride = g.channels(x) == width ? 1 : 2;
    const Edge shortcut = stride == 1 ? x : g.pad_or_crop(x, width, stride);
    const Edge y =
        conv_bn(name + std::string("b"), g.relu(conv_bn(name + std::string("a"), x, width, stride)), width, 1);
    x = g.relu(g.add(y, shortcut));
  }
  return g.output(g.linear("fc", g.global_avg_pool(x), {.features = 3}));
}

constexpr const char* residual_training = R"py(
import json, sys, torch
from torch import nn
import torch.nn.functional as F
data = json.load(open(sys.argv[1]))
torch.set_default_dtype(torch.float64)
exec(sys.argv[2])
x = torch.tensor(data["x"]).reshape(-1, 3, 8, 8)
y = torch.tensor(data["y"]).long()
results = []
for setting in data["settings"]:
    P = {k: nn.Parameter(torch.tensor(v["values"]).reshape(v["sizes"])) for k, v in data["weights"].items()}
    p = list(P.values())
    optimizer = eval(setting)
    def bn(n, h): return F.batch_norm(h, None, None, P[f"bn{n}.weight"], P[f"bn{n}.bias"], training=True)
    def conv(n, h, stride=1): return bn(n, F.conv2d(h, P[f"conv{n}.weight"], stride=stride, padding=1))
    trace = []
    for step in range(data["steps"]):
        optimizer.zero_grad()
        at = 32 * (step % 4)
        h = torch.relu(conv("0", x[at:at + 32]))
        for n in "123":
            more = P[f"conv{n}b.weight"].shape[0] - h.shape[1]
            stride = 2 if more else 1
            s = F.pad(h[:, :, ::stride, ::stride], (0, 0, 0, 0, more // 2, more - more // 2))
            h = torch.relu(conv(n + "b", torch.relu(conv(n + "a", h, stride))) + s)
        F.cross_entropy(F.linear(h.mean((2, 3)), P["fc.weight"], P["fc.bias"]), y[at:at + 32]).backward()
        optimizer.step()
        trace.append({k: float((v.detach().flatten() * torch.arange(1, v.numel() + 1).sin()).sum())
                      for k, v in P.items()})
    results.append({"trace": trace, "moves": optimizer.report(P)["moves"]})
print(json.dumps(results))
)py";

// One number for all elements of a parameter, each with a factor of its own, after every step of the training above.
std::vector<std::map<std::string, double>> trace_of(const Graph& g, const std::string& spec, int steps,
                                                    const at::Tensor& x, const at::Tensor& y) {
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(2));
  const auto optimizer = Registry::instance().create<Optimizer>(from_json(spec));
  optimizer->attach(g, w, {}, "lbi");
  std::vector<std::map<std::string, double>> trace;
  for (int step = 0; step < steps; ++step) {
    w.zero_gradients();
    const int64_t at = 32 * (step % 4);
    testkit::cross_entropy(g, w, x.narrow(0, at, 32), y.narrow(0, at, 32), {.training = true, .key = RandomKey()})
        .backward();
    const c10::NoGradGuard no_grad;
    optimizer->step(w, optimizer->learning_rate());
    trace.emplace_back();
    for (const ParamId p : Selector("all").match(g)) {
      const at::Tensor values = w[p].detach().contiguous().flatten();
      trace.back()[g[p].name] = (values * at::arange(1, values.numel() + 1, at::kDouble).sin()).sum().item<double>();
    }
  }
  return trace;
}

TEST(Lbi, EqualsTheTranscriptionOnAResidualNetwork) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblbi.so");
  constexpr int steps = 50;
  const std::vector<std::pair<const char*, const char*>> settings = {
      {R"({"use": "lbi", "lr": 0.05, "nu": 0.2, "weight_decay": 0.05})", "Lbi(p, lr=.05, nu=.2, wd=.05)"},
      {R"({"use": "lbi", "lr": 0.05, "nu": 0.2, "lambda": 0.2, "weight_decay": 0.5})",
       "Lbi(p, lr=.05, nu=.2, lam=.2, wd=.5)"},
      {R"({"use": "lbi", "lr": 0.05, "nu": 0.5, "kappa": 2, "weight_decay": 0.0005})",
       "Lbi(p, lr=.05, nu=.5, kappa=2., wd=.0005)"},
      {R"({"use": "lbi", "lr": 0.05, "nu": 1, "sparse_on": "convolutions"})", "Lbi(p, lr=.05, nu=1, linear=False)"}};
  const Graph g = residual_network();
  Weights begin(g, at::kDouble, at::kCPU);
  begin.initialize(g, RandomKey(2));
  const at::Tensor x = testkit::input_of(g, 128, 1), y = testkit::target_of(3, 128, 1);
  Value start = Value::map({{"x", values_of(x)}, {"y", values_of(y)}, {"steps", int64_t{steps}}});
  for (const ParamId p : Selector("all").match(g))
    start["weights"][g[p].name] = Value::map({{"sizes", begin[p].sizes().vec()}, {"values", values_of(begin[p])}});
  start["settings"] = Value::list();
  for (const auto& [ours, theirs] : settings) start["settings"].push_back(theirs);
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("espalier-lbi-" + std::to_string(getpid()) + ".json");
  std::ofstream(file) << to_json(start);
  const Value results =
      from_json(testkit::run_python(ESPALIER_PYTHON, residual_training, {file.string(), transcription}));
  std::filesystem::remove(file);
  int64_t left = 0;
  for (size_t i = 0; i < settings.size(); ++i) {
    const auto& [ours, theirs] = settings[i];
    const Value& result = results.as_list()[i];
    EXPECT_GT(result.at("moves").at("entered").as_int(), 0) << ours << ": else Gamma took no part";
    left += result.at("moves").at("left").as_int();
    const auto trace = trace_of(g, ours, steps, x, y);
    for (size_t step = 0; step < trace.size(); ++step) {
      for (const auto& [name, number] : trace[step]) {
        // Rounding of float64, grown over the steps of a network that is not convex.
        ASSERT_NEAR(number, result.at("trace").as_list()[step].at(name).as_double(), 1e-9)
            << ours << ": " << name << " after step " << step;
      }
    }
  }
  EXPECT_GT(left, 0) << "no filter left the support";
}

// y = X w + noise, with loss |y - X w|^2 / 2n.
struct SparseModel {
  at::Tensor gram, right;  // X'X / n and X'y / n: the gradient is gram w - right
  double rate;             // .9 / (largest eigenvalue of X'X / n + 1 / nu)

  SparseModel(const at::Tensor& w, uint64_t seed) {
    constexpr int64_t n = 200;
    at::Generator random = at::detail::createCPUGenerator(seed);
    const at::Tensor x = at::randn({n, w.numel()}, random, at::kDouble);
    const at::Tensor y = x.matmul(w) + 0.5 * at::randn({n}, random, at::kDouble);
    gram = (x.t().matmul(x) / n).contiguous();
    right = (x.t().matmul(y) / n).contiguous();
    rate = 0.9 / (at::linalg_eigvalsh(gram).max().item<double>() + 0.1);
  }
  at::Tensor least_squares() const { return at::linalg_solve(gram, right); }
};

// The step at which each of the parameter's filters (or single weights) first has a Gamma, -1: never.
std::vector<int> path(const SparseModel& model, const Graph& g, Weights& w, ParamId p, bool groups) {
  const auto lbi =
      Registry::instance().create<Optimizer>(from_json(R"({"use": "lbi", "lr": 0.1, "nu": 10, "momentum": 0})"));
  lbi->attach(g, w, {}, "lbi");
  const int64_t n = w[p].numel();
  const auto* gram = model.gram.const_data_ptr<double>();
  const auto* right = model.right.const_data_ptr<double>();
  const auto* values = w[p].const_data_ptr<double>();
  auto* gradient = at::Tensor(w.gradient(p)).mutable_data_ptr<double>();
  const auto* z = w.state("lbi.z", p).const_data_ptr<double>();
  const auto* support = w.state("lbi.support", p).const_data_ptr<double>();
  std::vector<int> entered(static_cast<size_t>(groups ? w[p].size(0) : n), -1);
  for (int step = 0; step < 3000; ++step) {
    for (int64_t i = 0; i < n; ++i) gradient[i] = std::inner_product(values, values + n, gram + i * n, -right[i]);
    lbi->step(w, model.rate);
    for (size_t i = 0; i < entered.size(); ++i)
      if (entered[i] < 0 && (groups ? support[i] > 0 : std::abs(z[i]) > 1)) entered[i] = step;
  }
  return entered;
}

// Whether all of the first `active` entered, and before any other.
bool true_support_first(const std::vector<int>& entered, size_t active) {
  int last_true = -1;
  for (size_t i = 0; i < active; ++i) {
    if (entered[i] < 0) return false;
    last_true = std::max(last_true, entered[i]);
  }
  return std::all_of(entered.begin() + static_cast<std::ptrdiff_t>(active), entered.end(),
                     [&](int e) { return e < 0 || e > last_true; });
}

// Proposition of the paper's dynamics (and of Osher et al. 2016), on the convex case: 000-A2.
void expect_paths(bool groups) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblbi.so");
  int good = 0;
  constexpr int seeds = 100;
  const c10::NoGradGuard no_grad;
  for (int seed = 0; seed < seeds; ++seed) {
    at::Tensor truth;
    Graph g = [&] {
      if (!groups) {
        GraphBuilder b({50, 1, 1});
        return b.output(b.linear("fc", b.flatten(b.input()), {.features = 1, .bias = false}));
      }
      GraphBuilder b({5, 1, 1});
      return b.output(b.flatten(b.conv("conv", b.input(), {.filters = 12, .kernel = 1, .bias = false})));
    }();
    at::Generator random = at::detail::createCPUGenerator(1000 + static_cast<uint64_t>(seed));
    if (groups) {
      truth = at::randn({12, 5}, random, at::kDouble);
      truth = truth / truth.norm(2, 1, true);
      truth.slice(0, 4).zero_();
    } else {
      truth = at::zeros({50}, at::kDouble);
      truth.slice(0, 0, 10).copy_(at::randn({10}, random, at::kDouble).sign());
    }
    const SparseModel model(truth.flatten(), static_cast<uint64_t>(seed));
    Weights w(g, at::kDouble, at::kCPU);
    const ParamId p = g.parameter(groups ? "conv.weight" : "fc.weight");
    good += true_support_first(path(model, g, w, p, groups), groups ? 4 : 10);
    // "ends within 1 % of the least-squares solution"
    const at::Tensor solution = model.least_squares();
    EXPECT_LE((w[p].detach().flatten() - solution).norm().item<double>(), 0.01 * solution.norm().item<double>())
        << "seed " << seed;
  }
  EXPECT_GE(good, 98) << "of " << seeds;
}

TEST(Lbi, SelectsTheTrueWeightsOfALinearModelFirst) {
  expect_paths(false);
}
TEST(Lbi, SelectsTheTrueGroupsOfALinearModelFirst) {
  expect_paths(true);
}

TEST(Lbi, KeepsGammaTheProximalMapOfZThroughEdits) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblbi.so");
  Graph g = small_network();
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(1));
  const auto lbi = Registry::instance().create<Optimizer>(from_json(R"({"use": "lbi", "lambda": 0.5, "kappa": 2})"));
  lbi->attach(g, w, {}, "lbi");
  // Units of the last layer see each filter's 16 pixels; Z of the filters: norms .3, .6, 1, 2.
  const at::Tensor z = w.state("lbi.z", g.parameter("conv.weight"));
  z.fill_(1);
  z.mul_(at::Tensor(at::arange(4, at::kDouble)).add_(1).view({4, 1, 1, 1}) * 0.5 / z[0].norm());
  apply(g, {&w}, {shrink(g, g.axis("conv"), {0, 1, 3}), grow(g, g.axis("conv"), 1, "random", RandomKey(3))});
  lbi->attach(g, w, {}, "lbi");
  const Value scale = values_of(w.state("lbi.scale", g.parameter("conv.weight")));
  const Value support = values_of(w.state("lbi.support", g.parameter("conv.weight")));
  const std::vector<double> expected = {0, 2 * (1 - .5 / 1), 2 * (1 - .5 / 2), 0};  // kappa (1 - lambda / norm)
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(scale.as_list()[i].as_double(), expected[i], 1e-12) << i;
    EXPECT_EQ(support.as_list()[i].as_double(), expected[i] > 0 ? 1 : 0) << i;
  }
}

TEST(Lbi, IsPlainDescentWithoutGamma) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblbi.so");
  const Graph g = small_network();
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(1));
  const auto lbi = Registry::instance().create<Optimizer>(
      from_json(R"({"use": "lbi", "momentum": 0, "nu": 2, "sparse_on": "conv", "kappa": 3})"));
  lbi->attach(g, w, {}, "lbi");
  const at::Tensor fc = w[g.parameter("fc.weight")].detach().clone();
  const at::Tensor conv = w[g.parameter("conv.weight")].detach().clone();
  at::Tensor(w.bank(Role::weight).gradients.flat()).fill_(1);
  lbi->step(w, 0.1);
  EXPECT_LE((w[g.parameter("fc.weight")].detach() - (fc - 0.3)).abs().max().item<double>(), 1e-14);
  // And with the pull towards Gamma = 0: lr kappa / nu.
  EXPECT_LE((w[g.parameter("conv.weight")].detach() - (conv * (1 - 0.15) - 0.3)).abs().max().item<double>(), 1e-14);
}

// What `plan` says: the norm from which a filter without gradient is still selected by the end of a round.
TEST(Lbi, TellsWhichFiltersCanBeSelectedWithoutGradient) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblbi.so");
  const c10::NoGradGuard no_grad;
  constexpr int steps = 4000;
  for (const char* options :
       {R"({"use": "lbi", "lr": 0.05, "nu": 100})", R"({"use": "lbi", "lr": 0.05, "nu": 100, "weight_decay": 0.0005})",
        R"({"use": "lbi", "lr": 0.05, "nu": 150, "weight_decay": 0.0005, "momentum": 0, "lambda": 0.5, "kappa": 2})"}) {
    const Graph g = small_network();
    Weights w(g, at::kDouble, at::kCPU);
    w.initialize(g, RandomKey(1));
    const auto lbi = Registry::instance().create<Optimizer>(from_json(options));
    lbi->attach(g, w, {}, "lbi");
    const auto initial = [&]() -> const Weights& { return w; };
    const std::string text = lbi->outlook(g, initial, Selector("all"), steps).at(1);
    const std::string before = "where it begins above ";
    ASSERT_NE(text.find(before), std::string::npos) << text;
    const double norm = std::stod(text.substr(text.find(before) + before.size()));
    const ParamId conv = g.parameter("conv.weight");
    at::Tensor values = w[conv];
    for (int64_t i = 0; i < 2; ++i) values[i].mul_((i ? 1.02 : 0.98) * norm / values[i].norm());
    at::Tensor(w.bank(Role::weight).gradients.flat()).zero_();
    for (int step = 0; step < steps; ++step) lbi->step(w, 0.05);
    const Value support = values_of(w.state("lbi.support", conv));
    EXPECT_EQ(support.as_list()[0].as_double(), 0) << options << ": " << text;
    EXPECT_EQ(support.as_list()[1].as_double(), 1) << options << ": " << text;
  }
}

}  // namespace
}  // namespace espalier
