// Operations against closed forms, finite differences, PyTorch and their own ONNX forms; what the builder makes of
// axes.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/full.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <unistd.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/loss.h"
#include "espalier/onnx.h"
#include "espalier/random_fill.h"
#include "espalier/testkit.h"

namespace espalier {
namespace {

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a - b).abs().max().item<double>();
}

// Weights without zeros.
Weights& fill(const Graph& g, Weights& w) {
  const c10::NoGradGuard no_grad;
  w.initialize(g, RandomKey(4));
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    at::Tensor t = w[{static_cast<int32_t>(i)}];
    const at::Tensor cropped = t.eq(0);
    t.copy_(uniform(t.sizes().vec(), 0.2, 1.2, RandomKey(5).with(g.parameters()[i].name)));
    if (g.parameters()[i].kind == "weight") t.sub_(0.7);
    if (t.dim() == 4) t.masked_fill_(cropped, 0);
  }
  return w;
}

at::Tensor logits(const Graph& g, const Weights& w, const at::Tensor& x, const Pass& pass = {}) {
  return run(g, w, {{"input", x}}, {"logits"}, pass)[0];
}

// The network's value at x with all weights filled.
at::Tensor value(const Graph& g, const at::Tensor& x) {
  const c10::NoGradGuard no_grad;
  Weights w(g, at::kDouble, at::kCPU);
  return logits(g, fill(g, w), x);
}

void expect_error(const std::function<void()>& body, const std::vector<std::string>& parts) {
  try {
    body();
    FAIL() << "no error of " << parts.front();
  } catch (const Error& e) {
    for (const std::string& p : parts) EXPECT_NE(std::string(e.what()).find(p), std::string::npos) << e.what();
  }
}

// ---- the builder and axes ----

TEST(Builder, AddMakesOneAxisOfTwo) {
  GraphBuilder b({3, 8, 8});
  const Edge x = b.conv("conv1", b.input(), {.filters = 6, .padding = 1});
  const Edge y =
      b.relu(b.conv("conv2", b.conv("inner", x, {.filters = 4, .padding = 1}), {.filters = 6, .padding = 1}));
  const Edge z = b.conv("conv3", b.add(y, x), {.filters = 5});
  const Graph g = b.output(b.linear("fc", b.global_avg_pool(z), {.features = 2}));
  const Axis stream = g.axis("conv1");
  EXPECT_THROW(g.axis("conv2"), Error);
  EXPECT_EQ(g.axes().size(), 5U);
  EXPECT_TRUE(g[g.parameter("conv2.weight")].shape[0].reads(stream));
  EXPECT_TRUE(g[g.parameter("conv2.bias")].shape[0].reads(stream));
  EXPECT_TRUE(g[g.parameter("conv3.weight")].shape[1].reads(stream));
  // Numbers after the one that went have moved, with all who read them.
  EXPECT_TRUE(g[g.parameter("conv3.weight")].shape[0].reads(g.axis("conv3")));
  EXPECT_TRUE(g[g.parameter("fc.weight")].shape[1].reads(g.axis("conv3")));
  EXPECT_EQ(g[g.axis("inner")].size, 4);
  EXPECT_EQ(g.sizes(g[g.output("logits")].shape), Indices{2});
}

TEST(Builder, WhatIsAddedToTheFixedIsFixed) {
  GraphBuilder b({3, 8, 8});
  const Graph g =
      b.output(b.global_avg_pool(b.add(b.conv("conv", b.input(), {.filters = 3, .padding = 1}), b.input())));
  EXPECT_TRUE(g[g.axis("input")].fixed);
  EXPECT_THROW(g.axis("conv"), Error);
}

TEST(Builder, RefusesAnImpossibleSumWithShapesAndLayers) {
  GraphBuilder b({3, 8, 8});
  const Edge x = b.conv("conv1", b.input(), {.filters = 6, .padding = 1});
  const Edge y = b.conv("conv2", b.input(), {.filters = 5, .padding = 1});
  expect_error([&] { b.add(x, y); }, {"'conv1' [6, 8, 8]", "'conv2' [5, 8, 8]", "(add)"});
  const Edge half = b.conv("half", b.input(), {.filters = 3, .padding = 1});
  const Edge parts = b.concat({half, b.conv("other", b.input(), {.filters = 3, .padding = 1})});
  expect_error([&] { b.multiply(x, parts); }, {"'conv1' [6, 8, 8]", "'concat1' [6, 8, 8]", "made up differently"});
  expect_error([&] { b.concat({x, b.max_pool(x, 2)}); }, {"'conv1' [6, 8, 8]", "[6, 4, 4]"});
}

TEST(Builder, AddsPartsOfConcatsAndHeadsPairwise) {
  GraphBuilder b({3, 8, 8});
  const auto conv = [&](const char* n, int64_t f) { return b.conv(n, b.input(), {.filters = f}); };
  const Edge first = b.concat({conv("a", 2), conv("b", 3)}), second = b.concat({conv("c", 2), conv("d", 3)});
  const Graph g = b.output(b.global_avg_pool(b.add(first, second)));
  EXPECT_TRUE(g[g.parameter("d.weight")].shape[0].reads(g.axis("b")));
  EXPECT_TRUE(g[g.parameter("c.weight")].shape[0].reads(g.axis("a")));
}

TEST(Builder, ScopesPrefixNames) {
  GraphBuilder b({3, 8, 8});
  Edge x = b.input();
  for (const char* name : {"block1", "block2"}) {
    const auto s = b.scope(name);
    x = b.relu(b.relu(b.conv("conv", x, {.filters = 2, .padding = 1})));
    const auto t = b.scope("inner");
    x = b.relu(x);
  }
  const Graph g = b.output(b.linear("fc", b.flatten(x), {.features = 2}));
  for (const char* name : {"block1.conv", "block2.relu2", "block2.inner.relu1", "fc", "flatten1"})
    EXPECT_EQ(g.node(name).name, name);
  EXPECT_EQ(g[g.axis("block2.conv")].size, 2);
}

TEST(Builder, ShortcutsPadAndCropAroundTheMiddle) {
  GraphBuilder b({5, 4, 4});
  const auto index = [&](int64_t width) {
    const Edge y = b.pad_or_crop(b.input(), width);
    GraphBuilder copy = b;
    return copy.output(copy.global_avg_pool(y)).node("shortcut" + std::to_string(width - 1)).op->options().at("index");
  };
  // The smaller half first: facts of option A, d // 2 in front.
  EXPECT_EQ(index(2), Value(Indices{1, 2}));
  EXPECT_EQ(index(3), Value(Indices{1, 2, 3}));
  EXPECT_EQ(index(4), Value(Indices{0, 1, 2, 3}));
  EXPECT_EQ(index(5), Value(Indices{0, 1, 2, 3, 4}));
  EXPECT_EQ(index(6), Value(Indices{0, 1, 2, 3, 4, -1}));
  EXPECT_EQ(index(7), Value(Indices{-1, 0, 1, 2, 3, 4, -1}));
  EXPECT_EQ(index(8), Value(Indices{-1, 0, 1, 2, 3, 4, -1, -1}));
}

