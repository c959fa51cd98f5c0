// Which components the controller `sparsify` finds, and what it puts behind them.
#include <gmock/gmock.h>

#include "sparsify_run.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Sums of as many numbers in another order, through twenty layers of float64.
constexpr double exact = 1e-12;

std::map<std::string, int64_t> groups_of(const Graph& g, const std::string& options) {
  std::map<std::string, int64_t> groups;
  for (const Edit& e : sparsify(options)->begin(g)) {
    const auto& insert = std::get<InsertGates>(e.what);
    const std::string& name = insert.coefficients;
    EXPECT_TRUE(name.ends_with(".competition")) << name;
    groups[name.substr(0, name.size() - std::string(".competition").size())] = insert.count;
  }
  return groups;
}
using Groups = std::map<std::string, int64_t>;

TEST(Sparsify, TheBlocksOfEachStageCompete) {
  for (const char* shortcut : {R"(, "shortcut": "A")", R"(, "shortcut": "B")"}) {
    EXPECT_EQ(groups_of(resnet20(shortcut), ""), (Groups{{"layer1", 3}, {"layer2", 3}, {"layer3", 3}}));
    // A stage of one block has nothing to compete with.
    EXPECT_EQ(groups_of(resnet20(std::string(shortcut) + R"(, "blocks": [2, 4, 1])"), ""),
              (Groups{{"layer1", 2}, {"layer2", 4}}));
    // The first stage's first block changes neither width nor size.
    EXPECT_EQ(groups_of(resnet20(shortcut), R"("first_block": false)"),
              (Groups{{"layer1", 3}, {"layer2", 2}, {"layer3", 2}}));
    EXPECT_EQ(groups_of(resnet20(shortcut), R"("on": ["layer[13]"])"), (Groups{{"layer1", 3}, {"layer3", 3}}));
    EXPECT_EQ(groups_of(resnet20(shortcut), R"("on": ["layer2", "*3"])"), (Groups{{"layer2", 3}, {"layer3", 3}}));
  }
  // Sums of squeezed and excited branches, and of bottlenecks of grouped convolutions.
  EXPECT_EQ(groups_of(backbone("resnet_cifar", R"({"use": "se_resnet20", "widths": [4, 6, 8], "reduction": 2})"), ""),
            (Groups{{"layer1", 3}, {"layer2", 3}, {"layer3", 3}}));
  EXPECT_EQ(groups_of(resnext29(), ""), (Groups{{"layer1", 3}, {"layer2", 3}, {"layer3", 3}}));
  EXPECT_EQ(groups_of(resnet20(), R"("coefficients": "none")"), Groups());
}

TEST(Sparsify, TheBranchesOfEachGroupedConvolutionCompete) {
  Groups expected;
  for (const char* stage : {"1", "2", "3"}) {
    for (const char* block : {"0", "1", "2"}) expected["layer" + std::string(stage) + "." + block + ".conv2"] = 4;
  }
  EXPECT_EQ(groups_of(resnext29(), R"("groups": "branches")"), expected);
  EXPECT_EQ(groups_of(resnext29(), R"("groups": "branches", "on": ["layer2.1.*"])"), (Groups{{"layer2.1.conv2", 4}}));
}

TEST(Sparsify, WhatEachDenselyConnectedLayerReadsCompetes) {
  // The first layer of a dense block reads one thing; the twelfth what came in and eleven layers.
  Groups expected;
  for (const char* block : {"1", "2", "3"}) {
    for (int64_t layer = 1; layer < 12; ++layer)
      expected["dense" + std::string(block) + "." + std::to_string(layer)] = layer + 1;
  }
  EXPECT_EQ(groups_of(densenet40(), R"("groups": "connections")"), expected);
  EXPECT_EQ(groups_of(densenet40(), R"("groups": "connections", "on": ["dense3.1", "dense3.11"])"),
            (Groups{{"dense3.1", 2}, {"dense3.11", 12}}));
}

