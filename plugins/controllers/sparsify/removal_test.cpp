// What is exactly zero leaves the network, and no output changes.
#include <numeric>

#include <gmock/gmock.h>

#include "sparsify_run.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

// The same numbers are summed in another order, through twenty layers.
constexpr double exact = 1e-12, exact_in_float = 1e-6;

// A float32 copy of the network that the run edits along, and a state with a value for each number.
struct Copies {
  std::shared_ptr<Weights> floats;
  std::map<std::string, at::Tensor> momentum;
  explicit Copies(Started& s) : floats(std::make_shared<Weights>(s.graph(), at::kFloat, at::kCPU)) {
    const c10::NoGradGuard no_grad;
    s.run.weights().add_state(s.graph(), {.name = "momentum"});
    s.run.follow("floats", floats, false);
    for (const Parameter& p : s.graph().parameters()) {
      const ParamId id = s.graph().parameter(p.name);
      at::Tensor((*floats)[id]).copy_(s.run.weights()[id]);
      if (p.role == Role::buffer) continue;
      at::Tensor state = s.run.weights().state("momentum", id);
      state.copy_(normal(state.sizes().vec(), 1, RandomKey(8).with(p.name)));
      momentum[p.name] = state.clone();
    }
  }
  // Of a parameter that lost positions of a dimension (or none): its state and the other copy's values have lost the
  // same.
  void expect_slices(Started& s, const std::string& name, int64_t dimension, const Indices& left) const {
    const ParamId id = s.graph().parameter(name);
    const at::Tensor at = at::tensor(left, at::kLong);
    EXPECT_TRUE(s.run.weights().state("momentum", id).equal(momentum.at(name).index_select(dimension, at))) << name;
    EXPECT_TRUE((*floats)[id].detach().equal(s.run.weights()[id].detach().to(at::kFloat))) << name;
  }
};

int64_t architecture_numbers(const Graph& g) {
  int64_t n = 0;
  for (const Parameter& p : g.parameters()) n += p.role == Role::architecture ? g.numel(p.shape) : 0;
  return n;
}

// Sets the coefficients, lets the controller see them, and folds: outputs stay, and all that is left is smaller by
// these numbers of parameters and multiply-accumulates.
struct Removal {
  const char* options;
  std::map<std::string, Numbers> alpha;  // by group
  int64_t parameters, macs;              // that go
};
void expect_removal(Started& s, const Removal& r) {
  for (const auto& [group, alpha] : r.alpha) s.set(group + ".competition.alpha", alpha);
  const Copies copies(s);
  const at::Tensor before = s.logits(), floats = logits_of(s.graph(), *copies.floats, s.x);
  s.step_end();
  const int64_t edits = s.run.edits();
  EXPECT_GT(edits, 0);
  EXPECT_LE(difference(s.logits(), before), exact);
  EXPECT_LE(difference(logits_of(s.graph(), *copies.floats, s.x), floats), exact_in_float);
  EXPECT_EQ(s.before.parameter_count() - (s.graph().parameter_count() - architecture_numbers(s.graph())), r.parameters);
  EXPECT_EQ(s.before.macs() - s.graph().macs(), r.macs);
  s.step_end();
  EXPECT_EQ(s.run.edits(), edits) << "there is nothing more to remove";
  s.controller->stage_end(s.run);
  EXPECT_LE(difference(s.logits(), before), exact);
  EXPECT_LE(difference(logits_of(s.graph(), *copies.floats, s.x), floats), exact_in_float);
  EXPECT_EQ(nodes_of_type(s.graph(), "gate"), 0);
  EXPECT_EQ(nodes_of_type(s.graph(), "competition"), 0);
  EXPECT_EQ(architecture_numbers(s.graph()), 0);
  EXPECT_EQ(s.before.parameter_count() - s.graph().parameter_count(), r.parameters);
  EXPECT_EQ(s.before.macs() - s.graph().macs(), r.macs);
}

constexpr const char* at_once = R"("every": 1, "patience": 0)";

