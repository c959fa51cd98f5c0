// The controller `sparsify` in training: with and without removal, taken up again, revived, sampled.
#include <gmock/gmock.h>

#include <espalier/controller.h>
#include <espalier/regularizer.h>

#include "../architecture_search/search_run.h"
#include "sparsify_run.h"

namespace espalier {
namespace {

// A run that trains weights and coefficients by SGD with momentum, with a penalty.
struct Training {
  std::string options;
  std::unique_ptr<Controller> controller;
  SearchRun run;
  Training(const Graph& network, const std::string& with, const std::string& weights = R"("lr": 0.05, "momentum": 0.9)",
           const std::string& architecture = R"("lr": 0.2, "momentum": 0.9)", const std::string& penalty = "0.02")
      : options(with),
        controller(sparsify(with)),
        run(Started::begun(network, *controller), sgd(weights), sgd(architecture)) {
    stir(run.graph(), run.weights(), 5);
    run.regularizers.push_back(
        SearchRun::make<Regularizer>(R"({"use": "competition_norm", "weight": )" + penalty + "}"));
    controller->stage_begin(run);
  }
  static std::string sgd(const std::string& with) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsgd.so");
    return R"({"use": "sgd", )" + with + "}";
  }
  Batch batch() const {
    return {{{"input", testkit::input_of(run.graph(), 6, 20 + static_cast<uint64_t>(run.at_step))}},
            {{"target", testkit::target_of(run.graph().numel(run.graph()[run.graph().output("logits")].shape), 6,
                                           static_cast<uint64_t>(run.at_step))}}};
  }
  // A step with the penalty; returns the loss of evaluation after it.
  double step() {
    const Batch b = batch();
    run.weights().zero_gradients();
    run.add_gradients(b, run.weights(), "loss");
    run.add_regularizers(run.weights());
    run.update(run.weights(), {Role::weight, Role::architecture});
    const double rate = 0.05;
    {
      const c10::NoGradGuard no_grad;
      for (const auto& r : run.regularizers) {
        r->after_update(run.graph(), run.weights(),
                        LearningRates(std::vector<double>(run.graph().parameters().size(), rate)));
      }
    }
    controller->step_end(run);
    ++run.at_step;
    const c10::NoGradGuard no_grad;
    return run.loss(b, {}).item<double>();
  }
  void set(const std::string& name, const Numbers& values) { assign(run.graph(), run.weights(), name, values); }
  Numbers get(const std::string& name) { return numbers_of(run.weights()[run.graph().parameter(name)]); }
  at::Tensor coefficients(const std::string& node) {
    const c10::NoGradGuard no_grad;
    Graph g = run.graph();
    g.add_output("probe", g.node(node).outputs[0]);
    return espalier::run(g, run.weights(), {}, {"probe"})[0][0];
  }
};

Graph small_resnet() {
  return backbone("resnet_cifar", R"({"use": "resnet20", "widths": [3, 4, 4], "blocks": [3, 3, 1]})", 6, 3);
}

// Removal is a matter of speed: the others are trained as beside zeros, from the momentum that they had.
TEST(SparsifyTraining, WithRemovalIsTheSameAsWithZerosKept) {
  struct Case {
    const char* groups;
    Graph network;
    std::string group;
    size_t n, dead;
  };
  const Graph resnext = backbone("resnext", R"({"use": "resnext29_8x64d", "cardinality": 3, "base_width": 1})", 4);
  const Graph densenet = backbone("densenet", R"({"use": "densenet40", "growth": 1})", 4);
  for (const Case& c :
       {Case{"", small_resnet(), "layer1", 3, 1}, Case{R"("groups": "branches", )", resnext, "layer1.1.conv2", 3, 0},
        Case{R"("groups": "connections", )", densenet, "dense1.3", 4, 2},
        Case{R"("groups": "sums", "on": ["add1"], )", sum_of_terms(), "add1", 4, 2}}) {
    for (const char* patience : {"0", "2"}) {
      {
        const char* null = *patience == '0' ? "false" : "true";
        const std::string common =
            std::string(c.groups) + R"("every": 1, "null_component": )" + null + R"(, "patience": )";
        Training removing(c.network, common + patience), keeping(c.network, common + R"(0, "remove": "never")");
        for (Training* t : {&removing, &keeping}) t->set(c.group + ".competition.alpha", alphas(c.n, {c.dead}));
        const int64_t before = removing.run.graph().parameter_count();
        for (int step = 0; step < 4; ++step) {
          const double with = removing.step(), without = keeping.step();
          // The same sums in another order; each step multiplies rounding by a small number.
          EXPECT_NEAR(with, without, 1e-9 * std::abs(without)) << c.group << " step " << step;
          EXPECT_EQ(keeping.coefficients(c.group + ".competition")[static_cast<int64_t>(c.dead)].item<double>(), 0)
              << "the case is one without revival";
        }
        EXPECT_LT(removing.run.graph().parameter_count(), before);
        EXPECT_EQ(keeping.run.graph().parameter_count(), before);
        const Numbers with = removing.get(c.group + ".competition.alpha"),
                      without = keeping.get(c.group + ".competition.alpha");
        for (size_t i = 0; i < c.n; ++i) EXPECT_NEAR(with[i], without[i], 1e-9) << c.group;
      }
    }
  }
}

TEST(SparsifyTraining, GoesOnWhereItWasStopped) {
  Training whole(small_resnet(), R"("every": 1, "patience": 3)"),
      stopped(small_resnet(), R"("every": 1, "patience": 3)");
  for (Training* t : {&whole, &stopped}) {
    t->set("layer1.competition.alpha", alphas(3, {1}));
    t->set("layer2.competition.alpha", alphas(3, {0, 2}));
  }
  for (int step = 0; step < 5; ++step) {
    // After two steps of the three that what is zero has to wait.
    if (step == 2) {
      const Value saved = from_json(to_json(stopped.controller->save()));
      stopped.controller = sparsify(stopped.options);
      stopped.controller->resume(stopped.run, saved);
    }
    EXPECT_EQ(whole.step(), stopped.step());
    EXPECT_EQ(whole.run.graph().to_value(), stopped.run.graph().to_value()) << step;
    EXPECT_EQ(has_node(whole.run.graph(), "layer1.1.conv1"), step < 2);
  }
  for (const Parameter& p : whole.run.graph().parameters()) EXPECT_EQ(whole.get(p.name), stopped.get(p.name)) << p.name;
}

// Two terms of a sum: the first gives nothing but noise, the second the answer. The second is below the threshold.
Graph two_terms() {
  GraphBuilder b({3});
  const Edge noise = b.linear("noise", b.input(), {.features = 3, .bias = false});
  const Edge answer = b.linear("answer", b.input(), {.features = 3, .bias = false});
  const Edge other = b.linear("other", b.input(), {.features = 3, .bias = false});
  return b.output(b.add({noise, answer, other}));
}
struct Revival : Training {
  explicit Revival(const std::string& with)
      : Training(two_terms(), R"("groups": "sums", "on": ["add1"], "remove": "never", )" + with, R"("lr": 1e-300)",
                 R"("lr": 0.5)", "0") {
    set("answer.weight", {9, 0, 0, 0, 9, 0, 0, 0, 9});
    set("noise.weight", {0, -1, 0, 0, 0, -1, -1, 0, 0});
    set("other.weight", {0, 0, 1, 1, 0, 0, 0, 1, 0});
    set("add1.competition.alpha", {0.5, -3, 0});
  }
  double answer() { return coefficients("add1.competition")[1].item<double>(); }
  // Descends on the free parameters that `moves` names, the others being held.
  void descend(int steps, const std::vector<bool>& moves, bool beta_moves) {
    for (int i = 0; i < steps && answer() == 0; ++i) {
      const Numbers alpha = get("add1.competition.alpha"), beta = get("add1.competition.beta");
      const at::Tensor x = normal({30, 3}, 1, RandomKey(static_cast<uint64_t>(i)));
      const Batch b{{{"input", x}}, {{"target", x.argmax(1)}}};
      run.train_step(b);
      controller->step_end(run);
      Numbers now = get("add1.competition.alpha");
      for (size_t k = 0; k < 3; ++k) now[k] = moves[k] ? now[k] : alpha[k];
      set("add1.competition.alpha", now);
      if (!beta_moves) set("add1.competition.beta", beta);
    }
  }
};

TEST(SparsifyTraining, WhatTheGradientAsksForComesBackWithRevival) {
  for (const char* revive : {R"("revive": "leaky")", R"("revive": "leaky", "slope": 0.5)", R"("revive": "elu")"}) {
    Revival r(revive);
    ASSERT_EQ(r.answer(), 0);
    r.descend(4000, {false, true, false}, false);
    EXPECT_GT(r.answer(), 0) << revive;
    EXPECT_GT(r.get("add1.competition.alpha")[1], -3);
  }
  // And not where it is asked to stay away.
  Revival r(R"("revive": "elu")");
  r.set("answer.weight", {-9, 0, 0, 0, -9, 0, 0, 0, -9});
  r.descend(300, {false, true, false}, false);
  EXPECT_EQ(r.answer(), 0);
  EXPECT_LT(r.get("add1.competition.alpha")[1], -3);
}

TEST(SparsifyTraining, WithoutRevivalOnlyTheThresholdBringsBack) {
  // The two that are left give the same, so no threshold is better than another, however much the answer is wanted.
  for (const char* revive : {"none", "leaky"}) {
    Revival alone(R"("revive": ")" + std::string(revive) + "\"");
    alone.set("other.weight", alone.get("noise.weight"));
    alone.descend(3000, {false, true, false}, false);
    if (std::string(revive) == "none") {
      EXPECT_EQ(alone.answer(), 0);
      EXPECT_NEAR(alone.get("add1.competition.alpha")[1], -3, 1e-9) << "rounding of three thousand gradients of zero";
    } else {
      EXPECT_GT(alone.answer(), 0) << "the same with revival";
    }
  }

