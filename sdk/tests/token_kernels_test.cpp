// The CPU's own forms of what transformers compute for each token (GELU, layer norm), against LibTorch's in float64.
#include <limits>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "espalier/builder.h"
#include "espalier/execute.h"
#include "espalier/isa.h"
#include "espalier/random_fill.h"
#include "espalier/testkit.h"
#include "processor.h"

namespace espalier {
namespace {

at::Tensor numbers(const std::vector<int64_t>& sizes, const std::string& name) {
  return uniform(sizes, -2, 2, RandomKey(1).with(name));
}

Graph only(GraphBuilder& b, Edge y) {
  Graph g = b.output(b.linear("fc", b.mean(y), {.features = 2}));
  g.add_output("y", y);
  return g;
}
Graph gelu(int64_t channels, int64_t height = 3, int64_t width = 3) {
  GraphBuilder b({channels, height, width});
  return only(b, b.activation("gelu", b.to_tokens(b.input())));
}
Graph layer_norm(int64_t channels, int64_t height = 3, int64_t width = 3) {
  GraphBuilder b({channels, height, width});
  return only(b, b.layer_norm("it", b.to_tokens(b.input()), {.eps = 1e-5}));
}

// The output "y" for an input, and the gradients of its product with `above`: of the input and of all parameters that
// it has.
std::vector<at::Tensor> pass(const Graph& g, at::ScalarType type, const at::Tensor& input, const at::Tensor& above,
                             bool fuse = true) {
  const at::ScalarType weights = type == at::kBFloat16 ? at::kFloat : type;
  Weights w(g, weights, at::kCPU);
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    w[p].detach().copy_(numbers(w[p].sizes().vec(), g[p].name));
  }
  const at::Tensor x = input.to(type).clone(at::MemoryFormat::ChannelsLast).requires_grad_();
  const at::Tensor y = run(g, w, {{"input", x}}, {"y"}, {.training = true, .key = {}, .fuse = fuse})[0];
  EXPECT_EQ(y.scalar_type(), type);
  y.backward(above.to(type));
  std::vector<at::Tensor> all{y.detach(), x.grad()};
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    if (g[p].name.starts_with("it.")) all.push_back(w.gradient(p).clone());
  }
  return all;
}

// Numbers that bfloat16 holds, so that it gets the same input as float64.
at::Tensor held(const at::Tensor& t) {
  return t.to(at::kBFloat16).to(at::kDouble);
}

// How far a is from exact, in units of a rounding to bfloat16 (2^-8 relative) where `halves`, else of 5e-7 of
// the larger of 1 and the number.
double distance(const at::Tensor& a, const at::Tensor& exact, bool halves) {
  const at::Tensor size = exact.abs();
  const at::Tensor unit = halves ? size * (1.0 / 256) + 1e-6 : at::maximum(size, at::tensor(1.0, at::kDouble)) * 5e-7;
  return ((a.to(at::kDouble) - exact).abs() / unit).max().item<double>();
}

constexpr at::ScalarType types[] = {at::kFloat, at::kBFloat16};

TEST(TokenKernels, GeluIsRoundedOnce) {
  if (isa() == Isa::baseline) GTEST_SKIP() << "this processor computes it by LibTorch";
  for (const at::ScalarType type : types) {
    for (const int64_t channels : {1, 5, 16, 33, 4096}) {
      const Graph g = gelu(channels, channels == 4096 ? 8 : 3);
      std::vector<int64_t> sizes = g.sizes(g[g.inputs()[0].edge].shape);
      sizes.insert(sizes.begin(), 2);
      const int64_t n = 2 * sizes[1] * sizes[2] * sizes[3];
      const at::Tensor x = held(at::linspace(-12, 12, n, at::kDouble)).reshape(sizes);
      const at::Tensor above = held(numbers(gelu(channels, sizes[2]).sizes(g[g.output("y")].shape), "above"))
                                   .unsqueeze(0)
                                   .repeat({2, 1, 1, 1});
      const auto exact = pass(g, at::kDouble, x, above, false), found = pass(g, type, x, above);
      for (size_t i = 0; i < exact.size(); ++i)
        EXPECT_LE(distance(found[i], exact[i], type == at::kBFloat16), 1.05) << channels << " channels, " << type << i;
    }
  }
}

