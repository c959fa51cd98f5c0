// What components compute on a GPU, against what they compute on the CPU. The checks are there where a GPU is.
#include <filesystem>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/operation_trial.h"
#include "check/samples.h"
#include "espalier/optimizer.h"
#include "espalier/random_fill.h"
#include "espalier/regularizer.h"

namespace espalier {

namespace {

// Of the largest value, in float32: the two add in another order.
constexpr double tolerance = 1e-3;

// By the device files: asking CUDA would begin it in a process that makes copies of itself later.
bool has_gpu() {
  for (int i = 0; i < 16; ++i) {
    if (std::filesystem::exists("/dev/nvidia" + std::to_string(i))) return true;
  }
  return false;
}

void expect_same_parameters(const std::string& what, const Graph& g, const Weights& cpu, const Weights& gpu) {
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    expect_near(what + " of '" + g[p].name + "' as on the CPU", cpu[p].detach(), gpu[p].detach().cpu(), tolerance);
    if (g[p].role == Role::buffer) continue;
    expect_near("the gradient of '" + g[p].name + "' as on the CPU", cpu.gradient(p), gpu.gradient(p).cpu(), tolerance);
  }
}

std::string check_operation(const Registered& r) {
  const OperationTrial t = operation_trial(r);
  for (const bool training : {false, true}) {
    Weights cpu(t.graph, at::kFloat, at::kCPU), gpu(t.graph, at::kFloat, at::kCUDA);
    fill(t.graph, cpu);
    fill(t.graph, gpu);
    const Pass pass{.training = training, .key = trial_key};
    NamedTensors fed = feed(t.graph, 5, at::kFloat), moved;
    for (const auto& [name, x] : fed) moved.emplace_back(name, x.to(at::kCUDA));
    const auto y = outputs_of(t.graph, cpu, fed, pass), z = outputs_of(t.graph, gpu, moved, pass);
    for (size_t i = 0; i < y.size(); ++i) {
      const std::string what = "output " + std::to_string(i) + (training ? " in training" : " in evaluation");
      expect(z[i].is_cuda(), what + " on the GPU, where its inputs are", "on the CPU");
      expect_near(what + " as on the CPU", y[i].detach(), z[i].detach().cpu(), tolerance);
    }
    const auto back = [](const std::vector<at::Tensor>& outputs) {
      std::vector<at::Tensor> on_cpu;
      for (const at::Tensor& x : outputs) on_cpu.push_back(x.cpu());
      const at::Tensor sum = mixed(on_cpu);
      if (sum.requires_grad()) sum.backward();
    };
    back(y);
    back(z);
    expect_same_parameters("the value", t.graph, cpu, gpu);
  }
  return {};
}

std::string check_optimizer(const Registered& r) {
  const c10::NoGradGuard no_grad;
  const Graph g = gated_sample();
  Weights cpu(g, at::kFloat, at::kCPU), gpu(g, at::kFloat, at::kCUDA);
  for (Weights* w : {&cpu, &gpu}) {
    fill(g, *w);
    const auto optimizer = make_example<Optimizer>(r);
    optimizer->attach(g, *w, {}, "checked");
    for (int64_t step = 0; step < 3; ++step) {
      for (size_t i = 0; i < g.parameters().size(); ++i) {
        const ParamId p{static_cast<int32_t>(i)};
        if (g[p].role == Role::buffer) continue;
        const RandomKey key = RandomKey(6).with(g[p].name).with(static_cast<uint64_t>(step));
        at::Tensor(w->gradient(p)).copy_(uniform((*w)[p].sizes().vec(), -1, 1, key));
      }
      optimizer->step(*w, optimizer->learning_rate());
    }
  }
  expect_same_parameters("the value after three steps", g, cpu, gpu);
  return {};
}

std::string check_regularizer(const Registered& r) {
  std::string why;
  for (const SampleNetwork& s : sample_networks()) {
    const Graph g = s.build();
    Weights cpu(g, at::kFloat, at::kCPU), gpu(g, at::kFloat, at::kCUDA);
    at::Tensor values[2];
    try {
      for (Weights* w : {&cpu, &gpu}) {
        fill(g, *w);
        const auto regularizer = make_example<Regularizer>(r);
        regularizer->attach(g, *w);
        at::Tensor value = at::zeros({}, at::kDouble).to(w->device());
        regularizer->add(g, *w, value);
        values[w == &gpu] = value.detach().cpu();
      }
    } catch (const Error& e) {  // such as a selector that matches nothing
      if (why.empty()) why = e.what();
      continue;
    }
    expect_near("the value as on the CPU", values[0], values[1], tolerance);
    expect_same_parameters("the value", g, cpu, gpu);
    return {};
  }
  throw CheckSkipped("it takes none of the networks that are tried: " + why);
}

}  // namespace

std::vector<Check> cuda_checks() {
  if (!has_gpu()) return {};
  const std::string doc = "on a GPU the same as on the CPU, in float32";
  return {{Operation::kind, "cuda", doc, check_operation},
          {Optimizer::kind, "cuda", doc, check_optimizer},
          {Regularizer::kind, "cuda", doc, check_regularizer}};
}

}  // namespace espalier
