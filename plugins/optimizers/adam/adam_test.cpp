#include "../optimizer_reference.h"

namespace espalier {
namespace {

const std::vector<OptimizerCase> cases = {
    {"plain", R"({"use": "adam", "lr": 0.01})", "torch.optim.Adam(p, lr=0.01)"},
    {"coupled", R"({"use": "adam", "lr": 0.01, "beta1": 0.5, "weight_decay": 0.1})",
     "torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.999), weight_decay=0.1)"},
    {"adamw", R"({"use": "adam", "lr": 0.01, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1, "decoupled": true})",
     "torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1)"},
    {.name = "adamw by its name",
     .spec = R"({"use": "adamw", "lr": 0.01})",
     .torch = "torch.optim.AdamW(p, lr=0.01)",
     .plugin = "adam"},
};

TEST(Adam, EqualsPyTorchOverAHundredSteps) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  for (const OptimizerCase& c : cases) expect_equal_to_pytorch(c);
}

TEST(Adam, CountsItsStepsThroughEdits) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libadam.so");
  Graph g = small_network();
  Weights w(g, at::kDouble, at::kCPU);
  const auto adam = Registry::instance().create<Optimizer>(from_json(R"({"use": "adam", "lr": 0.1})"));
  adam->attach(g, w, {}, "adam");
  const ParamId p = g.parameter("conv.weight");
  at::Tensor(w.gradient(p)).fill_(3);
  adam->step(w, 0.1);
  apply(g, {&w}, shrink(g, g.axis("conv"), {0, 2}));
  adam->attach(g, w, {}, "adam");
  at::Tensor(w.gradient(p)).fill_(3);
  adam->step(w, 0.1);
  // A constant gradient: bias-corrected, both moments are exact, each step is lr.
  EXPECT_NEAR(w[p].detach().min().item<double>(), -0.2, 1e-7);
  EXPECT_NEAR(w[p].detach().max().item<double>(), -0.2, 1e-7);
  EXPECT_EQ(w.counters().at("adam.steps"), 2);
}

}  // namespace
}  // namespace espalier
