#include "../optimizer_reference.h"

namespace espalier {
namespace {

const std::vector<OptimizerCase> cases = {
    {.name = "plain",
     .spec = R"({"use": "adagrad", "lr": 0.05})",
     .torch = "torch.optim.Adagrad(p, lr=0.05)",
     .of_rounding = 1e-6},  // 100 steps of 0.05 * 1e-17 / 1e-10, with room
    {"all options", R"({"use": "adagrad", "lr": 0.05, "lr_decay": 0.02, "eps": 1e-6, "weight_decay": 0.1})",
     "torch.optim.Adagrad(p, lr=0.05, lr_decay=0.02, eps=1e-6, weight_decay=0.1)"},
};

TEST(Adagrad, EqualsPyTorchOverAHundredSteps) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  for (const OptimizerCase& c : cases) expect_equal_to_pytorch(c);
}

}  // namespace
}  // namespace espalier
