// Images of other sizes than a network was built with; operations that read some inputs in some passes, and operations
// that make rows of their own.
#include "espalier/rows.h"

#include <memory>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/random_fill.h"
#include "espalier/registry.h"
#include "espalier/weights.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::unique_ptr<Weights> filled(const Graph& g) {
  auto w = std::make_unique<Weights>(g, at::kDouble, at::kCPU);
  w->initialize(g, RandomKey(1));
  return w;
}

at::Tensor logits(const Graph& g, const Weights& w, const std::vector<int64_t>& sizes) {
  const c10::NoGradGuard no_grad;
  return run(g, w, {{"input", normal(sizes, 1, RandomKey(2))}}, {"logits"})[0];
}

std::string refusal(const Graph& g, const std::vector<int64_t>& sizes) {
  try {
    logits(g, *filled(g), sizes);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(OtherSizes, AreComputedWhereEveryOperationDoes) {
  GraphBuilder b({3, 8, 8});
  const Graph g = b.output(b.conv("conv", b.input(), {.filters = 4, .kernel = 3, .stride = 2, .padding = 1}));
  const auto filling = filled(g);
  const Weights& w = *filling;
  const at::Tensor x = normal({2, 3, 12, 20}, 1, RandomKey(2));
  const c10::NoGradGuard no_grad;
  const at::Tensor y = run(g, w, {{"input", x}}, {"logits"})[0];
  EXPECT_EQ(y.sizes(), (std::vector<int64_t>{2, 4, 6, 10}));
  const at::Tensor expected = at::conv2d(x, w[g.parameter("conv.weight")], w[g.parameter("conv.bias")],
                                         at::IntArrayRef{2, 2}, at::IntArrayRef{1, 1});
  EXPECT_TRUE(y.allclose(expected));
}

// Attention within whole windows sees nothing of other windows: a map of two windows gives what each gives alone.
TEST(OtherSizes, AreSeveralWindows) {
  GraphBuilder b({4, 6, 6});
  const Edge x = b.to_tokens(b.input());
  const auto linear = [&](const char* name) { return b.linear(name, x, {.features = 4, .heads = 2}); };
  const Edge q = linear("q"), k = linear("k"), v = linear("v");
  const Graph g = b.output(b.window_attention("windows", q, k, v, {.window = 3}));
  const auto filling = filled(g);
  const Weights& w = *filling;
  const at::Tensor image = normal({1, 4, 3, 9}, 1, RandomKey(3));
  const c10::NoGradGuard no_grad;
  const auto of = [&](const at::Tensor& part) { return run(g, w, {{"input", part}}, {"logits"})[0]; };
  EXPECT_TRUE(
      of(image).allclose(at::cat({of(image.slice(3, 0, 3)), of(image.slice(3, 3, 6)), of(image.slice(3, 6))}, 2)));
  EXPECT_THAT(refusal(g, {1, 4, 5, 6}), AllOf(HasSubstr("'windows'"), HasSubstr("5 x 6")));
}

TEST(OtherSizes, AreRefusedByTheNodeThatCannotTakeThem) {
  GraphBuilder b({3, 8, 8});
  const Graph g = b.output(b.linear("fc", b.flatten(b.conv("conv", b.input(), {.filters = 4})), {.features = 5}));
  EXPECT_THAT(refusal(g, {2, 3, 9, 8}), AllOf(HasSubstr("'input' must be [batch] + [3, 8, 8], got [2, 3, 9, 8]"),
                                              HasSubstr("flatten"), HasSubstr("168 features in place of 144")));
  EXPECT_THAT(refusal(g, {2, 4, 8, 8}), AllOf(HasSubstr("must be [batch] + [3, 8, 8]"), Not(HasSubstr("flatten"))));
  GraphBuilder p({3, 8, 8});
  const Graph positions = p.output(p.position_embedding("positions", p.patch_embed("patches", p.input(), 4, 4, true)));
  EXPECT_THAT(refusal(positions, {2, 3, 8, 12}),
              AllOf(HasSubstr("must be [batch] + [3, 8, 8]"), HasSubstr("'positions'")));
}

// The input in evaluation, and a target in training.
class Either final : public OperationOf<Either, NoOptions>, public ReadsByPass {
 public:
  static constexpr const char* name = "test_either";
  using OperationOf::OperationOf;
  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    EXPECT_NE(f.inputs[0].defined(), f.inputs[1].defined());
    return {f.inputs[f.pass.training ? 1 : 0] * 2};
  }
  bool reads(size_t input, const Pass& pass) const override { return pass.training == (input == 1); }
  bool preserves_zero() const override { return true; }
};

// Three rows of each sample.
class Thrice final : public OperationOf<Thrice, NoOptions>, public MakesRows {
 public:
  static constexpr const char* name = "test_thrice";
  using OperationOf::OperationOf;
  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.inputs[0].repeat({3, 1})}; }
  int64_t rows(const Graph&, const Node&) const override { return 3; }
  bool preserves_zero() const override { return true; }
};

void register_operations() {
  static const bool once = [] {
    Registry::instance().add(component<Either>(Either::name, "for a test"), {});
    Registry::instance().add(component<Thrice>(Thrice::name, "for a test"), {});
    return true;
  }();
  static_cast<void>(once);
}

TEST(ReadsByPass, ComputesAndNeedsOnlyWhatThePassReads) {
  register_operations();
  GraphBuilder b({.channels = 3});
  // In training what leads to the first input is not computed: "input" is not there.
  const Edge before = b.relu(b.input());
  const Graph g = b.output(b.node("test_either", "either", {before, b.input("target", {3})}));
  const auto filling = filled(g);
  const Weights& w = *filling;
  const at::Tensor one = at::ones({2, 3}, at::kDouble);
  EXPECT_TRUE(run(g, w, {{"input", one}}, {"logits"})[0].eq(2).all().item<bool>());
  // The rows of a target need not be as many as samples.
  const at::Tensor rows = at::ones({5, 3}, at::kDouble);
  EXPECT_EQ(run(g, w, {{"target", rows}}, {"logits"}, {.training = true, .key = {}})[0].sum().item<double>(), 30);
  EXPECT_THROW(run(g, w, {{"target", one}}, {"logits"}), Error);
}

TEST(MakesRows, CountsLayersBehindForEachRow) {
  register_operations();
  GraphBuilder b({.channels = 4});
  const Edge x = b.node("test_thrice", "thrice", {b.linear("before", b.input(), {.features = 5})});
  const Graph g = b.output(b.linear("behind", x, {.features = 7}));
  EXPECT_EQ(rows_for_a_sample(g, g.node("before")), 1);
  EXPECT_EQ(rows_for_a_sample(g, g.node("behind")), 3);
  EXPECT_EQ(g.macs(), 4 * 5 + 3 * 5 * 7);
  EXPECT_EQ(g.macs(g.node("behind")), 3 * 5 * 7);
  EXPECT_EQ(logits(g, *filled(g), {2, 4}).sizes(), (std::vector<int64_t>{6, 7}));
}

}  // namespace
}  // namespace espalier