TEST(Removal, OfBlocksLeavesWhatTheyHandOn) {
  // A block of c channels at s x s pixels: two convolutions without biases and two norms.
  const auto parameters = [](int64_t in, int64_t c) { return 9 * in * c + 9 * c * c + 4 * c; };
  const auto macs = [](int64_t in, int64_t c, int64_t pixels) { return (9 * in * c + 9 * c * c) * pixels; };
  for (const char* shortcut : {R"(, "shortcut": "A")", R"(, "shortcut": "B")"}) {
    Started s(resnet20(shortcut), at_once);
    // layer2.0 changes width and size: its branch goes and its shortcut stays.
    expect_removal(s, {"",
                       {{"layer1", alphas(3, {0, 2})}, {"layer2", alphas(3, {0})}, {"layer3", alphas(3, {1})}},
                       2 * parameters(4, 4) + parameters(4, 6) + parameters(8, 8),
                       2 * macs(4, 4, 64) + macs(4, 6, 16) + macs(8, 8, 4)});
    EXPECT_FALSE(s.has("layer1.0.conv1") || s.has("layer1.0.add1") || s.has("layer2.0.conv1"));
    EXPECT_FALSE(s.has("layer1.2.bn2") || s.has("layer3.1.conv2"));
    EXPECT_EQ(s.graph().node("layer1.1.conv1").inputs[0], s.graph().node("relu1").outputs[0]);
    EXPECT_TRUE(s.has("layer2.1.conv1") && s.has("layer3.0.conv1"));
    EXPECT_EQ(s.run.metrics().at("components"), 5);
    EXPECT_EQ(s.run.metrics().at("zeros"), 0);
    const Value& names = s.run.artefacts.at("test.components").value;
    EXPECT_EQ(to_json(names), R"({"layer1":["layer1.1"],"layer2":["layer2.1","layer2.2"],)"
                              R"("layer3":["layer3.0","layer3.2"]})");
    EXPECT_EQ(to_json(s.run.artefacts.at("test.left").value), "[1,2,2]");
  }
}

TEST(Removal, OfBranchesShrinksTheGroupedConvolution) {
  Started s(resnext29(), R"("groups": "branches", "every": 1, "patience": 0)");
  // layer1.1 loses two of its branches of 2 channels, layer2.0 one of 4 channels, with what makes and what reads them.
  const auto parameters = [](int64_t in, int64_t w, int64_t out) { return in * w + 9 * w * w + w * out + 4 * w; };
  const Copies unused(s);
  expect_removal(s, {"",
                     {{"layer1.1.conv2", alphas(4, {0, 3})}, {"layer2.0.conv2", alphas(4, {2})}},
                     2 * parameters(256, 2, 256) + parameters(256, 4, 512),
                     2 * (256 * 2 + 9 * 2 * 2 + 2 * 256) * 64 + 256 * 4 * 64 + (9 * 4 * 4 + 4 * 512) * 16});
  unused.expect_slices(s, "layer1.1.conv1.weight", 0, {2, 3, 4, 5});
  unused.expect_slices(s, "layer1.1.bn2.bias", 0, {2, 3, 4, 5});
  EXPECT_EQ(s.graph().sizes(s.graph()[s.graph().parameter("layer1.1.conv2.weight")].shape),
            (std::vector<int64_t>{4, 2, 3, 3}));
  EXPECT_EQ(to_json(s.run.artefacts.at("test.left").value), "[4,2,4,3,4,4,4,4,4]");
  EXPECT_EQ(to_json(s.run.artefacts.at("test.components").value.at("layer2.0.conv2")),
            R"(["layer2.0.conv2[0]","layer2.0.conv2[1]","layer2.0.conv2[2]"])");
}

TEST(Removal, OfConnectionsTakesColumnsAndNorms) {
  Started s(densenet40(), R"("groups": "connections", "every": 1, "patience": 0)");
  const Copies copies(s);
  // dense1.5 reads 16 channels of the stem and five times 3; it loses the stem and the second layer. dense3.2 reads
  // what came in (88 channels) and two layers, and loses both layers.
  const int64_t one = 16 + 3, two = 3 + 3;
  expect_removal(s, {"",
                     {{"dense1.5", alphas(6, {0, 2})}, {"dense3.2", alphas(3, {1, 2})}},
                     (one + two) * (2 + 9 * 3),
                     one * 9 * 3 * 64 + two * 9 * 3 * 4});
  Indices left{16, 17, 18};
  for (int64_t i = 22; i < 31; ++i) left.push_back(i);
  copies.expect_slices(s, "dense1.5.norm1.weight", 0, left);
  EXPECT_TRUE(s.run.weights()
                  .state("momentum", s.graph().parameter("dense1.5.conv1.weight"))
                  .equal(copies.momentum.at("dense1.5.conv1.weight").index_select(1, at::tensor(left, at::kLong))));
  EXPECT_EQ(to_json(s.run.artefacts.at("test.components").value.at("dense3.2")), R"(["transition2.avg_pool1"])");
}

