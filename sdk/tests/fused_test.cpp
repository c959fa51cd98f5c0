// The CPU's own forms of operations, against LibTorch's in float64.
#include <limits>
#include <utility>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/isa.h"
#include "espalier/testkit.h"

namespace espalier {
namespace {

struct Pooling {
  int64_t channels, size, kernel, stride, padding;
  bool relu_first;
};

// conv - batch norm - ReLU - conv - (ReLU and pooling in either order) - linear - batch norm - ReLU - linear
Graph network(const Pooling& p, bool affine) {
  GraphBuilder g({2, p.size, p.size});
  Edge x = g.conv("conv1", g.input(), {.filters = p.channels, .kernel = 3, .padding = 1});
  x = g.relu(g.batch_norm("bn1", x, {.momentum = 0.3, .affine = affine}));
  x = g.conv("conv2", x, {.filters = p.channels, .kernel = 1});
  if (p.relu_first) x = g.relu(x);
  x = g.max_pool(x, p.kernel, p.stride, p.padding);
  if (!p.relu_first) x = g.relu(x);
  x = g.relu(g.batch_norm("bn2", g.linear("fc1", g.flatten(x), {.features = 9}), {.affine = affine}));
  return g.output(g.linear("fc2", x, {.features = 4}));
}

// Everything that a training step leaves: logits, all gradients, all buffers.
std::vector<at::Tensor> step(const Graph& g, at::ScalarType dtype, bool fuse, const at::Tensor& x,
                             const at::Tensor& y) {
  Weights w(g, dtype, at::kCPU);
  w.initialize(g, RandomKey(3));
  {
    const c10::NoGradGuard no_grad;  // scales and shifts of both signs
    for (const Parameter& p : g.parameters()) {
      if (p.kind != "norm_weight" && p.kind != "norm_bias" && p.kind != "gate") continue;
      const at::Tensor t = w[g.parameter(p.name)].detach().view(-1);
      for (int64_t i = 0; i < t.numel(); ++i) t[i].fill_(0.7 - 0.4 * static_cast<double>(i % 4));
    }
  }
  const at::Tensor input = x.to(dtype).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor logits =
      run(g, w, {{"input", input}}, {"logits"}, {.training = true, .key = RandomKey(1), .fuse = fuse})[0];
  at::cross_entropy_loss(logits, y).backward();
  std::vector<at::Tensor> all{logits.detach().to(at::kDouble)};
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    const bool buffer = g[id].role == Role::buffer;
    all.push_back((buffer ? w[id] : w.gradient(id)).detach().to(at::kDouble).clone());
  }
  const c10::NoGradGuard no_grad;  // and in evaluation, with the running statistics
  all.push_back(
      run(g, w, {{"input", input}}, {"logits"}, {.training = false, .key = {}, .fuse = fuse})[0].to(at::kDouble));
  return all;
}

// Relative to the largest value of each tensor. The gradient of a bias before a batch norm is zero by mathematics: what
// float64 leaves of it is rounding, and so float32's is compared with the step's largest value instead. The gradient of
// the only weight of a convolution before one is almost zero, since the norm takes a common factor out again: sums that
// are much larger cancel in it and leave their rounding. So no tensor is compared with less than a hundredth of the
// step's largest value.
double error(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  constexpr double zero = 1e-12;
  double largest = 0;
  for (const at::Tensor& t : b) largest = std::max(largest, t.abs().max().item<double>());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double own = b[i].abs().max().item<double>();
    const double scale = own < zero ? largest : std::max(0.01 * largest, own);
    worst = std::max(worst, (a[i] - b[i]).abs().max().item<double>() / scale);
  }
  return worst;
}