TEST(Sparsify, TheTermsOfASumThatIsNamedCompete) {
  EXPECT_EQ(groups_of(sum_of_terms(), R"("groups": "sums", "on": ["add1"])"), (Groups{{"add1", 4}}));
}

TEST(Sparsify, TheEntriesOfTheAdjacencyThatLayersShareCompete) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libgcn.so");
  const Graph g = testkit::build(R"({"use": "gcn", "hidden": [4, 5]})", {.channels = 3, .nodes = 6}, {2});
  const Edits edits = sparsify(R"("groups": "adjacency")")->begin(g);
  ASSERT_EQ(edits.size(), 1U);
  const auto& s = std::get<Substitute>(edits[0].what);
  EXPECT_EQ(s.edge, "adjacency");
  EXPECT_THAT(s.readers, ElementsAre("conv1", "conv2", "conv3"));
  EXPECT_EQ(s.operation.at("size").as_int(), 6);
  Graph edited = g;
  apply(edited, {}, edits);
  for (const char* conv : {"conv1", "conv2", "conv3"})
    EXPECT_EQ(edited[edited.node(conv).inputs[1]].name, "adjacency.competition");
}

// Every component times a coefficient of its own: against the network without gates, whose nodes' outputs are
// multiplied by hand.
TEST(Sparsify, BlocksAreMultipliedAtTheEndOfTheirBranches) {
  for (const char* shortcut : {R"(, "shortcut": "A")", R"(, "shortcut": "B")"}) {
    for (const bool first : {true, false}) {
      Started s(resnet20(shortcut), first ? "" : R"("first_block": false)");
      std::map<std::string, Numbers> factors;
      for (const auto& [stage, channels] :
           std::vector<std::pair<std::string, size_t>>{{"layer1", 4}, {"layer2", 6}, {"layer3", 8}}) {
        const size_t begin = first || stage == "layer1" ? 0 : 1;
        const Numbers alpha = alphas(3 - begin, {1});
        s.set(stage + ".competition.alpha", alpha);
        const Numbers a = competing(alpha);
        EXPECT_EQ(a[1], 0);
        for (size_t b = begin; b < 3; ++b)
          factors[stage + "." + std::to_string(b) + ".bn2"] = Numbers(channels, a[b - begin]);
      }
      EXPECT_LE(difference(s.logits(), multiplied_logits(s.before, s.old_weights(), s.x, factors)), exact) << shortcut;
    }
  }
}

TEST(Sparsify, BranchesAreMultipliedInFrontOfWhatReadsThem) {
  Started s(resnext29(), R"("groups": "branches", "scale": "count")");
  std::map<std::string, Numbers> factors;
  for (size_t stage = 0; stage < 3; ++stage) {
    for (size_t block = 0; block < 3; ++block) {
      const std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(block);
      const Numbers alpha = alphas(4, {(stage + block) % 4});
      s.set(name + ".conv2.competition.alpha", alpha);
      // Groups of neighbouring channels: 2, 4 and 8 in the stages.
      for (const double a : competing(alpha)) {
        Numbers& f = factors[name + ".bn2"];
        f.insert(f.end(), size_t{2} << stage, 4 * a);
      }
    }
  }
  // Behind the batch norm a number that is not negative and ReLU may change places.
  EXPECT_LE(difference(s.logits(), multiplied_logits(s.before, s.old_weights(), s.x, factors)), exact);
}