TEST(Builder, SplitsAnAxisIntoGroups) {
  GraphBuilder b({3, 8, 8});
  Edge x = b.relu(b.batch_norm("bn", b.conv("conv1", b.input(), {.filters = 6})));
  x = b.conv("conv2", x, {.filters = 4, .groups = 2, .bias = false});
  x = b.conv("conv3", b.relu(x), {.filters = 8, .groups = 2});
  GraphBuilder wrong = b;
  expect_error([&] { wrong.conv("conv4", x, {.filters = 8, .groups = 4}); }, {"conv4", "2 groups already"});
  expect_error([&] { wrong.conv("conv4", x, {.filters = 7, .groups = 2}); }, {"7 filters", "conv4"});
  expect_error([&] { wrong.conv("conv4", wrong.input(), {.filters = 4, .groups = 2}); }, {"'input' (3", "2 groups"});
  const Graph g = b.output(b.linear("fc", b.global_avg_pool(x), {.features = 2}));
  const Axis groups = g.axis("conv2.groups");
  EXPECT_EQ(g[groups].size, 2);
  EXPECT_EQ(g[g.axis("conv1")].size, 3);
  EXPECT_EQ(g[g.axis("conv2")].size, 2);
  const auto sizes = [&](const char* p) { return g.sizes(g[g.parameter(p)].shape); };
  EXPECT_EQ(sizes("conv1.weight"), (Indices{6, 3, 3, 3}));
  EXPECT_EQ(sizes("bn.running_mean"), (Indices{6}));
  EXPECT_EQ(sizes("conv2.weight"), (Indices{4, 3, 3, 3}));
  EXPECT_EQ(sizes("conv3.weight"), (Indices{8, 2, 3, 3}));
  // A group that goes takes its filters along everywhere.
  for (const char* p : {"conv1.weight", "bn.weight", "conv2.weight", "conv3.weight", "conv3.bias"})
    EXPECT_TRUE(g[g.parameter(p)].shape[0].reads(groups)) << p;
  EXPECT_TRUE(g[g.parameter("fc.weight")].shape[1].reads(groups));
  EXPECT_EQ(g.macs(g.node("conv2")), 4 * 3 * 9 * 4 * 4);
}

// ---- values ----

TEST(Conv, GroupsAreConvolutionsOfTheirOwn) {
  GraphBuilder b({4, 6, 6}), first({2, 6, 6});
  // Channels of the input cannot be split where edits must leave them; a 1x1 convolution before makes others.
  const Edge x = b.conv("in", b.input(), {.filters = 4, .kernel = 1, .bias = false});
  const Graph g = b.output(b.global_avg_pool(b.conv("conv", x, {.filters = 6, .groups = 2})));
  const Graph one = first.output(first.global_avg_pool(first.conv("conv", first.input(), {.filters = 3})));
  Weights w(g, at::kDouble, at::kCPU), half(one, at::kDouble, at::kCPU);
  const c10::NoGradGuard no_grad;
  fill(g, w);
  at::Tensor(w[g.parameter("in.weight")]).zero_();
  for (int64_t i = 0; i < 4; ++i) at::Tensor(w[g.parameter("in.weight")])[i][i].fill_(1);
  const at::Tensor in = testkit::input_of(g, 3, 1);
  std::vector<at::Tensor> parts;
  for (int64_t k = 0; k < 2; ++k) {
    at::Tensor(half[one.parameter("conv.weight")]).copy_(w[g.parameter("conv.weight")].narrow(0, 3 * k, 3));
    at::Tensor(half[one.parameter("conv.bias")]).copy_(w[g.parameter("conv.bias")].narrow(0, 3 * k, 3));
    parts.push_back(logits(one, half, in.narrow(1, 2 * k, 2)));
  }
  EXPECT_LE(largest_difference(logits(g, w, in), at::cat(parts, 1)), 1e-14);
}

TEST(Conv, DepthwiseFiltersEachChannelAlone) {
  GraphBuilder b({3, 5, 5});
  const Graph g =
      b.output(b.flatten(b.conv("conv", b.input(), {.kernel = 2, .dilation = 3, .depthwise = true, .bias = false})));
  EXPECT_EQ(g.parameter_count(), 3 * 4);
  EXPECT_EQ(g.macs(), 3 * 4 * 4);
  Weights w(g, at::kDouble, at::kCPU);
  const c10::NoGradGuard no_grad;
  fill(g, w);
  const at::Tensor x = testkit::input_of(g, 2, 1);
  const at::Tensor k = w[g.parameter("conv.weight")];
  at::Tensor sum = at::zeros({2, 3, 2, 2}, at::kDouble);
  for (int64_t i = 0; i < 2; ++i) {
    for (int64_t j = 0; j < 2; ++j)
      sum += k.select(2, i).select(2, j).view({1, 3, 1, 1}) * x.slice(2, 3 * i, 3 * i + 2).slice(3, 3 * j, 3 * j + 2);
  }
  EXPECT_LE(largest_difference(logits(g, w, x), sum.flatten(1)), 1e-14);
  EXPECT_THROW(b.conv("wrong", b.input(), {.filters = 4, .depthwise = true}), Error);
}

TEST(Linear, ActsOnTheLastDimension) {
  GraphBuilder b({3, 2, 4});
  const Graph g = b.output(b.linear("fc", b.to_tokens(b.input()), {.features = 6, .heads = 2}));
  EXPECT_EQ(g.macs(), 2 * 4 * 3 * 6);
  EXPECT_EQ(g[g.axis("fc.heads")].size, 2);
  EXPECT_EQ(g[g.axis("fc")].size, 3);
  Weights w(g, at::kDouble, at::kCPU);
  const c10::NoGradGuard no_grad;
  fill(g, w);
  const at::Tensor x = testkit::input_of(g, 2, 1);
  const at::Tensor y = logits(g, w, x);
  ASSERT_EQ(y.sizes().vec(), (Indices{2, 2, 4, 6}));
  const at::Tensor token = x.select(3, 3).select(2, 1);  // [2, 3]
  EXPECT_LE(largest_difference(y.select(2, 3).select(1, 1),
                               at::matmul(token, w[g.parameter("fc.weight")].t()) + w[g.parameter("fc.bias")]),
            1e-14);
  EXPECT_THROW(b.linear("wrong", b.to_tokens(b.input()), {.features = 6, .heads = 4}), Error);
}

