#include "train/ema.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/random_fill.h"

namespace espalier {
namespace {

Graph network() {
  GraphBuilder b({.channels = 1, .height = 6, .width = 6});
  const Edge x = b.relu(b.batch_norm("bn", b.conv("conv", b.input(), {.filters = 5, .kernel = 3})));
  return b.output(b.linear("fc", b.flatten(x), {.features = 3}));
}

// Other values of everything, statistics too.
void set(const Graph& g, Weights& w, uint64_t step) {
  const c10::NoGradGuard no_grad;
  for (const Parameter& p : g.parameters()) {
    at::Tensor t = w[g.parameter(p.name)];
    t.copy_(normal(t.sizes().vec(), 1, RandomKey(step).with(p.name)));
  }
}

at::Tensor value(const Graph& g, const Weights& w, const char* name) {
  return w[g.parameter(name)].detach().clone();
}

TEST(Ema, IsTheGeometricMeanOfWhatWas) {
  const Graph g = network();
  Weights w(g, at::kDouble, at::kCPU);
  set(g, w, 0);
  Ema ema({.decay = 0.8}, g, w);
  for (const char* name : {"conv.weight", "bn.running_var", "fc.bias"}) {
    EXPECT_TRUE(value(g, *ema.weights(), name).equal(value(g, w, name))) << "it begins with the network: " << name;
  }
  for (uint64_t t = 1; t <= 4; ++t) {
    set(g, w, t);
    ema.step(w);
  }
  for (const char* name : {"conv.weight", "bn.weight", "bn.running_mean", "bn.running_var", "fc.bias"}) {
    const std::vector<int64_t> sizes = w[g.parameter(name)].sizes().vec();
    at::Tensor expected = normal(sizes, 1, RandomKey(0).with(name)) * std::pow(0.8, 4);
    for (uint64_t t = 1; t <= 4; ++t)
      expected = expected + normal(sizes, 1, RandomKey(t).with(name)) * 0.2 * std::pow(0.8, 4 - static_cast<double>(t));
    EXPECT_TRUE(value(g, *ema.weights(), name).allclose(expected, 1e-12, 1e-12)) << name;
  }
}

TEST(Ema, TakesMoreOfTheNetworkWhileItWarmsUp) {
  const Graph g = network();
  Weights w(g, at::kDouble, at::kCPU);
  set(g, w, 0);
  const at::Tensor first = value(g, w, "conv.weight");
  Ema ema({.decay = 0.999, .warmup = 10}, g, w);
  set(g, w, 1);
  ema.step(w);
  // In step 1 the decay is 2 / 11.
  const at::Tensor expected = first * (2.0 / 11) + value(g, w, "conv.weight") * (9.0 / 11);
  EXPECT_TRUE(value(g, *ema.weights(), "conv.weight").allclose(expected, 1e-12, 1e-12));
}

TEST(Ema, FollowsEditsAsSlicingByHandDoes) {
  Graph g = network();
  Weights w(g, at::kDouble, at::kCPU);
  set(g, w, 0);
  Ema ema({.decay = 0.5}, g, w);
  set(g, w, 1);
  ema.step(w);
  const at::Tensor conv = value(g, *ema.weights(), "conv.weight"), fc = value(g, *ema.weights(), "fc.weight"),
                   variance = value(g, *ema.weights(), "bn.running_var");
  apply(g, {&w, ema.weights().get()}, {shrink(g, g.axis("conv"), {0, 2, 4})});
  const at::Tensor kept = at::tensor({0, 2, 4}, at::kLong);
  EXPECT_TRUE(value(g, *ema.weights(), "conv.weight").equal(conv.index_select(0, kept)));
  EXPECT_TRUE(value(g, *ema.weights(), "bn.running_var").equal(variance.index_select(0, kept)));
  // Sixteen pixels for each channel.
  EXPECT_TRUE(
      value(g, *ema.weights(), "fc.weight").equal(fc.reshape({3, 5, 16}).index_select(1, kept).reshape({3, 48})));
  set(g, w, 2);
  ema.step(w);
  EXPECT_TRUE(value(g, *ema.weights(), "conv.weight")
                  .allclose(0.5 * conv.index_select(0, kept) + 0.5 * value(g, w, "conv.weight"), 1e-12, 1e-12))
      << "and goes on";
}

}  // namespace
}  // namespace espalier