TEST(Sparsify, ConnectionsAreMultipliedBehindTheirNormAndRelu) {
  Started s(densenet40(), R"("groups": "connections")");
  std::map<std::string, Numbers> factors;
  for (size_t block = 0; block < 3; ++block) {
    for (size_t layer = 1; layer < 12; ++layer) {
      const std::string name = "dense" + std::to_string(block + 1) + "." + std::to_string(layer);
      const Numbers alpha = alphas(layer + 1, {layer / 2});
      s.set(name + ".competition.alpha", alpha);
      const Numbers a = competing(alpha);
      // What came into the dense block: 16 channels of the stem, and 12 layers of 3 in each block before.
      Numbers f(16 + 36 * block, a[0]);
      for (size_t i = 1; i <= layer; ++i) f.insert(f.end(), 3, a[i]);
      factors[name + ".relu1"] = f;
    }
  }
  EXPECT_LE(difference(s.logits(), multiplied_logits(s.before, s.old_weights(), s.x, factors)), exact);
}

TEST(Sparsify, TermsAreMultipliedBeforeTheirSum) {
  Started s(sum_of_terms("tanh"), R"("groups": "sums", "on": ["add1"], "null_component": true)");
  const Numbers alpha = alphas(4, {2});
  s.set("add1.competition.alpha", alpha);
  const Numbers a = ByHand{.null = true}.of(alpha, beta_of(4)).values;
  EXPECT_EQ(a[2], 0);
  const at::Tensor with = s.logits();
  // The last term is read elsewhere, too: only the sum sees its coefficient.
  const auto& w = s.run.weights();
  const auto layer = [&](const char* name, const at::Tensor& x) {
    const Graph& g = s.graph();
    return (x.matmul(w[g.parameter(std::string(name) + ".weight")].t()) + w[g.parameter(std::string(name) + ".bias")])
        .detach();
  };
  const at::Tensor x = layer("fc0", s.x).clamp_min(0);
  const at::Tensor sum = layer("one", x) * a[0] + layer("two", x).tanh() * a[1] + x * a[3];
  EXPECT_LE(difference(with, layer("fc", sum.clamp_min(0))), exact);
}

TEST(Sparsify, CoefficientsBeginAsTheOptionsSay) {
  Started s(resnet20(), R"("alpha": 0.3, "beta": -4, "gamma": "exp", "null_component": true, "scale": "count",
                            "revive": "leaky", "slope": 0.2)");
  EXPECT_EQ(numbers_of(s.value("layer2.competition.alpha")), (Numbers{0.3, 0.3, 0.3}));
  EXPECT_EQ(s.value("layer2.competition.beta").item<double>(), -4);
  const Value o = s.graph().node("layer2.competition").op->options();
  EXPECT_EQ(o.at("gamma").as_string(), "exp");
  EXPECT_TRUE(o.at("null_component").as_bool());
  EXPECT_EQ(o.at("scale").as_string(), "count");
  EXPECT_EQ(o.at("revive").as_string(), "leaky");
  EXPECT_EQ(o.at("slope").as_double(), 0.2);
  // Residual branches of a third each, or as they are.
  Started one(resnet20(), ""), n(resnet20(), R"("scale": "count")");
  EXPECT_LE(difference(n.logits(), logits_of(n.before, n.old_weights(), n.x)), exact);
  EXPECT_GT(difference(one.logits(), logits_of(one.before, one.old_weights(), one.x)), 1e-3);
}

// A second stage with the gates of the first inserts none again.
TEST(Sparsify, FindsItsGatesAgain) {
  for (const auto& [network, options] :
       std::vector<std::pair<Graph, std::string>>{{resnet20(), ""},
                                                  {resnext29(), R"("groups": "branches")"},
                                                  {densenet40(), R"("groups": "connections")"},
                                                  {sum_of_terms(), R"("groups": "sums", "on": ["add1"])"}}) {
    Started s(network, options);
    const auto again = sparsify(options);
    EXPECT_TRUE(again->begin(s.graph()).empty()) << options;
    again->check(s.graph());
    again->stage_begin(s.run);
    EXPECT_EQ(s.run.metrics().at("zeros"), 0);
    EXPECT_GT(s.run.metrics().at("components"), 3);
  }
}