TEST(TokenKernels, GeluOfExtremes) {
  if (isa() == Isa::baseline) GTEST_SKIP() << "this processor computes it by LibTorch";
  constexpr double infinity = std::numeric_limits<double>::infinity(), none = std::numeric_limits<double>::quiet_NaN();
  const Graph g = gelu(1, 2, 4);
  const at::Tensor x =
      at::tensor({-1e30, -1e3, -20.0, -0.0, 1e3, 1e30, infinity, none}, at::kDouble).view({1, 1, 2, 4});
  for (const at::ScalarType type : types) {
    const auto found = pass(g, type, x, at::ones({1, 2, 4, 1}));
    const at::Tensor y = found[0].flatten().to(at::kDouble), given = x.to(type).to(at::kDouble).flatten();
    EXPECT_TRUE(at::equal(y.slice(0, 0, 4), at::zeros({4}, at::kDouble))) << y;
    EXPECT_TRUE(at::equal(y.slice(0, 4, 7), given.slice(0, 4, 7))) << y;
    EXPECT_TRUE(at::isnan(y[7]).item<bool>());
    const at::Tensor slope = found[1].flatten().to(at::kDouble);
    EXPECT_TRUE(at::equal(slope.slice(0, 0, 6), at::tensor({0.0, 0.0, 0.0, 0.5, 1.0, 1.0}, at::kDouble))) << slope;
    EXPECT_TRUE(at::isnan(slope[7]).item<bool>());
  }
}

// Sums over channels and rows round more than once; their units are of the largest number.
TEST(TokenKernels, LayerNormEqualsLibTorchsInFloat64) {
  struct Case {
    int64_t channels, side;
    double mean;
  };
  for (const Case& c : {Case{1, 3, 0}, {7, 3, 0}, {16, 5, 0}, {35, 9, 3}, {96, 20, 0}, {1536, 3, -1}, {64, 3, 100}}) {
    const Graph g = layer_norm(c.channels, c.side, c.side);
    const at::Tensor x = held(numbers({3, c.channels, c.side, c.side}, "x") + c.mean),
                     above = held(numbers({3, c.side, c.side, c.channels}, "above"));
    const auto exact = pass(g, at::kDouble, x, above, false), plain = pass(g, at::kFloat, x, above, false),
               found = pass(g, at::kFloat, x, above), half = pass(g, at::kBFloat16, x, above),
               plain_half = pass(g, at::kBFloat16, x, above, false);
    ASSERT_EQ(exact.size(), 4U);
    const auto error = [&](const std::vector<at::Tensor>& of, size_t i) {
      return (of[i].to(at::kDouble) - exact[i]).abs().max().item<double>() /
             std::max(1e-3, exact[i].abs().max().item<double>());
    };
    for (size_t i = 0; i < exact.size(); ++i) {
      EXPECT_LE(error(found, i), std::max(4 * error(plain, i), 2e-6)) << c.channels << " channels, " << i;
      EXPECT_LE(error(half, i), std::max(1.1 * error(plain_half, i), 2e-6)) << c.channels << " channels, " << i;
    }
    // The parameters' gradients are float32 sums of exact numbers, also in bfloat16.
    EXPECT_LE(error(half, 2), std::max(4 * error(plain, 2), 2e-6));
    EXPECT_LE(error(half, 3), std::max(4 * error(plain, 3), 2e-6));
  }
}

