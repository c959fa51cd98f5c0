// Pruning by one threshold for all scores, of gates and of the scales of batch norms: what follows a search of widths
// (paper 003, algorithm 3) and network slimming (Liu et al. 2017).
#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/foresight.h>
#include <espalier/random_fill.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

// All that network slimming prunes: what the first and second convolution of each block make, and what the first
// convolution of each block and the classifier read of the stream.
constexpr const char* slimmed = R"(, "protect": 0, "on": ["layer*.conv1", "layer*.conv2", "fc"])";

std::unique_ptr<Controller> make(const std::string& kind, const std::string& options) {
  for (const char* name : {"architecture_search", "prune", "preresnet"})
    testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + name + ".so");
  return Registry::instance().create<Controller>(from_json(R"({"use": ")" + kind + "\"" + options + "}"));
}

Graph preresnet(const char* name, double width = 1, bool select = true, int64_t pixels = 32) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libpreresnet.so");
  return testkit::build(R"({"use": ")" + std::string(name) + R"(", "width": )" + std::to_string(width) +
                            R"(, "select": )" + (select ? "true" : "false") + "}",
                        {3, pixels, pixels}, {10});
}

Graph gated(Graph graph) {
  apply(graph, {}, make("joint", R"(, "gates": "norms")")->begin(graph));
  return graph;
}

at::Tensor values(testkit::TestRun& run, const std::string& name) {
  return run.weights()[run.graph().parameter(name)].detach();
}

// Network slimming by hand: in the order of the network, how many channels the three convolutions of each block read,
// and then the classifier, if of all numbers only those stay that are greater than number floor(ratio n) of all in
// order. `sizes` gives the numbers of the k-th batch norm.
struct Slice {
  std::vector<int64_t> read;
  int64_t gone = 0;

  Slice(const std::vector<std::vector<double>>& sizes, double ratio) {
    std::vector<double> all;
    for (const auto& s : sizes) all.insert(all.end(), s.begin(), s.end());
    std::ranges::sort(all);
    const double threshold = all[static_cast<size_t>(std::floor(ratio * static_cast<double>(all.size())))];
    for (const auto& s : sizes) {
      const auto above = std::ranges::count_if(s, [&](double v) { return v > threshold; });
      read.push_back(std::max<int64_t>(1, above));
      gone += std::ssize(s) - read.back();
    }
  }
  // Parameters and multiply-accumulates of a pre-activation ResNet for 32 x 32 images with n blocks in a stage, whose
  // stream, stem and shortcuts are whole (Liu et al. 2017; the selections themselves are no parameters).
  std::pair<int64_t, int64_t> counts(int64_t n) const {
    int64_t params = 3 * 16 * 9, macs = params * 32 * 32, stream = 16, pixels = 32 * 32;
    size_t at = 0;
    for (int64_t stage = 0; stage < 3; ++stage) {
      const int64_t out = int64_t{64} << stage;
      for (int64_t b = 0; b < n; ++b) {
        const int64_t r = read[at], m = read[at + 1], k = read[at + 2];
        at += 3;
        const int64_t before = pixels;
        if (stage > 0 && b == 0) pixels /= 4;
        params += 2 * stream + 2 * m + 2 * k + r * m + 9 * m * k + k * out;
        macs += r * m * before + 9 * m * k * pixels + k * out * pixels;
        if (b == 0) {
          params += stream * out;
          macs += stream * out * pixels;
        }
        stream = out;
      }
    }
    params += 2 * stream + read[at] * 10 + 10;
    macs += read[at] * 10;
    return {params, macs};
  }
};

// Sizes that differ from layer to layer, so that some layers lose everything but one channel.
double size_of(size_t norm, int64_t k) {
  const auto i = static_cast<int64_t>(norm);
  return static_cast<double>(i % 11 == 5 ? 1 : 100) * (1 + static_cast<double>((k * 7919 + i * 104729) % 10007));
}

std::vector<std::vector<double>> sizes_for(const Graph& g, const std::string& kind) {
  std::vector<std::vector<double>> all;
  for (const Parameter& p : g.parameters()) {
    if (p.kind != kind) continue;
    std::vector<double> s;
    for (int64_t k = 0; k < g.size(p.shape.front()); ++k) s.push_back(size_of(all.size(), k));
    all.push_back(std::move(s));
  }
  return all;
}

