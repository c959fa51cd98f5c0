// Convolutions by Winograd's filtering, against LibTorch's.
#include <ATen/Parallel.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/execute.h"
#include "espalier/isa.h"
#include "espalier/testkit.h"

namespace espalier {
namespace {

struct Case {
  int64_t batch, channels, filters, height, width, padding;
  bool bias;
};

// What one convolution gives: its output and the gradients of its input, weight and, where there is one, bias.
class OneConvolution {
 public:
  explicit OneConvolution(const Case& c) : case_(c), graph_(graph(c)), weights_(graph_, at::kFloat, at::kCPU) {
    weights_.initialize(graph_, RandomKey(3));
    x_ = testkit::input_of(graph_, c.batch, 5, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
    y_ = output(x_).detach();
    gy_ = testkit::input_of(back(), c.batch, 7, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
  }

  at::Tensor output(const at::Tensor& x) const {
    return run(graph_, weights_, {{"input", x}}, {"logits"}, {.training = true, .key = {}})[0];
  }
  std::vector<at::Tensor> computed() {
    weights_.zero_gradients();
    const at::Tensor x = x_.detach().clone(at::MemoryFormat::ChannelsLast).requires_grad_();
    const at::Tensor y = output(x);
    y.backward(gy_);
    std::vector<at::Tensor> all{y.detach(), x.grad()};
    all.push_back(weights_.gradient(graph_.parameter("conv.weight")).clone());
    if (case_.bias) all.push_back(weights_.gradient(graph_.parameter("conv.bias")).clone());
    return all;
  }
  // By LibTorch, of the same numbers.
  std::vector<at::Tensor> by_libtorch(at::ScalarType type) const {
    const at::Tensor x = x_.to(type), w = weights_[graph_.parameter("conv.weight")].detach().to(type);
    const std::vector<int64_t> filters{case_.filters};
    const at::Tensor b = case_.bias ? weights_[graph_.parameter("conv.bias")].detach().to(type) : at::Tensor();
    const int64_t p = case_.padding;
    std::vector<at::Tensor> all{at::conv2d(x, w, b, {1, 1}, {p, p})};
    auto [gx, gw, gb] =
        at::convolution_backward(gy_.to(type), x, w, case_.bias ? at::OptionalIntArrayRef(filters) : std::nullopt,
                                 {1, 1}, {p, p}, {1, 1}, false, {0, 0}, 1, {true, true, case_.bias});
    all.insert(all.end(), {gx, gw});
    if (case_.bias) all.push_back(gb);
    return all;
  }
  Weights& weights() { return weights_; }
  const Graph& graph() const { return graph_; }
  const at::Tensor& x() const { return x_; }

 private:
  static Graph graph(const Case& c) {
    GraphBuilder b({c.channels, c.height, c.width});
    return b.output(
        b.conv("conv", b.input(), {.filters = c.filters, .kernel = 3, .padding = c.padding, .bias = c.bias}));
  }
  // A graph whose input is like the output.
  Graph back() const {
    GraphBuilder b({case_.filters, y_.size(2), y_.size(3)});
    return b.output(b.relu(b.input()));
  }

  Case case_;
  Graph graph_;
  Weights weights_;
  at::Tensor x_, y_, gy_;
};

double error(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& exact) {
  EXPECT_EQ(a.size(), exact.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double largest = exact[i].abs().max().item<double>();
    worst = std::max(worst, (a[i].to(at::kDouble) - exact[i]).abs().max().item<double>() / largest);
  }
  return worst;
}

// Even and odd maps and channels, each padding, whole vectors and parts of them, more than one block of channels and of
// filters.
const Case cases[] = {{6, 16, 16, 8, 8, 1, true},  {9, 13, 18, 7, 6, 1, false},  {10, 8, 27, 9, 12, 0, true},
                      {5, 33, 9, 6, 5, 2, false},  {4, 70, 140, 8, 8, 1, false}, {2, 130, 65, 12, 11, 1, true},
                      {64, 17, 31, 4, 4, 1, true}, {3, 24, 8, 32, 30, 1, false}};

TEST(Winograd, EqualsLibTorchInFloat64) {
  for (const Case& c : cases) {
    OneConvolution one(c);
    const std::vector<at::Tensor> exact = one.by_libtorch(at::kDouble);
    const double plain = error(one.by_libtorch(at::kFloat), exact);
    // The transforms add numbers before the products and after them, each time with its rounding. For normal numbers
    // that is less than twice the error of a direct sum (Lavin & Gray 2016, table 4, has 1.1 of it); 1e-6 is some units
    // in the last place, where LibTorch's sum happens to be exact.
    const std::vector<at::Tensor> computed = one.computed();
    EXPECT_LE(error(computed, exact), std::max(4 * plain, 1e-6))
        << c.channels << " channels, " << c.filters << " filters, " << c.height << " x " << c.width << ", padding "
        << c.padding << ", LibTorch's error " << plain;
    // It is Winograd's that was tried: its rounding is another.
    EXPECT_NE(at::equal(computed[0], one.by_libtorch(at::kFloat)[0]), isa() != Isa::baseline);
  }
}

TEST(Winograd, IsTheSameOnAnyNumberOfThreads) {
  if (isa() == Isa::baseline) GTEST_SKIP() << "this processor computes it by LibTorch";
  const int before = at::get_num_threads();
  for (const Case& c : cases) {
    if (c.bias) continue;  // whose gradient LibTorch sums
    OneConvolution one(c);
    at::set_num_threads(1);
    const std::vector<at::Tensor> expected = one.computed();
    for (const int threads : {2, 3}) {
      at::set_num_threads(threads);
      const std::vector<at::Tensor> computed = one.computed();
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(at::equal(computed[i], expected[i])) << threads << " threads, " << c.channels << " channels, " << i;
    }
    at::set_num_threads(before);
  }
}

TEST(Winograd, AddsToTheGradientAndGivesItAsAValue) {
  OneConvolution one(cases[0]);
  const ParamId weight = one.graph().parameter("conv.weight");
  const auto loss = [&] { return one.output(one.x()).square().sum(); };
  one.weights().zero_gradients();
  loss().backward();
  const at::Tensor once = one.weights().gradient(weight).clone();
  loss().backward();
  EXPECT_TRUE(at::equal(one.weights().gradient(weight), once + once));
  const at::Tensor value = torch::autograd::grad({loss()}, {one.weights()[weight]})[0];
  EXPECT_TRUE(at::equal(value, once));
  EXPECT_TRUE(at::equal(one.weights().gradient(weight), once + once)) << "a value was asked for";
}

// In evaluation the norm behind a convolution is computed with it, and a gate, a sum and ReLU behind that.
TEST(Winograd, WithTheNormBehindItEqualsTheOperationsOneByOneInFloat64) {
  for (const bool bias : {true, false}) {
    for (const bool gated : {true, false}) {
      for (const bool added : {true, false}) {
        for (const bool relu : {true, false}) {
          GraphBuilder b({9, 8, 7});
          Edge x = b.conv("conv", b.input(), {.filters = 9, .kernel = 3, .padding = 1, .bias = bias});
          x = b.batch_norm("norm", x, {});
          if (added) x = b.add({x, b.input()});
          if (relu) x = b.relu(x);
          Graph g = b.output(x);
          if (gated)
            apply(g, {}, {InsertGate{.gate = "s", .edge = "norm", .axis = "", .initial = 1, .role = "weight"}});
          const auto logits = [&](at::ScalarType type, bool fuse) {
            const c10::NoGradGuard no_grad;
            Weights w(g, type, at::kCPU);
            w.initialize(g, RandomKey(3));
            // Scales, shifts and statistics of no round number, the same in both types.
            for (size_t i = 0; i < g.parameters().size(); ++i) {
              const at::Tensor t = w[{static_cast<int32_t>(i)}].detach();
              if (t.dim() > 1) continue;
              for (int64_t k = 0; k < t.numel(); ++k) t.view(-1)[k].fill_(0.75 + 0.125 * static_cast<double>(k % 5));
            }
            const at::Tensor images = testkit::input_of(g, 6, 5).to(type).contiguous(at::MemoryFormat::ChannelsLast);
            return run(g, w, {{"input", images}}, {"logits"}, {.training = false, .key = {}, .fuse = fuse})[0];
          };
          const at::Tensor exact = logits(at::kDouble, false);
          EXPECT_LE(error({logits(at::kFloat, true)}, {exact}), 2e-6)
              << "bias " << bias << ", gate " << gated << ", sum " << added << ", ReLU " << relu;
        }
      }
    }
  }
}

// The second derivative is that of LibTorch's convolution.
TEST(Winograd, HasASecondDerivative) {
  OneConvolution one(cases[1]);
  const at::Tensor w = one.weights()[one.graph().parameter("conv.weight")];
  const auto curvature = [&](const auto& convolve, const at::Tensor& weight) {
    const at::Tensor first = torch::autograd::grad({convolve().pow(3).sum()}, {weight}, {}, true, true)[0];
    return torch::autograd::grad({first.square().sum()}, {weight})[0];
  };
  const at::Tensor exact_w = w.detach().to(at::kDouble).requires_grad_();
  const at::Tensor exact = curvature(
      [&] {
        return at::conv2d(one.x().to(at::kDouble), exact_w, {}, {1, 1}, {cases[1].padding, cases[1].padding});
      },
      exact_w);
  const at::Tensor computed = curvature([&] { return one.output(one.x()); }, w);
  // A sum of thousands of products of float32 numbers, twice.
  EXPECT_LE((computed.to(at::kDouble) - exact).abs().max().item<double>(), 1e-4 * exact.abs().max().item<double>());
}

}  // namespace
}  // namespace espalier