  // By beta: the noise is right, and a lower threshold gives it more beside the null component.
  Revival by_beta(R"("null_component": true)");
  by_beta.set("noise.weight", {1, 0, 0, 0, 1, 0, 0, 0, 1});
  by_beta.set("other.weight", {1, 0, 0, 0, 1, 0, 0, 0, 1});
  by_beta.descend(4000, {false, false, false}, true);
  EXPECT_GT(by_beta.answer(), 0);
  EXPECT_EQ(by_beta.get("add1.competition.alpha"), (Numbers{0.5, -3, 0}));

  // By the gammas of the others: both are wrong, and falling they take the threshold with them.
  Revival by_others(R"("null_component": true)");
  by_others.set("noise.weight", {-1, 0, 0, 0, -1, 0, 0, 0, -1});
  by_others.set("other.weight", {-1, 0, 0, 0, -1, 0, 0, 0, -1});
  by_others.descend(4000, {true, false, true}, false);
  EXPECT_GT(by_others.answer(), 0);
  EXPECT_EQ(by_others.get("add1.competition.alpha")[1], -3);
}

TEST(SparsifyTraining, SampledCoefficientsStayBetweenZeroAndOne) {
  Training t(sum_of_terms(), R"("groups": "sums", "on": ["add1"], "coefficients": "sampled", "keep": [2])",
             R"("lr": 0.05)", R"("lr": 50)", "0");
  EXPECT_EQ(t.run.graph().node("add1.competition").op->options().at("keep").as_int(), 2);
  bool low = false, high = false;
  for (int step = 0; step < 6; ++step) {
    t.step();
    for (const double a : t.get("add1.competition.alpha")) {
      EXPECT_GE(a, 0);
      EXPECT_LE(a, 1);
      low = low || a == 0;
      high = high || a == 1;
    }
  }
  EXPECT_TRUE(low && high) << "the rate is one that would lead out";
  // Nothing leaves before the end, even at zero, and then the largest two stay.
  EXPECT_EQ(t.run.graph().node("add1").inputs.size(), 4U);
  t.set("add1.competition.alpha", {0.4, 0.2, 0.9, 0.3});
  const at::Tensor x = testkit::input_of(t.run.graph(), 4, 1);
  const at::Tensor before = logits_of(t.run.graph(), t.run.weights(), x);
  t.controller->stage_end(t.run);
  EXPECT_LE(difference(logits_of(t.run.graph(), t.run.weights(), x), before), 1e-12) << "evaluation kept them before";
  EXPECT_EQ(to_json(t.run.published.at("components")), R"({"add1":["one","three"]})");
  EXPECT_EQ(nodes_of_type(t.run.graph(), "gate") + nodes_of_type(t.run.graph(), "competition"), 0);
}