TEST(Tokens, KeepTheirPlaces) {
  const at::Tensor x = at::arange(1 * 3 * 4, at::kDouble).view({1, 1, 3, 4});  // value 4 * row + column
  const auto of = [&](auto body) {
    GraphBuilder b({1, 3, 4});
    return value(b.output(body(b)), x);
  };
  EXPECT_TRUE(
      at::allclose(of([](GraphBuilder& b) { return b.to_tokens(b.input(), true); }).flatten(), x.flatten(), 0, 0));
  EXPECT_EQ(of([](GraphBuilder& b) { return b.mean(b.to_tokens(b.input())); }).item<double>(), 5.5);
  EXPECT_EQ(of([](GraphBuilder& b) { return b.token(b.to_tokens(b.input(), true), 7); }).item<double>(), 7);
  // [2, 2, 4]: neighbours (0,0), (1,0), (0,1), (1,1); a row of zeros below.
  const at::Tensor merged = of([](GraphBuilder& b) { return b.patch_merging(b.to_tokens(b.input())); });
  EXPECT_TRUE(at::allclose(
      merged,
      at::tensor({0., 4., 1., 5., 2., 6., 3., 7., 8., 0., 9., 0., 10., 0., 11., 0.}, at::kDouble).view({1, 2, 2, 4}), 0,
      0));
  const at::Tensor padded = of([](GraphBuilder& b) { return b.pad_tokens(b.to_tokens(b.input()), 5); });
  EXPECT_TRUE(at::allclose(padded.view({1, 1, 5, 5}), at::constant_pad_nd(x, {0, 1, 0, 2}), 0, 0));
  const at::Tensor cropped = of([](GraphBuilder& b) { return b.flatten(b.crop(b.input(), 2)); });
  EXPECT_TRUE(at::allclose(cropped, at::tensor({10., 11.}, at::kDouble).view({1, 2}), 0, 0));
}

TEST(LayerNorm, HasMeanZeroAndVarianceOneBeforeItsScale) {
  GraphBuilder b({5});
  const Graph g = b.output(b.layer_norm("norm", b.input(), {.eps = 1e-12, .affine = false}));
  const at::Tensor y = value(g, testkit::input_of(g, 7, 1));
  EXPECT_LE(y.mean(1).abs().max().item<double>(), 1e-14);
  EXPECT_LE((y.pow(2).mean(1) - 1).abs().max().item<double>(), 1e-10);
  EXPECT_EQ(g.parameter_count(), 0);
}

TEST(Attention, OfEqualLogitsIsTheMeanOfTheValues) {
  GraphBuilder b({4, 3, 3});
  const Edge x = b.to_tokens(b.input(), true);
  const Edge q = b.linear("q", x, {.features = 6, .heads = 2}), k = b.linear("k", x, {.features = 6, .heads = 2}),
             v = b.linear("v", x, {.features = 6, .heads = 2});
  const Graph g = b.output(b.attention("attn", q, k, v));
  EXPECT_EQ(g.macs(g.node("attn")), 2 * 9 * 9 * 6);
  EXPECT_EQ(g.node("attn").op->options().at("scale").as_double(), 1 / std::sqrt(3.0));
  EXPECT_TRUE(g[g.parameter("v.weight")].shape[0].reads(g.axis("q")));
  EXPECT_TRUE(g[g.parameter("k.weight")].shape[0].reads(g.axis("q.heads")));
  Weights w(g, at::kDouble, at::kCPU);
  const c10::NoGradGuard no_grad;
  fill(g, w);
  at::Tensor(w[g.parameter("k.weight")]).zero_();
  const at::Tensor in = testkit::input_of(g, 2, 1);
  const at::Tensor values =
      at::matmul(in.flatten(2).transpose(1, 2), w[g.parameter("v.weight")].t()) + w[g.parameter("v.bias")];
  for (const bool fuse : {true, false})
    EXPECT_LE(largest_difference(logits(g, w, in, {.key = RandomKey(), .fuse = fuse}),
                                 values.mean(1, true).expand({2, 9, 6})),
              1e-14);
  // With logits that differ both forms agree, and equal the formula.
  fill(g, w);
  EXPECT_LE(largest_difference(logits(g, w, in, {.key = RandomKey(), .fuse = true}),
                               logits(g, w, in, {.key = RandomKey(), .fuse = false})),
            1e-13);
}

TEST(Attention, RefusesWhatDoesNotBelongTogether) {
  GraphBuilder b({4, 3, 3});
  const Edge x = b.to_tokens(b.input(), true);
  const Edge q = b.linear("q", x, {.features = 6, .heads = 2}), k = b.linear("k", x, {.features = 6, .heads = 3}),
             plain = b.linear("plain", x, {.features = 6});
  expect_error([&] { b.attention("attn1", q, k, q); }, {"node 'attn1'", "share their axes"});
  expect_error([&] { b.attention("attn2", plain, plain, plain); }, {"heads x head dimension"});
  // Values may have a head dimension of their own.
  const Graph g = b.output(b.attention("attn", q, q, b.linear("v", x, {.features = 10, .heads = 2})));
  EXPECT_EQ(value(g, testkit::input_of(g, 2, 1)).sizes().vec(), (Indices{2, 9, 10}));
}

TEST(DropPath, DropsWholeSamplesByKey) {
  GraphBuilder b({3, 2, 2});
  const Graph g = b.output(b.flatten(b.drop_path(b.input(), 0.25)));
  Weights w(g, at::kDouble, at::kCPU);
  const at::Tensor x = at::full({4000, 3, 2, 2}, 1.0, at::kDouble);
  const auto at = [&](uint64_t key) { return logits(g, w, x, {.training = true, .key = RandomKey(key)}); };
  const at::Tensor y = at(1);
  EXPECT_EQ(largest_difference(y, at(1)), 0);
  EXPECT_GT(largest_difference(y, at(2)), 0);
  const at::Tensor each = y.select(1, 0);
  EXPECT_TRUE(at::allclose(y, each.unsqueeze(1).expand({4000, 12}), 0, 0)) << "a sample is dropped whole";
  EXPECT_TRUE(at::allclose(each * (each - 1 / 0.75), at::zeros({4000}, at::kDouble), 0, 1e-15)) << "0 or 1 / (1 - p)";
  EXPECT_NEAR(each.eq(0).to(at::kDouble).mean().item<double>(), 0.25, 0.03);
  EXPECT_EQ(largest_difference(logits(g, w, x), x.flatten(1)), 0) << "nothing is dropped in evaluation";
}

TEST(DropPath, RisesWithTheEpochsIfItShall) {
  GraphBuilder b({3, 2, 2});
  const Graph g = b.output(b.flatten(b.drop_path(b.input(), 0.5, /*rises=*/true)));
  Weights w(g, at::kDouble, at::kCPU);
  const at::Tensor x = at::full({4000, 3, 2, 2}, 1.0, at::kDouble);
  for (const double progress : {0.0, 0.5, 1.0}) {
    const double p = 0.5 * progress;
    const at::Tensor each = logits(g, w, x, {.training = true, .key = RandomKey(1), .progress = progress}).select(1, 0);
    EXPECT_TRUE(at::allclose(each * (each - 1 / (1 - p)), at::zeros({4000}, at::kDouble), 0, 1e-15)) << progress;
    // Five standard deviations of the share among 4000 samples.
    EXPECT_NEAR(each.eq(0).to(at::kDouble).mean().item<double>(), p, 5 * std::sqrt(p * (1 - p) / 4000)) << progress;
  }
}

TEST(GraphConv, IsTheMeanOverANeighbourhoodOfEqualDegrees) {
  // Two pixels: both have degree 2.
  GraphBuilder b({3, 1, 2});
  const Edge x = b.to_tokens(b.input(), true);
  const Graph g = b.output(b.graph_conv("conv", x, b.grid_adjacency(b.input()), 4));
  EXPECT_EQ(g.macs(), 2 * 3 * 4 + 2 * 2 * 4);
  Weights w(g, at::kDouble, at::kCPU);
  const c10::NoGradGuard no_grad;
  fill(g, w);
  const at::Tensor in = testkit::input_of(g, 5, 1);
  const at::Tensor mean =
      at::matmul(in.flatten(2).mean(2), w[g.parameter("conv.weight")].t()) + w[g.parameter("conv.bias")];
  EXPECT_LE(largest_difference(logits(g, w, in), mean.unsqueeze(1).expand({5, 2, 4})), 1e-14);
}

