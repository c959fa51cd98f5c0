#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <espalier/operation.h>
#include <espalier/random_fill.h>

#include "../regularizer_reference.h"

namespace espalier {
namespace {

// What the tests try: a component with its options.
struct Variant {
  std::string component, norm = "l2", form = "sum", groups = "half_ring", corner = "top_left";

  bool is_size() const { return component == "kernel_size"; }
  std::string spec(const std::string& more = "", double weight = 0.3) const {
    std::string s = R"({"use": ")" + component + R"(", "weight": )" + std::to_string(weight) + R"(, "norm": ")" + norm +
                    R"(", "form": ")" + form + "\"";
    if (is_size()) s += R"(, "groups": ")" + groups + R"(", "corner": ")" + corner + "\"";
    return s + more + "}";
  }
  std::string str() const { return component + " " + norm + " " + form + " " + groups + " " + corner; }
};

std::vector<Variant> all_variants() {
  std::vector<Variant> all;
  for (const char* norm : {"l2", "group_normalized", "group_scaled", "linf", "batch_norm"}) {
    for (const char* form : {"sum", "squared", "complexity"}) {
      all.push_back({"kernel_number", norm, form});
      all.push_back({"kernel_size", norm, form});
    }
    all.push_back({"kernel_size", norm, "sum", "ring"});
    all.push_back({"kernel_size", norm, "squared", "half_ring", "bottom_right"});
  }
  return all;
}

// A residual network: kernels of 5, 3 and 4 pixels, a width that two layers make, other sizes of images, a linear
// layer, and a last layer that is not penalised.
Graph network() {
  GraphBuilder g({2, 8, 8});
  const auto block = [&](const char* name, Edge x, const GraphBuilder::Conv& o) {
    return g.batch_norm(std::string("bn_") + name, g.conv(name, x, o));
  };
  const Edge x = g.relu(block("one", g.input(), {.filters = 4, .kernel = 5, .padding = 2, .bias = false}));
  const Edge y = g.relu(block("two", x, {.filters = 3, .kernel = 3, .padding = 1, .bias = false}));
  Edge z = g.add(block("three", y, {.filters = 4, .kernel = 3, .padding = 1, .bias = false}), x);
  z = g.relu(block("four", g.relu(z), {.filters = 3, .kernel = 4, .stride = 2, .padding = 1, .bias = false}));
  z = g.relu(g.batch_norm("bn_five", g.linear("five", g.global_avg_pool(z), {.features = 5, .bias = false})));
  return g.output(g.linear("six", z, {.features = 3}));
}

struct Bench {
  Graph graph = network();
  Weights weights;
  std::unique_ptr<Regularizer> regularizer;

  explicit Bench(const std::string& spec, at::ScalarType dtype = at::kDouble) : weights(graph, dtype, at::kCPU) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libkernel_sparsity.so");
    weights.initialize(graph, RandomKey(4));
    // Batch norms as they are after some training, with scales of both signs.
    for (const char* name : {"one", "two", "three", "four", "five"}) {
      const std::string bn = std::string("bn_") + name;
      const RandomKey key = RandomKey(5).with(bn);
      at::Tensor a = (*this)[bn + ".weight"], v = (*this)[bn + ".running_var"];
      a.copy_(normal(a.sizes().vec(), 1, key));
      v.copy_(uniform(v.sizes().vec(), 0.3, 2, key));
    }
    regularizer = Registry::instance().create<Regularizer>(from_json(spec));
    regularizer->attach(graph, weights);
  }
  at::Tensor operator[](const std::string& name) const { return weights[graph.parameter(name)].detach(); }
  at::Tensor gradient(const std::string& name) const { return weights.gradient(graph.parameter(name)); }
  double add() {
    at::Tensor value = at::zeros({}, at::kDouble);
    regularizer->add(graph, weights, value);
    return value.item<double>();
  }
};