TEST(Removal, OfTermsLeavesTheSumOfTheOthers) {
  Started s(sum_of_terms(), R"("groups": "sums", "on": ["add1"], "every": 1, "patience": 0)");
  expect_removal(s, {"", {{"add1", alphas(4, {0, 3})}}, 30, 25});  // five by five weights and five biases
  EXPECT_FALSE(s.has("one"));
  EXPECT_TRUE(s.has("two") && s.has("three") && s.has("relu1"));
  EXPECT_EQ(to_json(s.run.artefacts.at("test.components").value), R"({"add1":["two","three"]})");
}

// Where a nonlinearity stands on both sides, nothing can take a coefficient in. What was trained is worth keeping.
TEST(Removal, AGateThatCannotBeFoldedStaysAndIsSaid) {
  Started s(sum_of_terms("tanh"), R"("groups": "sums", "on": ["add1"], "every": 1, "patience": 0)");
  s.set("add1.competition.alpha", alphas(4, {0}));
  const at::Tensor before = s.logits();
  s.step_end();
  s.controller->stage_end(s.run);
  EXPECT_LE(difference(s.logits(), before), exact);
  EXPECT_TRUE(s.has("add1.1.component") && s.has("add1.3.component") && s.has("add1.competition"));
  EXPECT_FALSE(s.has("add1.2.component")) << "of a layer";
  ASSERT_EQ(s.run.notes.size(), 2U);
  EXPECT_THAT(s.run.notes[0], HasSubstr("cannot fold 'add1.1.component'"));
  EXPECT_THAT(s.run.notes[0], HasSubstr("the gate stays"));
  EXPECT_EQ(to_json(s.run.artefacts.at("test.components").value), R"({"add1":["tanh1","three","relu1"]})");
}

TEST(Removal, OfSqueezedAndExcitedBlocksIsFoldedBehindTheirScale) {
  Started s(backbone("resnet_cifar", R"({"use": "se_resnet20", "widths": [4, 6, 8], "reduction": 2})"), at_once);
  s.set("layer2.competition.alpha", alphas(3, {1}));
  const at::Tensor before = s.logits();
  s.step_end();
  EXPECT_FALSE(s.has("layer2.1.conv1") || s.has("layer2.1.se.fc1"));
  s.controller->stage_end(s.run);
  EXPECT_LE(difference(s.logits(), before), exact);
  EXPECT_EQ(nodes_of_type(s.graph(), "competition"), s.run.notes.empty() ? 0 : 3) << s.run.notes.front();
}

// What is left alone of a group has a coefficient that need not be one.
TEST(Removal, OfAllButOneFoldsWhatIsLeft) {
  for (const auto& [network, options, group, n] : std::vector<std::tuple<Graph, std::string, std::string, size_t>>{
           {resnet20(), "", "layer2", 3},
           {resnext29(), R"("groups": "branches",)", "layer2.1.conv2", 4},
           {densenet40(), R"("groups": "connections",)", "dense2.3", 4},
           {sum_of_terms(), R"("groups": "sums", "on": ["add1"],)", "add1", 4}}) {
    for (const size_t kept : {0U, 2U}) {
      Started s(network,
                options + (options.empty() ? "" : " ") + R"("null_component": true, "every": 1, "patience": 0)");
      Numbers alpha(n, -9);
      alpha[kept] = 0.3;
      s.set(group + ".competition.alpha", alpha);
      EXPECT_LT(ByHand{.null = true}.of(alpha, beta_of(static_cast<int64_t>(n))).values[kept], 0.999);
      const at::Tensor before = s.logits();
      s.step_end();
      EXPECT_LE(difference(s.logits(), before), exact) << group;
      s.controller->stage_end(s.run);
      EXPECT_LE(difference(s.logits(), before), exact) << group;
      EXPECT_EQ(nodes_of_type(s.graph(), "gate"), 0) << group;
      EXPECT_EQ(nodes_of_type(s.graph(), "competition"), 0) << group;
    }
  }
}