std::string refusal(const Graph& g, const std::string& options) {
  try {
    sparsify(options)->check(g);
  } catch (const Error& e) {
    return e.what();
  }
  return "(nothing was wrong)";
}

TEST(Sparsify, SaysWhatItCannotDoWithANetwork) {
  EXPECT_THAT(refusal(densenet40(), ""), HasSubstr("the network has no residual blocks: scopes with a sum"));
  EXPECT_THAT(refusal(resnet20(R"(, "shortcut": "none")"), ""), HasSubstr("no residual blocks"));
  EXPECT_THAT(refusal(resnet20(), R"("groups": "branches")"), HasSubstr("no grouped convolutions"));
  EXPECT_THAT(refusal(resnet20(), R"("groups": "connections")"), HasSubstr("no densely connected layers"));
  EXPECT_THAT(refusal(resnet20(), R"("groups": "adjacency")"), HasSubstr("for networks with graph convolutions"));
  EXPECT_THAT(refusal(resnet20(), R"("groups": "sums", "on": ["sum7"])"),
              HasSubstr("'on' names 'sum7', and there is no such group (known: layer1.0.add1"));
  EXPECT_THAT(refusal(resnet20(), R"("on": ["layer1", "layr2"])"),
              HasSubstr("'on' names 'layr2', and there is no such group (did you mean 'layer2'?)"));
  EXPECT_THAT(refusal(resnet20(), R"("keep": [1, 2])"),
              HasSubstr("'keep' has 2 numbers, and the network has 3 groups"));
  EXPECT_THAT(refusal(resnet20(), R"("on": ["layer1", "layer3"], "keep": [1, 2])"), HasSubstr("nothing was wrong"));
}

std::string wrong(const std::string& options) {
  try {
    sparsify(options);
  } catch (const Error& e) {
    return e.what();
  }
  return "(nothing was wrong)";
}

TEST(Sparsify, OptionsThatDoNotBelongTogetherAreRefused) {
  EXPECT_THAT(wrong(R"("groups": "sums")"), HasSubstr("`groups: sums` needs `on`, the names of the sums"));
  EXPECT_THAT(wrong(R"("coefficients": "softmax", "keep": [1], "null_component": true)"),
              HasSubstr("'null_component' belongs to `coefficients: competition`; leave it out"));
  EXPECT_THAT(wrong(R"("coefficients": "free", "beta": 1)"), HasSubstr("'beta' belongs to"));
  EXPECT_THAT(wrong(R"("coefficients": "free", "revive": "elu")"), HasSubstr("'revive' belongs to"));
  EXPECT_THAT(wrong(R"("coefficients": "none", "alpha": 1)"), HasSubstr("'alpha' belongs to `coefficients`"));
  EXPECT_THAT(wrong(R"("groups": "adjacency", "coefficients": "sampled", "keep": [3])"),
              HasSubstr("the entries of an adjacency are made by `coefficients: competition`, softmax or free"));
  EXPECT_THAT(wrong(R"("groups": "adjacency", "adjacency": {"symmetric": true})"),
              HasSubstr("needs `normalize: balanced`"));
  EXPECT_THAT(wrong(R"("coefficients": "sampled")"), HasSubstr("needs one number `keep`"));
  EXPECT_THAT(wrong(R"("coefficients": "sampled", "keep": [1, 2])"), HasSubstr("needs one number `keep`"));
  EXPECT_THAT(wrong(R"("coefficients": "softmax")"), HasSubstr("`keep` must say how many components"));
  EXPECT_THAT(wrong(R"("groups": "block")"), HasSubstr("groups"));
  EXPECT_THAT(wrong(R"("keep": [-1])"), HasSubstr("keep"));
  EXPECT_THAT(wrong(R"("patience": -1)"), HasSubstr("patience"));
  EXPECT_THAT(wrong(R"("slope": 0)"), HasSubstr("slope"));
}

}  // namespace
}  // namespace espalier