TEST(SparsifyTraining, SoftmaxKeepsTheLargestWithTheirSharesOfTheRest) {
  Training t(small_resnet(), R"("coefficients": "softmax", "keep": [2, 1, 1])");
  t.set("layer1.competition.alpha", {0.2, 0.9, -0.5});
  t.set("layer2.competition.alpha", {0.2, 0.9, 1.5});
  const Graph before = small_resnet();
  Weights old(before, at::kDouble, at::kCPU);
  {
    const c10::NoGradGuard no_grad;
    for (const Parameter& p : before.parameters())
      at::Tensor(old[before.parameter(p.name)]).copy_(t.run.weights()[t.run.graph().parameter(p.name)]);
  }
  t.controller->stage_end(t.run);
  EXPECT_EQ(to_json(t.run.published.at("left")), "[2,1,1]");
  EXPECT_EQ(to_json(t.run.published.at("components").at("layer1")), R"(["layer1.0","layer1.1"])");
  EXPECT_EQ(to_json(t.run.published.at("components").at("layer2")), R"(["layer2.2"])");
  const double sum = std::exp(0.2) + std::exp(0.9);
  const std::map<std::string, Numbers> factors{{"layer1.0.bn2", Numbers(3, std::exp(0.2) / sum)},
                                               {"layer1.1.bn2", Numbers(3, std::exp(0.9) / sum)},
                                               {"layer1.2.bn2", Numbers(3, 0)},
                                               {"layer2.0.bn2", Numbers(4, 0)},
                                               {"layer2.1.bn2", Numbers(4, 0)}};
  const at::Tensor x = testkit::input_of(before, 4, 1);
  EXPECT_LE(difference(logits_of(t.run.graph(), t.run.weights(), x), multiplied_logits(before, old, x, factors)),
            1e-12);
}

