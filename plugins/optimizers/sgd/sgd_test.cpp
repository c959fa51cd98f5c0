#include "../optimizer_reference.h"

namespace espalier {
namespace {

const std::vector<OptimizerCase> cases = {
    {"plain", R"({"use": "sgd", "lr": 0.1})", "torch.optim.SGD(p, lr=0.1)"},
    {"momentum", R"({"use": "sgd", "lr": 0.05, "momentum": 0.9})", "torch.optim.SGD(p, lr=0.05, momentum=0.9)"},
    {"nesterov", R"({"use": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": true, "weight_decay": 0.01})",
     "torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)"},
    {"decay of weights alone",
     R"({"use": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.02, "decay_on": "weights"})",
     "torch.optim.SGD([{'params': [q for q in p if q.dim() > 1], 'weight_decay': 0.02}, {'params': [q for q in p if "
     "q.dim() == 1]}], lr=0.05, momentum=0.9)"},
};

TEST(Sgd, EqualsPyTorchOverAHundredSteps) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  for (const OptimizerCase& c : cases) expect_equal_to_pytorch(c);
}

TEST(Sgd, DecoupledDecayShrinksTheWeightsAndLeavesTheMomentum) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsgd.so");
  const Graph g = small_network();
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(1));
  const ParamId p = g.parameter("fc.weight");
  const at::Tensor before = w[p].detach().clone();
  const auto sgd = Registry::instance().create<Optimizer>(
      from_json(R"({"use": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.5, "decoupled": true})"));
  sgd->attach(g, w, {}, "sgd");
  sgd->step(w, 0.1);  // no gradient: one factor of 1 - lr * decay
  EXPECT_LE((w[p].detach() - before * 0.95).abs().max().item<double>(), 1e-15);
  EXPECT_EQ(w.state("sgd.momentum", p).abs().max().item<double>(), 0);
}

TEST(Sgd, GoesOnWithItsMomentumAfterAnEdit) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsgd.so");
  Graph g = small_network();
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(1));
  const auto sgd = Registry::instance().create<Optimizer>(from_json(R"({"use": "sgd", "lr": 0.1, "momentum": 0.9})"));
  sgd->attach(g, w, {}, "sgd");
  const ParamId p = g.parameter("conv.weight");
  at::Tensor(w.gradient(p)).fill_(2);
  sgd->step(w, 0.1);  // momentum 2
  const at::Tensor before = w[p].detach().clone();
  apply(g, {&w}, shrink(g, g.axis("conv"), {1, 3}));
  sgd->attach(g, w, {}, "sgd");
  w.zero_gradients();
  sgd->step(w, 0.1);  // only the momentum moves it: 0.1 * 0.9 * 2
  EXPECT_LE((w[p].detach()[1] - (before[3] - 0.18)).abs().max().item<double>(), 1e-14);
}

TEST(Sgd, LeavesAloneWhatIsNotSelected) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsgd.so");
  const Graph g = small_network();
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(1));
  const auto sgd = Registry::instance().create<Optimizer>(from_json(R"({"use": "sgd", "lr": 0.1})"));
  sgd->attach(g, w, "conv", "sgd");
  at::Tensor(w.bank(Role::weight).gradients.flat()).fill_(1);
  const at::Tensor fc = w[g.parameter("fc.weight")].detach().clone();
  const at::Tensor conv = w[g.parameter("conv.weight")].detach().clone();
  sgd->step(w, 0.1);
  EXPECT_TRUE(fc.equal(w[g.parameter("fc.weight")].detach()));
  EXPECT_FALSE(conv.equal(w[g.parameter("conv.weight")].detach()));
}

}  // namespace
}  // namespace espalier
