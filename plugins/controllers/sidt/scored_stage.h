#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/execute.h>
#include <espalier/random_fill.h>
#include <espalier/testkit.h>

// What the tests of this plugin share.
namespace espalier::sidt_testing {

inline std::unique_ptr<Controller> controller_of(const std::string& use, const std::string& options = "") {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsidt.so");
  return Registry::instance().create<Controller>(
      from_json(R"({"use": ")" + use + "\"" + (options.empty() ? "" : ", " + options) + "}"));
}

inline Graph swin_t(int64_t classes) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libswin.so");
  return testkit::build(R"({"use": "swin_t"})", {3, 224, 224}, {classes});
}

// Two stages of one block and of two, windows of 2 tokens, heads of 4 dimensions.
inline Graph small_swin() {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libswin.so");
  return testkit::build(R"({"use": "swin_t", "patch": 2, "dim": 8, "depths": [1, 2], "heads": [2, 4], "window": 2,
                            "mlp_ratio": 2, "drop_path": 0})",
                        {3, 8, 8}, {5});
}

inline Graph small_vit() {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libvit.so");
  return testkit::build(R"({"use": "vit_tiny", "patch": 4, "dim": 8, "depth": 2, "heads": 2, "mlp_ratio": 2})",
                        {3, 8, 8}, {5});
}

// A run whose weights are far from what they begin with, so that every dimension counts.
struct Stage {
  Stage(Graph graph, const std::string& use, const std::string& options)
      : controller(controller_of(use, options)), run(std::move(graph), 3) {
    run.edit(controller->begin(run.graph()));
    const c10::NoGradGuard no_grad;
    for (size_t i = 0; i < run.graph().parameters().size(); ++i) {
      const Parameter& p = run.graph().parameters()[i];
      at::Tensor t = run.weights()[{static_cast<int32_t>(i)}];
      if (p.kind != "gate") t.copy_(uniform(t.sizes().vec(), -0.5, 0.5, RandomKey(7).with(p.name)));
    }
    x = testkit::input_of(run.graph(), 4, 2);
  }
  at::Tensor logits() {
    const c10::NoGradGuard no_grad;
    return espalier::run(run.graph(), run.weights(), {{"input", x}}, {"logits"}).front();
  }
  at::Tensor scores(const std::string& of) { return run.weights()[run.graph().parameter(of + ".value")].detach(); }
  int64_t size(const std::string& axis) { return run.graph()[run.graph().axis(axis)].size; }
  bool has_gates() {
    return std::ranges::any_of(run.graph().nodes(), [](const Node& n) { return n.op->type() == "gate"; });
  }
  // Every fourth score becomes zero, and the others something else than one. Returns how many there are.
  int64_t zero_a_quarter() {
    const c10::NoGradGuard no_grad;
    int64_t all = 0;
    for (const Parameter& p : run.graph().parameters()) {
      if (p.kind != "gate") continue;
      at::Tensor a = run.weights()[run.graph().parameter(p.name)].detach();
      a.copy_(uniform(a.sizes().vec(), 0.5, 2, RandomKey(5).with(p.name)));
      for (int64_t i = 1; i < a.numel(); i += 4) a[i].fill_(0);
      all += a.numel();
    }
    return all;
  }

  std::unique_ptr<Controller> controller;
  testkit::TestRun run;
  at::Tensor x;
};

inline double largest(const at::Tensor& t) {
  return t.abs().max().item<double>();
}

}  // namespace espalier::sidt_testing
