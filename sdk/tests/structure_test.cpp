// Graphs, counts, edits and what follows them.
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/max.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/groups.h"
#include "espalier/rewrite.h"
#include "espalier/selector.h"
#include "espalier/testkit.h"

namespace espalier {
namespace {

// Convolution, batch norm, pooling, flatten and linear: everything that a chain has.
Graph chain(const std::string& activation = "relu") {
  GraphBuilder g({2, 8, 8});
  Edge x = g.conv("conv1", g.input(), {.filters = 6, .kernel = 3, .padding = 1});
  x = g.max_pool(g.activation(activation, g.batch_norm("bn1", x)), 2);
  x = g.activation(activation, g.conv("conv2", x, {.filters = 5, .kernel = 3}));
  x = g.activation(activation, g.linear("fc1", g.flatten(x), {.features = 7}));
  return g.output(g.linear("fc2", x, {.features = 3}));
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

at::Tensor logits(const Graph& g, const Weights& w, const at::Tensor& x, bool training = false) {
  return run(g, w, {{"input", x}}, {"logits"}, {.training = training, .key = RandomKey(1)})[0];
}

TEST(Graph, CountsTheNumbersOfAChainByHand) {
  const Graph g = chain();
  const int64_t parameters = (6 * 2 * 9 + 6) + (6 + 6) + (5 * 6 * 9 + 5) + (7 * 5 * 4 + 7) + (3 * 7 + 3);
  const int64_t macs = 6 * 2 * 9 * 64 + 5 * 6 * 9 * 4 + 7 * 20 + 3 * 7;
  EXPECT_EQ(g.parameter_count(), parameters);
  EXPECT_EQ(g.macs(), macs);
}

TEST(Graph, SharesOneAxisAlongAChain) {
  const Graph g = chain();
  const Axis a = g.axis("conv1");
  EXPECT_TRUE(g[g.parameter("conv1.weight")].shape[0].reads(a));
  EXPECT_TRUE(g[g.parameter("bn1.running_var")].shape[0].reads(a));
  EXPECT_TRUE(g[g.parameter("conv2.weight")].shape[1].reads(a));
  EXPECT_TRUE(g[g.parameter("fc1.weight")].shape[1].reads(g.axis("conv2")));
  EXPECT_TRUE(g[g.axis("fc2")].fixed) << "the classes";
}

TEST(Graph, RefusesWhatDoesNotFitWithNodeAndShapes) {
  GraphBuilder g({2, 8, 8});
  try {
    g.linear("fc", g.input(), {.features = 3});
    FAIL() << "a linear layer on an image";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("node 'fc' (linear)"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("[2, 8, 8]"), std::string::npos) << e.what();
  }
  EXPECT_THROW(g.conv("big", g.input(), {.filters = 1, .kernel = 9}), Error);
  EXPECT_THROW(g.conv("none", g.input(), {.filters = 0, .kernel = 3}), Error);
}

TEST(Graph, IsTheSameAfterBeingWrittenAndRead) {
  Graph g = chain();
  apply(g, {}, shrink(g, g.axis("conv2"), {0, 3}));
  const Graph back = Graph::from_value(from_json(to_json(g.to_value())));
  EXPECT_EQ(to_json(back.to_value()), to_json(g.to_value()));
  Weights a(g, at::kDouble, at::kCPU);
  Weights b(back, at::kDouble, at::kCPU);
  a.initialize(g, RandomKey(3));
  b.initialize(back, RandomKey(3));
  const at::Tensor x = testkit::input_of(g, 4, 1);
  EXPECT_EQ(largest_difference(logits(g, a, x), logits(back, b, x)), 0);
}

// What Graph::from_value() says of a file in which one text stands in another's place.
std::string said_of(const std::string& text, const std::string& with) {
  std::string json = to_json(chain().to_value());
  const size_t at = json.find(text);
  EXPECT_NE(at, std::string::npos) << text;
  if (at != std::string::npos) json.replace(at, text.size(), with);
  try {
    Graph::from_value(from_json(json));
    return "fine";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST(Graph, FilesWithSizesThatCannotBeAreRefused) {
  EXPECT_EQ(said_of("\"name\"", "\"name\""), "fine");
  const std::string axis = R"({"name":"conv1","size":6,)", edge = R"("sizes":[6,8,8])";
  for (const char* size : {"-1", "2147483648", "9223372036854775807", "1.5", "null", "\"6\""})
    EXPECT_NE(said_of(axis, "{\"name\":\"conv1\",\"size\":" + std::string(size) + ","), "fine") << size;
  EXPECT_THAT(said_of(axis, R"({"name":"conv1","size":2147483647,)"), testing::HasSubstr("the sizes"));
  for (const char* sizes : {"[2147483648,8,8]", "[6,8]", "null", "[6,8,8.5]", "[6,null,8]"})
    EXPECT_THAT(said_of(edge, "\"sizes\":" + std::string(sizes)), testing::HasSubstr("sizes")) << sizes;
  EXPECT_NE(said_of("\"removed\":0", "\"removed\":null"), "fine");
  EXPECT_NE(said_of("\"macs\":", "\"macs\":null,\"x\":"), "fine");
  EXPECT_NE(said_of("\"macs\":", "\"macs\":-"), "fine");
  EXPECT_NE(said_of("\"parameter_count\":", "\"parameter_count\":null,\"x\":"), "fine");
}

TEST(Graph, FilesWhoseNodesReadWhatIsNotThereYetAreRefused) {
  Value v = chain().to_value();
  std::swap(v.find("nodes")->as_list()[0], v.find("nodes")->as_list()[1]);
  EXPECT_THROW(Graph::from_value(v), InputError);
}

TEST(Selector, MatchesClassesNamesAndExclusions) {
  const Graph g = chain();
  const auto names = [&](Selector s) {
    std::string all;
    for (const ParamId p : s.match(g)) all += (all.empty() ? "" : " ") + g[p].name;
    return all;
  };
  EXPECT_EQ(names("weights"), "conv1.weight conv2.weight fc1.weight fc2.weight");
  EXPECT_EQ(names("biases"), "conv1.bias conv2.bias fc1.bias fc2.bias");
  EXPECT_EQ(names("norms"), "bn1.weight bn1.bias");
  EXPECT_EQ(names({{"weights", "!fc*"}}), "conv1.weight conv2.weight");
  EXPECT_EQ(names("weights, !fc*"), "conv1.weight conv2.weight");
  EXPECT_EQ(names("!weights, !bn1"), "conv1.bias conv2.bias fc1.bias fc2.bias");
  EXPECT_EQ(names("conv?.bias"), "conv1.bias conv2.bias");
  try {
    Selector("conv3").require_matches(g);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("did you mean 'conv1'"), std::string::npos) << e.what();
  }
  EXPECT_THROW(Selector("fc1, !fc1").require_matches(g), Error);
}

TEST(Edit, RemovingZeroedStructureKeepsTheFunction) {
  for (const char* activation : {"relu", "gelu", "tanh"}) {
    Graph g = chain(activation);
    Weights w(g, at::kDouble, at::kCPU);
    w.initialize(g, RandomKey(7));
    const at::Tensor x = testkit::input_of(g, 16, 2);
    {
      const c10::NoGradGuard no_grad;
      logits(g, w, x, /*training=*/true);  // running statistics that are not 0 and 1
      at::Tensor(w[g.parameter("bn1.bias")]).add_(0.3);
    }
    const c10::NoGradGuard no_grad;
    const at::Tensor before = logits(g, w, x);
    for (const auto& [name, keep] :
         std::vector<std::pair<std::string, Indices>>{{"conv1", {1, 2, 5}}, {"conv2", {0, 4}}, {"fc1", {2, 3, 6}}}) {
      const Axis axis = g.axis(name);
      EXPECT_EQ(inexact_at(g, axis), "");
      zero(g, w, axis, complement(keep, g[axis].size));
      const at::Tensor zeroed = logits(g, w, x);
      apply(g, {&w}, shrink(g, axis, keep));
      EXPECT_LE(largest_difference(zeroed, logits(g, w, x)), 1e-12) << name << " " << activation;
    }
    EXPECT_GT(largest_difference(before, logits(g, w, x)), 1e-3) << "half of the network went";
    EXPECT_EQ(g.parameter_count(), (3 * 2 * 9 + 3) + (3 + 3) + (2 * 3 * 9 + 2) + (3 * 2 * 4 + 3) + (3 * 3 + 3));
  }
}

TEST(Edit, NamesTheNodeWhereRemovalIsNotExact) {
  const Graph g = chain("sigmoid");
  EXPECT_EQ(inexact_at(g, g.axis("conv2")), "sigmoid2");
}

// A sigmoid's output that multiplies the channel itself is no harm: the channel is zero.
TEST(Edit, RemovesChannelsThatAnAttentionBlockScales) {
  GraphBuilder b({2, 6, 6});
  const Edge x = b.conv("conv", b.input(), {.filters = 4});
  const Edge s = b.activation("sigmoid", b.linear("excite", b.global_avg_pool(x), {.features = 4}));
  const Graph g = b.output(b.linear("fc", b.global_avg_pool(b.scale(x, s)), {.features = 3}));
  EXPECT_EQ(inexact_at(g, g.axis("conv")), "");
  GraphBuilder c({2, 6, 6});
  const Edge y = c.activation("sigmoid", c.linear("hidden", c.flatten(c.input()), {.features = 4}));
  const Graph h = c.output(c.linear("fc", c.multiply(y, c.relu(y)), {.features = 3}));
  EXPECT_EQ(inexact_at(h, h.axis("hidden")), "sigmoid1") << "neither factor is zero";
}

// Of a dimension made up of several segments, positions of an axis are those of its own segments.
TEST(Edit, PositionsOfAnAxisInAConcatenation) {
  GraphBuilder b({2, 6, 6});
  const Edge x = b.conv("x", b.input(), {.filters = 3}), y = b.conv("y", b.input(), {.filters = 2});
  const Edge z = b.batch_norm("bn", b.concat({x, y, x}));
  const Graph g = b.output(b.linear("fc", b.global_avg_pool(z), {.features = 3}));
  const Dim& dim = g[g.parameter("bn.weight")].shape[0];
  EXPECT_EQ(positions_of(g, dim, g.axis("y"), {1}), (Indices{4}));
  EXPECT_EQ(positions_of(g, dim, g.axis("x"), {0, 2}), (Indices{0, 2, 5, 7}));
  EXPECT_EQ(positions_of(g, g[g.parameter("x.weight")].shape[0], g.axis("y"), {0}), (Indices{}));
  EXPECT_EQ(axis_positions(g, dim, g.axis("x")), (Indices{0, 1, 2, -1, -1, 0, 1, 2}));
  Weights w(g, at::kDouble, at::kCPU);
  const c10::NoGradGuard no_grad;
  for (const char* p : {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"})
    w[g.parameter(p)].detach().fill_(5);
  zero(g, w, g.axis("y"), {1});
  for (const auto& [p, gone] :
       {std::pair{"bn.weight", 0.}, {"bn.bias", 0.}, {"bn.running_mean", 0.}, {"bn.running_var", 1.}}) {
    const at::Tensor t = w[g.parameter(p)].detach();
    for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(t[i].item<double>(), i == 4 ? gone : 5) << p << " " << i;
  }
}

TEST(Edit, SlicesEveryStateWithTheParameters) {
  Graph g = chain();
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(1));
  w.add_state(g, {.name = "momentum"});
  w.add_state(g, {.name = "norm", .shape = [](const Parameter& p) { return Shape{p.shape[0]}; }, .initial = 2});
  const c10::NoGradGuard no_grad;
  for (const char* s : {"momentum", "norm"}) {
    for (const ParamId p : Selector("all").match(g)) at::Tensor(w.state(s, p)).copy_(at::randn(w.state(s, p).sizes()));
  }
  for (const ParamId p : Selector("all").match(g)) at::Tensor(w.gradient(p)).copy_(at::randn(w.gradient(p).sizes()));
  const ParamId conv2 = g.parameter("conv2.weight");
  const ParamId fc1 = g.parameter("fc1.weight");
  const at::Tensor momentum = w.state("momentum", conv2).clone();
  const at::Tensor norm = w.state("norm", conv2).clone();
  const at::Tensor gradient = w.gradient(conv2).clone();
  const at::Tensor value = w[conv2].clone();
  const at::Tensor columns = w.state("momentum", fc1).clone();

  apply(g, {&w}, shrink(g, g.axis("conv1"), {0, 2, 3}));
  apply(g, {&w}, shrink(g, g.axis("conv2"), {1, 4}));

  // By hand: rows 1 and 4, columns 0, 2, 3.
  for (int64_t o = 0; o < 2; ++o) {
    const int64_t from_o = std::vector<int64_t>{1, 4}[static_cast<size_t>(o)];
    EXPECT_EQ(w.state("norm", conv2)[o].item<float>(), norm[from_o].item<float>());
    for (int64_t i = 0; i < 3; ++i) {
      const int64_t from_i = std::vector<int64_t>{0, 2, 3}[static_cast<size_t>(i)];
      EXPECT_TRUE(at::allclose(w.state("momentum", conv2)[o][i], momentum[from_o][from_i], 0, 0));
      EXPECT_TRUE(at::allclose(w.gradient(conv2)[o][i], gradient[from_o][from_i], 0, 0));
      EXPECT_TRUE(at::allclose(w[conv2][o][i], value[from_o][from_i], 0, 0));
    }
    // Through the flatten: four pixels of each channel.
    for (int64_t p = 0; p < 4; ++p) {
      EXPECT_TRUE(at::allclose(w.state("momentum", fc1).select(1, o * 4 + p), columns.select(1, from_o * 4 + p), 0, 0));
    }
  }
  EXPECT_EQ(w.state("norm", fc1).numel(), 7);
}

TEST(Edit, RefusesTheImpossibleAndChangesNothing) {
  Graph g = chain();
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(1));
  const std::string before = to_json(g.to_value());
  const uint64_t generation = w.generation();
  const auto refused = [&](const char* axis, Indices keep, const char* why) {
    try {
      apply(g, {&w}, {Shrink{axis, std::move(keep)}});
      FAIL() << axis << " " << why;
    } catch (const EditError& e) {
      EXPECT_NE(std::string(e.what()).find(why), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(axis), std::string::npos) << e.what();
    }
  };
  refused("conv1", {}, "nothing would be left");
  refused("conv1", {0, 6}, "no position 6");
  refused("conv1", {-1, 2}, "no position -1");
  refused("conv1", {3, 2}, "ascend");
  refused("conv1", {2, 2}, "ascend");
  refused("fc2", {0}, "given from outside");
  refused("input", {0}, "given from outside");
  EXPECT_THROW(apply(g, {&w}, {Shrink{"conv9", {0}}}), Error);
  EXPECT_EQ(to_json(g.to_value()), before);
  EXPECT_EQ(w.generation(), generation);
}

TEST(Edit, IsReplayedFromItsWrittenForm) {
  Graph g = chain();
  Graph h = chain();
  for (const Edit& e : {shrink(g, g.axis("conv1"), {1, 3}), shrink(g, g.axis("fc1"), {0, 1, 6})}) {
    apply(g, {}, e);
    apply(h, {}, Edit::from_value(from_json(to_json(e.to_value()))));
  }
  EXPECT_EQ(to_json(g.to_value()), to_json(h.to_value()));
}

TEST(Weights, LieInOneArenaWithFiltersContiguousAndAligned) {
  const Graph g = chain();
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    Weights w(g, dtype, at::kCPU);
    for (const ParamId p : Selector("all").match(g)) {
      EXPECT_EQ(w.slot(p).offset % slot_alignment, 0);
      EXPECT_EQ(w[p].storage().data(), w.bank(Role::weight).values.flat().storage().data());
      EXPECT_TRUE(w[p].is_leaf() && w[p].requires_grad());
    }
    const at::Tensor conv = w[g.parameter("conv2.weight")];
    EXPECT_TRUE(conv.is_contiguous(at::MemoryFormat::ChannelsLast));
    EXPECT_EQ(conv.stride(0), 6 * 9);
  }
}

TEST(Weights, GradientsAccumulateIntoThePersistentArena) {
  const Graph g = chain();
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(5));
  const void* memory = w.bank(Role::weight).gradients.flat().const_data_ptr();
  const at::Tensor x = testkit::input_of(g, 4, 1, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
  const auto backward = [&] {
    testkit::cross_entropy(g, w, x, testkit::target_of(3, 4, 1), {.training = true, .key = RandomKey(1)}).backward();
  };
  backward();
  const ParamId conv = g.parameter("conv1.weight");
  const at::Tensor once = w.gradient(conv).clone();
  EXPECT_GT(once.abs().max().item<float>(), 0);
  EXPECT_EQ(w[conv].grad().const_data_ptr(), w.gradient(conv).const_data_ptr()) << "autograd replaced the arena's view";
  backward();
  EXPECT_TRUE(at::allclose(w.gradient(conv), once * 2, 1e-4, 1e-6));
  w.zero_gradients();
  EXPECT_EQ(w.gradient(conv).abs().max().item<float>(), 0);
  EXPECT_EQ(w.bank(Role::weight).gradients.flat().const_data_ptr(), memory);
}

TEST(Weights, AutogradNoticesAnUpdateBetweenForwardAndBackward) {
  const Graph g = chain();
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(5));
  const at::Tensor x = testkit::input_of(g, 4, 1, at::kFloat);
  const at::Tensor loss = testkit::cross_entropy(g, w, x, testkit::target_of(3, 4, 1));
  Arena& arena = w.bank(Role::weight).values;
  arena.flat().mutable_data_ptr<float>()[0] += 1;  // a raw pass, as optimizers make
  arena.touch();
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST(Weights, TwoMayShareARole) {
  GraphBuilder b({4});
  Graph g = b.output(b.linear("fc", b.input(), {.features = 2}));
  const ParamId alpha = g.add_parameter({.name = "alpha",
                                         .kind = "architecture",
                                         .role = Role::architecture,
                                         .shape = {Dim::of(int64_t{3})},
                                         .input = {false},
                                         .init = {},
                                         .removed = 0,
                                         .node = 0});
  Weights primary(g, at::kDouble, at::kCPU);
  Weights auxiliary(g, primary, {Role::architecture});
  const c10::NoGradGuard no_grad;
  at::Tensor(primary[alpha]).fill_(2);
  at::Tensor(primary[g.parameter("fc.weight")]).fill_(2);
  EXPECT_EQ(auxiliary[alpha][1].item<double>(), 2);
  EXPECT_EQ(auxiliary[g.parameter("fc.weight")][1][1].item<double>(), 0);
}

TEST(Weights, InitialisationIsPyTorchsDefaultAndKeyedByName) {
  GraphBuilder b({16, 8, 8});
  const Graph g =
      b.output(b.linear("fc", b.flatten(b.conv("conv", b.input(), {.filters = 64, .kernel = 3})), {.features = 10}));
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(11));
  // PyTorch's default for both layers and their biases is uniform in +-1/sqrt(fan_in).
  const double bound = 1 / std::sqrt(16.0 * 9);
  const at::Tensor conv = w[g.parameter("conv.weight")].detach();
  EXPECT_LE(conv.abs().max().item<double>(), bound);
  EXPECT_GT(conv.abs().max().item<double>(), 0.99 * bound);
  EXPECT_NEAR(conv.std().item<double>(), bound / std::sqrt(3.0), 0.02 * bound);
  EXPECT_NEAR(conv.mean().item<double>(), 0, 0.02 * bound);
  EXPECT_LE(w[g.parameter("conv.bias")].detach().abs().max().item<double>(), bound);
  Weights again(g, at::kFloat, at::kCPU);
  again.initialize(g, RandomKey(11));
  EXPECT_EQ(largest_difference(conv, again[g.parameter("conv.weight")].detach()), 0);
  again.initialize(g, RandomKey(12));
  EXPECT_GT(largest_difference(conv, again[g.parameter("conv.weight")].detach()), 0);
}

// A convolution of two groups and queries of three heads: what can only go together is one group.
TEST(Groups, OfLayersWithGroupsAndHeadsGoTogether) {
  GraphBuilder b({2, 6, 6});
  const Edge x = b.conv("conv", b.conv("first", b.input(), {.filters = 4}), {.filters = 8, .groups = 2});
  const Edge t = b.to_tokens(x, /*flat=*/true);
  const Edge q = b.linear("q", t, {.features = 6, .heads = 3}), k = b.linear("k", t, {.features = 6, .heads = 3}),
             v = b.linear("v", t, {.features = 6, .heads = 3});
  const Graph g = b.output(b.linear("fc", b.mean(b.attention("attention", q, k, v)), {.features = 3}));
  Weights w(g, at::kDouble, at::kCPU);
  w.initialize(g, RandomKey(1));
  const at::Tensor conv = w[g.parameter("conv.weight")].detach();
  const auto norm = [](std::initializer_list<at::Tensor> parts) {
    double squares = 0;
    for (const at::Tensor& p : parts) squares += p.square().sum().item<double>();
    return std::sqrt(squares);
  };
  // Filter f of group i is row 4 i + f.
  EXPECT_EQ(filter_axes(g, "conv"), (std::vector{g.axis("conv")}));
  EXPECT_EQ(filter_axes(g, "conv", FilterUnit::whole_groups), (std::vector{g.axis("conv.groups")}));
  const std::vector<double> within = filter_norms(g, w, g.axis("conv"));
  for (int64_t f = 0; f < 4; ++f) EXPECT_NEAR(within[static_cast<size_t>(f)], norm({conv[f], conv[4 + f]}), 1e-12);
  const at::Tensor first = w[g.parameter("first.weight")].detach();  // it makes what the groups read
  const std::vector<double> whole = filter_norms(g, w, g.axis("conv.groups"));
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_NEAR(whole[static_cast<size_t>(i)],
                norm({conv.slice(0, 4 * i, 4 * i + 4), first.slice(0, 2 * i, 2 * i + 2)}), 1e-12);
  }
  // Position d of head h is row 2 h + d, in queries and keys together.
  const auto rows = [&](const char* layer) { return w[g.parameter(std::string(layer) + ".weight")].detach(); };
  const std::vector<double> heads = filter_norms(g, w, g.axis("q"), 1);
  for (int64_t d = 0; d < 2; ++d) {
    double sum = 0;
    for (const char* layer : {"q", "k", "v"}) {
      for (int64_t h = 0; h < 3; ++h) sum += rows(layer)[2 * h + d].abs().sum().item<double>();
    }
    EXPECT_NEAR(heads[static_cast<size_t>(d)], sum, 1e-12);
  }
  const auto families = output_groups(g, w, "conv");
  ASSERT_EQ(families.size(), 1U);
  EXPECT_EQ(families[0].count, 4);
  EXPECT_EQ(families[0].pieces, 2);
  EXPECT_EQ(families[0].size, 2 * 9);
  EXPECT_EQ(families[0].stride, 4 * 2 * 9);
}

TEST(Groups, OfWhatHasNoneAreRefused) {
  GraphBuilder b({2, 6, 6});
  const Edge x = b.batch_norm("bn", b.conv("conv", b.input(), {.filters = 3}));
  const Edge view = b.select("view", x, {0, 2}, {});
  const Graph g = b.output(b.linear("fc", b.global_avg_pool(view), {.features = 3}));
  Weights w(g, at::kDouble, at::kCPU);
  const auto refusal = [](const auto& body) -> std::string {
    try {
      body();
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(refusal([&] { filter_norms(g, w, g.axis("view")); }).find("'view' has no filters"), std::string::npos);
  EXPECT_EQ(refusal([&] { require_filters(g, "all, !bn", "`on`"); }), "");
  EXPECT_EQ(refusal([&] { require_filters(g, "conv", "`on`"); }), "");
  for (const char* selector : {"bn*.weight", "norms", "conv, bn", "*.bias"}) {
    EXPECT_NE(refusal([&] { require_filters(g, selector, "`on`"); }).find("`on` names '"), std::string::npos)
        << selector;
  }
  EXPECT_NE(refusal([&] { require_filters(g, "conv7", "`on`"); }).find("matches no parameter"), std::string::npos);
}

TEST(Groups, AreTheFiltersAndUnitsWithoutTheLastLayer) {
  const Graph g = chain();
  Weights w(g, at::kFloat, at::kCPU);
  w.initialize(g, RandomKey(1));
  const auto families = output_groups(g, w, "weights");
  ASSERT_EQ(families.size(), 3U);
  EXPECT_EQ(families[1].count, 5);
  EXPECT_EQ(families[1].size, 6 * 9);
  const auto norms = filter_norms(g, w, g.axis("conv2"));
  const at::Tensor weight = w[g.parameter("conv2.weight")].detach();
  for (int64_t k = 0; k < 5; ++k) EXPECT_NEAR(norms[static_cast<size_t>(k)], weight[k].norm().item<double>(), 1e-6);
}

}  // namespace
}  // namespace espalier