TEST(CrossEntropy, OfNodesLeavesOutThoseWithoutAClass) {
  GraphBuilder b({.channels = 2, .nodes = 3});
  const Edge adjacency = b.input("adjacency", {3, 3});
  const Graph g = b.output(b.graph_conv("conv", b.input(), adjacency, 4));
  Weights w(g, at::kDouble, at::kCPU);
  const c10::NoGradGuard no_grad;
  fill(g, w);
  const at::Tensor x = testkit::input_of(g, 1, 1);
  const at::Tensor a = uniform({1, 3, 3}, 0, 1, RandomKey(3));
  const NamedTensors outputs{{"logits", run(g, w, {{"input", x}, {"adjacency", a}}, {"logits"})[0]}};
  const Batch batch{.inputs = {{"input", x}, {"adjacency", a}},
                    .targets = {{"target", at::tensor({2, -100, 0}, at::kLong).view({1, 3})}}};
  const auto loss = Registry::instance().create<Loss>(Value("cross_entropy"));
  const at::Tensor p = at::softmax(outputs[0].second, -1)[0];
  EXPECT_EQ(loss->weight(batch).item<int64_t>(), 2);
  EXPECT_NEAR(loss->value({outputs, batch}).item<double>(),
              -(std::log(p[0][2].item<double>()) + std::log(p[2][0].item<double>())) / 2, 1e-14);
}

TEST(Select, ReadsChannelsByIndex) {
  const auto of = [](const Indices& index, int64_t stride) {
    GraphBuilder b({4, 3, 3});
    const Graph g = b.output(b.flatten(b.select("view", b.input(), index, {.stride = stride})));
    const at::Tensor x = testkit::input_of(g, 2, 1);
    const int64_t side = (3 + stride - 1) / stride;
    std::vector<at::Tensor> rows;
    for (const int64_t i : index) {
      at::Tensor row = i < 0 ? at::zeros({2, 3, 3}, at::kDouble) : x.select(1, i);
      rows.push_back(row.slice(1, 0, 3, stride).slice(2, 0, 3, stride));
    }
    EXPECT_EQ(g.sizes(g[g.node("view").outputs[0]].shape), (Indices{static_cast<int64_t>(index.size()), side, side}));
    EXPECT_EQ(largest_difference(value(g, x), at::stack(rows, 1).flatten(1)), 0) << to_string(index);
  };
  // Runs of neighbours with zeros around them go without an index; the others do not.
  for (const Indices& index : {Indices{0, 1, 2, 3}, Indices{1, 2}, Indices{-1, 2, 3, -1, -1}, Indices{3, -1, 0, 0},
                               Indices{-1}, Indices{2, 1}, Indices{0, -1, 1}}) {
    of(index, 1);
    of(index, 2);
  }
  GraphBuilder crop({4, 3, 3});
  const Graph g = crop.output(crop.select("view", crop.input(), {1, 2}, {}));
  const at::Tensor y = value(g, testkit::input_of(g, 2, 1).contiguous(at::MemoryFormat::ChannelsLast));
  EXPECT_TRUE(y.is_contiguous(at::MemoryFormat::ChannelsLast)) << "without gaps, as fast kernels want it";

  GraphBuilder b({4, 3, 3});
  EXPECT_THROW(b.select("wrong", b.input(), {4}, {}), Error);
  EXPECT_THROW(b.select("tokens", b.to_tokens(b.input()), {0}, {.stride = 2}), Error);
}

TEST(Select, FollowsBothAxesAndDropsWhatItCannotRead) {
  for (const bool drops : {false, true}) {
    GraphBuilder b({3, 4, 4});
    const Edge x = b.conv("conv", b.input(), {.filters = 5});
    const Graph g = b.output(b.global_avg_pool(b.relu(b.select("view", x, {3, -1, 0, 4}, {.drops = drops}))));
    const Node& view = g.node("view");
    const Axis from = g.axis("conv"), to = g.axis("view");
    const auto index = [&](const std::vector<AxisChange>& changes) {
      return view.op->follow(g, view, changes)->options().at("index");
    };
    EXPECT_EQ(view.op->follow(g, view, {}), nullptr);
    // Channel 0 of the input went: the others move up, and what read it is zero.
    EXPECT_EQ(index({{from, {1, 2, 3, 4}}}), Value(Indices{2, -1, -1, 3}));
    EXPECT_EQ(index({{to, {0, 2, -1}}}), Value(Indices{3, 0, -1}));
    EXPECT_EQ(index({{from, {4, 3}}, {to, {0, 3}}}), Value(Indices{1, 0}));
    EXPECT_EQ(index({{from, {0, 1, 2, 3, 4, -1}}}), Value(Indices{3, -1, 0, 4}));
    const auto entailed = view.op->entail(g, view, {{from, {1, 2, 4}}});
    if (drops) {
      ASSERT_EQ(entailed.size(), 1U);
      EXPECT_EQ(entailed[0].axis, to);
      EXPECT_EQ(entailed[0].from, (Indices{1, 3})) << "0 read channel 3, 2 read channel 0; zeros stay";
    } else {
      EXPECT_TRUE(entailed.empty());
    }
    EXPECT_TRUE(view.op->entail(g, view, {{from, {0, 2, 3, 4}}}).empty()) << "nobody reads channel 1";
    EXPECT_TRUE(view.op->entail(g, view, {{to, {0}}}).empty());
  }
}

TEST(Operations, SayWhetherZeroStaysZero) {
  for (const auto& [type, zero] : std::vector<std::pair<const char*, bool>>{{"relu", true},
                                                                            {"relu6", true},
                                                                            {"gelu", true},
                                                                            {"silu", true},
                                                                            {"tanh", true},
                                                                            {"sigmoid", false},
                                                                            {"softmax", false}}) {
    GraphBuilder b({3});
    const Graph g = b.output(b.node(type, "op", {b.input()}));
    const at::Tensor x = at::tensor({0., 2., -1.}, at::kDouble).view({1, 3});
    EXPECT_EQ(value(g, x)[0][0].item<double>() == 0, zero) << type;
    EXPECT_EQ(g.node("op").op->preserves_zero(), zero) << type;
    // Whether a channel changes with the others.
    const at::Tensor moved = at::tensor({0., 5., -1.}, at::kDouble).view({1, 3});
    const bool reduces = value(g, x)[0][2].item<double>() != value(g, moved)[0][2].item<double>();
    EXPECT_EQ(g.node("op").op->reduces_over_width(), reduces) << type;
  }
}

TEST(Initializer, XavierUniformHasItsBound) {
  GraphBuilder b({200});
  const Graph g = b.output(b.linear("fc", b.input(), {.features = 100, .init = "xavier_uniform"}));
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(1));
  const at::Tensor x = w[g.parameter("fc.weight")].detach();
  const double bound = std::sqrt(6.0 / 300);
  EXPECT_LE(x.abs().max().item<double>(), bound);
  EXPECT_NEAR(x.std().item<double>(), bound / std::sqrt(3.0), 0.01 * bound);
  EXPECT_EQ(w[g.parameter("fc.bias")].detach().abs().max().item<double>(), 0);
}