// Three residual blocks of four channels.
Graph blocks(bool relu_before, bool relu_behind) {
  GraphBuilder b({3, 6, 6});
  Edge x = b.conv("stem", b.input(), {.filters = 4, .padding = 1});
  if (relu_before) x = b.relu(x);
  for (const char* name : {"layer1.0", "layer1.1", "layer1.2"}) {
    const auto scope = b.scope(name);
    x = b.add(b.batch_norm("bn", b.conv("conv", x, {.filters = 4, .padding = 1, .bias = false})), x);
    if (relu_behind) x = b.relu(x);
  }
  return b.output(b.linear("fc", b.flatten(x), {.features = 3}));
}

// A ReLU at the end changes nothing of what a ReLU has made, and much of what another layer has.
TEST(Removal, OfABlockKeepsAReluThatIsNeeded) {
  for (const bool before : {true, false}) {
    for (const bool behind : {true, false}) {
      Started s(blocks(before, behind), at_once);
      s.set("layer1.competition.alpha", alphas(3, {0, 1}));
      const at::Tensor was = s.logits();
      s.step_end();
      EXPECT_LE(difference(s.logits(), was), exact) << before << behind;
      EXPECT_FALSE(s.has("layer1.0.conv") || s.has("layer1.1.conv"));
      EXPECT_EQ(s.has("layer1.0.relu1"), behind && !before);
      EXPECT_FALSE(s.has("layer1.1.relu1")) << "its input comes from a ReLU in any case";
      s.controller->stage_end(s.run);
      EXPECT_LE(difference(s.logits(), was), exact) << before << behind;
    }
  }
}

// Where nothing else is there one component stays, zero as it is; a stage of blocks hands on what it is given.
TEST(Removal, OfAllKeepsOneWhereOneMustStay) {
  {
    Started s(resnet20(), at_once);
    s.set("layer1.competition.beta", {9});
    const at::Tensor before = s.logits();
    s.step_end();
    EXPECT_LE(difference(s.logits(), before), exact);
    EXPECT_FALSE(s.has("layer1.0.conv1") || s.has("layer1.1.conv1") || s.has("layer1.2.conv1"));
    s.controller->stage_end(s.run);
    EXPECT_LE(difference(s.logits(), before), exact);
    EXPECT_EQ(s.run.metrics().at("components"), 6);
  }
  for (const auto& [network, options, group] : std::vector<std::tuple<Graph, std::string, std::string>>{
           {resnext29(), R"("groups": "branches", "every": 1, "patience": 0)", "layer2.1.conv2"},
           {densenet40(), R"("groups": "connections", "every": 1, "patience": 0)", "dense2.3"},
           {sum_of_terms(), R"("groups": "sums", "on": ["add1"], "every": 1, "patience": 0)", "add1"}}) {
    Started s(network, options);
    s.set(group + ".competition.beta", {9});
    const at::Tensor before = s.logits();
    for (int i = 0; i < 3; ++i) s.step_end();
    EXPECT_LE(difference(s.logits(), before), exact) << group;
    s.controller->stage_end(s.run);
    EXPECT_LE(difference(s.logits(), before), exact) << group;
    EXPECT_EQ(nodes_of_type(s.graph(), "gate"), 0) << group;
  }
}

TEST(Removal, WaitsForItsPatience) {
  Started s(resnet20(), R"("every": 1, "patience": 3)");
  s.set("layer2.competition.alpha", alphas(3, {1}));
  s.step_end();
  s.step_end();
  EXPECT_EQ(s.run.edits(), 0);
  // It comes back for a step, and what was counted does not count any more.
  s.set("layer2.competition.alpha", alphas(3, {}));
  s.step_end();
  s.set("layer2.competition.alpha", alphas(3, {1}));
  s.step_end();
  s.step_end();
  EXPECT_EQ(s.run.edits(), 0);
  s.step_end();
  EXPECT_EQ(s.run.edits(), 1);
  EXPECT_FALSE(s.has("layer2.1.conv1"));
  // Each component waits for itself, and numbers of others that left count no more.
  s.set("layer2.competition.alpha", {0.1, -9, -9});
  s.step_end();
  s.set("layer3.competition.alpha", alphas(3, {0}));
  s.step_end();
  EXPECT_EQ(s.run.edits(), 1);
  s.step_end();
  EXPECT_EQ(s.run.edits(), 2);
  EXPECT_FALSE(s.has("layer2.2.conv1"));
  EXPECT_TRUE(s.has("layer3.0.conv1"));
  s.step_end();
  EXPECT_FALSE(s.has("layer3.0.conv1"));
}