TEST(TokenKernels, ARowOfOneNumberHasNoDirection) {
  const Graph g = layer_norm(40);
  const at::Tensor x = at::full({1, 40, 3, 3}, 2.5), above = numbers({1, 3, 3, 40}, "above");
  const auto exact = pass(g, at::kDouble, x, above, false), found = pass(g, at::kFloat, x, above);
  for (const size_t i : {size_t{0}, size_t{2}, size_t{3}})
    EXPECT_LE((found[i].to(at::kDouble) - exact[i]).abs().max().item<double>(), 1e-5) << i;
}

TEST(TokenKernels, AreTheSameOnAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  for (const at::ScalarType type : types) {
    const at::Tensor x = numbers({3, 40, 30, 31}, "x"), above = numbers({3, 30, 31, 40}, "above");
    for (const Graph& g : {gelu(40, 30, 31), layer_norm(40, 30, 31)}) {
      at::set_num_threads(1);
      const auto expected = pass(g, type, x, above);
      for (const int threads : {2, 3}) {
        at::set_num_threads(threads);
        const auto found = pass(g, type, x, above);
        for (size_t i = 0; i < expected.size(); ++i)
          EXPECT_TRUE(at::equal(found[i], expected[i])) << threads << " threads, " << i;
      }
    }
  }
  at::set_num_threads(before);
}

TEST(TokenKernels, HaveASecondDerivative) {
  for (const Graph& g : {gelu(5), layer_norm(5)}) {
    const auto curvature = [&](at::ScalarType type, bool fuse) {
      Weights w(g, type, at::kCPU);
      w.initialize(g, RandomKey(3));
      const at::Tensor x = numbers({2, 5, 3, 3}, "x").to(type).clone(at::MemoryFormat::ChannelsLast).requires_grad_();
      const at::Tensor y = run(g, w, {{"input", x}}, {"y"}, {.training = true, .key = {}, .fuse = fuse})[0];
      const at::Tensor first = torch::autograd::grad({y.pow(3).sum()}, {x}, {}, true, true)[0];
      return torch::autograd::grad({first.square().sum()}, {x})[0].to(at::kDouble);
    };
    const at::Tensor exact = curvature(at::kDouble, false);
    EXPECT_GT(exact.abs().max().item<double>(), 1);
    EXPECT_LE((curvature(at::kFloat, true) - exact).abs().max().item<double>(),
              1e-4 * exact.abs().max().item<double>());
  }
}

// The bias of a linear layer in bfloat16: the sum of each column of numbers that are exact, in float32.
TEST(TokenKernels, TheGradientOfABiasIsTheSumOfItsColumn) {
  for (const int64_t features : {1, 19, 64, 130}) {
    GraphBuilder b({6, 21, 33});
    Graph g = only(b, b.linear("it", b.to_tokens(b.input()), {.features = features}));
    Weights w(g, at::kFloat, at::kCPU);
    w.initialize(g, RandomKey(3));
    const at::Tensor x = numbers({2, 6, 21, 33}, "x"), above = held(numbers({2, 21, 33, features}, "above"));
    const at::Tensor exact = above.sum({0, 1, 2});
    const int before = at::get_num_threads();
    std::vector<at::Tensor> found;
    for (const int threads : {1, 2, 3}) {
      at::set_num_threads(threads);
      w.zero_gradients();
      at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
      at::autocast::set_autocast_enabled(at::kCPU, true);
      const at::Tensor y = run(g, w, {{"input", x}}, {"y"}, {.training = true, .key = {}})[0];
      at::autocast::set_autocast_enabled(at::kCPU, false);
      y.backward(above.to(at::kBFloat16));
      found.push_back(w.gradient(g.parameter("it.bias")).clone());
    }
    at::set_num_threads(before);
    EXPECT_LE((found[0].to(at::kDouble) - exact).abs().max().item<double>(), 2e-4) << features;
    EXPECT_TRUE(at::equal(found[1], found[0]));
    EXPECT_TRUE(at::equal(found[2], found[0]));
  }
}

