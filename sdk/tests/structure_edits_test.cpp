// Edits of what is connected and of kernels, against the same network with columns, filters or taps of zeros.
#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "edited_network.h"
#include "espalier/builder.h"
#include "espalier/error.h"
#include "espalier/kernel_support.h"
#include "espalier/operation.h"
#include "espalier/rewrite.h"

namespace espalier {
namespace {

using testing::HasSubstr;

// ---- kernels ----

// By taking the outermost row and column away by turns, first on the top left.
at::Tensor half_rings(const Indices& sizes, int64_t side) {
  at::Tensor mask = at::zeros({static_cast<int64_t>(sizes.size()), 1, side, side}, at::kDouble);
  for (size_t f = 0; f < sizes.size(); ++f) {
    int64_t low = 0, high = side;
    for (int64_t gone = 0; gone < side - sizes[f]; ++gone) gone % 2 == 0 ? ++low : --high;
    mask[static_cast<int64_t>(f)].slice(1, low, high).slice(2, low, high).fill_(1);
  }
  return mask;
}

struct Form {
  int64_t kernel = 5, stride = 1, padding = 2;
  bool bias = true;
  int64_t channels = 3, width = 11;
  std::string corner = "top_left";
};

Graph convolution(const Form& f, int64_t filters) {
  GraphBuilder g({f.channels, 11, f.width});
  Edge x = g.conv("conv", g.input(),
                  {.filters = filters, .kernel = f.kernel, .stride = f.stride, .padding = f.padding, .bias = f.bias});
  x = g.relu(g.conv("next", g.relu(x), {.filters = 3}));
  return g.output(g.linear("fc", g.flatten(x), {.features = 3}));
}

TEST(CropKernels, LeavesTheSupportsOfNestedHalfRings) {
  // Cells that are gone after n steps: s^2 - (s - n)^2.
  const std::vector<std::pair<int64_t, Indices>> groups{
      {3, {5, 8, 9}}, {5, {9, 16, 21, 24, 25}}, {7, {13, 24, 33, 40, 45, 48, 49}}};
  for (const auto& [side, gone] : groups) {
    Network n(convolution({.kernel = side, .padding = side / 2}, side + 1));
    Indices sizes;
    for (int64_t s = side; s >= 0; --s) sizes.push_back(s);
    n.edit({{CropKernels{"conv", sizes}}});
    const at::Tensor support = n["conv.weight"].ne(0).to(at::kDouble);
    EXPECT_TRUE(at::equal(support, half_rings(sizes, side).expand_as(support))) << side;
    for (int64_t step = 1; step <= side; ++step)
      EXPECT_EQ(3 * (side * side - gone[static_cast<size_t>(step - 1)]), support[step].sum().item<double>());
    // First the top row and the left column.
    EXPECT_EQ(support[1][0][0].sum().item<double>(), 0);
    EXPECT_EQ(support[1][0][side - 1].sum().item<double>(), static_cast<double>(side - 1));
  }
}

// Half-rings that begin on the bottom right leave other supports, which the convolution and its fresh values keep; a
// kernel cannot be cropped from both sides by turns of its own.
TEST(CropKernels, BeginOnEitherSide) {
  const Indices sizes{5, 4, 3, 2, 1, 0};
  Network n(convolution({}, 6));
  const at::Tensor mask = kernel_mask(sizes, 5, at::kDouble, KernelCorner::bottom_right);
  const at::Tensor whole = (n["conv.weight"] * mask).contiguous(), bias = n["conv.bias"].clone();
  n.edit({{CropKernels{"conv", sizes, "bottom_right"}}});
  EXPECT_EQ(n["conv.weight"][1][0][4].abs().sum().item<double>(), 0);
  EXPECT_NE(n["conv.weight"][1][0][0][0].item<double>(), 0);
  EXPECT_LE(largest(n.at_node("conv") - at::conv2d(n.x, whole, bias, {1, 1}, {2, 2})), 1e-12);
  Weights fresh(n.graph, at::kDouble, at::kCPU);
  fresh.initialize(n.graph, RandomKey(3));
  const at::Tensor support = fresh[n.graph.parameter("conv.weight")].detach().ne(0).to(at::kDouble);
  EXPECT_TRUE(at::equal(support, mask.expand_as(support)));
  EXPECT_THAT(refusal(n, {{CropKernels{"conv", {4, 4, 3, 2, 1, 0}}}}), HasSubstr("from the other side before"));
  n.edit({{CropKernels{"conv", {4, 3, 3, 2, 1, 0}, "bottom_right"}}});
  EXPECT_EQ(n["conv.weight"][0][0][4].abs().sum().item<double>(), 0);
  // A graph that is written and read again keeps the side.
  EXPECT_EQ(Graph::from_value(n.graph.to_value()).node("conv").op->kernel_corner(), KernelCorner::bottom_right);
}

TEST(CropKernels, GiveWhatTheWholeConvolutionWithZerosGives) {
  const Indices mixed{5, 0, 3, 2, 1, 4, 3, 5, 0, 2}, odd{3, 1, 3, 5, 5, 1}, small{1, 2, 0, 3, 1, 2};
  struct Case {
    Form form;
    Indices sizes;
  };
  std::vector<Case> cases;
  for (const int64_t stride : {1, 2}) {
    for (const bool bias : {true, false}) {
      for (const int64_t padding : {0, 2})
        for (const Indices& sizes : {mixed, odd, small}) cases.push_back({{5, stride, padding, bias}, sizes});
      cases.push_back({{4, stride, 1, bias}, {4, 3, 2, 1, 0}});
      cases.push_back({{4, stride, 0, bias}, {1, 2, 2, 1, 0}});
    }
  }
  // So many filters and channels that sizes run by themselves, also those that are not in the middle of the whole, and
  // that some do not reach all of the images.
  const auto spread = [](const Indices& counts) {
    Indices in_order, sizes;
    for (size_t s = 0; s < counts.size(); ++s)
      in_order.insert(in_order.end(), static_cast<size_t>(counts[s]), static_cast<int64_t>(s));
    for (size_t f = 0; f < in_order.size(); ++f) sizes.push_back(in_order[f * 7 % in_order.size()]);
    return sizes;
  };
  for (const char* corner : {"top_left", "bottom_right"}) {
    for (const int64_t padding : {0, 1, 2}) {
      for (const int64_t stride : {1, 2}) {
        const bool bias = padding != 1;
        cases.push_back({{5, stride, padding, bias, 24, 9, corner}, spread({4, 6, 13, 3, 18, 16})});
        cases.push_back({{4, stride, padding, bias, 24, 9, corner}, spread({1, 14, 5, 21, 17})});
      }
      cases.push_back({{5, 1, padding, true, 24, 9, corner}, spread({0, 17, 20, 0, 1})});
    }
  }
  // Wide images, and channels that leave some over behind vectors.
  cases.push_back({{5, 1, 2, true, 33, 21, "top_left"}, spread({4, 6, 13, 3, 18, 5})});
  cases.push_back({{5, 1, 2, false, 16, 33, "bottom_right"}, spread({2, 3, 4, 1, 2, 3})});
  for (const Case& c : cases) {
    const Form& f = c.form;
    SCOPED_TRACE(std::to_string(f.kernel) + " stride " + std::to_string(f.stride) + " padding " +
                 std::to_string(f.padding) + (f.bias ? " bias " : " ") + to_string(c.sizes));
    const auto filters = static_cast<int64_t>(c.sizes.size());
    Network n(convolution(f, filters));
    // From the bottom right as from the top left, turned by half.
    const bool turned = f.corner == "bottom_right";
    const at::Tensor mask = turned ? half_rings(c.sizes, f.kernel).flip({2, 3}) : half_rings(c.sizes, f.kernel);
    const at::Tensor whole = (n["conv.weight"] * mask).contiguous();
    const at::Tensor bias = f.bias ? n["conv.bias"].clone() : at::Tensor();
    const int64_t before = n.graph.parameter_count(), macs_before = n.graph.macs();
    n.edit({{CropKernels{"conv", c.sizes, f.corner}}});

    // By brute force.
    int64_t taps = 0;
    for (const int64_t s : c.sizes) taps += f.channels * s * s;
    const int64_t full = f.channels * filters * f.kernel * f.kernel;
    EXPECT_EQ(n.graph.parameter_count(), before - full + taps);
    const at::Tensor expected = at::conv2d(n.x, whole, bias, {f.stride, f.stride}, {f.padding, f.padding});
    EXPECT_EQ(n.graph.macs(), macs_before - (full - taps) * expected.size(2) * expected.size(3));
    EXPECT_LE(largest(n.at_node("conv") - expected), 1e-12);

    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      for (const bool fuse : {true, false}) {
        const double tolerance = dtype == at::kDouble ? 1e-12 : 1e-4;
        Weights w(n.graph, dtype, at::kCPU);
        {
          const c10::NoGradGuard no_grad;
          for (size_t i = 0; i < n.graph.parameters().size(); ++i)
            at::Tensor(w[{static_cast<int32_t>(i)}]).copy_(n.weights[{static_cast<int32_t>(i)}]);
          // What lies outside of the kernels does not count.
          const at::Tensor weight = w[n.graph.parameter("conv.weight")].detach();
          const int64_t rest = (f.kernel - weight.size(2)) / 2;
          const at::Tensor own = mask.narrow(2, rest, weight.size(2)).narrow(3, rest, weight.size(2));
          weight.add_(7 * (1 - own.to(dtype)));
        }
        Graph with = n.graph;
        with.add_output("probe", n.graph.node("conv").outputs[0]);
        // In the order that images have in a run, for which there are forms of their own.
        at::Tensor x = n.x.to(dtype).clone(at::MemoryFormat::ChannelsLast).requires_grad_(true);
        const at::Tensor y =
            run(with, w, {{"input", x}}, {"probe"}, {.training = true, .key = RandomKey(1), .fuse = fuse})[0];
        const at::Tensor factor = at::sin(expected).to(dtype);
        (y * y * factor).sum().backward();
        {
          const c10::NoGradGuard no_grad;
          const at::Tensor again =
              run(with, w, {{"input", x}}, {"probe"}, {.training = true, .key = RandomKey(1), .fuse = fuse})[0];
          EXPECT_TRUE(at::equal(again, y)) << "the same bytes, with and without gradients";
        }
        at::Tensor ox = n.x.to(dtype).clone().requires_grad_(true);
        at::Tensor ow = whole.to(dtype).clone().requires_grad_(true);
        at::Tensor ob = f.bias ? bias.to(dtype).clone().requires_grad_(true) : at::Tensor();
        const at::Tensor oy = at::conv2d(ox, ow, ob, {f.stride, f.stride}, {f.padding, f.padding});
        (oy * oy * factor).sum().backward();
        const double many = static_cast<double>(f.channels) / 3;
        EXPECT_LE(largest(y - oy), tolerance);
        EXPECT_LE(largest(x.grad() - ox.grad()), 20 * many * tolerance);
        const int64_t side = w[n.graph.parameter("conv.weight")].size(2), off = (f.kernel - side) / 2;
        const at::Tensor masked = (ow.grad() * mask.to(dtype)).narrow(2, off, side).narrow(3, off, side);
        EXPECT_LE(largest(w.gradient(n.graph.parameter("conv.weight")) - masked), 500 * many * tolerance);
        if (f.bias) {
          EXPECT_LE(largest(w.gradient(n.graph.parameter("conv.bias")) - ob.grad()), 500 * tolerance);
        }
      }
    }
  }
}

TEST(CropKernels, HaveASecondDerivativeInFloatWhereNothingIsFused) {
  Network n(convolution({}, 4));
  n.edit({{CropKernels{"conv", {5, 3, 1, 0}}}});
  Weights w(n.graph, at::kFloat, at::kCPU);
  w.initialize(n.graph, RandomKey(3));
  Graph with = n.graph;
  with.add_output("probe", n.graph.node("conv").outputs[0]);
  const at::Tensor& weight = w[n.graph.parameter("conv.weight")];
  at::Tensor x = n.x.to(at::kFloat).requires_grad_(true);
  const at::Tensor y =
      run(with, w, {{"input", x}}, {"probe"}, {.training = true, .key = RandomKey(1), .fuse = false})[0];
  const at::Tensor first =
      torch::autograd::grad({(y * y).sum()}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true)[0];
  const at::Tensor second = torch::autograd::grad({first.pow(2).sum()}, {weight})[0];
  at::Tensor ox = n.x.to(at::kFloat).requires_grad_(true);
  at::Tensor ow = weight.detach().clone().requires_grad_(true);
  const at::Tensor oy = at::conv2d(
      ox, ow, n["conv.bias"].to(at::kFloat) * 0 + w[n.graph.parameter("conv.bias")].detach(), {1, 1}, {2, 2});
  const at::Tensor ofirst = torch::autograd::grad({(oy * oy).sum()}, {ox}, {}, true, true)[0];
  const at::Tensor osecond =
      torch::autograd::grad({ofirst.pow(2).sum()}, {ow})[0] * half_rings({5, 3, 1, 0}, 5).to(at::kFloat);
  EXPECT_LE(largest(second - osecond), 1e-4 * largest(osecond));
}

TEST(CropKernels, MakesTheWholeSmallerWithAllThatLiesBesideIt) {
  Network n(convolution({}, 4)), m(convolution({}, 4));
  n.edit({{CropKernels{"conv", {3, 2, 3, 0}}}});
  EXPECT_EQ(n["conv.weight"].sizes().vec(), (Indices{4, 3, 3, 3}));
  EXPECT_EQ(n.graph.node("conv").op->options().at("kernel"), Value(3));
  EXPECT_EQ(n.graph.node("conv").op->options().at("padding"), Value(1));
  const at::Tensor mask = half_rings({3, 2, 3, 0}, 5);
  const auto middle = [](const at::Tensor& t) { return t.slice(-2, 1, 4).slice(-1, 1, 4); };
  EXPECT_TRUE(at::equal(n["conv.weight"], middle(m["conv.weight"] * mask)));
  EXPECT_TRUE(at::equal(n.state("momentum", "conv.weight"), middle(m.state("momentum", "conv.weight") * mask)));
  EXPECT_TRUE(at::equal(n.weights.gradient(n.graph.parameter("conv.weight")),
                        middle(m.weights.gradient(m.graph.parameter("conv.weight")) * mask)));
  EXPECT_TRUE(at::equal(n.state("per filter", "conv.weight"), m.state("per filter", "conv.weight")));
  EXPECT_TRUE(at::equal(n.state("per input", "conv.weight"), middle(m.state("per input", "conv.weight"))));
  // Again: the same as at once.
  const at::Tensor before = n.at_node("conv");
  n.edit({{CropKernels{"conv", {1, 1, 0, 0}}}});
  m.edit({{CropKernels{"conv", {1, 1, 0, 0}}}});
  EXPECT_EQ(n["conv.weight"].sizes().vec(), (Indices{4, 3, 1, 1}));
  EXPECT_TRUE(at::equal(n["conv.weight"], m["conv.weight"]));
  EXPECT_EQ(to_json(n.graph.to_value()), to_json(m.graph.to_value()));
  EXPECT_TRUE(at::equal(n.at_node("conv").select(1, 3), before.select(1, 3))) << "only its bias is left";
  // All of one size: a plain convolution again.
  Network p(convolution({}, 2));
  p.edit({{CropKernels{"conv", {3, 3}}}});
  EXPECT_EQ(p.graph.node("conv").op->options().at("sizes"), Value(Indices{}));
  // Without padding the image would lose its border: the whole stays.
  Network q(convolution({.padding = 0}, 2));
  q.edit({{CropKernels{"conv", {3, 1}}}});
  EXPECT_EQ(q["conv.weight"].sizes().vec(), (Indices{2, 3, 5, 5}));
}

TEST(CropKernels, StayWithTheirFiltersAsTheseComeAndGo) {
  Network n(convolution({}, 5));
  n.edit({{CropKernels{"conv", {1, 5, 0, 3, 2}}}});
  const at::Tensor before = n.at_node("conv");
  n.edit({shrink(n.graph, n.graph.axis("conv"), {1, 3, 4})});
  EXPECT_LE(largest(n.at_node("conv") - before.index_select(1, at::tensor({1, 3, 4}, at::kLong))), 1e-12);
  EXPECT_EQ(n.graph.parameter_count(), (25 + 9 + 4) * 3 + 3 + 3 * 3 * 9 + 3 + 3 * 9 * 9 * 3 + 3);
  n.edit({grow(n.graph, n.graph.axis("conv"), 2, "random", RandomKey(3))});
  EXPECT_EQ(n.graph.node("conv").op->options().at("sizes"), Value(Indices{5, 3, 2, 5, 5}));
  EXPECT_GT(n["conv.weight"].slice(0, 3).abs().min().item<double>(), 0) << "new kernels are whole";
  EXPECT_LE(largest(n.at_node("conv").slice(1, 0, 3) - before.index_select(1, at::tensor({1, 3, 4}, at::kLong))),
            1e-12);
  // What a network with such kernels begins with is zero outside of them too.
  Network fresh(n.graph);
  EXPECT_TRUE(at::equal(fresh["conv.weight"], fresh["conv.weight"] * half_rings({5, 3, 2, 5, 5}, 5)));
  n.edit({shrink(n.graph, n.graph.axis("conv"), {2})});
  n.edit({{CropKernels{"conv", {1}}}});
  EXPECT_EQ(n["conv.weight"].sizes().vec(), (Indices{1, 3, 1, 1}));
}

TEST(CropKernels, IsRefusedWithTheReason) {
  Network n(convolution({}, 3));
  EXPECT_THAT(refusal(n, {{CropKernels{"conv", {5, 3}}}}), HasSubstr("2 sizes for 3 filters"));
  EXPECT_THAT(refusal(n, {{CropKernels{"conv", {6, 3, 3}}}}), HasSubstr("a kernel of 5 and cannot get one of 6"));
  EXPECT_THAT(refusal(n, {{CropKernels{"conv", {-1, 3, 3}}}}), HasSubstr("cannot get one of -1"));
  EXPECT_THAT(refusal(n, {{CropKernels{"conv", {0, 0, 0}}}}), HasSubstr("nothing would be left"));
  EXPECT_THAT(refusal(n, {{CropKernels{"fc", {1, 1, 1}}}}), HasSubstr("has no kernels"));
  EXPECT_THAT(refusal(n, {{CropKernels{"cnov", {1, 1, 1}}}}), HasSubstr("conv"));
  n.edit({{CropKernels{"conv", {5, 3, 0}}}});
  EXPECT_THAT(refusal(n, {{CropKernels{"conv", {5, 4, 0}}}}), HasSubstr("a kernel of 3"));
  GraphBuilder g({4, 8, 8});
  Edge x = g.conv("grouped", g.conv("in", g.input(), {.filters = 4}), {.filters = 4, .padding = 1, .groups = 2});
  x = g.conv("dilated", g.conv("depthwise", x, {.padding = 1, .depthwise = true}),
             {.filters = 2, .padding = 2, .dilation = 2});
  Network m(g.output(g.linear("fc", g.flatten(x), {.features = 2})));
  EXPECT_THAT(refusal(m, {{CropKernels{"grouped", {1, 1, 1, 1}}}}), HasSubstr("kernels of one size only"));
  EXPECT_THAT(refusal(m, {{CropKernels{"depthwise", {1, 1, 1, 1}}}}), HasSubstr("kernels of one size only"));
  EXPECT_THAT(refusal(m, {{CropKernels{"dilated", {1, 1}}}}), HasSubstr("kernels of one size only"));
}

// ---- inputs that go ----

// Two branches and their sum side by side: the first and the last segment are of one axis.
Graph joined() {
  GraphBuilder g({2, 6, 6});
  const Edge a = g.conv("a", g.input(), {.filters = 3, .padding = 1});
  const Edge b = g.conv("b", g.input(), {.filters = 4, .padding = 1});
  const Edge c = g.add(a, g.relu(g.conv("c", g.input(), {.filters = 3, .padding = 1})));
  const Edge all = g.concat({a, b, c});
  Edge x = g.relu(g.batch_norm("bn", all));
  x = g.conv("conv", x, {.filters = 4, .padding = 1});
  const Edge also = g.select("view", all, {9, 3, 1, 5}, {});
  x = g.conv("deep", g.concat({g.relu(x), all, also, all}), {.filters = 3, .padding = 1});
  return g.output(g.linear("fc", g.flatten(g.concat({g.max_pool(x, 2), g.max_pool(all, 2)})), {.features = 3}));
}

TEST(Disconnect, AConcatenationLosesASegmentAsIfItsColumnsWereZero) {
  for (const int64_t input : {0, 1, 2}) {
    Network n(joined()), zeroed(joined());
    // Positions of the ten channels that go.
    const std::vector<Indices> positions{{0, 1, 2}, {3, 4, 5, 6}, {7, 8, 9}};
    const Indices& gone = positions[static_cast<size_t>(input)];
    const Indices rest = complement(gone, 10);
    const at::Tensor kept = at::tensor(rest, at::kLong);
    // The oracle: zeros wherever the ten channels are read.
    const auto zero_columns = [&](const char* parameter, int64_t from, int64_t pixels) {
      const c10::NoGradGuard no_grad;
      at::Tensor t = zeroed.weights[zeroed.graph.parameter(parameter)];
      for (const int64_t c : gone) t.narrow(1, from + c * pixels, pixels).zero_();
    };
    zero_columns("conv.weight", 0, 1);
    zero_columns("deep.weight", 4, 1);
    zero_columns("deep.weight", 4 + 10 + 4, 1);
    zero_columns("fc.weight", 3 * 9, 9);
    const Indices view{9, 3, 1, 5};
    {
      const c10::NoGradGuard no_grad;
      at::Tensor t = zeroed.weights[zeroed.graph.parameter("deep.weight")];
      for (size_t i = 0; i < view.size(); ++i) {
        if (std::ranges::find(gone, view[i]) != gone.end()) t.select(1, 14 + static_cast<int64_t>(i)).zero_();
      }
    }
    const int64_t before = n.graph.parameter_count();
    const std::vector<std::string> whole{"bn.weight", "bn.running_mean", "conv.weight"};
    std::map<std::string, at::Tensor> old;
    for (const std::string& p : whole) old[p] = n[p].clone();
    const at::Tensor momentum = n.state("momentum", "bn.bias").clone(),
                     per_input = n.state("per input", "conv.weight").clone();
    const at::Tensor per_filter = n.state("per filter", "bn.weight").clone();
    n.edit({{Disconnect{"concat1", input}}});
    EXPECT_LE(largest(n.logits() - zeroed.logits()), 1e-12) << input;
    EXPECT_GT(largest(n.logits() - Network(joined()).logits()), 1e-3);
    const auto lost = static_cast<int64_t>(gone.size());
    EXPECT_EQ(before - n.graph.parameter_count(), lost * (2 + 4 * 9 + 2 * 3 * 9 + 9 * 3) + (input == 2   ? 2 * 3 * 9 + 3
                                                                                            : input == 1 ? 2 * 4 * 9 + 4
                                                                                                         : 0));
    EXPECT_EQ(n.numbers(), n.graph.parameter_count());
    EXPECT_TRUE(at::equal(n["bn.weight"], old["bn.weight"].index_select(0, kept)));
    EXPECT_TRUE(at::equal(n["bn.running_mean"], old["bn.running_mean"].index_select(0, kept)));
    EXPECT_TRUE(at::equal(n["conv.weight"], old["conv.weight"].index_select(1, kept)));
    EXPECT_TRUE(at::equal(n.state("momentum", "bn.bias"), momentum.index_select(0, kept)));
    EXPECT_TRUE(at::equal(n.state("per filter", "bn.weight"), per_filter.index_select(0, kept)));
    EXPECT_TRUE(at::equal(n.state("per input", "conv.weight"), per_input.index_select(0, kept)));
    EXPECT_EQ(n.has("b"), input != 1) << "what nothing reads goes";
    EXPECT_EQ(n.has("c"), input != 2);
    EXPECT_EQ(n.has("a"), true) << "the sum still reads it";
    EXPECT_EQ(n.size("a"), 3);
    // The axes that are left still shrink, wherever they are.
    n.edit({shrink(n.graph, n.graph.axis("a"), {0, 2})});
    EXPECT_EQ(n.numbers(), n.graph.parameter_count());
    // Once more, and the last stays.
    n.edit({{Disconnect{"concat1", 0}}});
    EXPECT_THAT(refusal(n, {{Disconnect{"concat1", 0}}}), HasSubstr("it is the last, and the network would be cut"));
  }
}

TEST(Disconnect, TakesAGateOnTheConcatenationWithIt) {
  GraphBuilder g({2, 6, 6});
  Edge x = g.concat({g.conv("a", g.input(), {.filters = 3}), g.conv("b", g.input(), {.filters = 2})});
  Network n(g.output(g.linear("fc", g.flatten(g.relu(x)), {.features = 3})));
  n.edit({{InsertGate{"gate", "concat1", ""}}});
  set(n, "gate.coefficient.value", at::tensor({1., 2., 3., 4., 5.}, at::kDouble));
  n.edit({{Disconnect{"concat1", 0}}});
  EXPECT_TRUE(at::equal(n["gate.coefficient.value"], at::tensor({4., 5.}, at::kDouble)));
  EXPECT_EQ(n.numbers(), n.graph.parameter_count());
  n.logits();
}

TEST(Disconnect, ASumLosesATerm) {
  GraphBuilder g({2, 6, 6});
  const auto branch = [&](const char* name) { return g.conv(name, g.input(), {.filters = 3, .padding = 1}); };
  const Edge x = g.relu(g.add({branch("a"), branch("b"), branch("c")}));
  Network n(g.output(g.linear("fc", g.flatten(x), {.features = 3}))), zeroed(n.graph);
  set(zeroed, "b.weight", at::zeros({3, 2, 3, 3}));
  set(zeroed, "b.bias", at::zeros({3}));
  n.edit({{Disconnect{"add1", 1}}});
  EXPECT_LE(largest(n.logits() - zeroed.logits()), 1e-12);
  EXPECT_FALSE(n.has("b"));
  EXPECT_THAT(refusal(n, {{Disconnect{"add1", 2}}}), HasSubstr("has 2 inputs, counted from 0; there is no input 2"));
  n.edit({{Disconnect{"add1", 1}}});
  EXPECT_THAT(refusal(n, {{Disconnect{"add1", 0}}}), HasSubstr("it is the last"));
  EXPECT_THAT(refusal(n, {{Disconnect{"relu1", 0}}}), HasSubstr("an operation 'relu' needs this input"));
}

// ---- mixtures ----

// Two mixtures of three terms each, with the rows of one matrix of coefficients, or a vector each.
Graph mixtures(bool shared) {
  GraphBuilder g({2, 6, 6});
  const Value random = Value::map({{"deviation", 1.0}});
  Edge matrix;
  if (shared) matrix = g.softmax(g.node("coefficient", "alpha", {}, random, {2, 3}));
  Edge x = g.conv("stem", g.input(), {.filters = 3, .padding = 1});
  for (int64_t i = 0; i < 2; ++i) {
    const auto s = g.scope("block" + std::to_string(i));
    std::vector<Edge> terms{x, g.relu(g.conv("a", x, {.filters = 3, .padding = 1})),
                            g.conv("b", x, {.filters = 3, .padding = 1})};
    g.unify(terms);
    terms.push_back(shared ? matrix : g.softmax(g.node("coefficient", "alpha", {}, random, {3})));
    x = g.node("weighted_sum", "mixed", terms, Value::map({{"row", shared ? i : -1}}));
  }
  return g.output(g.linear("fc", g.flatten(x), {.features = 3}));
}

at::Tensor loss_of(const Network& n, const Graph& g, const Weights& w) {
  return testkit::cross_entropy(g, w, n.x, testkit::target_of(3, n.x.size(0), 1));
}

TEST(Disconnect, LeavesTheNetworksOutputsAlone) {
  GraphBuilder g({6, 0, 0});
  const Edge a = g.linear("a", g.input(), {.features = 2}), b = g.linear("b", g.input(), {.features = 2});
  Network n(g.output(g.concat({a, b})));
  EXPECT_THAT(refusal(n, {{Disconnect{"concat1", 0}}}), HasSubstr("an output of the network"));
  GraphBuilder h({6, 0, 0});
  const Edge c = h.linear("c", h.input(), {.features = 4});
  Graph two = h.output(h.linear("d", c, {.features = 2}));
  two.add_output("auxiliary", c);
  Network m(two);
  EXPECT_THAT(refusal(m, {{SplitOff{"d", 0, ""}}}), HasSubstr("an output of the network"));
}

TEST(Mixture, RowsOfAMatrixAreCoefficientsLikeAnyOthers) {
  Network n(mixtures(true)), m(mixtures(false));
  for (int64_t i = 0; i < 2; ++i) {
    for (const Parameter& p : n.graph.parameters()) {
      if (p.name != "alpha.value") set(m, p.name, n[p.name]);
    }
    set(m, "block0.alpha.value", n["alpha.value"][0]);
    set(m, "block1.alpha.value", n["alpha.value"][1]);
  }
  EXPECT_LE(largest(n.logits() - m.logits()), 1e-14);
  for (Network* k : {&n, &m}) {
    k->weights.zero_gradients();
    loss_of(*k, k->graph, k->weights).backward();
  }
  const at::Tensor shared = n.weights.gradient(n.graph.parameter("alpha.value"));
  for (int64_t i = 0; i < 2; ++i)
    EXPECT_LE(largest(shared[i] - m.weights.gradient(m.graph.parameter("block" + std::to_string(i) + ".alpha.value"))),
              1e-13);
  // Finite differences.
  const double step = 1e-5;
  for (int64_t i = 0; i < 6; ++i) {
    const c10::NoGradGuard no_grad;
    at::Tensor a = n.weights[n.graph.parameter("alpha.value")].view({-1});
    const auto at = [&](double by) {
      a[i].add_(by);
      const double loss = loss_of(n, n.graph, n.weights).item<double>();
      a[i].sub_(by);
      return loss;
    };
    EXPECT_NEAR(shared.reshape({-1})[i].item<double>(), (at(step) - at(-step)) / (2 * step), 1e-8);
  }
  EXPECT_TRUE(to_json(Graph::from_value(from_json(to_json(n.graph.to_value()))).to_value()) ==
              to_json(n.graph.to_value()));
}

TEST(Mixture, LosesATermAndKeepsItsFreeParameter) {
  Network n(mixtures(true));
  const at::Tensor a = at::softmax(n["alpha.value"], -1);
  const at::Tensor expected = n.at_node("block0.mixed") - a[0][1] * n.at_node("block0.relu1");
  n.edit({{Disconnect{"block0.mixed", 1}}});
  EXPECT_LE(largest(n.at_node("block0.mixed") - expected), 1e-13);
  EXPECT_EQ(n["alpha.value"].sizes().vec(), (Indices{2, 3}));
  EXPECT_FALSE(n.has("block0.a"));
  EXPECT_THAT(refusal(n, {{Disconnect{"block0.mixed", 2}}}), HasSubstr("needs this input"));
  // The axis of the coefficients can lose what nobody needs, and no more.
  EXPECT_THAT(refusal(n, {{Shrink{"alpha.1", {0, 2}}}}), HasSubstr("'block1.mixed' needs the coefficient"));
  n.edit({{Disconnect{"block1.mixed", 1}}});
  n.edit({{Shrink{"alpha.1", {0, 2}}}});
  const at::Tensor b = at::softmax(n["alpha.value"], -1);
  EXPECT_LE(largest(n.at_node("block1.mixed") - b[1][0] * n.at_node("block0.mixed") - b[1][1] * n.at_node("block1.b")),
            1e-13);
  EXPECT_THAT(refusal(n, {{Shrink{"alpha", {0}}}}), HasSubstr("needs the coefficient"));
  EXPECT_THAT(refusal(n, {{Disconnect{"block1.mixed", 0}}, {Disconnect{"block1.mixed", 0}}}),
              HasSubstr("it is the last"));
}

TEST(Mixture, BecomesTheTermThatIsChosen) {
  Network n(mixtures(true));
  const at::Tensor chosen = n.at_node("block0.relu1");
  n.edit({{Choose{"block0.mixed", 1}}});
  EXPECT_EQ(n.graph.node("block1.a").inputs[0], n.graph.node("block0.relu1").outputs[0]);
  EXPECT_TRUE(at::equal(n.at_node("block0.relu1"), chosen));
  EXPECT_FALSE(n.has("block0.mixed") || n.has("block0.b"));
  EXPECT_TRUE(n.has("alpha"));
  EXPECT_THAT(refusal(n, {{Choose{"block1.mixed", 3}}}), HasSubstr("is the coefficients"));
  EXPECT_THAT(refusal(n, {{Choose{"block1.mixed", 4}}}), HasSubstr("no input 4"));
  EXPECT_THAT(refusal(n, {{Choose{"block1.a", 0}}}), HasSubstr("no mixture"));
  n.edit({{Choose{"block1.mixed", 0}}});
  EXPECT_FALSE(n.has("alpha") || n.has_parameter("alpha.value")) << "nothing reads the coefficients any more";
  EXPECT_EQ(n.graph.node("flatten1").inputs[0], n.graph.node("block0.relu1").outputs[0]);
}

TEST(Mixture, IsFoldedIntoASumWhereLayersMakeItsTerms) {
  GraphBuilder g({2, 6, 6});
  const auto branch = [&](const char* name) { return g.conv(name, g.input(), {.filters = 3, .padding = 1}); };
  const Edge alpha = g.softmax(g.node("coefficient", "alpha", {}, Value::map({{"deviation", 1.0}}), {2, 3}));
  std::vector<Edge> terms{branch("a"), g.batch_norm("bn", branch("b")), g.avg_pool(branch("c"), 3, 1, 1)};
  g.unify(terms);
  terms.push_back(alpha);
  Edge x = g.node("weighted_sum", "mixed", terms, Value::map({{"row", 1}}));
  Network n(g.output(g.linear("fc", g.flatten(g.relu(x)), {.features = 3})));
  n.edit({{Disconnect{"mixed", 1}}});
  const at::Tensor before = n.logits(), a = n["a.bias"].clone();
  const double coefficient = at::softmax(n["alpha.value"], -1)[1][0].item<double>();
  n.edit({{FoldGate{"mixed"}}});
  EXPECT_LE(largest(n.logits() - before), 1e-12);
  EXPECT_LE(largest(n["a.bias"] - coefficient * a), 1e-14);
  EXPECT_EQ(n.graph.node("mixed").op->type(), "add");
  EXPECT_FALSE(n.has("alpha"));
  // One term that two read, or a nonlinearity: it stays.
  Network m(mixtures(true));
  EXPECT_THAT(refusal(m, {{FoldGate{"block1.mixed"}}}), HasSubstr("the mixture stays"));
}

// ---- gates ----

// Coefficients of the sample are no parameters that could take them in.
TEST(Gate, OfTheSampleIsNotFolded) {
  GraphBuilder g({2, 6, 6});
  const Edge x = g.conv("conv", g.input(), {.filters = 3});
  const Edge s = g.linear("s", g.global_avg_pool(x), {.features = 3});
  const Edge r = g.softmax(g.linear("r", g.global_avg_pool(x), {.features = 2}));
  const Edge y = g.conv("conv2", g.scale(x, s), {.filters = 3});
  const Edge z = g.conv("conv3", g.scale(x, s), {.filters = 3});
  g.unify({y, z});
  Network n(g.output(g.linear("fc", g.flatten(g.node("weighted_sum", "mixed", {y, z, r})), {.features = 3})));
  for (const char* gate : {"scale1", "mixed"})
    EXPECT_THAT(refusal(n, {{FoldGate{gate}}}), HasSubstr("coefficients depend on the sample")) << gate;
}

TEST(Gate, IsFoldedOnConcatenationsHeadsAndDepthwiseConvolutions) {
  GraphBuilder g({2, 6, 6});
  const Edge a = g.conv("a", g.input(), {.filters = 3, .padding = 1});
  Edge x =
      g.relu(g.concat({g.relu(g.batch_norm("bn", a)), g.relu(g.conv("b", g.input(), {.filters = 2, .padding = 1}))}));
  x = g.relu(g.conv("c", x, {.filters = 4, .padding = 1}));
  x = g.relu(g.batch_norm("bn2", g.conv("depthwise", x, {.padding = 1, .depthwise = true})));
  x = g.to_tokens(g.relu(g.conv("d", x, {.filters = 4})), true);
  const Edge q = g.linear("q", x, {.features = 6, .heads = 2}), k = g.linear("k", x, {.features = 6, .heads = 2}),
             v = g.linear("v", x, {.features = 6, .heads = 2});
  x = g.mean(g.linear("proj", g.attention("attention", q, k, v), {.features = 4}));
  const Graph network = g.output(g.linear("fc", x, {.features = 3}));
  struct Case {
    const char *edge, *axis, *into;
  };
  for (const Case& c :
       {Case{"concat1", "", "c.weight"}, Case{"relu3", "", "c.weight"}, Case{"relu4", "", "depthwise.weight"},
        Case{"depthwise", "", "depthwise.bias"}, Case{"relu1", "a", "c.weight"}, Case{"q", "", "q.bias"},
        Case{"q", "q", "q.weight"}, Case{"q", "q.heads", "q.weight"}, Case{"attention", "", "proj.weight"},
        Case{"attention", "q", "proj.weight"}, Case{"attention", "q.heads", "proj.weight"},
        Case{"to_tokens1", "", "q.weight"}, Case{"relu6", "", "k.weight"}}) {
    Network n(network);
    const std::string what = std::string(c.edge) + " " + c.axis;
    n.edit({{InsertGate{"gate", c.edge, c.axis}}});
    set(n, "gate.coefficient.value", some_values(n["gate.coefficient.value"].numel()));
    const at::Tensor gated = n.logits(), into = n[c.into].clone();
    if (std::string(c.edge) == "concat1" || std::string(c.edge) == "relu1") {
      // A ReLU behind, and one before.
      EXPECT_THAT(refusal(n, {{FoldGate{"gate"}}}), HasSubstr("the gate stays")) << what;
      continue;
    }
    n.edit({{FoldGate{"gate"}}});
    EXPECT_LE(largest(n.logits() - gated), 1e-12) << what;
    EXPECT_GT(largest(n[c.into] - into), 1e-3) << what;
    EXPECT_EQ(n.graph.parameter_count(), network.parameter_count()) << what;
  }
}

// ---- blocks and views ----

TEST(InsertBlock, ThatPreservesMustBeAResidualBlock) {
  GraphBuilder g({3, 6, 6});
  Edge x = g.relu(g.conv("stem", g.input(), {.filters = 4, .padding = 1}));
  const auto block = [&](const char* name, auto body) {
    const auto s = g.scope(name);
    x = body(x);
  };
  block("plain", [&](Edge y) {
    const Edge z = g.relu(g.batch_norm("bn", g.conv("conv", y, {.filters = 4, .padding = 1})));
    g.unify({y, z});
    return z;
  });
  block("twice", [&](Edge y) {  // two sums, the second branch ends in a layer with a bias
    y = g.add(y, g.batch_norm("bn", g.conv("conv1", g.relu(y), {.filters = 4, .padding = 1})));
    return g.add(g.dropout(g.conv("conv2", g.relu(y), {.filters = 4, .padding = 1})), y);
  });
  block("post", [&](Edge y) { return g.relu(g.add(y, g.conv("conv", y, {.filters = 4, .padding = 1}))); });
  block("tanh",
        [&](Edge y) { return g.add(y, g.activation("tanh", g.conv("conv", y, {.filters = 4, .padding = 1}))); });
  block("sigmoid",
        [&](Edge y) { return g.add(y, g.activation("sigmoid", g.conv("conv", y, {.filters = 4, .padding = 1}))); });
  const Graph network = g.output(g.linear("fc", g.global_avg_pool(x), {.features = 3}));
  const auto inserted = [&](const char* like, const char* after) {
    return Edits{{InsertBlock{"new", like, after, "preserving", 3}}};
  };
  {
    Network n(network);
    EXPECT_THAT(refusal(n, inserted("plain", "plain")), HasSubstr("cannot give back what it is given"));
    EXPECT_THAT(refusal(n, inserted("sigmoid", "sigmoid")), HasSubstr("cannot give back what it is given"));
    EXPECT_THAT(refusal(n, inserted("post", "twice")), HasSubstr("cannot give back")) << "a ReLU of negative values";
  }
  for (const auto& [like, after] : std::vector<std::pair<const char*, const char*>>{
           {"twice", "twice"}, {"twice", "plain"}, {"post", "post"}, {"post", "relu1"}, {"tanh", "sigmoid"}}) {
    Network n(network);
    const std::string before = n.bytes();
    const at::Tensor was = n.logits();
    n.edit(inserted(like, after));
    EXPECT_TRUE(n.has(std::string("new.") + (std::string(like) == "twice" ? "conv2" : "conv"))) << like;
    EXPECT_LE(largest(n.logits() - was), 1e-12) << like << " behind " << after;
    n.edit({{DropBlock{"new"}}});
    EXPECT_EQ(n.bytes(), before) << like;
  }
}

TEST(SplitOff, GoesThroughDepthwiseConvolutionsAndStopsAtSums) {
  GraphBuilder g({3, 6, 6});
  const Edge x = g.relu(g.conv("stem", g.input(), {.filters = 4, .padding = 1}));
  Edge y = g.batch_norm("bn", g.conv("depthwise", x, {.padding = 1, .depthwise = true}));
  y = g.conv("conv", g.relu(y), {.filters = 4, .padding = 1});
  y = g.concat({g.add(x, y), g.max_pool(x, 3, 1, 1)});
  y = g.select("view", y, {0, 6}, {});
  const Graph network = g.output(g.linear("fc", g.flatten(y), {.features = 3}));
  Network n(network);
  const at::Tensor before = n.logits();
  n.edit({{SplitOff{"depthwise", 0, ""}}});
  EXPECT_TRUE(at::equal(n.logits(), before));
  const Axis own = n.graph.axis("depthwise.view");
  for (const char* p : {"depthwise.weight", "depthwise.bias", "bn.weight", "bn.running_var"})
    EXPECT_EQ(n.graph[n.graph.parameter(p)].shape[0].whole(), own) << p;
  EXPECT_EQ(n.graph[n.graph.parameter("conv.weight")].shape[1].whole(), own);
  // Alone: three channels fewer for the depthwise convolution, as many for the others.
  Network zeroed(n.graph);
  for (const char* p : {"conv.weight"}) {
    at::Tensor t = zeroed[p].clone();
    t.index_fill_(1, at::tensor({0, 2, 3}, at::kLong), 0);
    set(zeroed, p, t);
  }
  n.edit({{Shrink{"depthwise.view", {1}}}});
  EXPECT_LE(largest(n.logits() - zeroed.logits()), 1e-12);
  EXPECT_EQ(n.size("stem"), 4);
  EXPECT_EQ(n["depthwise.weight"].size(0), 1);
  // The view goes with what it reads, and cannot lose all.
  n.edit({{Shrink{"stem", {1, 2}}}});
  EXPECT_EQ(n.size("depthwise.view"), 1);
  EXPECT_THAT(refusal(n, {{Shrink{"stem", {1}}}}), HasSubstr("nothing would be left of it"));
  EXPECT_THAT(refusal(n, {{SplitOff{"add1", 0, "other"}}}), HasSubstr("needs inputs of one width"));
  EXPECT_THAT(refusal(n, {{SplitOff{"view", 0, "other"}}}), HasSubstr("no width that is one axis"));
  EXPECT_THAT(refusal(n, {{SplitOff{"conv", 0, "depthwise.view"}}}),
              HasSubstr("there is a node or an edge 'depthwise.view' already; choose another name"));
  EXPECT_THAT(refusal(n, {{SplitOff{"conv", 1, ""}}}), HasSubstr("there is no input 1"));
}

TEST(SplitOff, ShrinksBesideWhatItReadsByThePositionsBeforeBoth) {
  GraphBuilder g({2, 6, 6});
  const Edge x = g.relu(g.conv("stem", g.input(), {.filters = 4, .padding = 1}));
  const Edge y = g.conv("a", x, {.filters = 2}), z = g.conv("b", x, {.filters = 2});
  Network n(g.output(g.linear("fc", g.flatten(g.add(y, z)), {.features = 3})));
  n.edit({{SplitOff{"a", 0, "view"}}});
  const at::Tensor columns = n["a.weight"].clone();
  n.edit({{Shrink{"stem", {0, 1, 3}}}, {Shrink{"view", {1, 2, 3}}}});
  EXPECT_TRUE(at::equal(n["a.weight"], columns.index_select(1, at::tensor({1, 3}, at::kLong))));
  EXPECT_EQ(n["b.weight"].size(1), 3);
  n.logits();
}

TEST(SplitOff, OfMergedPatchesIsReadByAllFourOfThem) {
  GraphBuilder g({2, 6, 6});
  const Edge x = g.to_tokens(g.conv("stem", g.input(), {.filters = 3, .padding = 1}));
  const Edge y = g.linear("merged", g.layer_norm("norm", g.patch_merging(x)), {.features = 4});
  const Edge z = g.linear("other", x, {.features = 4});
  Network n(g.output(g.linear("fc", g.add(g.mean(y), g.mean(z)), {.features = 3})));
  const at::Tensor before = n.logits(), columns = n["merged.weight"].clone();
  n.edit({{SplitOff{"patch_merging1", 0, "own"}}});
  EXPECT_TRUE(at::equal(n.logits(), before));
  n.edit({{Shrink{"own", {0, 2}}}});
  const at::Tensor kept = at::tensor({0, 2, 3, 5, 6, 8, 9, 11}, at::kLong);
  EXPECT_TRUE(at::equal(n["merged.weight"], columns.index_select(1, kept)));
  EXPECT_EQ(n["norm.weight"].size(0), 8);
  EXPECT_EQ(n.logits().sizes(), before.sizes());
}

// What attention gives has heads of dimensions; a view of it has one axis.
TEST(SplitOff, OfHeadsAndTheirDimensionsIsOneAxis) {
  GraphBuilder g({2, 6, 6});
  const Edge x = g.to_tokens(g.conv("stem", g.input(), {.filters = 4, .padding = 1}));
  const auto embedding = [&](const char* name) { return g.linear(name, x, {.features = 6, .heads = 2}); };
  const Edge q = embedding("q"), k = embedding("k"), v = embedding("v");
  const Edge y = g.window_attention("heads", q, k, v, {.window = 3, .shift = 0, .height = 6, .width = 6});
  Network n(g.output(g.linear("fc", g.mean(g.linear("proj", y, {.features = 5})), {.features = 3})));
  const at::Tensor before = n.logits(), columns = n["proj.weight"].clone();
  n.edit({{SplitOff{"proj", 0, "own"}}});
  EXPECT_TRUE(at::equal(n.logits(), before));
  EXPECT_TRUE(at::equal(n["proj.weight"], columns));
  Network zeroed(n.graph);
  at::Tensor t = zeroed["proj.weight"].clone();
  t.index_fill_(1, at::tensor({1, 2}, at::kLong), 0);
  set(zeroed, "proj.weight", t);
  // Other features of one head than of the other.
  n.edit({{Shrink{"own", {0, 3, 4, 5}}}});
  EXPECT_LE(largest(n.logits() - zeroed.logits()), 1e-12);
  EXPECT_TRUE(at::equal(n["proj.weight"], columns.index_select(1, at::tensor({0, 3, 4, 5}, at::kLong))));
  const std::string dimension =
      n.graph[n.graph[n.graph.parameter("v.weight")].shape[0].segments[0].factors[1].axis].name;
  // A dimension of all heads goes, and the view loses what it read of it: feature 4 of the first ones.
  n.edit({{Shrink{dimension, {0, 2}}}});
  EXPECT_TRUE(at::equal(n["proj.weight"], columns.index_select(1, at::tensor({0, 3, 5}, at::kLong))));
  n.logits();
}

TEST(Disconnect, OfWhatIsMergedFromPatchesGoesFromAllFourOfThem) {
  GraphBuilder g({2, 6, 6});
  const auto conv = [&](const char* name, int64_t filters) {
    return g.conv(name, g.input(), {.filters = filters, .padding = 1});
  };
  const Edge x = g.to_tokens(g.concat({conv("a", 2), conv("b", 1), conv("c", 2)}));
  Network n(g.output(g.linear("fc", g.mean(g.patch_merging(x)), {.features = 3}))), zeroed(n.graph);
  at::Tensor columns = zeroed["fc.weight"].clone();
  columns.index_fill_(1, at::tensor({2, 7, 12, 17}, at::kLong), 0);
  set(zeroed, "fc.weight", columns);
  n.edit({{Disconnect{"concat1", 1}}});
  EXPECT_LE(largest(n.logits() - zeroed.logits()), 1e-12);
  EXPECT_EQ(n["fc.weight"].size(1), 16);
}

TEST(SplitOff, LeavesTheNetworksOutputsAlone) {
  GraphBuilder g({2, 6, 6});
  const Edge x = g.relu(g.conv("stem", g.input(), {.filters = 3, .padding = 1}));
  Network n(g.output(g.global_avg_pool(x)));
  EXPECT_THAT(refusal(n, {{SplitOff{"global_avg_pool1", 0, "own"}}}),
              HasSubstr("'global_avg_pool1' is an output of the network, whose width must stay"));
}

}  // namespace
}  // namespace espalier
