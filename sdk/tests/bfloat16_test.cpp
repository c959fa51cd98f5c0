// Operations under autocast to bfloat16 on the CPU. Small whole numbers are exact there, and so are their products and
// sums up to 256: what comes must be equal to float64, whichever way a processor computes it.

// Vectors as arguments of functions that are all inline.
#pragma GCC diagnostic ignored "-Wpsabi"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>

#include "../src/kernels/channel_loops.h"
#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/execute.h"
#include "espalier/random_fill.h"
#include "espalier/testkit.h"
#include "processor.h"
#include "two_parts.h"

namespace espalier {
namespace {

// -1, 0 and 1.
at::Tensor small_numbers(const std::vector<int64_t>& sizes, const std::string& name) {
  return uniform(sizes, -1.5, 1.5, RandomKey(1).with(name)).round();
}

struct Found {
  at::Tensor output;                                           // in its own type
  at::Tensor of_input;                                         // gradients
  std::vector<std::pair<std::string, at::Tensor>> of_weights;  // by name
};

// The output "y" of a graph of whole numbers and the gradients of its products with others.
Found pass(const Graph& g, at::ScalarType type, bool autocast, int64_t samples = 2) {
  Weights w(g, type, at::kCPU);
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    w[p].detach().copy_(small_numbers(w[p].sizes().vec(), g[p].name));
  }
  std::vector<int64_t> sizes = g.sizes(g[g.inputs()[0].edge].shape);
  sizes.insert(sizes.begin(), samples);
  at::Tensor x = small_numbers(sizes, "x").to(type);
  if (x.dim() == 4) x = x.contiguous(at::MemoryFormat::ChannelsLast);
  x.set_requires_grad(true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, autocast);
  Found found;
  found.output = run(g, w, {{"input", x}}, {"y"}, {.training = true, .key = {}})[0];
  at::autocast::set_autocast_enabled(at::kCPU, false);
  found.output.backward(small_numbers(found.output.sizes().vec(), "above").to(found.output.scalar_type()));
  found.of_input = x.grad();
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    if (g[p].name.starts_with("it.")) found.of_weights.emplace_back(g[p].name, w.gradient(p).clone());
  }
  return found;
}