TEST(Fused, EqualsTheOperationsOneByOneInFloat64) {
  const std::vector<Pooling> cases = {{1, 8, 2, 2, 0, true},   {3, 9, 2, 2, 0, false},  {20, 8, 2, 2, 0, true},
                                      {33, 10, 3, 2, 1, true}, {16, 7, 3, 1, 0, false}, {64, 7, 2, 1, 0, true},
                                      {5, 6, 3, 3, 1, true},   {40, 8, 3, 3, 0, false}};
  for (const Pooling& p : cases) {
    for (const bool affine : {true, false}) {
      const Graph g = network(p, affine);
      const at::Tensor x = testkit::input_of(g, 11, 5);
      const at::Tensor y = testkit::target_of(4, 11, 5);
      const auto exact = step(g, at::kDouble, false, x, y);
      const double plain = error(step(g, at::kFloat, false, x, y), exact);
      const double fused = error(step(g, at::kFloat, true, x, y), exact);
      // As good as LibTorch's own float32, within a factor for the order of sums.
      EXPECT_LE(fused, std::max(4 * plain, 2e-5)) << p.channels << " channels, window " << p.kernel << ", stride "
                                                  << p.stride << ", LibTorch's error " << plain;
    }
  }
}

// Batch norm alone, and with each of what may follow it: a gate, of each channel's own coefficient or of one that
// several share; a sum; ReLU.
TEST(Fused, BatchNormWithWhatFollowsEqualsTheOperationsOneByOneInFloat64) {
  for (const int64_t channels : {1, 13, 16, 35}) {
    for (int which = 0; which < 32; ++which) {
      const bool gate = (which & 1) != 0, added = (which & 2) != 0, relu = (which & 4) != 0, affine = (which & 8) != 0;
      const bool shared = (which & 16) != 0;
      if (shared && !gate) continue;
      GraphBuilder b({2, 5, 4});
      const Edge other = b.conv("conv2", b.input(), {.filters = channels, .kernel = 1});
      Edge x = b.conv("conv1", b.input(), {.filters = channels, .kernel = 3, .padding = 1});
      x = b.batch_norm("bn", x, {.momentum = 0.3, .affine = affine});
      if (added) x = b.add({x, other});
      if (relu) x = b.relu(x);
      Graph g = b.output(b.linear("fc", b.flatten(x), {.features = 4}));
      if (shared) {
        Indices index;
        for (int64_t i = 0; i < channels; ++i) index.push_back((3 * i + 1) % 4);
        apply(g, {}, {InsertGates{"c", from_json(R"({"use": "coefficient"})"), 4, {{"s", "bn", {}, index}}}});
      } else if (gate) {
        apply(g, {}, {InsertGate{.gate = "s", .edge = "bn", .axis = "", .initial = 1, .role = "weight"}});
      }
      const at::Tensor input = testkit::input_of(g, 7, 5), target = testkit::target_of(4, 7, 5);
      const auto exact = step(g, at::kDouble, false, input, target);
      const double plain = error(step(g, at::kFloat, false, input, target), exact);
      EXPECT_LE(error(step(g, at::kFloat, true, input, target), exact), std::max(4 * plain, 2e-5))
          << channels << " channels"
          << (shared ? ", shared gate"
              : gate ? ", gate"
                     : "")
          << (added ? ", sum" : "") << (relu ? ", ReLU" : "") << (affine ? ", affine" : "") << "; LibTorch's error "
          << plain;
    }
  }
}

// Convolutions of images that are mostly padding, where products of matrices take over.
// A gate of the rows behind a batch norm has nothing to do with its channels, also where there are as many.
TEST(Fused, AGateOfAnotherDimensionIsNoneOfTheNormsChannels) {
  GraphBuilder b({2, 4, 3});
  const Edge x = b.batch_norm("bn", b.conv("conv1", b.input(), {.filters = 4, .kernel = 3, .padding = 1}));
  const Edge c = b.node("coefficient", "c", {}, Value::map(), {2});
  const Edge y = b.node("gate", "s", {x, c}, Value::map({{"dim", 1}, {"index", Indices{1, 0, 0, 1}}}));
  const Graph g = b.output(b.linear("fc", b.flatten(y), {.features = 4}));
  const at::Tensor input = testkit::input_of(g, 7, 5), target = testkit::target_of(4, 7, 5);
  const auto exact = step(g, at::kDouble, false, input, target);
  const double plain = error(step(g, at::kFloat, false, input, target), exact);
  EXPECT_LE(error(step(g, at::kFloat, true, input, target), exact), std::max(4 * plain, 2e-5));
}