// Products of bfloat16 matrices: the output is rounded once, and the gradients are sums of exact numbers. Every case
// has other tails: of rows (tiles of 14), of depths (pairs), of widths (vectors and panels), and more rows than are
// packed at once.
struct Product {
  int64_t in, out, height, width;
  bool bias;
};
const Product products[] = {{1, 1, 1, 1, true},      {2, 33, 3, 5, true},    {7, 12, 4, 4, false}, {33, 65, 5, 9, true},
                            {96, 384, 14, 14, true}, {64, 32, 41, 40, true}, {13, 50, 9, 7, true}};

std::vector<at::Tensor> linear_pass(const Product& c, at::ScalarType type, const at::Tensor& input,
                                    const at::Tensor& above) {
  GraphBuilder b({c.in, c.height, c.width});
  const Graph g = only(b, b.linear("it", b.to_tokens(b.input()), {.features = c.out, .bias = c.bias}));
  const bool half = type == at::kBFloat16;
  Weights w(g, half ? at::kFloat : type, at::kCPU);
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    w[p].detach().copy_(held(numbers(w[p].sizes().vec(), g[p].name)));
  }
  const at::Tensor x = input.to(half ? at::kFloat : type).clone(at::MemoryFormat::ChannelsLast).requires_grad_();
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, half);
  const at::Tensor y = run(g, w, {{"input", x}}, {"y"}, {.training = true, .key = {}, .fuse = half})[0];
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(y.scalar_type(), type);
  y.backward(above.to(type));
  std::vector<at::Tensor> all{y.detach(), x.grad(), w.gradient(g.parameter("it.weight")).clone()};
  if (c.bias) all.push_back(w.gradient(g.parameter("it.bias")).clone());
  return all;
}

TEST(TokenKernels, ProductsInBfloat16AreRoundedOnce) {
  for (const Product& c : products) {
    const at::Tensor x = held(numbers({2, c.in, c.height, c.width}, "x")),
                     above = held(numbers({2, c.height, c.width, c.out}, "above"));
    const auto exact = linear_pass(c, at::kDouble, x, above), found = linear_pass(c, at::kBFloat16, x, above);
    for (size_t i = 0; i < exact.size(); ++i) {
      // Half of the last place of each number, and what float32 sums of up to this size leave.
      const double sum = i < 2 ? 4e-5 : 1e-3;
      const at::Tensor excess = (found[i].to(at::kDouble) - exact[i]).abs() - exact[i].abs() * (1.0 / 256) - sum;
      EXPECT_LE(excess.max().item<double>(), 0) << c.in << " to " << c.out << ", " << i;
    }
    if (!has_bfloat16_products()) continue;
    for (size_t i = 2; i < exact.size(); ++i) {
      EXPECT_LE((found[i].to(at::kDouble) - exact[i]).abs().max().item<double>(), 1e-3)
          << c.in << " to " << c.out << ": the gradient of a parameter is added in float32, " << i;
    }
  }
}

TEST(TokenKernels, ProductsInBfloat16AreTheSameOnAnyNumberOfThreads) {
  if (!has_bfloat16_products()) GTEST_SKIP() << "this processor multiplies by LibTorch";
  const int before = at::get_num_threads();
  for (const Product& c : products) {
    const at::Tensor x = numbers({2, c.in, c.height, c.width}, "x"),
                     above = numbers({2, c.height, c.width, c.out}, "above");
    at::set_num_threads(1);
    const auto expected = linear_pass(c, at::kBFloat16, x, above);
    for (const int threads : {2, 3}) {
      at::set_num_threads(threads);
      const auto found = linear_pass(c, at::kBFloat16, x, above);
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(at::equal(found[i], expected[i]))
            << threads << " threads, " << c.in << " to " << c.out << ", " << i;
    }
    at::set_num_threads(before);
  }
}

}  // namespace
}  // namespace espalier