TEST(SparsifyTraining, ComponentsWithoutCoefficientsAreKeptByTheirWeights) {
  const auto fill = [](Training& t, const std::string& block, double value) {
    const c10::NoGradGuard no_grad;
    for (const Parameter& p : t.run.graph().parameters()) {
      if (p.name.starts_with(block + ".") && p.role == Role::weight)
        at::Tensor(t.run.weights()[t.run.graph().parameter(p.name)]).fill_(value);
    }
  };
  Training t(small_resnet(), R"("coefficients": "none", "keep": [1, 2, 1])");
  EXPECT_EQ(nodes_of_type(t.run.graph(), "gate"), 0);
  const Numbers of_blocks{0.1, 0.3, -0.2};
  for (size_t b = 0; b < 3; ++b) {
    fill(t, "layer1." + std::to_string(b), of_blocks[b]);
    fill(t, "layer2." + std::to_string(b), -of_blocks[b]);
  }
  t.controller->stage_end(t.run);
  EXPECT_EQ(to_json(t.run.published.at("components")),
            R"({"layer1":["layer1.1"],"layer2":["layer2.1","layer2.2"],"layer3":["layer3.0"]})");
  // The mean square decides, not the sum: the first input of a dense layer has the most channels.
  Training d(densenet40(1), R"("groups": "connections", "on": ["dense1.2"], "coefficients": "none", "keep": [1])");
  d.set("dense1.2.conv1.weight", Numbers(162, 0.1));
  d.set("dense1.2.norm1.weight", Numbers(18, 0.1));
  Numbers bias(18, 0.1);
  bias[17] = 0.2;
  d.set("dense1.2.norm1.bias", bias);
  d.controller->stage_end(d.run);
  EXPECT_EQ(to_json(d.run.published.at("components")), R"({"dense1.2":["dense1.1.conv1"]})");
  // At random: other than by magnitude, the same again, and another with another position of the run.
  std::map<std::string, int> seen;
  for (int64_t step = 0; step < 12; ++step) {
    std::string kept;
    for (int again = 0; again < 2; ++again) {
      Training r(sum_of_terms(),
                 R"("groups": "sums", "on": ["add1"], "coefficients": "none", "rank": "random", "keep": [1])");
      r.run.at_step = step;
      r.controller->stage_end(r.run);
      const std::string now = to_json(r.run.published.at("left"));
      const std::string nodes = to_json(r.run.graph().to_value());
      if (again == 0) kept = nodes;
      EXPECT_EQ(kept, nodes);
      EXPECT_FALSE(now.empty());
    }
    ++seen[kept];
  }
  EXPECT_GE(seen.size(), 2U) << "twelve times the same of four has a chance of 2e-7";
}

}  // namespace
}  // namespace espalier