TEST(BatchNorm, WithoutRunningStatisticsEvaluatesByTheBatch) {
  GraphBuilder b({2, 3, 3});
  const Edge x = b.batch_norm("plain", b.input(), {.affine = false, .track_running_stats = false});
  const Edge y = b.relu(b.batch_norm("affine", x, {.track_running_stats = false}));
  const Graph g = b.output(b.linear("fc", b.flatten(y), {.features = 3}));
  for (const Parameter& p : g.parameters()) EXPECT_NE(p.role, Role::buffer) << p.name;
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    Weights w(g, dtype, at::kCPU);
    w.initialize(g, RandomKey(3));
    const c10::NoGradGuard no_grad;
    Graph probed = g;
    probed.add_output("normalised", g.node("plain").outputs[0]);
    const at::Tensor image = testkit::input_of(g, 5, 1, dtype);
    const at::Tensor z = run(probed, w, {{"input", image}}, {"normalised"})[0];
    EXPECT_LE(z.mean({0, 2, 3}).abs().max().item<double>(), 1e-6);
    EXPECT_NEAR(z.square().mean({0, 2, 3}).min().item<double>(), 1, 1e-3);
    EXPECT_TRUE(at::equal(logits(g, w, image), logits(g, w, image, {.training = true, .key = RandomKey(1)})));
    EXPECT_LE(largest_difference(logits(g, w, image), logits(g, w, image, {.key = RandomKey(1), .fuse = false})), 1e-5);
  }
  GraphBuilder v({4});
  const Graph vector = v.output(v.batch_norm("bn", v.input(), {.track_running_stats = false}));
  const Weights w(vector, at::kDouble, at::kCPU);
  expect_error([&] { logits(vector, w, testkit::input_of(vector, 1, 1)); },
               {"'bn' needs more than one value a channel where it keeps no running statistics"});

  const Node& affine = g.node("affine");
  EXPECT_EQ(affine.op->python(g, affine).expression,
            "torch.batch_norm({0}, {p0}, {p1}, None, None, True, 0.1, 1e-05, True)");
}

// ---- every operation: derivatives, PyTorch, ONNX ----

Edge heads(GraphBuilder& b, const std::string& name, Edge x, int64_t features = 4) {
  return b.linear(name, x, {.features = features, .heads = 2});
}

// Small networks that hold all operations, each in all its forms.
std::vector<Graph> networks() {
  std::vector<Graph> all;
  {
    GraphBuilder b({3, 5, 5});
    Edge x = b.conv("in", b.input(), {.filters = 4, .padding = 1});
    const Edge y = b.conv("grouped", x, {.filters = 6, .padding = 2, .dilation = 2, .groups = 2});
    x = b.conv("depthwise", y, {.kernel = 2, .stride = 2, .padding = 1, .depthwise = true});
    x = b.concat(
        {b.activation("relu6", x), b.activation("silu", b.crop(b.select("even", y, {0, 2, 4}, {.stride = 1}), 2))});
    x = b.conv("mix", b.add(x, b.zeros(x)), {.filters = 4});
    x = b.add({x, x, b.pad_or_crop(b.conv("narrow", x, {.filters = 2, .padding = 1}), 4)});
    all.push_back(b.output(b.linear("fc", b.flatten(x), {.features = 3})));
  }
  {
    GraphBuilder b({3, 5, 5});
    Edge x = b.conv("in", b.input(), {.filters = 5, .padding = 1});
    x = b.multiply(b.select("view", x, {4, -1, 2}, {.stride = 2}), b.pad_or_crop(x, 3, 2));
    all.push_back(b.output(b.linear("fc", b.flatten(b.drop_path(x, 0.3)), {.features = 3})));
  }
  {
    GraphBuilder b({3, 4, 4});
    Edge x = b.patch_embed("patch", b.input(), 4, 2, true);
    x = b.layer_norm("norm", b.position_embedding("embed", x, {.class_token = true}));
    x = b.attention("attn", heads(b, "q", x), heads(b, "k", x), heads(b, "v", x, 6));
    x = b.position_embedding("embed2", b.softmax(x));
    all.push_back(b.output(b.linear("fc", b.token(x, 1), {.features = 3})));
  }
  {  // two trainable tokens with a classifier each
    GraphBuilder b({3, 4, 4});
    Edge x = b.patch_embed("patch", b.input(), 4, 2, true);
    x = b.position_embedding("embed", x, {.class_token = true, .distillation_token = true});
    x = b.attention("attn", heads(b, "q", x), heads(b, "k", x), heads(b, "v", x));
    all.push_back(b.output(b.average(
        {b.linear("head", b.token(x, 0), {.features = 3}), b.linear("head_dist", b.token(x, 1), {.features = 3})})));
  }
  for (const bool first : {false, true}) {
    const int64_t shift = 1;
    GraphBuilder b({2, 5, 3});
    Edge x = b.pad_tokens(b.linear("in", b.to_tokens(b.input()), {.features = 4}), 2);
    x = b.window_attention("windows", heads(b, "q", x), heads(b, "k", x), heads(b, "v", x),
                           {.window = 2, .shift = shift, .height = 5, .width = 3, .shift_first = first});
    all.push_back(b.output(b.linear("fc", b.mean(x), {.features = 3})));
  }
  for (const int64_t shift : {0, 1}) {
    GraphBuilder b({2, 5, 3});
    Edge x = b.pad_tokens(b.linear("in", b.to_tokens(b.input()), {.features = 4}), 2);
    x = b.window_attention("windows", heads(b, "q", x), heads(b, "k", x), heads(b, "v", x, 6),
                           {.window = 2, .shift = shift, .height = 5, .width = 3});
    x = b.layer_norm("norm", b.patch_merging(x), {.affine = false});
    all.push_back(b.output(b.linear("fc", b.mean(x), {.features = 3})));
  }
  {
    GraphBuilder b({2, 2, 3});
    Edge x = b.graph_conv("conv1", b.to_tokens(b.input(), true), b.grid_adjacency(b.input()), 4);
    x = b.graph_conv("conv2", b.activation("tanh", x), b.grid_adjacency(b.input()), 3, /*bias=*/false);
    all.push_back(b.output(x));
  }
  {  // norms by the batch's statistics; zeros on two sides
    GraphBuilder b({2, 5, 5});
    Edge x = b.conv("conv1", b.input(), {.filters = 3, .kernel = 2, .stride = 2, .bias = false, .same_padding = true});
    x = b.batch_norm("affine", b.batch_norm("plain", x, {.affine = false, .track_running_stats = false}),
                     {.track_running_stats = false});
    all.push_back(b.output(b.linear("fc", b.flatten(x), {.features = 3})));
  }
  {  // coefficients of the sample: of channels, of terms, of heads
    GraphBuilder b({2, 4, 4});
    Edge x = b.conv("conv1", b.input(), {.filters = 4, .padding = 1});
    const Edge means = b.global_avg_pool(x);
    const Edge y = b.scale(x, b.activation("sigmoid", b.linear("excite", means, {.features = 4})));
    x = b.node("weighted_sum", "routed", {x, y, b.softmax(b.linear("router", means, {.features = 2}))});
    const Edge t = b.to_tokens(x, /*flat=*/true);
    const Edge v = b.linear("v", t, {.features = 6, .heads = 3});
    all.push_back(b.output(b.linear(
        "fc", b.mean(b.scale(v, b.linear("of_each", b.mean(t), {.features = 6, .heads = 3}))), {.features = 3})));
  }
  {  // coefficients that several channels share; a matrix of which few entries are known
    GraphBuilder b({2, 2, 2});
    const Edge c = b.node("coefficient", "c", {}, Value::map({{"deviation", 1.0}}), {3});
    const auto shared = [&](const char* name, Edge x, int64_t dim, const Indices& index) {
      return b.node("gate", name, {x, c}, Value::map({{"dim", dim}, {"index", Value(index)}}));
    };
    Edge x = shared("of_images", b.conv("conv1", b.input(), {.filters = 4, .padding = 1}), 0, {2, 0, 0, 1});
    const Edge a = b.node("sparse_constant", "a", {},
                          Value::map({{"size", 4}, {"rows", Indices{0, 2, 3, 0}}, {"columns", Indices{1, 2, 0, 3}}}));
    x = b.graph_conv("conv2", shared("of_tokens", b.to_tokens(x, /*flat=*/true), 1, {1, 1, 0, 2}), a, 3);
    all.push_back(b.output(shared("of_features", b.mean(x), 0, {0, 2, 1})));
  }
  for (const bool bias : {true, false}) {  // kernels of several sizes; coefficients
    GraphBuilder b({2, 7, 7});
    const auto cropped = [&](const char* name, Edge x, int64_t kernel, int64_t stride, int64_t padding,
                             const Indices& sizes) {
      return b.node(
          "conv2d", name, {x},
          Value::map(
              {{"kernel", kernel}, {"stride", stride}, {"padding", padding}, {"bias", bias}, {"sizes", Value(sizes)}}),
          {static_cast<int64_t>(sizes.size())});
    };
    Edge x = cropped("crop1", b.input(), 5, 1, 2, {5, 0, 3, 2, 1, 4});
    x = cropped("crop2", x, 3, 2, 0, {1, 2, 0});
    const Edge alpha = b.node("coefficient", "alpha", {}, Value::map({{"deviation", 1.0}}), {2, 3});
    const Edge other = b.softmax(b.node("coefficient", "beta", {}, Value::map({{"deviation", 1.0}}), {2}));
    x = b.node("weighted_sum", "mixed", {x, b.relu(x), b.zeros(x), b.softmax(alpha)}, Value::map({{"row", 1}}));
    x = b.node("weighted_sum", "other", {x, b.activation("tanh", x), other},
               Value::map({{"components", Indices{1, 0}}}));
    all.push_back(b.output(b.linear("fc", b.flatten(x), {.features = 3})));
    apply(all.back(), {}, {InsertGate{"gate", "crop2", ""}});
  }
  return all;
}