TEST(Fused, SmallConvolutionEqualsTheOrdinaryOne) {
  struct Case {
    int64_t height, width, kernel, padding;
    bool bias;
  };
  for (const Case& c :
       std::vector<Case>{{2, 2, 3, 1, true}, {1, 1, 3, 1, false}, {2, 1, 3, 1, false}, {2, 3, 5, 2, true}}) {
    GraphBuilder b({3, c.height, c.width});
    Edge x = b.relu(b.conv("conv1", b.input(), {.filters = 65, .kernel = 1}));
    x = b.relu(b.conv("conv2", x, {.filters = 70, .kernel = c.kernel, .padding = c.padding, .bias = c.bias}));
    const Graph g = b.output(b.linear("fc", b.flatten(x), {.features = 4}));
    const at::Tensor input = testkit::input_of(g, 11, 5);
    const at::Tensor y = testkit::target_of(4, 11, 5);
    const auto exact = step(g, at::kDouble, false, input, y);
    EXPECT_LE(error(step(g, at::kFloat, true, input, y), exact), 1e-5) << c.height << " x " << c.width;
    // It is the products that were tried: the ordinary convolution has a second derivative.
    Weights w(g, at::kFloat, at::kCPU);
    const at::Tensor x32 = input.to(at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
    const at::Tensor logits = run(g, w, {{"input", x32}}, {"logits"})[0];
    EXPECT_THROW(logits.sum().backward({}, true, true), std::exception);
  }
}

// 1x1 convolutions with a stride read every second or third pixel.
TEST(Fused, StridedConvolutionsOfOnePixelEqualTheOrdinaryOnes) {
  for (const int64_t stride : {2, 3}) {
    for (const int64_t size : {7, 8, 9}) {
      GraphBuilder b({20, size, size + 2});
      const Edge x = b.conv("conv", b.input(), {.filters = 18, .kernel = 1, .stride = stride, .bias = stride == 2});
      const Graph g = b.output(b.linear("fc", b.flatten(b.relu(x)), {.features = 4}));
      Weights w(g, at::kDouble, at::kCPU);
      w.initialize(g, RandomKey(3));
      const at::Tensor input = testkit::input_of(g, 5, 1), target = testkit::target_of(4, 5, 1);
      const auto gradients = [&](at::ScalarType dtype) {
        Weights v(g, dtype, at::kCPU);
        {
          const c10::NoGradGuard no_grad;
          v.copy_from(w);
        }
        const at::Tensor in = input.to(dtype).clone(at::MemoryFormat::ChannelsLast).requires_grad_(true);
        testkit::cross_entropy(g, v, in, target, {.training = true, .key = {}}).backward();
        return std::pair(in.grad().to(at::kDouble), v.gradient(g.parameter("conv.weight")).to(at::kDouble).clone());
      };
      // LibTorch's convolution in float64.
      const at::Tensor in = input.clone().requires_grad_(true);
      const at::Tensor weight = w[g.parameter("conv.weight")].detach().clone().requires_grad_(true);
      const at::Tensor bias = stride == 2 ? w[g.parameter("conv.bias")].detach() : at::Tensor();
      const at::Tensor y = at::conv2d(in, weight, bias, {stride, stride}).relu().flatten(1);
      const at::Tensor logits = at::linear(y, w[g.parameter("fc.weight")].detach(), w[g.parameter("fc.bias")].detach());
      at::cross_entropy_loss(logits, target).backward();
      for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
        const auto [gx, gw] = gradients(dtype);
        const double tolerance = dtype == at::kDouble ? 1e-13 : 1e-5;  // rounding
        EXPECT_LE((gx - in.grad()).abs().max().item<double>(), tolerance) << size << ", stride " << stride;
        EXPECT_LE((gw - weight.grad()).abs().max().item<double>(), tolerance) << size << ", stride " << stride;
      }
    }
  }
}