// Ones at the positions of G_n, from the text of the paper: what a kernel of the size that is left does not cover.
at::Tensor group_mask(int64_t side, int64_t n, const Variant& v) {
  at::Tensor mask = at::ones({side, side}, at::kDouble);
  int64_t left = side, at = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (v.groups == "ring") {
      left = std::max<int64_t>(0, left - 2), ++at;
    } else {
      if ((i % 2 == 0) == (v.corner == "top_left")) ++at;
      --left;
    }
  }
  if (left > 0) mask.narrow(0, at, left).narrow(1, at, left).zero_();
  return mask;
}

// The norms of a filter's groups, smallest first, as the paper defines them.
std::vector<at::Tensor> group_norms(const at::Tensor& kernel, const Variant& v, const at::Tensor& scale) {
  std::vector<at::Tensor> norms;
  const bool nested = v.is_size() && kernel.dim() == 3 && kernel.size(1) > 1;
  const int64_t side = nested ? kernel.size(1) : 1;
  const int64_t count = !nested ? 1 : v.groups == "ring" ? (side + 1) / 2 : side;
  for (int64_t n = 1; n <= count; ++n) {
    at::Tensor entries = kernel.flatten();
    if (nested) entries = kernel.masked_select(group_mask(side, n, v).to(at::kBool).expand_as(kernel));
    const auto size = static_cast<double>(entries.numel());
    at::Tensor norm = entries.square().sum().sqrt();
    if (v.norm == "group_normalized") norm = (entries.square().sum() / size).sqrt();
    if (v.norm == "group_scaled") norm = (entries.square().sum() * size).sqrt();
    if (v.norm == "linf") norm = entries.abs().max();
    norms.push_back(norm * scale);
  }
  return norms;
}

// Paper 001, (13), (22) and (32) to (34), from the tensors of the layers.
at::Tensor reference(const Bench& b, const std::map<std::string, at::Tensor>& w, const Variant& v) {
  std::map<std::string, std::vector<at::Tensor>> sums, wholes;  // s'_ij or |k_ij|, and |k_ij|
  for (const char* name : {"one", "two", "three", "four", "five"}) {
    const at::Tensor& kernels = w.at(name);
    const at::Tensor scale =
        w.at(std::string("bn_") + name).abs() / (b["bn_" + std::string(name) + ".running_var"] + 1e-5).sqrt();
    for (int64_t j = 0; j < kernels.size(0); ++j) {
      const std::vector<at::Tensor> norms =
          group_norms(kernels[j], v, v.norm == "batch_norm" ? scale[j] : at::ones({}, at::kDouble));
      sums[name].push_back(at::stack(norms).sum());
      wholes[name].push_back(norms.back());
    }
  }
  const auto all = [](const std::vector<at::Tensor>& list) { return at::stack(list); };
  at::Tensor total = at::zeros({}, at::kDouble);
  if (v.form == "complexity") {
    const at::Tensor stream =
        (all(wholes["one"]).square() + all(wholes["three"]).square()).sqrt().sum();  // of both layers that make it
    const std::map<std::string, at::Tensor> inputs{{"one", at::ones({}, at::kDouble) * 2},
                                                   {"two", stream},
                                                   {"three", all(wholes["two"]).sum()},
                                                   {"four", stream},
                                                   {"five", all(wholes["four"]).sum()}};
    // Outputs of 8 x 8, 4 x 4 and 1 x 1, over the largest.
    const std::map<std::string, double> positions{
        {"one", 1}, {"two", 1}, {"three", 1}, {"four", 0.25}, {"five", 1.0 / 64}};
    const std::map<std::string, double> areas{{"one", 25}, {"two", 9}, {"three", 9}, {"four", 16}, {"five", 1}};
    for (const auto& [name, s] : sums) {
      const at::Tensor sizes = v.is_size() ? all(s).square().sum() : areas.at(name) * all(s).sum();
      total = total + positions.at(name) * inputs.at(name) * sizes;
    }
    return total;
  }
  for (const auto& [name, s] : sums) {
    if (v.form == "sum") total = total + all(s).sum();
    if (v.form == "squared") total = total + (v.is_size() ? all(s).square().sum() : all(s).sum().square());
  }
  return total;
}

std::string parameter_of(const std::string& name) {
  return name + ".weight";
}