void expect_exact(const Graph& g, int64_t samples = 2) {
  const Found exact = pass(g, at::kDouble, false, samples), found = pass(g, at::kFloat, true, samples);
  EXPECT_EQ(found.output.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(found.output.to(at::kDouble).equal(exact.output));
  EXPECT_TRUE(found.of_input.to(at::kDouble).equal(exact.of_input));
  ASSERT_EQ(found.of_weights.size(), exact.of_weights.size());
  for (size_t i = 0; i < exact.of_weights.size(); ++i) {
    EXPECT_GT(exact.of_weights[i].second.abs().max().item<double>(), 0);
    EXPECT_TRUE(found.of_weights[i].second.to(at::kDouble).equal(exact.of_weights[i].second))
        << exact.of_weights[i].first;
  }
  EXPECT_LE(exact.output.abs().max().item<double>(), 256) << "the numbers of this test are too large to be exact";
}

Graph with_output(GraphBuilder& b, Edge y) {
  Graph g = b.output(b.linear("fc", b.flatten(y), {.features = 2}));
  g.add_output("y", y);
  return g;
}

TEST(Bfloat16, ConvolutionsOfWholeNumbersAreExact) {
  const std::pair<const char*, GraphBuilder::Conv> cases[] = {
      {"plain", {.filters = 5, .kernel = 3, .padding = 1}},
      {"without bias", {.filters = 5, .kernel = 3, .padding = 1, .bias = false}},
      {"a stride", {.filters = 3, .kernel = 3, .stride = 2, .padding = 1}},
      {"one pixel with a stride", {.filters = 3, .kernel = 1, .stride = 2}},
      {"dilation", {.filters = 3, .kernel = 3, .padding = 2, .dilation = 2}},
      {"groups", {.filters = 4, .kernel = 3, .padding = 1, .groups = 2}},
      {"depthwise", {.kernel = 3, .padding = 1, .depthwise = true}}};
  for (const auto& [what, options] : cases) {
    SCOPED_TRACE(what);
    GraphBuilder b({4, 5, 5});
    // Channels of an axis of their own, which groups may split.
    const Edge x = b.select("channels", b.input(), {0, 1, 2, 3}, {});
    expect_exact(with_output(b, b.conv("it", x, options)));
  }
}

// Kernels of 3x3, for which some processors have loops of the framework's own: blocks of channels and filters that are
// full and not, rows of pixels that fill what is computed at once and do not, several images at once and parts of one.
TEST(Bfloat16, ConvolutionsOf3x3KernelsOfWholeNumbersAreExact) {
  struct Case {
    int64_t samples, channels, filters, height, width, stride, padding;
    bool bias;
  };
  for (const Case& c : std::vector<Case>{{2, 8, 8, 5, 5, 1, 1, true},
                                         {37, 13, 18, 7, 6, 1, 1, false},
                                         {3, 18, 27, 6, 17, 1, 0, true},
                                         {2, 16, 16, 9, 33, 1, 2, false},
                                         {35, 27, 40, 4, 4, 1, 1, true},
                                         {19, 16, 32, 8, 8, 2, 1, false},
                                         {2, 13, 9, 9, 20, 2, 0, true},
                                         {2, 33, 8, 7, 8, 2, 2, false},
                                         {1, 48, 16, 40, 40, 1, 1, false}}) {
    SCOPED_TRACE(std::to_string(c.channels) + " channels, " + std::to_string(c.filters) + " filters, " +
                 std::to_string(c.height) + " x " + std::to_string(c.width) + ", stride " + std::to_string(c.stride) +
                 ", padding " + std::to_string(c.padding));
    GraphBuilder b({c.channels, c.height, c.width});
    const Edge y = b.conv(
        "it", b.input(), {.filters = c.filters, .kernel = 3, .stride = c.stride, .padding = c.padding, .bias = c.bias});
    expect_exact(with_output(b, y), c.samples);
  }
}

// Sums of numbers that are rounded; and a gradient is added to the one there is, or given as a value.
TEST(Bfloat16, OwnConvolutionsAreTheSameOnAnyNumberOfThreadsAndAddTheirGradient) {
  if (!has_bfloat16_products()) GTEST_SKIP() << "this processor convolves by LibTorch";
  GraphBuilder b({13, 12, 11});
  const Graph g = with_output(b, b.conv("it", b.input(), {.filters = 18, .kernel = 3, .padding = 1}));
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(3));
  const at::Tensor weight = w[g.parameter("it.weight")];
  const at::Tensor x =
      testkit::input_of(g, 37, 5, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast).requires_grad_(true);
  const at::Tensor above = uniform({37, 18, 12, 11}, -1, 1, RandomKey(2)).to(at::kBFloat16);
  const auto output = [&] {
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::set_autocast_enabled(at::kCPU, true);
    const at::Tensor y = run(g, w, {{"input", x}}, {"y"}, {.training = true, .key = {}})[0];
    at::autocast::set_autocast_enabled(at::kCPU, false);
    return y;
  };
  const int before = at::get_num_threads();
  std::vector<std::vector<at::Tensor>> found;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    const at::Tensor y = output();
    found.push_back(torch::autograd::grad({y}, {weight, x}, {above}));
    found.back().push_back(y.detach());
  }
  at::set_num_threads(before);
  // LibTorch's own weight gradients depend on the number of threads.
  const bool own = output().grad_fn()->name().find("ConvBfloat16") != std::string::npos;
  for (size_t i = 0; own && i < 3; ++i) {
    EXPECT_TRUE(at::equal(found[1][i], found[0][i])) << i;
    EXPECT_TRUE(at::equal(found[2][i], found[0][i])) << i;
  }
  w.zero_gradients();
  output().backward(above);
  output().backward(above);
  const at::Tensor twice = w.gradient(g.parameter("it.weight"));
  EXPECT_LE((twice - 2 * found[0][0]).abs().max().item<double>(), 1e-2 * found[0][0].abs().max().item<double>());
}