// Puts these sizes into the parameters of a kind, with signs that alternate.
void fill(testkit::TestRun& run, const std::string& kind, const std::vector<std::vector<double>>& sizes) {
  const c10::NoGradGuard no_grad;
  size_t next = 0;
  for (const Parameter& p : run.graph().parameters()) {
    if (p.kind != kind) continue;
    std::vector<double> signed_sizes = sizes[next++];
    for (size_t k = 1; k < signed_sizes.size(); k += 2) signed_sizes[k] = -signed_sizes[k];
    values(run, p.name).copy_(at::tensor(signed_sizes, at::kDouble));
  }
}

// 003-A16, 003-X15: one threshold over 12,112 scales. The first batch norm of each block and the last one keep all
// their terms; of what they scale, the layer behind reads a part.
TEST(WidthPruning, NetworkSlimmingIsTheSliceByHand) {
  testkit::TestRun run(preresnet("preresnet164"), 1);
  const auto sizes = sizes_for(run.graph(), "norm_weight");
  fill(run, "norm_weight", sizes);
  for (const double ratio : {0.4, 0.6}) {
    testkit::TestRun b(run.graph(), 1);
    fill(b, "norm_weight", sizes);
    make("prune", R"(, "score": "bn_scale", "target": {"quantile": )" + std::to_string(ratio) + "}" + slimmed)
        ->stage_begin(b);
    const Slice slice(sizes, ratio);
    EXPECT_EQ(std::pair(b.graph().parameter_count(), b.graph().macs()), slice.counts(18)) << ratio;
    const Value& removed = b.artefacts.at("test.removed").value;
    EXPECT_EQ(removed.at("positions").as_int(), 12'112);
    EXPECT_EQ(removed.at("gone").as_int(), slice.gone);
    EXPECT_NEAR(removed.at("share").as_double(), static_cast<double>(slice.gone) / 12'112, 1e-12);
    EXPECT_EQ(b.graph()[b.graph().axis("layer2.0.conv3")].size, 128) << "the stream stays";
  }
}

// 003-A15: the same with coefficients behind the batch norms, of the greatest network and of a share of 40 %.
TEST(WidthPruning, GatesAreTheSliceByHandAndAreFolded) {
  testkit::TestRun run(gated(preresnet("preresnet164")), 1);
  const auto sizes = sizes_for(run.graph(), "gate");
  fill(run, "gate", sizes);
  ASSERT_EQ(sizes.size(), 163U);
  make("prune", R"(, "score": "gate", "protect": 0, "fold": true, "target": {"quantile": 0.4})")->stage_begin(run);
  EXPECT_TRUE(run.graph().gates().empty()) << "they are part of the layers";
  EXPECT_EQ(std::pair(run.graph().parameter_count(), run.graph().macs()), Slice(sizes, 0.4).counts(18));
  for (const Parameter& p : run.graph().parameters()) EXPECT_NE(p.role, Role::architecture);
}

// A later step ranks by the coefficients, too, so they become part of the layers behind the last one.
TEST(WidthPruning, FoldsBehindTheLastStep) {
  testkit::TestRun run(gated(preresnet("preresnet56", 0.25, true, 8)), 1);
  fill(run, "gate", sizes_for(run.graph(), "gate"));
  const size_t gates = run.graph().gates().size();
  const auto c = make("prune", R"(, "score": "gate", "protect": 0, "fold": true, "target": {"macs": 0.5},
                                  "schedule": {"steps": 3}, "when": "epochs")");
  const auto whole = static_cast<double>(run.graph().macs());
  run.of_epochs = 4;
  c->stage_begin(run);
  for (const auto& [epoch, gates_left] : {std::pair(0, gates), std::pair(1, gates), std::pair(2, size_t{0})}) {
    run.at_epoch = epoch;
    c->epoch_end(run);
    EXPECT_EQ(run.graph().gates().size(), gates_left) << epoch;
  }
  EXPECT_NEAR(static_cast<double>(run.graph().macs()), 0.5 * whole, 0.05 * whole);
}

// Coefficients behind a nonlinearity whose output is added to something: no layer can take them up.
TEST(WidthPruning, SaysWhichGatesStay) {
  GraphBuilder g({3, 8, 8});
  const auto layer = [&](const std::string& name, Edge x) {
    return g.relu(g.batch_norm("bn" + name, g.conv("conv" + name, x, {.filters = 4, .kernel = 3})));
  };
  const Edge x = layer("1", g.input());
  const Edge sum = g.add(layer("2", x), layer("3", x));
  testkit::TestRun run(gated(g.output(g.linear("fc", g.global_avg_pool(sum), {.features = 2}))), 1);
  ASSERT_EQ(run.graph().gates().size(), 3U);
  make("prune", R"(, "score": "gate", "fold": true, "target": {"threshold": 0})")->stage_begin(run);
  EXPECT_EQ(run.graph().gates().size(), 2U);
  EXPECT_THAT(run.notes, Contains(HasSubstr("2 of 3 gates stay")));
}

// What is left gives what the whole network gives with zeros in the coefficients of what went.
TEST(WidthPruning, LeavesWhatZerosInTheGatesGive) {
  testkit::TestRun run(gated(preresnet("preresnet56", 0.25, true, 8)), 3);
  std::vector<std::vector<double>> sizes = sizes_for(run.graph(), "gate");
  for (auto& s : sizes) {
    for (double& v : s) v = 0.5 + v / 1e6;
  }
  fill(run, "gate", sizes);
  const at::Tensor x = testkit::input_of(run.graph(), 4, 7);
  const auto logits = [&] {
    const c10::NoGradGuard no_grad;
    return espalier::run(run.graph(), run.weights(), {{"input", x}}, {"logits"})[0];
  };
  testkit::TestRun zeroed(run.graph(), 3);
  fill(zeroed, "gate", sizes);
  {
    std::vector<double> all;
    for (const auto& s : sizes) all.insert(all.end(), s.begin(), s.end());
    std::ranges::sort(all);
    const double threshold = all[static_cast<size_t>(std::floor(0.4 * static_cast<double>(all.size())))];
    const c10::NoGradGuard no_grad;
    for (const Parameter& p : zeroed.graph().parameters()) {
      if (p.kind != "gate") continue;
      at::Tensor v = values(zeroed, p.name);
      // Of a width of which nothing would be left, the largest stays.
      const at::Tensor stays = v.abs().gt(threshold).logical_or(v.abs().eq(v.abs().max()));
      v.mul_(stays);
    }
  }
  const c10::NoGradGuard no_grad;
  const at::Tensor expected = espalier::run(zeroed.graph(), zeroed.weights(), {{"input", x}}, {"logits"})[0];
  const double whole = static_cast<double>(run.graph().macs());
  make("prune", R"(, "score": "gate", "protect": 0, "fold": true, "target": {"quantile": 0.4})")->stage_begin(run);
  EXPECT_LT(static_cast<double>(run.graph().macs()), 0.8 * whole);
  EXPECT_TRUE(at::allclose(logits(), expected, 1e-9, 1e-9));
}

// 003-X18: scores that are zero, and no others.
TEST(WidthPruning, AThresholdOfZeroTakesExactlyTheZeros) {
  testkit::TestRun run(gated(preresnet("preresnet56", 0.5)), 1);
  const auto count = [&](const char* axis) { return run.graph()[run.graph().axis(axis)].size; };
  const c10::NoGradGuard no_grad;
  values(run, "layer1.0.bn2.gate.coefficient.value").slice(0, 0, 3).zero_();
  values(run, "layer1.0.bn3.gate.coefficient.value")[1].fill_(-1e-30);
  values(run, "layer2.0.bn3.gate.coefficient.value").zero_();  // one of them stays
  values(run, "layer1.1.bn1.gate.coefficient.value")[5].zero_();
  const auto c = make("prune", R"(, "score": "gate", "protect": 0, "target": {"threshold": 0})");
  c->stage_begin(run);
  EXPECT_EQ(count("layer1.0.conv1"), 8 - 3);
  EXPECT_EQ(count("layer1.0.conv2"), 8);
  EXPECT_EQ(count("layer2.0.conv2"), 1);
  EXPECT_EQ(count("layer1.1.select"), 32 - 1);
  EXPECT_EQ(run.artefacts.at("test.removed").value.at("gone").as_int(), 3 + 15 + 1);
  EXPECT_THAT(run.notes, Contains(HasSubstr("20 of 2024 scores are at most 0; 1 of these positions stays")));
  // Then there is nothing to take.
  const int64_t before = run.graph().parameter_count();
  make("prune", R"(, "score": "gate", "on": "layer1.0.bn2.gate*", "target": {"threshold": 0})")->stage_begin(run);
  EXPECT_EQ(run.graph().parameter_count(), before);
}

TEST(WidthPruning, RandomScoresTakeTheSameShare) {
  testkit::TestRun run(preresnet("preresnet164"), 1);
  make("prune", std::string(R"(, "score": "random", "target": {"quantile": 0.4})") + slimmed)->stage_begin(run);
  // Number floor(.4 * 12,112) = 4,844 in order, from 0, and all that is smaller.
  EXPECT_EQ(run.artefacts.at("test.removed").value.at("positions").as_int(), 12'112);
  EXPECT_EQ(run.artefacts.at("test.removed").value.at("gone").as_int(), 4'845);
}

// Without the selector the stream shrinks, as ever, and its views with it; with a score that cannot judge views they
// are left alone.
TEST(WidthPruning, ViewsShrinkByThemselvesOnlyWhereTheStreamStays) {
  const Graph g = preresnet("preresnet56", 0.25);
  const auto finds = [&](const std::string& options) {
    const auto c = make("prune", R"(, "target": {"share": 0.3})" + options);
    Weights w(g, at::kDouble, at::kCPU);
    w.initialize(g, RandomKey(1));
    return dynamic_cast<const Foresight&>(*c).finds(g, w);
  };
  const std::string named = R"(, "on": ["layer*.conv1", "layer*.conv2", "fc"])";
  const int64_t inner = 6 * 2 * (4 + 8 + 16), stream = 4 + 16 + 32 + 64, read = 4 + 6 * 16 + 6 * 32 + 6 * 64;
  const auto all = [&](const std::string& options) {
    testkit::TestRun run(g, 1);
    make("prune", R"(, "target": {"share": 0.3}, "protect": 0)" + options)->stage_begin(run);
    return run.artefacts.at("test.removed").value.at("positions").as_int();
  };
  EXPECT_EQ(all(R"(, "score": "bn_scale")"), inner + stream);
  EXPECT_EQ(all(R"(, "score": "bn_scale")" + named), inner + read);
  EXPECT_EQ(all(R"(, "score": "l2")" + named), inner);
  EXPECT_THAT(finds(R"(, "score": "l2")" + named), Contains(HasSubstr("'layer1.0.select' (4): no layer's weights")));
}

TEST(WidthPruning, ForeseesTheFoldedNetwork) {
  const Graph g = gated(preresnet("preresnet56", 0.25));
  const auto c = make("prune", R"(, "score": "gate", "fold": true, "target": {"quantile": 0.4})");
  const Foreseen f = dynamic_cast<const Foresight&>(*c).foresees(g, nullptr);
  EXPECT_THAT(f.why_not, HasSubstr("405 of 1012 positions are to go"));
  Graph after = g;
  apply(after, {}, f.edits);
  EXPECT_TRUE(after.gates().empty());
  // Of values that are known, what goes is known, too.
  testkit::TestRun run(g, 1);
  const auto sizes = sizes_for(g, "gate");
  fill(run, "gate", sizes);
  const Foreseen known = dynamic_cast<const Foresight&>(*c).foresees(g, &run.weights());
  EXPECT_EQ(known.why_not, "");
  Graph pruned = g;
  apply(pruned, {}, known.edits);
  EXPECT_TRUE(pruned.gates().empty());
  c->stage_begin(run);
  EXPECT_EQ(to_json(pruned.to_value()), to_json(run.graph().to_value()));
}

TEST(WidthPruning, SaysWhatIsWrong) {
  const auto refusal = [](const std::string& options, const Graph& graph) -> std::string {
    try {
      make("prune", options)->check(graph);
    } catch (const Error& e) {
      return e.what();
    }
    return "nothing was refused";
  };
  const Graph plain = preresnet("preresnet56", 0.25), with = gated(plain);
  const std::string half = R"(, "target": {"quantile": 0.5})";
  EXPECT_THAT(refusal(R"(, "score": "gate")" + half, plain), HasSubstr("no gate with coefficients of its own"));
  EXPECT_THAT(refusal(R"(, "fold": true)", plain), HasSubstr("the network has none"));
  EXPECT_THAT(refusal(half + R"(, "scope": "layer")", with), HasSubstr("leave 'scope' out"));
  EXPECT_THAT(refusal(half + R"(, "normalize": "mean")", with), HasSubstr("leave 'normalize' out"));
  EXPECT_THAT(refusal(half + R"(, "schedule": {"steps": 2})", with), HasSubstr("leave 'schedule' out"));
  EXPECT_THAT(refusal(half + R"(, "soft": true)", with), HasSubstr("leave 'soft' out"));
  EXPECT_THAT(refusal(half + R"(, "what": "blocks")", with), HasSubstr("leave 'what' out"));
  EXPECT_THAT(refusal(R"(, "target": {"quantile": 0.4, "threshold": 0})", with), HasSubstr("more than one thing"));
  EXPECT_THAT(refusal(R"(, "score": "gate", "target": {"quantile": 0.95})", with), HasSubstr("at most"));
  EXPECT_EQ(refusal(R"(, "score": "gate", "fold": true)" + half, with), "nothing was refused");
}

}  // namespace
}  // namespace espalier