// A linear layer's weight gradient goes straight into the one there is; what is asked for as a value leaves that alone.
TEST(Fused, LinearAddsToItsGradientAndGivesItAsAValue) {
  GraphBuilder b({1, 4, 4});
  const Graph g =
      b.output(b.linear("fc2", b.relu(b.linear("fc1", b.flatten(b.input()), {.features = 6})), {.features = 3}));
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(3));
  const at::Tensor x = testkit::input_of(g, 5, 5, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor y = testkit::target_of(3, 5, 5);
  const auto loss = [&](bool fuse) {
    return testkit::cross_entropy(g, w, x, y, {.training = true, .key = {}, .fuse = fuse});
  };
  const ParamId fc1 = g.parameter("fc1.weight");
  loss(false).backward();
  const at::Tensor plain = w.gradient(fc1).clone();
  w.zero_gradients();
  loss(true).backward();
  loss(true).backward();
  EXPECT_LE((w.gradient(fc1) - 2 * plain).abs().max().item<double>(), 1e-6);
  const at::Tensor before = w.gradient(fc1).clone();
  const auto value = torch::autograd::grad({loss(true)}, {w[fc1]})[0];
  EXPECT_LE((value - plain).abs().max().item<double>(), 1e-6);
  EXPECT_TRUE(w.gradient(fc1).equal(before)) << "a value was asked for";
  // A second derivative, against that of LibTorch's own layer.
  const auto curvature = [&](bool fuse) {
    const at::Tensor first = torch::autograd::grad({loss(fuse)}, {w[fc1]}, {}, true, true)[0];
    return torch::autograd::grad({first.square().sum()}, {w[fc1]})[0];
  };
  EXPECT_LE((curvature(true) - curvature(false)).abs().max().item<double>(), 1e-6);
}

// Coefficients in front of a linear layer multiply its columns where the samples are more than the features.
TEST(Fused, AGateBeforeALinearLayerEqualsItsProductWithTheInput) {
  GraphBuilder b({1, 3, 2});
  Graph g = b.output(b.linear("fc2", b.linear("fc1", b.flatten(b.input()), {.features = 6}), {.features = 4}));
  apply(g, {}, {InsertGate{.gate = "s", .edge = "fc1", .axis = "", .initial = 0.7, .role = "weight", .readers = {}}});
  for (const int64_t samples : {3, 11}) {
    const at::Tensor x = testkit::input_of(g, samples, 5);
    const at::Tensor y = testkit::target_of(4, samples, 5);
    const auto exact = step(g, at::kDouble, false, x, y);
    EXPECT_LE(error(step(g, at::kDouble, true, x, y), exact), 1e-13) << samples;
    EXPECT_LE(error(step(g, at::kFloat, true, x, y), exact), 1e-5) << samples;
  }
}

// The moments of many rows with a large mean: what a sum of squares would lose.
TEST(Fused, VarianceSurvivesALargeMean) {
  GraphBuilder b({3, 32, 32});
  const Edge before = b.conv("conv", b.input(), {.filters = 8, .kernel = 1});
  const Graph g = b.output(b.linear("fc", b.flatten(b.relu(b.batch_norm("bn", before))), {.features = 2}));
  const at::Tensor x = (testkit::input_of(g, 32, 1) * 0.01 + 100).to(at::kFloat);
  const at::Tensor y = testkit::target_of(2, 32, 1);
  const auto exact = step(g, at::kDouble, false, x, y);
  const double plain = error(step(g, at::kFloat, false, x, y), exact);
  EXPECT_LE(error(step(g, at::kFloat, true, x, y), exact), 2 * plain) << "LibTorch's error: " << plain;
}