TEST(Bfloat16, LinearLayersOfWholeNumbersAreExact) {
  for (const bool bias : {true, false}) {
    GraphBuilder b({7, 0, 0});
    Graph g = b.output(b.linear("it", b.input(), {.features = 5, .bias = bias}));
    g.add_output("y", g.outputs()[0].edge);
    expect_exact(g);
  }
}

// Softmax is not of whole numbers: eight bits, in scores and values of about 1, and sums of a few of them.
TEST(Bfloat16, AttentionIsAsExactAsItsNumbers) {
  GraphBuilder b({6, 3, 3});
  const Edge x = b.to_tokens(b.input(), /*flat=*/true);
  const auto heads = [&](const char* name) { return b.linear(name, x, {.features = 8, .heads = 2}); };
  const Edge y = b.attention("it", heads("q"), heads("k"), heads("v"));
  Graph g = b.output(b.linear("fc", b.mean(y), {.features = 2}));
  g.add_output("y", y);
  const Found exact = pass(g, at::kDouble, false), found = pass(g, at::kFloat, true);
  EXPECT_EQ(found.output.scalar_type(), at::kBFloat16);
  const double largest = exact.output.abs().max().item<double>();
  EXPECT_LE((found.output.to(at::kDouble) - exact.output).abs().max().item<double>(), 0.02 * largest);
  EXPECT_LE((found.of_input.to(at::kDouble) - exact.of_input).abs().max().item<double>(),
            0.02 * exact.of_input.abs().max().item<double>());
}

