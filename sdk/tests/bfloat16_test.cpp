// Operations under autocast to bfloat16 on the CPU. Small whole numbers are exact there, and so are their products and
// sums up to 256: what comes must be equal to float64, whichever way a processor computes it.
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/execute.h"
#include "espalier/random_fill.h"
#include "espalier/testkit.h"

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
Found pass(const Graph& g, at::ScalarType type, bool autocast) {
  Weights w(g, type, at::kCPU);
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    w[p].detach().copy_(small_numbers(w[p].sizes().vec(), g[p].name));
  }
  std::vector<int64_t> sizes = g.sizes(g[g.inputs()[0].edge].shape);
  sizes.insert(sizes.begin(), 2);
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

void expect_exact(const Graph& g) {
  const Found exact = pass(g, at::kDouble, false), found = pass(g, at::kFloat, true);
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

}  // namespace
}  // namespace espalier