// TensorFlow's "SAME": ceil(pixels / stride) outputs, and where the zeros are an odd number one more behind.
TEST(Operations, PadAsTensorFlowDoes) {
  struct Case {
    int64_t size, kernel, stride, dilation, outputs, before, after;
  };
  for (const Case& c : std::vector<Case>{{8, 3, 2, 1, 4, 0, 1},
                                         {7, 3, 2, 1, 4, 1, 1},
                                         {8, 3, 1, 1, 8, 1, 1},
                                         {9, 2, 2, 1, 5, 0, 1},
                                         {8, 1, 2, 1, 4, 0, 0},
                                         {6, 3, 1, 2, 6, 2, 2},
                                         {224, 7, 2, 1, 112, 2, 3}}) {
    GraphBuilder b({2, c.size, c.size});
    const Edge x = b.conv("conv", b.input(),
                          {.filters = 3,
                           .kernel = c.kernel,
                           .stride = c.stride,
                           .dilation = c.dilation,
                           .bias = false,
                           .same_padding = true});
    const Graph g = b.output(b.flatten(x));
    EXPECT_EQ(g.sizes(g[x].shape), (std::vector<int64_t>{3, c.outputs, c.outputs}));
    Weights w(g, at::kDouble, at::kCPU);
    fill(g, w);
    const c10::NoGradGuard no_grad;
    const at::Tensor in = testkit::input_of(g, 2, 1);
    const at::Tensor padded = at::constant_pad_nd(in, {c.before, c.after, c.before, c.after});
    const std::vector<int64_t> stride(2, c.stride), none(2, 0), dilation(2, c.dilation);
    const at::Tensor expected = at::conv2d(padded, w[g.parameter("conv.weight")], at::Tensor(), stride, none, dilation);
    EXPECT_LE(largest_difference(logits(g, w, in), expected.flatten(1)), 1e-12) << c.size << " " << c.kernel;
  }
}

// Squeeze-and-excitation and a router, by their formulas, for a batch: each sample has coefficients of its own.
TEST(Operations, CoefficientsOfTheSample) {
  GraphBuilder b({3, 4, 5});
  const Edge x = b.input();
  const Edge s = b.linear("s", b.global_avg_pool(x), {.features = 3});
  const Edge r = b.softmax(b.linear("r", b.global_avg_pool(x), {.features = 2}));
  const Edge y = b.conv("conv", x, {.filters = 3, .kernel = 1});
  const Edge mixed = b.node("weighted_sum", "mixed", {y, b.scale(y, s), r});
  const Graph g = b.output(b.flatten(mixed));
  Weights w(g, at::kDouble, at::kCPU);
  fill(g, w);
  const c10::NoGradGuard no_grad;
  const at::Tensor in = testkit::input_of(g, 4, 1);
  const auto linear = [&](const char* name, const at::Tensor& v) {
    return at::matmul(w[g.parameter(name + std::string(".weight"))], v) + w[g.parameter(name + std::string(".bias"))];
  };
  const at::Tensor out = logits(g, w, in);
  for (int64_t n = 0; n < 4; ++n) {
    const at::Tensor means = in[n].mean(at::IntArrayRef{1, 2});
    const at::Tensor scales = linear("s", means).reshape({3, 1, 1}), shares = at::softmax(linear("r", means), 0);
    const at::Tensor pixels =
        at::conv2d(in.narrow(0, n, 1), w[g.parameter("conv.weight")], w[g.parameter("conv.bias")])[0];
    EXPECT_LE(largest_difference(out[n], (pixels * shares[0] + pixels * scales * shares[1]).flatten()), 1e-12) << n;
  }
}