// What is rounded to bfloat16, against LibTorch's own rounding and in every instruction set: the numbers between two
// bfloat16 ones next to each other, of every exponent, the largest and the smallest ones, infinities and NaN.
TEST(Bfloat16, IsRoundedToTheNearestInEveryInstructionSet) {
  std::vector<uint32_t> bits;
  for (uint32_t high = 0; high < 0x10000; high += 7) {
    for (const uint32_t low : {0x0U, 0x1U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) bits.push_back(high << 16 | low);
  }
  for (const uint32_t special : {0x7F7FFFFFU, 0x7F800000U, 0x7F800001U, 0x7FFFFFFFU, 0xFF800000U, 0xFFFFFFFFU, 0x1U})
    bits.push_back(special);
  while (bits.size() % 16 != 15) bits.push_back(0x3F808000U);  // so that some are left over
  const auto n = static_cast<int64_t>(bits.size());
  const at::Tensor x = at::empty({n}, at::kFloat);
  std::memcpy(x.mutable_data_ptr(), bits.data(), bits.size() * sizeof(uint32_t));
  const at::Tensor expected = x.to(at::kBFloat16);
  const auto* from = x.const_data_ptr<float>();
  const auto check = [&](const char* which, const auto& in_isa) {
    const at::Tensor y = at::empty({n}, at::kBFloat16), back = at::empty({n}, at::kFloat);
    auto* to = static_cast<uint16_t*>(y.mutable_data_ptr());
    auto* wide = back.mutable_data_ptr<float>();
    in_isa([=] {
      channel_loops::for_channels(n, [=](auto zero, int64_t c) {
        using T = decltype(zero);
        channel_loops::store<T>(to + c, channel_loops::load<T>(from + c));
        channel_loops::store<T>(wide + c, channel_loops::load<T>(to + c));
      });
    });
    EXPECT_TRUE(at::equal(y.isnan(), expected.isnan())) << which;
    EXPECT_TRUE(at::equal(y.nan_to_num(), expected.nan_to_num())) << which;
    EXPECT_TRUE(at::equal(back.nan_to_num(), expected.to(at::kFloat).nan_to_num())) << which;
  };
  check("baseline", [](const auto& body) { detail::at_baseline(body); });
#if defined(__x86_64__)
  if (isa() != Isa::baseline) check("v3", [](const auto& body) { detail::at_v3(body); });
  if (isa() == Isa::v4) check("v4", [](const auto& body) { detail::at_v4(body); });
#endif
}

// A batch norm with what may follow it, of bfloat16 activations.
struct Norm {
  int64_t channels;
  bool image, gate, added, relu, affine;

  std::string text() const {
    return std::to_string(channels) + (image ? " channels" : " features") + (gate ? ", gate" : "") +
           (added ? ", sum" : "") + (relu ? ", ReLU" : "") + (affine ? ", affine" : "");
  }
  // The input's first half of channels is normalised, the other one added.
  Graph graph() const {
    GraphBuilder b({2 * channels, image ? 5 : 0, image ? 4 : 0});
    Indices first, second;
    for (int64_t c = 0; c < channels; ++c) {
      first.push_back(c);
      second.push_back(channels + c);
    }
    const Edge other = b.select("second", b.input(), second, {});
    Edge x = b.batch_norm("bn", b.select("first", b.input(), first, {}), {.momentum = 0.3, .affine = affine});
    if (added) {
      std::vector<Edge> terms{x, other};
      b.unify(terms);
      x = b.add(terms);
    }
    if (relu) x = b.relu(x);
    Graph g = b.output(b.linear("fc", image ? b.flatten(x) : x, {.features = 2}));
    g.add_output("y", x);
    if (gate) apply(g, {}, {InsertGate{.gate = "s", .edge = "bn", .axis = "", .initial = 1, .role = "weight"}});
    return g;
  }
};

std::vector<Norm> norms() {
  std::vector<Norm> all;
  for (const int64_t channels : {1, 13, 18, 27, 48}) {
    for (int which = 0; which < 32; ++which) {
      all.push_back(
          {channels, (which & 1) != 0, (which & 2) != 0, (which & 4) != 0, (which & 8) != 0, (which & 16) != 0});
    }
  }
  return all;
}

// What a training step leaves of it, in float64, and what evaluation makes afterwards.
struct Normed {
  at::Tensor output, of_input, evaluated;
  std::vector<std::pair<std::string, at::Tensor>> others;  // gradients of parameters, running statistics
  std::string made_by;                                     // the output
};

Normed normed(const Graph& g, at::ScalarType activations, bool fuse, const BatchPart& part = {}) {
  const at::ScalarType type = activations == at::kDouble ? at::kDouble : at::kFloat;
  Weights w(g, type, at::kCPU);
  w.initialize(g, RandomKey(3));
  {
    const c10::NoGradGuard no_grad;  // scales and shifts of both signs
    for (const Parameter& p : g.parameters()) {
      if (p.kind != "norm_weight" && p.kind != "norm_bias" && p.kind != "gate") continue;
      const at::Tensor t = w[g.parameter(p.name)].detach().view(-1);
      for (int64_t i = 0; i < t.numel(); ++i) t[i].fill_(0.7 - 0.4 * static_cast<double>(i % 4));
    }
  }
  // The same bfloat16 numbers for all.
  const auto numbers = [&](std::vector<int64_t> sizes, const char* name) {
    constexpr int64_t samples = 60;  // with 5 x 4 pixels several blocks of rows
    sizes.insert(sizes.begin(), samples);
    at::Tensor t = uniform(sizes, -1.5, 2.5, RandomKey(1).with(name)).to(at::kBFloat16);
    if (part.samples > 0) t = t.slice(0, part.first, part.first + part.samples);
    t = t.to(activations).clone();
    return t.dim() == 4 ? t.contiguous(at::MemoryFormat::ChannelsLast) : t;
  };
  at::Tensor x = numbers(g.sizes(g[g.inputs()[0].edge].shape), "x");
  const at::Tensor above = numbers(g.sizes(g[g.output("y")].shape), "above");
  x.set_requires_grad(true);
  Normed n;
  const at::Tensor y = run(g, w, {{"input", x}}, {"y"}, {.training = true, .key = {}, .fuse = fuse, .part = part})[0];
  n.made_by = y.grad_fn()->name();
  n.output = y.detach().to(at::kDouble);
  y.backward(above.to(y.scalar_type()));
  n.of_input = x.grad().to(at::kDouble);
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    if (g[p].name.starts_with("fc.")) continue;
    n.others.emplace_back(g[p].name,
                          (g[p].role == Role::buffer ? w[p] : w.gradient(p)).detach().to(at::kDouble).clone());
  }
  const c10::NoGradGuard no_grad;
  n.evaluated = run(g, w, {{"input", x}}, {"y"}, {.training = false, .key = {}, .fuse = fuse})[0].to(at::kDouble);
  return n;
}