TEST(Removal, LooksAtEverySoManySteps) {
  Started s(resnet20(), R"("every": 4, "patience": 5)");
  s.set("layer2.competition.alpha", alphas(3, {1}));
  for (int64_t step = 0; step < 7; ++step) s.step_end();
  EXPECT_EQ(s.run.edits(), 0) << "one look, after four steps";
  s.step_end();
  EXPECT_EQ(s.run.edits(), 1) << "a second one, after eight";
}

TEST(Removal, MayBeAtTheEndOrNever) {
  for (const char* remove : {"end", "never"}) {
    for (const bool fold : {true, false}) {
      Started s(resnet20(), R"("every": 1, "patience": 0, "remove": ")" + std::string(remove) + R"(", "fold": )" +
                                (fold ? "true" : "false"));
      s.set("layer2.competition.alpha", alphas(3, {1}));
      const at::Tensor before = s.logits();
      for (int i = 0; i < 3; ++i) s.step_end();
      EXPECT_EQ(s.run.edits(), 0);
      s.controller->stage_end(s.run);
      EXPECT_EQ(s.has("layer2.1.conv1"), std::string(remove) == "never");
      EXPECT_LE(difference(s.logits(), before), exact);
      EXPECT_EQ(nodes_of_type(s.graph(), "gate") == 0, fold);
      EXPECT_EQ(nodes_of_type(s.graph(), "competition") == 0, fold);
    }
  }
}

// What left does not come back in the coefficients of the others, whatever its gamma does.
TEST(Removal, IsForGood) {
  Started s(resnet20(), at_once);
  s.set("layer2.competition.alpha", alphas(3, {1}));
  s.step_end();
  EXPECT_EQ(numbers_of(s.value("layer2.competition.alive")), (Numbers{1, 0, 1}));
  EXPECT_EQ(numbers_of(s.value("layer1.competition.alive")), (Numbers{1, 1, 1}));
  Numbers risen = alphas(3, {});
  s.set("layer2.competition.alpha", risen);
  const ByHand h = ByHand{}.of(risen, beta_of(3));
  const double sum = h.above[0] + h.above[2];
  std::map<std::string, Numbers> factors;
  factors["layer2.0.bn2"] = Numbers(6, h.above[0] / sum);
  factors["layer2.1.bn2"] = Numbers(6, 0);
  factors["layer2.2.bn2"] = Numbers(6, h.above[2] / sum);
  for (const char* b : {"0", "1", "2"}) {
    factors["layer1." + std::string(b) + ".bn2"] = Numbers(4, 1 / 3.0);
    factors["layer3." + std::string(b) + ".bn2"] = Numbers(8, 1 / 3.0);
  }
  Weights old(s.before, at::kDouble, at::kCPU);
  old.initialize(s.before, RandomKey(3));  // of what has left, any
  const c10::NoGradGuard no_grad;
  for (const Parameter& p : s.before.parameters()) {
    const auto& all = s.graph().parameters();
    if (std::ranges::find(all, p.name, &Parameter::name) != all.end())
      at::Tensor(old[s.before.parameter(p.name)]).copy_(s.value(p.name));
  }
  EXPECT_LE(difference(s.logits(), multiplied_logits(s.before, old, s.x, factors)), exact);
}

TEST(Removal, ARunTellsWhatIsLeftAndWhatIsZero) {
  Started s(resnet20(), R"("every": 1, "patience": 100)");
  EXPECT_EQ(s.run.metrics().at("components"), 9);
  EXPECT_EQ(s.run.metrics().at("zeros"), 0);
  s.set("layer2.competition.alpha", alphas(3, {1}));
  s.set("layer3.competition.alpha", alphas(3, {0, 1}));
  s.controller->epoch_end(s.run);
  EXPECT_EQ(s.run.metrics().at("components"), 9);
  EXPECT_EQ(s.run.metrics().at("zeros"), 3);
  const NamedTensors& record = s.run.records.at("coefficients");
  ASSERT_EQ(record.size(), 3U);
  EXPECT_EQ(record[1].first, "layer2.competition");
  const Numbers expected = competing(alphas(3, {1})), given = numbers_of(record[1].second);
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(given[i], expected[i], 1e-14);
}

}  // namespace
}  // namespace espalier