TEST(Operations, GradientsAreThoseOfFiniteDifferences) {
  for (const Graph& g : networks()) {
    Weights w(g, at::kDouble, at::kCPU);
    fill(g, w);
    const at::Tensor x = testkit::input_of(g, 3, 1);
    const at::Tensor direction = normal({3 * g.numel(g[g.output("logits")].shape)}, 1, RandomKey(9));
    for (const bool fuse : {true, false}) {
      const auto loss = [&] {
        return (logits(g, w, x, {.training = true, .key = RandomKey(4), .fuse = fuse}).flatten() * direction).sum();
      };
      w.zero_gradients();
      loss().backward();
      double largest = 0;
      for (size_t i = 0; i < g.parameters().size(); ++i) {
        if (g.parameters()[i].role == Role::buffer) continue;
        largest = std::max(largest, w.gradient({static_cast<int32_t>(i)}).abs().max().item<double>());
      }
      const c10::NoGradGuard no_grad;
      for (size_t i = 0; i < g.parameters().size(); ++i) {
        if (g.parameters()[i].role == Role::buffer) continue;
        const ParamId id{static_cast<int32_t>(i)};
        // Along one direction of each parameter: all of its elements count.
        at::Tensor p = w[id].detach();
        const at::Tensor start = p.clone();
        const at::Tensor d = normal(p.sizes().vec(), 1, RandomKey(10).with(i));
        constexpr double step = 1e-6;
        p.copy_(start + d * step);
        double difference = loss().item<double>();
        p.copy_(start - d * step);
        difference -= loss().item<double>();
        p.copy_(start);
        const double derivative = (w.gradient(id) * d).sum().item<double>();
        EXPECT_NEAR(difference / (2 * step), derivative, 1e-6 * std::max(1.0, largest))
            << g[id].name << " fuse " << fuse;
        if (!g[id].name.starts_with("k.bias")) {  // which adds the same to all logits of a query
          EXPECT_GT(std::abs(derivative), 1e-9) << g[id].name << " has no influence";
        }
      }
    }
  }
}

TEST(Operations, HaveASecondDerivativeWhereNothingIsFused) {
  for (const Graph& g : networks()) {
    Weights w(g, at::kDouble, at::kCPU);
    fill(g, w);
    const at::Tensor x = testkit::input_of(g, 3, 1).requires_grad_(true);
    const at::Tensor y = logits(g, w, x, {.training = true, .key = RandomKey(4), .fuse = false}).pow(2).sum();
    const at::Tensor gradient = torch::autograd::grad({y}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true)[0];
    const at::Tensor second = torch::autograd::grad({gradient.pow(2).sum()}, {x})[0];
    EXPECT_GT(second.abs().max().item<double>(), 0);
  }
}

// Those whose forms another file's tests cover, or that draw at random.
bool has_forms(const Node& n) {
  static const std::set<std::string> others{"conv2d", "linear",  "batch_norm", "flatten",       "dropout", "relu",
                                            "gelu",   "sigmoid", "tanh",       "cross_entropy", "relu6",   "silu"};
  return !others.contains(n.op->type()) || n.op->options().find("sizes");
}

struct NodeCase {
  const Graph* graph;
  const Node* node;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> parameters;
  at::Tensor output;
};

// Made of free parameters alone: it has a batch of one.
bool is_coefficient(const Graph& g, Edge e) {
  if (g[e].producer < 0) return false;
  const Node& n = g.nodes()[static_cast<size_t>(g[e].producer)];
  return std::ranges::all_of(n.inputs, [&](Edge i) { return is_coefficient(g, i); });
}

// Every node with forms, on random inputs.
std::vector<NodeCase> node_cases(const std::vector<Graph>& graphs) {
  const c10::NoGradGuard no_grad;
  std::vector<NodeCase> all;
  for (const Graph& g : graphs) {
    Weights w(g, at::kDouble, at::kCPU);
    fill(g, w);
    for (const Node& n : g.nodes()) {
      if (!has_forms(n)) continue;
      NodeCase c{&g, &n, {}, {}, {}};
      for (const Edge e : n.inputs) {
        std::vector<int64_t> sizes = g.sizes(g[e].shape);
        sizes.insert(sizes.begin(), is_coefficient(g, e) ? 1 : 2);
        c.inputs.push_back(normal(sizes, 1, RandomKey(11).with(g[e].name)));
      }
      for (const ParamId p : n.parameters) c.parameters.push_back(w[p].detach().clone());
      const Pass pass;
      c.output = n.op->forward({g, n, w, pass, c.inputs})[0];
      all.push_back(std::move(c));
    }
  }
  return all;
}

TEST(Operations, EqualTheirPythonForms) {
  const std::string python = ESPALIER_PYTHON;
  if (python.empty()) GTEST_SKIP() << "no Python with PyTorch";
  const std::vector<Graph> graphs = networks();
  Value cases = Value::list();
  const auto tensor = [](const at::Tensor& t) {
    const at::Tensor c = t.contiguous();
    return Value::map(
        {{"sizes", c.sizes().vec()},
         {"values", std::vector<double>(c.const_data_ptr<double>(), c.const_data_ptr<double>() + c.numel())}});
  };
  const std::vector<NodeCase> nodes = node_cases(graphs);
  for (const NodeCase& n : nodes) {
    const PythonForm form = n.node->op->python(*n.graph, *n.node);
    std::string expression = form.expression, arguments;
    Value values = Value::list();
    const auto replace = [&](const std::string& from, const std::string& to) {
      for (size_t i = 0; (i = expression.find(from, i)) != std::string::npos; i += to.size())
        expression.replace(i, from.size(), to);
    };
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      replace("{" + std::to_string(i) + "}", "x" + std::to_string(i));
      arguments += "x" + std::to_string(i) + ": torch.Tensor, ";
      values.push_back(tensor(n.inputs[i]));
    }
    for (size_t i = 0; i < n.parameters.size(); ++i) {
      replace("{p" + std::to_string(i) + "}", "p" + std::to_string(i));
      arguments += "p" + std::to_string(i) + ": torch.Tensor, ";
      values.push_back(tensor(n.parameters[i]));
    }
    replace("{training}", "False");
    cases.push_back(Value::map({{"type", n.node->op->type()},
                                {"function", form.function},
                                {"text", "(" + arguments + ") -> torch.Tensor:\n    return " + expression + "\n"},
                                {"arguments", values},
                                {"output", tensor(n.output)}}));
  }
  const auto file = std::filesystem::temp_directory_path() / ("espalier-operations-" + std::to_string(getpid()));
  std::ofstream(file) << to_json(cases);
  const Value errors = from_json(testkit::run_python(python, R"py(
import importlib.util, json, os, sys, torch
cases = json.load(open(sys.argv[1]))
# TorchScript wants the source in a file.
source = "from typing import List, Optional\nimport torch\n" + "\n".join(dict.fromkeys(c["function"] for c in cases))
source += "".join(f"\ndef case{i}" + c["text"] for i, c in enumerate(cases))
path = sys.argv[1] + "_forms.py"
open(path, "w").write(source)
spec = importlib.util.spec_from_file_location("forms", path)
forms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(forms)
def tensor(v):
    return torch.tensor(v["values"], dtype=torch.float64).reshape(v["sizes"])
errors = []
for i, c in enumerate(cases):
    f = getattr(forms, f"case{i}")
    expected = tensor(c["output"])
    for g in (f, torch.jit.script(f)):
        y = g(*[tensor(a) for a in c["arguments"]])
        assert y.shape == expected.shape, (c["type"], y.shape, expected.shape)
        errors.append([c["type"], (y - expected).abs().max().item()])
os.remove(path)
print(json.dumps(errors))
)py",
                                                     {file.string()}));
  std::filesystem::remove(file);
  ASSERT_EQ(errors.size(), 2 * nodes.size());
  for (const Value& e : errors.as_list()) EXPECT_LE(e.as_list()[1].as_double(), 1e-13) << e.as_list()[0].as_string();
}