TEST(Fused, KeepsWhatIsNotANumber) {
  const Graph g = network({4, 8, 2, 2, 0, true}, true);
  at::Tensor x = testkit::input_of(g, 2, 5, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
  x[1][0][3][3].fill_(std::numeric_limits<double>::quiet_NaN());
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(3));
  const c10::NoGradGuard no_grad;
  const at::Tensor logits = run(g, w, {{"input", x}}, {"logits"})[0];
  EXPECT_TRUE(logits[0].isfinite().all().item<bool>());
  EXPECT_TRUE(logits[1].isnan().all().item<bool>());
}

TEST(Fused, RefusesASecondDerivativeInsteadOfAWrongOne) {
  const Graph g = network({4, 8, 2, 2, 0, true}, true);
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(3));
  const at::Tensor x = testkit::input_of(g, 4, 5, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor y = testkit::target_of(4, 4, 5);
  const auto loss = [&](bool fuse) {
    return testkit::cross_entropy(g, w, x, y, {.training = true, .key = {}, .fuse = fuse});
  };
  EXPECT_THROW(loss(true).backward({}, true, true), std::exception);
  EXPECT_NO_THROW(loss(false).backward({}, true, true));
}

TEST(Fused, AReadInBetweenSeparatesTheNodes) {
  GraphBuilder b({2, 8, 8});
  const Edge before = b.batch_norm("bn", b.input());
  Graph g = b.output(b.linear("fc", b.flatten(b.relu(before)), {.features = 2}));
  g.add_output("before", before);
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(3));
  const c10::NoGradGuard no_grad;
  const at::Tensor x = testkit::input_of(g, 4, 5, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
  const auto results = run(g, w, {{"input", x}}, {"before", "logits"});
  EXPECT_LT(results[0].min().item<double>(), 0) << "batch norm's own output, not ReLU's";
}

TEST(Isa, IsTheBestOfTheMachineUnlessForced) {
  const std::string name = isa_name();
  if (const char* forced = std::getenv("ESPALIER_ISA"); forced && *forced) {
    EXPECT_EQ(name, forced);
  } else {
    EXPECT_EQ(isa() == Isa::v4, __builtin_cpu_supports("x86-64-v4") != 0);
  }
  std::vector<float> numbers(1003, 2);
  float* at = numbers.data();
  vector_loop(1, 1003, [=](int64_t i) { at[i] = at[i] * static_cast<float>(i) + 1; });
  EXPECT_EQ(numbers[0], 2);
  for (size_t i = 1; i < numbers.size(); ++i) ASSERT_EQ(numbers[i], 2 * static_cast<float>(i) + 1);
}

// As the shortcut of a residual network has it: LibTorch's batch norm keeps its running statistics for the backward
// pass, and the fused one behind it writes to the same arena.
TEST(Fused, ABatchNormWithoutReluBeforeAnotherOneWithIt) {
  GraphBuilder b({2, 4, 4});
  const Edge x = b.batch_norm("bn1", b.conv("conv1", b.input(), {.filters = 3, .kernel = 3}));
  const Edge y = b.relu(b.batch_norm("bn2", b.conv("conv2", x, {.filters = 3, .kernel = 1})));
  const Graph g = b.output(b.linear("fc", b.flatten(y), {.features = 4}));
  const at::Tensor input = testkit::input_of(g, 5, 1), target = testkit::target_of(4, 5, 1);
  const auto fused = step(g, at::kFloat, true, input, target), apart = step(g, at::kDouble, false, input, target);
  for (size_t i = 0; i < fused.size(); ++i) EXPECT_LE((fused[i] - apart[i]).abs().max().item<double>(), 1e-4) << i;
}

