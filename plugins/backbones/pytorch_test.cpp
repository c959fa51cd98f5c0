// All networks: equal to plain PyTorch, and the same after being written and read.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <espalier/execute.h>
#include <espalier/random_fill.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

void load_backbones() {
  for (const char* name : {"lenet5", "mlp", "vgg16", "resnet_cifar", "resnet", "preresnet", "resnext", "densenet",
                           "mobilenet_v2", "swin", "vit", "darts", "nasbench201", "gcn", "linear"})
    testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + name + ".so");
}

// Small forms, with all that is special about each: padding and cropping shortcuts, maps that no window divides.
constexpr const char* operations =
    R"(["none<-0", "max_pool_3x3<-1", "avg_pool_3x3<-0", "skip_connect<-1", "sep_conv_3x3<-2", "sep_conv_5x5<-0",
        "dil_conv_3x3<-4", "dil_conv_5x5<-1"])";

struct Case {
  std::string spec;
  int64_t size;
};

std::vector<Case> cases() {
  std::string darts = R"({"use": "darts", "layers": 3, "channels": 4, "normal": )";
  darts.append(operations).append(R"(, "reduce": )").append(operations).append("}");
  return {{R"({"use": "resnet20", "widths": [4, 9, 6]})", 8},
          {R"({"use": "resnet50", "width": 0.125})", 48},
          {R"({"use": "preresnet164", "width": 0.25, "select": true})", 8},
          {R"({"use": "resnext29_8x64d", "cardinality": 4, "base_width": 2})", 8},
          {R"({"use": "densenet_bc100", "growth": 2})", 8},
          {R"({"use": "densenet121", "growth": 2})", 32},
          {R"({"use": "mobilenet_v2", "width": 0.25, "stem": "cifar", "dropout": 0})", 16},
          {R"({"use": "swin_t", "dim": 12, "depths": [2, 2], "heads": [2, 3], "window": 3, "drop_path": 0})", 28},
          {R"({"use": "swin_t", "dim": 12, "depths": [2, 2], "heads": [2, 3], "window": 3, "drop_path": 0,
               "shift_first": true})",
           28},
          // The second stage has maps of 4 x 4, less than a window.
          {R"({"use": "swin_t", "dim": 12, "depths": [2, 2], "heads": [2, 3], "window": 5, "drop_path": 0,
               "fixed_window": true})",
           32},
          {R"({"use": "vit_tiny", "patch": 4, "dim": 12, "depth": 2, "heads": 3})", 8},
          {R"({"use": "deit_tiny", "patch": 4, "dim": 12, "depth": 2, "heads": 3, "distillation": true,
               "drop_path": 0})",
           8},
          {darts, 16},
          {R"({"use": "nasbench201", "channels": 4, "cells": 1,
               "cell": "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"})",
           8},
          {R"({"use": "gcn", "dropout": 0})", 5}};
}

// Values of every parameter away from what hides mistakes: no zero biases, no equal scales or statistics.
void fill(const Graph& g, Weights& w) {
  w.initialize(g, RandomKey(1));
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const Parameter& p = g.parameters()[i];
    at::Tensor t = w[{static_cast<int32_t>(i)}];
    const RandomKey key = RandomKey(2).with(p.name);
    if (p.kind == "norm_weight" || p.kind == "running_var") t.copy_(uniform(t.sizes().vec(), 0.5, 1.5, key));
    if (p.kind == "norm_bias" || p.kind == "bias" || p.kind == "running_mean" || p.kind == "embedding")
      t.copy_(normal(t.sizes().vec(), 0.3, key));
  }
}