// ONNX's operators, each carried out as it is added: what a form means by their specification (opset 20).
class OnnxEvaluation final : public OnnxNodes {
 public:
  explicit OnnxEvaluation(const NodeCase& c) : c_(c) {
    for (size_t i = 0; i < c.inputs.size(); ++i) values_["x" + std::to_string(i)] = c.inputs[i];
    for (size_t i = 0; i < c.parameters.size(); ++i) values_["p" + std::to_string(i)] = c.parameters[i];
  }
  std::string input(size_t i) const override { return "x" + std::to_string(i); }
  std::string parameter(size_t i) override { return "p" + std::to_string(i); }
  int64_t opset() const override { return 20; }
  at::ScalarType dtype() const override { return at::kDouble; }
  at::Tensor values(size_t i) const override { return c_.parameters[i]; }
  std::string constant(const at::Tensor& value) override {
    return put(value.is_floating_point() ? value.to(at::kDouble) : value);
  }
  std::vector<std::string> add(const std::string& type, const std::vector<std::string>& inputs, size_t outputs,
                               const Attributes& attributes) override {
    EXPECT_EQ(outputs, 1U) << "of no operation here";
    return {carry_out(type, inputs, attributes)};
  }
  at::Tensor at(const std::string& name) const { return values_.at(name); }

 private:
  std::string carry_out(const std::string& type, const std::vector<std::string>& inputs, const Attributes& attributes) {
    const auto in = [&](size_t i) { return values_.at(inputs[i]); };
    const auto list = [&](size_t i) {
      const at::Tensor t = in(i).contiguous();
      return std::vector<int64_t>(t.const_data_ptr<int64_t>(), t.const_data_ptr<int64_t>() + t.numel());
    };
    const auto attribute = [&]<class T>(const char* name, T) {
      for (const auto& [key, v] : attributes) {
        if (key == name) return std::get<T>(v);
      }
      ADD_FAILURE() << type << " without " << name;
      return T{};
    };
    const auto axis = [&] { return attribute("axis", int64_t{}); };
    if (type == "Identity") return put(in(0));
    if (type == "Add") return put(in(0) + in(1));
    if (type == "Sub") return put(in(0) - in(1));
    if (type == "Mul") return put(in(0) * in(1));
    if (type == "Div") return put(in(0) / in(1));
    if (type == "Sqrt") return put(in(0).sqrt());
    if (type == "MatMul") return put(at::matmul(in(0), in(1)));
    if (type == "Softmax") return put(at::softmax(in(0), axis()));
    if (type == "Shape") return put(at::tensor(in(0).sizes().vec(), at::kLong));
    if (type == "ConstantOfShape") return put(at::zeros(list(0), at::kDouble));
    if (type == "Reshape") return put(in(0).reshape(list(1)));
    if (type == "Expand") {
      at::Tensor x = in(0);
      return put((x + at::zeros(list(1), x.options())));
    }
    if (type == "GlobalAveragePool") return put(in(0).mean(at::IntArrayRef{2, 3}, /*keepdim=*/true));
    if (type == "Flatten") return put(in(0).flatten(1));
    if (type == "Transpose") return put(in(0).permute(attribute("perm", std::vector<int64_t>{})).contiguous());
    if (type == "Squeeze") return put(in(0).squeeze(list(1).at(0)));
    if (type == "ReduceMean") return put(in(0).mean(list(1), attribute("keepdims", int64_t{}) != 0));
    if (type == "LayerNormalization") {
      return put(at::layer_norm(in(0), {in(0).size(-1)}, in(1), inputs.size() > 2 ? in(2) : at::Tensor(),
                                attribute("epsilon", double{})));
    }
    if (type == "Concat") {
      std::vector<at::Tensor> parts;
      for (size_t i = 0; i < inputs.size(); ++i) parts.push_back(in(i));
      return put(at::cat(parts, axis()));
    }
    if (type == "Gather") {
      // Negative positions count from the end; one index makes one dimension of it.
      at::Tensor index = in(1);
      index = index + index.lt(0).to(at::kLong) * in(0).size(axis());
      const at::Tensor all = in(0).index_select(axis(), index.reshape({-1}));
      return put(index.dim() == 0 ? all.squeeze(axis()) : all);
    }
    if (type == "Slice") {
      at::Tensor x = in(0);
      const std::vector<int64_t> begin = list(1), end = list(2);
      for (size_t i = 0; i < begin.size(); ++i)
        x = x.slice(inputs.size() > 3 ? list(3)[i] : static_cast<int64_t>(i), begin[i], end[i],
                    inputs.size() > 4 ? list(4)[i] : 1);
      return put(x);
    }
    if (type == "Conv") {
      const auto pair = [&](const char* name) {
        const std::vector<int64_t> v = attribute(name, std::vector<int64_t>{});
        return std::vector<int64_t>{v[0], v[1]};
      };
      return put(at::conv2d(in(0), in(1), inputs.size() > 2 ? in(2) : at::Tensor(), pair("strides"), pair("pads"),
                            pair("dilations"), attribute("group", int64_t{})));
    }
    if (type == "Pad") {
      const std::vector<int64_t> pads = list(1);
      std::vector<int64_t> axes;
      for (int64_t i = 0; i < in(0).dim(); ++i) axes.push_back(i);
      if (inputs.size() > 3) axes = list(3);
      EXPECT_EQ(pads.size(), 2 * axes.size());
      std::vector<int64_t> torch(static_cast<size_t>(2 * in(0).dim()), 0);
      for (size_t i = 0; i < axes.size(); ++i) {
        const auto at = 2 * static_cast<size_t>(in(0).dim() - 1 - axes[i]);
        torch[at] = pads[i];
        torch[at + 1] = pads[i + axes.size()];
      }
      return put(at::constant_pad_nd(in(0), torch));
    }
    ADD_FAILURE() << "unknown operator " << type;
    return put(in(0));
  }
  std::string put(const at::Tensor& t) {
    const std::string name = "v" + std::to_string(values_.size());
    values_[name] = t;
    return name;
  }
  const NodeCase& c_;
  std::map<std::string, at::Tensor> values_;
};

TEST(Operations, EqualTheirOnnxForms) {
  const std::vector<Graph> graphs = networks();
  std::set<std::string> seen;
  for (const NodeCase& n : node_cases(graphs)) {
    SCOPED_TRACE(n.node->op->type());
    OnnxEvaluation to(n);
    const std::vector<std::string> names = n.node->op->onnx(to, *n.graph, *n.node);
    ASSERT_EQ(names.size(), 1U);
    // float32 constants: the attention's scale.
    EXPECT_LE(largest_difference(to.at(names[0]), n.output), 1e-6);
    seen.insert(n.node->op->type());
  }
  EXPECT_EQ(seen.size(), 27U) << "an operation is in no network";
}

}  // namespace
}  // namespace espalier