TEST(KernelPenalty, ValueAndGradientAreThoseOfAutograd) {
  for (const Variant& v : all_variants()) {
    SCOPED_TRACE(v.str());
    Bench b(v.spec());
    std::map<std::string, at::Tensor> w;
    std::vector<at::Tensor> leaves;
    std::vector<std::string> names;
    for (const char* name : {"one", "two", "three", "four", "five"}) {
      for (const std::string& n : {std::string(name), std::string("bn_") + name}) {
        w[n] = b[parameter_of(n)].contiguous().clone().set_requires_grad(true);
        leaves.push_back(w[n]);
        names.push_back(n);
      }
    }
    const at::Tensor expected = 0.3 * reference(b, w, v);
    EXPECT_NEAR(b.add(), expected.item<double>(), 1e-12 * expected.item<double>());
    const auto gradients = torch::autograd::grad({expected}, leaves, {}, std::nullopt, false, /*allow_unused=*/true);
    double largest = 0;
    for (const at::Tensor& g : gradients) largest = std::max(largest, g.defined() ? g.abs().max().item<double>() : 0);
    for (size_t i = 0; i < names.size(); ++i) {
      const at::Tensor g = gradients[i].defined() ? gradients[i] : at::zeros_like(leaves[i]);
      EXPECT_LE((b.gradient(parameter_of(names[i])) - g).abs().max().item<double>(), 1e-9 * largest) << names[i];
    }
    EXPECT_EQ(b.gradient("six.weight").abs().max().item<double>(), 0);
  }
}

// Central differences of float64 with steps of 1e-5 are good to some 1e-9; the penalties are smooth where no group is
// zero and no two weights are equally large.
TEST(KernelPenalty, GradientIsThatOfFiniteDifferences) {
  for (const Variant& v : all_variants()) {
    Bench b(v.spec());
    EXPECT_LE(testkit::gradient_error(*b.regularizer, b.graph, b.weights), 1e-6) << v.str();
  }
}

TEST(KernelPenalty, GroupsOfZeroHaveNoGradientAndNoNaN) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    for (const Variant& v : all_variants()) {
      SCOPED_TRACE(v.str());
      Bench b(v.spec(), dtype);
      at::Tensor one = b["one.weight"], three = b["three.weight"];
      one[0].zero_();
      three[0].zero_();
      // Of others the outer pieces alone, for both kinds and corners.
      at::Tensor inner = at::zeros({5, 5}, one.options());
      inner.narrow(0, 1, 3).narrow(1, 1, 3).fill_(1);
      one[1].mul_(inner);
      b["four.weight"].zero_();
      // Squares of these are no number of float32.
      b["two.weight"][0].fill_(1e-30);
      EXPECT_TRUE(std::isfinite(b.add()));
      EXPECT_TRUE(b.weights.bank(Role::weight).gradients.flat().isfinite().all().item<bool>());
      EXPECT_EQ(b.gradient("one.weight")[0].abs().max().item<double>(), 0);
      EXPECT_EQ(b.gradient("four.weight").abs().max().item<double>(), 0);
      EXPECT_EQ(b.gradient("one.weight")[1].select(1, 0).abs().max().item<double>(), 0);
      EXPECT_EQ(b.gradient("one.weight")[1].select(2, 4).abs().max().item<double>(), 0);
      EXPECT_GT(b.gradient("one.weight")[1].abs().max().item<double>(), 0);
    }
  }
}