// Whether each number is the bfloat16 one next to the exact one, apart from float32's own rounding: half a unit of the
// last of eight places.
void expect_rounded_once(const at::Tensor& found, const at::Tensor& exact, const char* what) {
  const at::Tensor allowed = exact.abs() * 0x1p-8 + 4e-6 * exact.abs().max();
  const at::Tensor beyond = (found - exact).abs() / allowed;
  EXPECT_LE(beyond.max().item<double>(), 1) << what;
}

double relative_error(const at::Tensor& found, const at::Tensor& exact) {
  return (found - exact).abs().max().item<double>() / exact.abs().max().item<double>();
}

TEST(Bfloat16, BatchNormWithWhatFollowsIsRoundedOnce) {
  for (const Norm& norm : norms()) {
    SCOPED_TRACE(norm.text());
    const Graph g = norm.graph();
    const Normed exact = normed(g, at::kDouble, false), found = normed(g, at::kBFloat16, true);
    const Normed plain = normed(g, at::kBFloat16, false);
    EXPECT_NE(found.made_by.find("espalier"), std::string::npos) << "it is not fused: " << found.made_by;
    expect_rounded_once(found.output, exact.output, "output");
    expect_rounded_once(found.of_input, exact.of_input, "gradient of the input");
    expect_rounded_once(found.evaluated, exact.evaluated, "evaluation");
    // The rest is float32: a hundred times its rounding, for sums of some hundred numbers. LibTorch's own error is that
    // of bfloat16 where it rounds in between.
    ASSERT_EQ(found.others.size(), exact.others.size());
    for (size_t i = 0; i < exact.others.size(); ++i) {
      const double largest = relative_error(plain.others[i].second, exact.others[i].second);
      EXPECT_LE(relative_error(found.others[i].second, exact.others[i].second), std::max(1e-5, 1e-3 * largest))
          << exact.others[i].first << "; LibTorch's error: " << largest;
    }
  }
}

TEST(Bfloat16, BatchNormIsTheSameOnAnyNumberOfThreads) {
  const Graph g = Norm{27, true, true, true, true, true}.graph();
  const int before = at::get_num_threads();
  std::vector<Normed> found;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    found.push_back(normed(g, at::kBFloat16, true));
  }
  at::set_num_threads(before);
  for (const Normed& other : found) {
    EXPECT_TRUE(at::equal(other.output, found[0].output));
    EXPECT_TRUE(at::equal(other.of_input, found[0].of_input));
    for (size_t i = 0; i < other.others.size(); ++i)
      EXPECT_TRUE(at::equal(other.others[i].second, found[0].others[i].second)) << other.others[i].first;
  }
}

// By the statistics of a batch of which each of two parts computes some samples.
TEST(Bfloat16, BatchNormOfABatchInTwoPartsIsThatOfTheWhole) {
  const Graph g = Norm{13, true, true, true, true, true}.graph();
  const Normed exact = normed(g, at::kDouble, false);
  constexpr int64_t first_part = 22, samples = 60;
  TwoParts both;
  std::array<Normed, 2> parts;
  both.run([&](size_t i, const SumOverParts& sum) {
    const int64_t begin = i == 0 ? 0 : first_part, end = i == 0 ? first_part : samples;
    parts[i] = normed(g, at::kBFloat16, true, {.first = begin, .samples = end - begin, .sum = &sum});
  });
  expect_rounded_once(at::cat({parts[0].output, parts[1].output}), exact.output, "output");
  expect_rounded_once(at::cat({parts[0].of_input, parts[1].of_input}), exact.of_input, "gradient of the input");
  for (size_t i = 0; i < exact.others.size(); ++i) {
    const auto& [name, value] = exact.others[i];
    const at::Tensor &one = parts[0].others[i].second, &other = parts[1].others[i].second;
    const bool buffer = g[g.parameter(name)].role == Role::buffer;
    EXPECT_TRUE(!buffer || at::equal(one, other)) << name << " is the same in both";
    EXPECT_LE(relative_error(buffer ? one : one + other, value), 1e-5) << name;
  }
}

}  // namespace
}  // namespace espalier