// Mixed operations as search networks have them: terms with and without batch norm, none, a choice of the coefficients,
// and activations and pools that several nodes compute from the same input.
Graph mixtures(int64_t channels, const BatchNormOptions& norm, bool chosen) {
  GraphBuilder b({2, 6, 5});
  const Edge x = b.conv("stem", b.input(), {.filters = channels, .kernel = 3, .padding = 1});
  const Edge alpha =
      b.softmax(b.node("coefficient", "alpha", {}, Value::map({{"deviation", 0.5}}), {2, chosen ? 9 : 7}));
  const auto mixed = [&](const std::string& name, Edge in, int64_t row) {
    const auto s = b.scope(name);
    std::vector<Edge> terms{b.zeros(in), in};
    for (const int64_t kernel : {1, 3}) {
      const std::string k = std::to_string(kernel);
      const Edge y =
          b.conv("conv" + k, b.relu(in), {.filters = channels, .kernel = kernel, .padding = kernel / 2, .bias = false});
      terms.push_back(b.batch_norm("bn" + k, y, norm));
    }
    terms.push_back(b.avg_pool(in, 3, 1, 1));
    terms.push_back(b.avg_pool(in, 5, 1, 2));
    terms.push_back(b.batch_norm("bn", b.max_pool(in, 3, 1, 1), norm));
    b.unify(terms);
    terms.push_back(alpha);
    Value options = Value::map({{"row", row}});
    if (chosen) options["components"] = std::vector<int64_t>{8, 0, 3, 1, 2, 7, 5};
    return b.node("weighted_sum", "mixed", terms, options);
  };
  const Edge y = mixed("first", x, 0);
  const Edge z = b.add(mixed("second", x, 1), mixed("third", y, 0));
  return b.output(b.linear("fc", b.flatten(z), {.features = 4}));
}

TEST(Fused, MixturesEqualTheOperationsOneByOneInFloat64) {
  for (const int64_t channels : {1, 8, 13, 16, 35}) {
    for (int which = 0; which < 8; ++which) {
      const bool affine = (which & 1) != 0, tracks = (which & 2) != 0, chosen = (which & 4) != 0;
      const Graph g = mixtures(channels, {.momentum = 0.3, .affine = affine, .track_running_stats = tracks}, chosen);
      const at::Tensor x = testkit::input_of(g, 6, 5), y = testkit::target_of(4, 6, 5);
      const auto exact = step(g, at::kDouble, false, x, y);
      const double plain = error(step(g, at::kFloat, false, x, y), exact);
      EXPECT_LE(error(step(g, at::kFloat, true, x, y), exact), std::max(4 * plain, 2e-5))
          << channels << " channels" << (affine ? ", affine" : "") << (tracks ? ", running statistics" : "")
          << (chosen ? ", chosen coefficients" : "") << "; LibTorch's error " << plain;
    }
  }
}

// A controller asks for the gradients of the weights or of the coefficients alone; those that nobody asks for are left
// out, and the others stay the same.
TEST(Fused, AMixtureGivesTheGradientsThatAreAskedFor) {
  const Graph g = mixtures(16, {.affine = true}, false);
  const at::Tensor x = testkit::input_of(g, 6, 5, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor y = testkit::target_of(4, 6, 5);
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(3));
  const auto gradients = [&](bool weights, bool coefficients) {
    w.zero_gradients();
    for (const ParamId p : w.bank(Role::weight).parameters) w[p].set_requires_grad(weights);
    for (const ParamId p : w.bank(Role::architecture).parameters) w[p].set_requires_grad(coefficients);
    testkit::cross_entropy(g, w, x, y, {.training = true, .key = {}}).backward();
    return std::pair(w.bank(Role::weight).gradients.flat().clone(),
                     w.bank(Role::architecture).gradients.flat().clone());
  };
  const auto both = gradients(true, true), weights = gradients(true, false), coefficients = gradients(false, true);
  EXPECT_GT(both.first.abs().max().item<double>(), 0);
  EXPECT_GT(both.second.abs().max().item<double>(), 0);
  EXPECT_TRUE(at::equal(weights.first, both.first));
  EXPECT_EQ(weights.second.abs().max().item<double>(), 0);
  EXPECT_TRUE(at::equal(coefficients.second, both.second));
  EXPECT_EQ(coefficients.first.abs().max().item<double>(), 0);
}