// What a kernel lost does not count among its weights: the penalty is that of the smaller convolution.
TEST(KernelPenalty, OfCroppedKernelsIsThatOfWhatIsLeft) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libkernel_sparsity.so");
  const auto net = [](int64_t side) {
    GraphBuilder g({2, 9, 9});
    return g.output(g.linear("fc",
                             g.flatten(g.conv("conv", g.input(), {.filters = 3, .kernel = side, .padding = side / 2})),
                             {.features = 2}));
  };
  for (const char* norm : {"l2", "group_normalized", "group_scaled", "linf"}) {
    for (const char* groups : {"half_ring", "ring"}) {
      Graph large = net(5), small = net(3);
      Weights a(large, at::kDouble, at::kCPU), b(small, at::kDouble, at::kCPU);
      a.initialize(large, RandomKey(1));
      // One kernel stays whole, so that the weight keeps its size; it is zero, and counts nothing.
      a[large.parameter("conv.weight")].detach()[2].zero_();
      apply(large, {&a}, Edit{CropKernels{"conv", {3, 3, 5}}});
      at::Tensor w = b[small.parameter("conv.weight")].detach();
      w.copy_(a[large.parameter("conv.weight")].detach().narrow(2, 1, 3).narrow(3, 1, 3));
      const std::string spec = Variant{"kernel_size", norm, "sum", groups}.spec();
      double values[2] = {};
      int at = 0;
      for (auto& [graph, weights] : std::vector<std::pair<Graph*, Weights*>>{{&large, &a}, {&small, &b}}) {
        const auto r = Registry::instance().create<Regularizer>(from_json(spec));
        r->attach(*graph, *weights);
        at::Tensor value = at::zeros({}, at::kDouble);
        r->add(*graph, *weights, value);
        values[at++] = value.item<double>();
      }
      EXPECT_NEAR(values[0], values[1], 1e-12) << norm << " " << groups;
    }
  }
}

TEST(KernelPenalty, RefusesWhatDoesNotGoTogether) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libkernel_sparsity.so");
  const auto message = [](const std::string& spec) {
    try {
      Registry::instance().create<Regularizer>(from_json(spec));
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const auto has = [&](const std::string& spec, const char* words) {
    EXPECT_NE(message(spec).find(words), std::string::npos) << spec << ": " << message(spec);
  };
  has(R"({"use": "kernel_size", "form": "complexity", "solver": "proximal"})", "has no proximal step");
  has(R"({"use": "kernel_size", "form": "squared", "norm": "linf", "solver": "proximal"})", "has no proximal step");
  has(R"({"use": "kernel_size", "split": true, "solver": "proximal"})", "'split' is a way of subgradients");
  has(R"({"use": "kernel_number", "groups": "columns", "norm": "linf"})", "'groups: columns' has the norm l2");
  EXPECT_EQ(message(R"({"use": "group_lasso", "groups": "columns"})"), "");
  GraphBuilder g({2, 6, 6});
  const Graph bare = g.output(g.linear("fc", g.flatten(g.conv("conv", g.input(), {.filters = 3})), {.features = 2}));
  Weights w(bare, at::kDouble, at::kCPU);
  try {
    Registry::instance()
        .create<Regularizer>(from_json(R"({"use": "kernel_size", "norm": "batch_norm"})"))
        ->attach(bare, w);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("behind 'conv' there is none"), std::string::npos) << e.what();
  }
}

// ---- proximal steps ----

// One layer of random kernels, of which some are small, so that groups vanish.
struct Proximal {
  Graph graph;
  std::unique_ptr<Weights> weights;
  std::unique_ptr<Regularizer> regularizer;
  at::Tensor before, after;  // [kernels, channels, side, side]
  double t = 0;              // learning rate times weight

  Proximal(const Variant& v, int64_t side, int64_t kernels, at::ScalarType dtype = at::kDouble,
           const std::string& more = R"(, "solver": "proximal")", double rate = 0.5, double weight = 0.4) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libkernel_sparsity.so");
    GraphBuilder g({3, 9, 9});
    const Edge x =
        g.batch_norm("bn_conv", g.conv("conv", g.input(), {.filters = kernels, .kernel = side, .bias = false}));
    graph = g.output(g.linear("fc", g.global_avg_pool(x), {.features = 2}));
    weights = std::make_unique<Weights>(graph, dtype, at::kCPU);
    weights->initialize(graph, RandomKey(7));
    at::Tensor w = (*weights)[graph.parameter("conv.weight")].detach();
    at::Tensor a = (*weights)[graph.parameter("bn_conv.weight")].detach();
    a.copy_(normal(a.sizes().vec(), 1, RandomKey(9)));
    const RandomKey key = RandomKey(8).with(static_cast<uint64_t>(side));
    w.copy_(normal(w.sizes().vec(), 0.5, key));
    w.mul_(uniform({kernels, 1, 1, 1}, 0.02, 1, key.with("scale")));
    if (v.is_size() && side > 1) {
      // Smaller towards the outside, as trained kernels are, so that each size comes of some of them.
      const at::Tensor decay = uniform({kernels, 1, 1, 1}, 0.05, 1, key.with("decay"));
      for (int64_t n = 1; group_mask(side, n, v).eq(0).any().item<bool>(); ++n)
        w.mul_(1 + (decay - 1) * group_mask(side, n, v));
    }
    before = w.contiguous().clone();
    regularizer = Registry::instance().create<Regularizer>(from_json(v.spec(more, weight)));
    regularizer->attach(graph, *weights);
    regularizer->after_update(graph, *weights, LearningRates(std::vector<double>(graph.parameters().size(), rate)));
    after = w.contiguous().clone();
    t = rate * weight;
  }
};