TEST(Backbones, EqualPlainPyTorch) {
  const std::string python = ESPALIER_PYTHON;
  if (python.empty()) GTEST_SKIP() << "no Python with PyTorch";
  load_backbones();
  Value header = Value::list();
  std::ostringstream values;
  const auto put = [&](Value& tensors, const std::string& name, const at::Tensor& t) {
    const at::Tensor c = t.detach().to(at::kDouble).contiguous();
    values.write(static_cast<const char*>(c.const_data_ptr()), static_cast<std::streamsize>(8 * c.numel()));
    tensors.push_back(Value(Value::List{name, c.sizes().vec()}));
  };
  struct Ours {
    at::Tensor logits;
    std::vector<std::pair<std::string, double>> gradients;
  };
  std::vector<Ours> all;
  for (const Case& c : cases()) {
    const Graph g = testkit::build(c.spec, {3, c.size, c.size}, {5});
    Weights w(g, at::kDouble, at::kCPU);
    fill(g, w);
    const at::Tensor x = testkit::input_of(g, 4, 3), target = testkit::target_of(5, 4, 3);
    Value spec = from_json(c.spec);
    Value tensors = Value::list();
    for (size_t i = 0; i < g.parameters().size(); ++i)
      put(tensors, g.parameters()[i].name, w[{static_cast<int32_t>(i)}]);
    put(tensors, "x", x);
    put(tensors, "target", target);
    spec["tensors"] = tensors;
    header.push_back(spec);
    Ours ours;
    {
      const c10::NoGradGuard no_grad;
      ours.logits = run(g, w, {{"input", x}}, {"logits"})[0].contiguous();
    }
    testkit::cross_entropy(g, w, x, target, {.training = true, .key = RandomKey(1)}).backward();
    for (size_t i = 0; i < g.parameters().size(); ++i) {
      if (g.parameters()[i].role == Role::buffer) continue;
      ours.gradients.emplace_back(g.parameters()[i].name, w.gradient({static_cast<int32_t>(i)}).norm().item<double>());
    }
    all.push_back(std::move(ours));
  }
  const auto file = std::filesystem::temp_directory_path() / ("espalier-networks-" + std::to_string(getpid()));
  std::ofstream(file) << to_json(header) << "\n" << values.str();
  std::ostringstream script;
  script << std::ifstream(ESPALIER_SOURCE_DIR "/plugins/backbones/pytorch_reference.py").rdbuf();
  const Value theirs = from_json(testkit::run_python(python, script.str(), {file.string()}));
  std::filesystem::remove(file);

  ASSERT_EQ(theirs.size(), all.size());
  for (size_t n = 0; n < all.size(); ++n) {
    SCOPED_TRACE(cases()[n].spec);
    const Value::List& logits = theirs.as_list()[n].at("logits").as_list();
    ASSERT_EQ(static_cast<int64_t>(logits.size()), all[n].logits.numel());
    double largest = 0, error = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
      largest = std::max(largest, std::abs(logits[i].as_double()));
      error = std::max(error, std::abs(logits[i].as_double() - all[n].logits.const_data_ptr<double>()[i]));
    }
    EXPECT_LE(error, 1e-10 * largest);
    EXPECT_GT(largest, 0);
    double steepest = 0;
    for (const auto& [name, norm] : all[n].gradients) steepest = std::max(steepest, norm);
    for (const auto& [name, norm] : all[n].gradients)
      EXPECT_NEAR(norm, theirs.as_list()[n].at("gradients").at(name).as_double(), 1e-9 * steepest) << name;
  }
}

TEST(Backbones, AreTheSameAfterBeingWrittenAndRead) {
  load_backbones();
  for (const Registered* r : Registry::instance().all()) {
    if (r->component.kind != Backbone::kind) continue;
    const std::string& name = r->component.name;
    if (name == "recorded") continue;  // reads a file: recorded_test.cpp
    SCOPED_TRACE(name);
    Value spec = Value::map({{"use", name}});
    if (name == "nasbench201")
      spec["cell"] = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|";
    if (name == "vit_tiny") spec["patch"] = 4;
    const int64_t size = name == "gcn" ? 4 : name == "alexnet" ? 67 : 32;
    TargetSpec target{7};
    if (name == "cascade_mask_rcnn") target.task = "detection";
    const Graph g = testkit::build(to_json(spec), {3, size, size}, target);
    const std::string text = to_json(g.to_value());
    EXPECT_EQ(to_json(Graph::from_value(from_json(text)).to_value()), text);
  }
}

}  // namespace
}  // namespace espalier