// Coefficients that depend on the sample have no such form; the norms in front of them are computed all the same.
TEST(Fused, AMixtureWithCoefficientsForEachSampleIsComputedByItself) {
  GraphBuilder b({3, 4, 4});
  const Edge c = b.softmax(b.linear("router", b.global_avg_pool(b.input()), {.features = 2}));
  const Edge x = b.batch_norm("bn1", b.input()),
             z = b.batch_norm("bn2", b.conv("conv", b.input(), {.filters = 3, .kernel = 1}));
  std::vector<Edge> terms{x, b.relu(z)};
  b.unify(terms);
  const Graph g =
      b.output(b.linear("fc", b.flatten(b.node("weighted_sum", "mixed", {terms[0], terms[1], c})), {.features = 4}));
  const at::Tensor input = testkit::input_of(g, 6, 5), target = testkit::target_of(4, 6, 5);
  const auto exact = step(g, at::kDouble, false, input, target);
  const double plain = error(step(g, at::kFloat, false, input, target), exact);
  EXPECT_LE(error(step(g, at::kFloat, true, input, target), exact), std::max(4 * plain, 2e-5));
}

// Attention within windows; every case has other tails: of tokens (4, 9, 16 and 49 of a window), of head dimensions, of
// maps that a window does not divide, of shifts.
struct Windows {
  int64_t height, width, window, shift, query, value;
  bool shift_first = false;
};

Graph within_windows(const Windows& c) {
  GraphBuilder b({3, c.height, c.width});
  Edge x = b.linear("in", b.to_tokens(b.input()), {.features = 5});
  if (c.height % c.window || c.width % c.window) x = b.pad_tokens(x, c.window);
  const auto heads = [&](const char* name, int64_t dimension) {
    return b.linear(name, x, {.features = 3 * dimension, .heads = 3});
  };
  const Edge q = heads("q", c.query), k = heads("k", c.query), v = heads("v", c.value);
  x = b.window_attention(
      "windows", q, k, v,
      {.window = c.window, .shift = c.shift, .height = c.height, .width = c.width, .shift_first = c.shift_first});
  return b.output(b.linear("fc", b.mean(x), {.features = 4}));
}

const std::vector<Windows> window_cases = {{4, 6, 2, 1, 5, 6},   {7, 5, 3, 1, 16, 3},        {6, 6, 3, 0, 7, 17},
                                           {9, 8, 4, 2, 32, 32}, {10, 9, 4, 2, 1, 33, true}, {14, 14, 7, 3, 27, 8}};

TEST(Fused, AttentionWithinWindowsEqualsTheOperationsOneByOneInFloat64) {
  for (const Windows& c : window_cases) {
    const Graph g = within_windows(c);
    const at::Tensor x = testkit::input_of(g, 3, 5), y = testkit::target_of(4, 3, 5);
    const auto exact = step(g, at::kDouble, false, x, y);
    const double plain = error(step(g, at::kFloat, false, x, y), exact);
    EXPECT_LE(error(step(g, at::kFloat, true, x, y), exact), std::max(4 * plain, 2e-5))
        << c.height << "x" << c.width << ", window " << c.window << ", LibTorch's error " << plain;
  }
}

// In bfloat16, as autocast has it; a number there has eight bits, so that LibTorch's own error is a few thousandths.
TEST(Fused, AttentionWithinWindowsInBfloat16IsAsExactAsLibTorchs) {
  for (const Windows& c : window_cases) {
    const Graph g = within_windows(c);
    const at::Tensor x = testkit::input_of(g, 3, 5), y = testkit::target_of(4, 3, 5);
    const auto exact = step(g, at::kDouble, false, x, y);
    const auto in_bfloat16 = [&](bool fuse) {
      at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
      at::autocast::set_autocast_enabled(at::kCPU, true);
      const double e = error(step(g, at::kFloat, fuse, x, y), exact);
      at::autocast::set_autocast_enabled(at::kCPU, false);
      return e;
    };
    const double plain = in_bfloat16(false);
    EXPECT_GT(plain, 1e-4) << "autocast was off";
    EXPECT_LE(in_bfloat16(true), 2 * plain) << c.height << "x" << c.width << ", window " << c.window;
  }
}