// The projection onto the ball of the dual norm: of l2 the l2 ball, of l_inf the l1 ball (by sorting; Duchi et al.
// 2008).
at::Tensor projected(const at::Tensor& x, double radius, const std::string& norm) {
  if (norm != "linf") {
    const double size = x.norm().item<double>();
    return size > radius ? x * (radius / size) : x.clone();
  }
  if (x.abs().sum().item<double>() <= radius) return x.clone();
  const at::Tensor sorted = std::get<0>(x.abs().sort(0, true)), sums = sorted.cumsum(0);
  double theta = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double at = (sums[i].item<double>() - radius) / static_cast<double>(i + 1);
    if (sorted[i].item<double>() > at) theta = at;
  }
  return x.sign() * (x.abs() - theta).clamp_min(0);
}

// The groups of a kernel as places in the flattened [channels, side, side], and the factors of their norms.
struct Groups {
  std::vector<at::Tensor> places;
  std::vector<double> factors;
};
Groups groups_of(int64_t channels, int64_t side, const Variant& v) {
  Groups all;
  const bool nested = v.is_size() && side > 1;
  const int64_t count = !nested ? 1 : v.groups == "ring" ? (side + 1) / 2 : side;
  for (int64_t n = 1; n <= count; ++n) {
    const at::Tensor mask = nested ? group_mask(side, n, v) : at::ones({side, side}, at::kDouble);
    all.places.push_back(mask.expand({channels, side, side}).flatten().nonzero().flatten());
    const auto size = static_cast<double>(all.places.back().numel());
    all.factors.push_back(v.norm == "group_normalized" ? 1 / std::sqrt(size)
                          : v.norm == "group_scaled"   ? std::sqrt(size)
                                                       : 1);
  }
  return all;
}

double penalty(const at::Tensor& k, const Groups& g, const std::string& norm) {
  double sum = 0;
  for (size_t n = 0; n < g.places.size(); ++n) {
    const at::Tensor part = k.index_select(0, g.places[n]);
    sum += g.factors[n] * (norm == "linf" ? part.abs().max() : part.norm()).item<double>();
  }
  return sum;
}

// A sum of vectors, one within each group and of the dual norm `step` times its factor at most: what the dual of the
// problem is over. Whatever they are, the dual value is below every primal one, so a gap of nothing proves a minimum.
at::Tensor dual_of(const at::Tensor& u, const Groups& g, double step, const std::string& norm) {
  at::Tensor left = u.clone();
  for (size_t n = 0; n < g.places.size(); ++n) {
    const at::Tensor part = left.index_select(0, g.places[n]);
    left.index_copy_(0, g.places[n], part - projected(part, step * g.factors[n], norm));
  }
  return u - left;
}

double half_square(const at::Tensor& x) {
  return x.square().sum().item<double>() / 2;
}

TEST(KernelProximal, HasNoDualityGapAndNoBetterNeighbour) {
  int kernels = 0;
  for (const char* norm : {"l2", "group_normalized", "group_scaled", "linf"}) {
    for (const char* form : {"sum", "squared"}) {
      const bool squared = form == std::string("squared");
      if (squared && norm == std::string("linf")) continue;  // refused
      for (const auto& [groups, corner] : std::vector<std::pair<const char*, const char*>>{
               {"half_ring", "top_left"}, {"half_ring", "bottom_right"}, {"ring", "top_left"}}) {
        const Variant v{"kernel_size", norm, form, groups, corner};
        SCOPED_TRACE(v.str());
        for (int64_t side = 1; side <= 7; ++side) {
          const Proximal p(v, side, 3);
          const Groups g = groups_of(3, side, v);
          for (int64_t j = 0; j < 3; ++j, ++kernels) {
            const at::Tensor u = p.before[j].flatten(), k = p.after[j].flatten();
            const auto objective = [&](const at::Tensor& x) {
              const double sum = penalty(x, g, norm);
              return half_square(x - u) + p.t * (squared ? sum * sum : sum);
            };
            // The conjugate of t s^2 at what a sum of steps l gives is at most l^2 / 4t.
            const double step = squared ? 2 * p.t * penalty(k, g, norm) : p.t;
            const at::Tensor z = dual_of(u, g, step, norm);
            const double dual = half_square(u) - half_square(u - z) - (squared ? step * step / (4 * p.t) : 0);
            const double best = objective(k);
            ASSERT_LE(best - dual, 1e-10) << "side " << side << " kernel " << j;
            ASSERT_GE(best - dual, -1e-10);
            for (int i = 0; i < 6; ++i) {
              const RandomKey key = RandomKey(11).with(static_cast<uint64_t>(i));
              const at::Tensor direction = normal(k.sizes().vec(), i % 2 ? 1e-2 : 1e-5, key);
              ASSERT_GE(objective(k + direction), best - 1e-12);
            }
            for (int64_t i = 0; i < k.numel(); i += 7) {
              for (const double d : {1e-4, -1e-4}) {
                at::Tensor other = k.clone();
                other[i] += d;
                ASSERT_GE(objective(other), best - 1e-12);
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GE(kernels, 200);
}

// Of kernel numbers: one group a filter, and the squared sum of all filters of a layer (32).
TEST(KernelProximal, OfNumbersHasNoDualityGap) {
  for (const char* norm : {"l2", "group_normalized", "group_scaled", "linf", "batch_norm"}) {
    for (const char* form : {"sum", "squared"}) {
      const bool squared = form == std::string("squared");
      if (squared && norm == std::string("linf")) continue;
      const Variant v{"kernel_number", norm, form};
      SCOPED_TRACE(v.str());
      const Proximal p(v, 3, 20);
      const at::Tensor a = (*p.weights)[p.graph.parameter("bn_conv.weight")].detach();
      double total = 0, distance = 0;
      std::vector<Groups> groups;
      for (int64_t j = 0; j < 20; ++j) {
        groups.push_back(groups_of(3, 3, v));
        if (norm == std::string("batch_norm"))
          groups.back().factors[0] = std::abs(a[j].item<double>()) / std::sqrt(1 + 1e-5);
        total += penalty(p.after[j].flatten(), groups.back(), norm);
        distance += half_square(p.after[j] - p.before[j]);
      }
      const double step = squared ? 2 * p.t * total : p.t;
      double dual = squared ? -step * step / (4 * p.t) : 0;
      for (int64_t j = 0; j < 20; ++j) {
        const at::Tensor u = p.before[j].flatten();
        dual += half_square(u) - half_square(u - dual_of(u, groups[static_cast<size_t>(j)], step, norm));
      }
      const double primal = distance + p.t * (squared ? total * total : total);
      EXPECT_LE(std::abs(primal - dual), 1e-10);
      // Of these norms the steps are large enough that some filters vanish.
      if (norm == std::string("l2") || norm == std::string("group_scaled")) {
        EXPECT_GT(p.after.flatten(1).eq(0).all(1).sum().item<int64_t>(), 0);
      }
    }
  }
}

// Kernels get exact sizes: in float32, too, what goes is zero, from the outside, and nothing else.
TEST(KernelProximal, LeavesKernelsOfEachSize) {
  std::set<int64_t> sizes;
  const Variant v{"kernel_size"};
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const Proximal p(v, 5, 200, dtype, R"(, "solver": "proximal")", 0.5, 0.25);
    for (int64_t j = 0; j < 200; ++j) {
      const at::Tensor k = p.after[j].to(at::kDouble);
      int64_t size = 5;
      while (size > 0 && (k * group_mask(5, 6 - size, v)).abs().max().item<double>() == 0) --size;
      const at::Tensor left = size > 0 ? 1 - group_mask(5, 5 - size, v) : at::zeros({5, 5}, at::kDouble);
      EXPECT_TRUE(k.ne(0).to(at::kDouble).equal(left.expand_as(k))) << "no zeros within a kernel of size " << size;
      EXPECT_FALSE(std::signbit(k.masked_select(k.eq(0)).sum().item<double>()));
      sizes.insert(size);
    }
  }
  EXPECT_EQ(sizes, (std::set<int64_t>{0, 1, 2, 3, 4, 5}));
}

// Minimises |k - u|^2 / 2 + weight * penalty(k) by descent: the halves of k end near the exact minimum, with its zeros,
// which subgradients of k itself do not reach.
TEST(KernelSplit, ReachesTheMinimumWithItsZeros) {
  for (const char* component : {"kernel_number", "kernel_size"}) {
    const Variant v{component};
    const double weight = 0.4, rate = 0.02;
    const Proximal exact(v, 3, 30, at::kDouble, R"(, "solver": "proximal")", 1, weight);
    const auto descend = [&](bool split) {
      Proximal p(v, 3, 30, at::kDouble, split ? R"(, "split": true)" : "", 0, weight);
      at::Tensor w = (*p.weights)[p.graph.parameter("conv.weight")].detach();
      const at::Tensor g = p.weights->gradient(p.graph.parameter("conv.weight"));
      at::Tensor value = at::zeros({}, at::kDouble);
      EXPECT_TRUE(w.contiguous().equal(p.before)) << "nothing at the learning rate 0";
      for (int i = 0; i < 1500; ++i) {
        p.weights->zero_gradients();
        p.regularizer->add(p.graph, *p.weights, value);
        w.sub_(rate * (w - exact.before + g));
        p.regularizer->after_update(p.graph, *p.weights,
                                    LearningRates(std::vector<double>(p.graph.parameters().size(), rate)));
      }
      return w.contiguous().clone();
    };
    const at::Tensor found = descend(true);
    const at::Tensor vanished = exact.after.flatten(1).eq(0).all(1);
    EXPECT_GT(vanished.sum().item<int64_t>(), 0);
    const int64_t reached = found.flatten(1).eq(0).all(1).logical_and(vanished).sum().item<int64_t>();
    // Of nested groups those that are near the edge flicker within the step of a subgradient, below.
    EXPECT_GE(reached, vanished.sum().item<int64_t>() / (v.is_size() ? 2 : 1));
    EXPECT_EQ(found.flatten(1).eq(0).all(1).logical_and(vanished.logical_not()).sum().item<int64_t>(), 0);
    // Groups that stay are followed to within the step of a subgradient.
    EXPECT_LE((found - exact.after).flatten(1).norm(2, 1).max().item<double>(), 3 * rate * weight) << component;
    EXPECT_EQ(descend(false).eq(0).sum().item<int64_t>(), 0);
  }
}

// Halves follow a crop: what is gone stays gone.
TEST(KernelSplit, KeepsCroppedKernels) {
  Proximal p({"kernel_size"}, 5, 6, at::kDouble, R"(, "split": true)", 0.1, 0.01);
  apply(p.graph, {p.weights.get()}, Edit{CropKernels{"conv", {5, 4, 3, 2, 1, 0}}});
  p.regularizer->attach(p.graph, *p.weights);
  at::Tensor w = (*p.weights)[p.graph.parameter("conv.weight")].detach();
  const at::Tensor mask = w.ne(0);
  for (int i = 0; i < 3; ++i)
    p.regularizer->after_update(p.graph, *p.weights,
                                LearningRates(std::vector<double>(p.graph.parameters().size(), 0.1)));
  EXPECT_EQ(w.masked_select(mask.logical_not()).abs().max().item<double>(), 0);
  EXPECT_GT(w.abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace espalier