// A second backward pass adds the same gradient: in float32 twice a number is exact.
TEST(Fused, ALinearLayerInBfloat16AddsItsGradientToWhatIsThere) {
  GraphBuilder b({6, 1, 1});
  const Graph g =
      b.output(b.linear("fc2", b.relu(b.linear("fc1", b.flatten(b.input()), {.features = 7})), {.features = 4}));
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(3));
  const at::Tensor x = testkit::input_of(g, 5, 5, at::kFloat), y = testkit::target_of(4, 5, 5);
  const auto backward = [&] {
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::set_autocast_enabled(at::kCPU, true);
    const at::Tensor logits = run(g, w, {{"input", x}}, {"logits"}, {.training = true, .key = {}})[0];
    at::autocast::set_autocast_enabled(at::kCPU, false);
    EXPECT_EQ(logits.scalar_type(), at::kBFloat16);
    at::cross_entropy_loss(logits.to(at::kFloat), y).backward();
    return w.bank(Role::weight).gradients.flat().clone();
  };
  const at::Tensor once = backward(), twice = backward();
  EXPECT_GT(once.abs().max().item<double>(), 0);
  EXPECT_TRUE(at::equal(twice, once + once));
}

// The sums of the table's gradient are made in parts, and those must not depend on the threads. All that goes in, and
// the gradients that come back, are sums of few small multiples of 1/64, which float32 holds exactly: the layers around
// the operation, whose order of sums LibTorch may choose by the number of threads, give the same in any order.
TEST(Fused, AttentionWithinWindowsIsTheSameOnAnyNumberOfThreads) {
  if (isa() == Isa::baseline) GTEST_SKIP() << "this processor computes it by LibTorch";
  const Graph g = within_windows(window_cases.back());
  const auto small = [](std::vector<int64_t> sizes, double unit) {
    int64_t n = 1;
    for (const int64_t s : sizes) n *= s;
    return at::arange(n, at::kLong).mul_(7).remainder_(5).sub_(2).to(at::kFloat).mul_(unit).reshape(sizes);
  };
  Weights w(g, at::kFloat, at::kCPU);
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const at::Tensor p = w[{static_cast<int32_t>(i)}].detach();
    p.copy_(small(p.sizes().vec(), 1.0 / 8));
  }
  const ParamId table = g.parameter("windows.relative_position_bias");
  std::vector<int64_t> sizes = g.sizes(g[g.inputs()[0].edge].shape);
  sizes.insert(sizes.begin(), 16);
  const at::Tensor x = small(sizes, 1), above = small({16, 4}, 1);
  const int before = at::get_num_threads();
  std::vector<at::Tensor> gradients;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    w.zero_gradients();
    run(g, w, {{"input", x}}, {"logits"}, {.training = true, .key = RandomKey(1)})[0].backward(above);
    gradients.push_back(w.gradient(table).clone());
  }
  at::set_num_threads(before);
  EXPECT_GT(gradients[0].abs().max().item<double>(), 0);
  EXPECT_TRUE(at::equal(gradients[0], gradients[1]));
  EXPECT_TRUE(at::equal(gradients[0], gradients[2]));
}

TEST(Fused, AttentionWithinWindowsRefusesASecondDerivative) {
  if (isa() == Isa::baseline) GTEST_SKIP() << "this processor computes it by LibTorch";
  const Graph g = within_windows(window_cases[0]);
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(3));
  const at::Tensor x = testkit::input_of(g, 2, 5, at::kFloat);
  const at::Tensor loss = run(g, w, {{"input", x}}, {"logits"}, {.training = true, .key = {}})[0].square().sum();
  const at::Tensor table = w[g.parameter("windows.relative_position_bias")];
  EXPECT_THROW(torch::autograd::grad({loss}, {table}, {}, true, /*create_graph=*/true), Error);
}

}  // namespace
}  // namespace espalier
