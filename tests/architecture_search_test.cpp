// Searches of architectures by the program: the solvable model, what `plan` says of their steps, optimizers of their
// own for architecture parameters.
#include <cmath>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/value.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// One step of an epoch; the losses of the network do not read the data.
std::string solvable(const std::string& stage) {
  return R"(
espalier: 1
name: solvable
precision: float64
threads: 1
data: {use: synthetic, count: 20, size: 8, batch: 10, validation: 0.5}
network: {use: solvable, w: -2, alpha: 2}
stages:
  - name: search
)" + stage;
}

std::string search_network(const std::string& stage, const std::string& data = "validation: 0.5") {
  return R"(
espalier: 1
name: search
threads: 1
data: {use: synthetic, count: 32, size: 8, channels: 3, batch: 8, )" +
         data + R"(}
network: {use: nasbench201_search, channels: 2, cells: 1}
stages:
  - name: search
    epochs: 1
)" + stage;
}

constexpr const char* two_optimizers = R"(
    optimizers: [{use: sgd, lr: 0.02, on: [all, "!architecture"]}, {use: sgd, lr: 0.02, on: architecture}]
)";

std::string searched_by(const std::string& controller, const std::string& data = "validation: 0.5") {
  std::string stage = two_optimizers;
  stage.append("    controller: ").append(controller).append("\n");
  return search_network(stage, data);
}

// The metrics of the last epoch.
Value metrics_of(const TempFolder& folder, const std::string& text) {
  const auto recipe = folder.write("recipe.yaml", text);
  std::filesystem::remove_all(folder / "run");
  const Output o = espalier_command("run -q " + recipe.string() + " --out " + (folder / "run").string());
  EXPECT_EQ(o.status, 0) << o.text;
  return lines_of(folder / "run" / "metrics.jsonl").back();
}

// Paper 003, example 2.4, to the three decimals that the thesis prints.
TEST(ArchitectureSearch, TheToyRecipeReachesTheEquilibrium) {
  const TempFolder folder;
  const Output o =
      espalier_command("run -q " ESPALIER_SOURCE_DIR "/recipes/rarts-toy.yaml --out " + (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const Value last = lines_of(folder / "run" / "metrics.jsonl").back();
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  for (const Value& found : {last, summary.at("stages").as_list()[0].at("measured")}) {
    EXPECT_NEAR(found.at("w").as_double(), 1.027, 5e-4);
    EXPECT_NEAR(found.at("u").as_double(), 0.919, 5e-4);
    EXPECT_NEAR(found.at("alpha").as_double(), 1.081, 5e-4);
  }
}

TEST(ArchitectureSearch, PlanSaysWhatAStepTakes) {
  const TempFolder folder;
  struct Case {
    const char* controller;
    int64_t passes, copies;
    const char* text;
  };
  int64_t weights = 0, gradients = 0, states = 0, macs = 0;
  for (const Case& c : {Case{"joint", 1, 1, ""}, Case{"rarts", 4, 2, "4 passes forward and backward"},
                        Case{"darts", 2, 1, "2 passes forward and backward"},
                        Case{"{use: darts, order: second}", 5, 2, "5 passes forward and backward"},
                        Case{"milenas", 3, 1, "3 passes forward and backward"}}) {
    const auto recipe = folder.write("r.yaml", searched_by(c.controller));
    const Value plan = from_json(espalier_command("plan --json " + recipe.string()).text);
    const Value& step = plan.at("stages").as_list()[0].at("step");
    EXPECT_EQ(step.at("passes").as_int(), c.passes) << c.controller;
    EXPECT_EQ(step.at("copies").as_int(), c.copies) << c.controller;
    EXPECT_EQ(step.at("data").size(), c.passes == 1 ? 1U : 2U) << c.controller;
    const Value& memory = plan.at("memory");
    if (c.passes == 1) {
      weights = memory.at("weights").as_int(), gradients = memory.at("gradients").as_int();
      states = memory.at("states").as_int(), macs = step.at("macs").as_int();
      EXPECT_EQ(macs, 3 * 8 * plan.at("network").at("macs").as_int()) << "a batch of 8, forward and backward";
    }
    EXPECT_EQ(memory.at("weights").as_int(), c.copies * weights) << c.controller;
    EXPECT_EQ(memory.at("gradients").as_int(), c.copies * gradients) << c.controller;
    EXPECT_EQ(memory.at("states").as_int(), c.copies * states) << c.controller;
    EXPECT_EQ(step.at("macs").as_int(), c.passes * macs) << c.controller;
    const std::string text = espalier_command("plan " + recipe.string()).text;
    if (c.passes == 1) {
      EXPECT_THAT(text, Not(HasSubstr("a step:"))) << "of an ordinary step nothing is said";
    } else {
      EXPECT_THAT(text, AllOf(HasSubstr(c.text), HasSubstr(c.copies == 2 ? "2 copies of" : "1 copy of"),
                              HasSubstr("batches of train and validation")));
    }
  }
}

// What a run costs counts all passes: relative to as many epochs of ordinary training.
TEST(ArchitectureSearch, TheTrainCostCountsEveryPass) {
  const TempFolder folder;
  for (const auto& [controller, passes] :
       {std::pair{"joint", 1}, std::pair{"rarts", 4}, std::pair{"{use: darts, order: second}", 5}}) {
    metrics_of(folder, searched_by(controller));
    EXPECT_NEAR(from_json(read_file(folder / "run" / "summary.json")).at("train_cost").as_double(), passes, 1e-9)
        << controller;
  }
}

TEST(ArchitectureSearch, WhatASearchNeedsIsSaidBeforeItBegins) {
  const TempFolder folder;
  const auto refused = [&](const std::string& text) {
    const auto recipe = folder.write("r.yaml", text);
    const Output o = espalier_command("plan " + recipe.string());
    EXPECT_EQ(o.status, 1) << o.text;
    EXPECT_THAT(o.text, HasSubstr("r.yaml:"));
    return o.text;
  };
  EXPECT_THAT(refused(search_network("    optimizer: {use: sgd, lr: 0.1}\n    controller: rarts\n")),
              HasSubstr("give each an optimizer of its own"));
  EXPECT_THAT(refused(searched_by("darts", "validation: 0")), HasSubstr("needs 'data:validation'"));
  EXPECT_THAT(refused(R"(
espalier: 1
name: plain
data: {use: synthetic, validation: 0.5}
network: {use: lenet5}
stages: [{name: search, epochs: 1, optimizer: {use: sgd, lr: 0.1}, controller: milenas}]
)"),
              HasSubstr("no architecture parameters"));
}

TEST(ArchitectureSearch, KeysWithoutEffectAreNoted) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", search_network(R"(
    optimizers:
      - {use: sgd, lr: 0.02, on: [all, "!architecture"]}
      - {use: sgd, lr: 0.02, on: architecture, scheduled: false, clipped: false}
    controller: {use: darts, epsilon: 0.1}
)"));
  const auto notes = [&](const std::string& set) {
    return espalier_command("plan " + recipe.string() + " --set stages.0." + set).text;
  };
  EXPECT_THAT(notes("evaluate_every=1"),
              AllOf(HasSubstr("'scheduled' is without effect where the schedule is constant"),
                    HasSubstr("'clipped' is without effect"), HasSubstr("'epsilon' is without effect")));
  EXPECT_THAT(notes("schedule=cosine"), Not(HasSubstr("'scheduled' is")));
  EXPECT_THAT(notes("clip_norm=5"), Not(HasSubstr("'clipped' is")));
  EXPECT_THAT(notes("controller.order=second"), Not(HasSubstr("'epsilon' is")));
}

// L_a + L_p = w^2 - alpha w + alpha^2 - 2 alpha + 1 from (w, alpha) = (-2, 2), by hand: the gradients are 2 w - alpha
// and 2 alpha - w - 2.
struct ByHand {
  double w = -2, alpha = 2;
  double of_w() const { return 2 * w - alpha; }
  double of_alpha() const { return 2 * alpha - w - 2; }
  void step(double rate_w, double rate_alpha) {
    const double dw = of_w(), dalpha = of_alpha();
    w -= rate_w * dw;
    alpha -= rate_alpha * dalpha;
  }
};

constexpr const char* joint = R"(
    controller: {use: joint, losses: [auxiliary, primary], watch: [w, alpha]}
    schedule: {use: step, milestones: [1], factor: 0.1}
    epochs: 2
)";

TEST(ArchitectureSearch, AnOptimizerMayKeepItsLearningRate) {
  const TempFolder folder;
  for (const bool scheduled : {true, false}) {
    const Value last = metrics_of(folder, solvable(std::string(joint) + R"(    optimizers:
      - {use: sgd, lr: 0.1, on: [all, "!architecture"]}
      - {use: sgd, lr: 0.2, on: architecture)" + (scheduled ? "}\n" : ", scheduled: false}\n")));
    ByHand x;
    x.step(0.1, 0.2);
    x.step(0.01, scheduled ? 0.02 : 0.2);
    EXPECT_NEAR(last.at("w").as_double(), x.w, 1e-12);
    EXPECT_NEAR(last.at("alpha").as_double(), x.alpha, 1e-12);
    EXPECT_NEAR(last.at("lr").as_double(), 0.01, 1e-15) << "that of the first optimizer";
  }
}

TEST(ArchitectureSearch, GradientsOfAnOptimizerMayBeLeftUnclipped) {
  const TempFolder folder;
  for (const bool clipped : {true, false}) {
    const Value last = metrics_of(folder, solvable(R"(
    controller: {use: joint, losses: [auxiliary, primary], watch: [w, alpha]}
    epochs: 1
    clip_norm: 0.5
    gradient_norm: true
    optimizers:
      - {use: sgd, lr: 0.1, on: [all, "!architecture"]}
      - {use: sgd, lr: 0.1, on: architecture)" + std::string(clipped ? "}\n" : ", clipped: false}\n")));
    const ByHand begin;
    const double both = std::hypot(begin.of_w(), begin.of_alpha());
    const double norm = clipped ? both : std::abs(begin.of_w());
    ByHand x;
    x.step(0.1 * 0.5 / (norm + 1e-6), clipped ? 0.1 * 0.5 / (norm + 1e-6) : 0.1);
    EXPECT_NEAR(last.at("w").as_double(), x.w, 1e-12);
    EXPECT_NEAR(last.at("alpha").as_double(), x.alpha, 1e-12);
    EXPECT_NEAR(last.at("gradient_norm").as_double(), both, 1e-12) << "the metric is of all gradients";
  }
}

// A step of several updates evaluates the penalties several times; the metric is their mean. alpha hardly moves.
TEST(ArchitectureSearch, ThePenaltyIsThatOfAnEvaluation) {
  const TempFolder folder;
  const Value last = metrics_of(folder, solvable(R"(
    controller: {use: rarts, train_loss: auxiliary, validation_loss: primary}
    epochs: 1
    regularizers: [{use: l1, on: architecture, weight: 0.25}]
    optimizers: [{use: sgd, lr: 1e-12, on: [all, "!architecture"]}, {use: sgd, lr: 1e-12, on: architecture}]
)"));
  EXPECT_NEAR(last.at("penalty").as_double(), 0.25 * 2, 1e-9);
}

// ---- what a search found, handed on ----

// A search of NAS-Bench-201, its cell, and a network of this cell.
std::string derived(const std::string& more) {
  return searched_by("{use: darts, hessian_every: 1}") + R"(
  - name: derive
    epochs: 0
    controller: derive
)" + more;
}

constexpr const char* retrain = R"(
  - name: retrain
    network: {use: nasbench201, cell: {from: derive.genotype.cell}, channels: 3, cells: 1}
    epochs: 1
    optimizer: {use: sgd, lr: 0.02}
)";

TEST(Genotype, GoesFromTheSearchToALaterStageAndToAnotherRecipe) {
  const TempFolder folder;
  const auto recipe = folder.write("search.yaml", derived(retrain) + R"(
expect: {derive.skip_ratio: {value: 0.5, within: 1}, search.skip_ratio: {value: 3, within: 1}}
)");
  const std::string run = (folder / "search-seed0").string();
  Output o = espalier_command("plan " + recipe.string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("its network is not known yet"));

  // Another recipe is fine before the run is there, and says which command makes it.
  const auto other = folder.write("other.yaml", R"(
espalier: 1
name: other
threads: 1
data: {use: synthetic, count: 32, size: 8, channels: 3, batch: 8}
needs: [search.yaml]
network: {use: nasbench201, cell: {from: derive.genotype.cell, run: search-seed0}, channels: 2, cells: 1}
stages: [{name: retrain, epochs: 1, optimizer: {use: sgd, lr: 0.02}}]
)");
  o = espalier_command("validate " + other.string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("does not exist yet"));

  o = espalier_command("run -q " + recipe.string() + " --out " + run);
  ASSERT_EQ(o.status, 0) << o.text;
  const Value genotype = from_json(read_file(folder / "search-seed0/artefacts/derive.genotype.json"));
  EXPECT_EQ(read_file(folder / "search-seed0/artefacts/search.genotype.json"), to_json(genotype, 1) + "\n");
  const Value summary = from_json(read_file(folder / "search-seed0/summary.json"));
  const Value& stages = summary.at("stages");
  const double skips = stages.as_list()[1].at("measured").at("skip_ratio").as_double();
  EXPECT_EQ(stages.as_list()[0].at("measured").at("skip_ratio").as_double(), skips);
  EXPECT_TRUE(stages.as_list()[0].at("measured").find("hessian_eigenvalue"));
  EXPECT_TRUE(lines_of(folder / "search-seed0/metrics.jsonl").front().find("hessian_eigenvalue"));
  EXPECT_EQ(summary.at("expect").at("derive.skip_ratio").at("found").as_double(), skips);
  EXPECT_TRUE(summary.at("expect").at("derive.skip_ratio").at("met").as_bool());
  EXPECT_FALSE(summary.at("expect").at("search.skip_ratio").at("met").as_bool());

  // Both networks are those of the cell.
  const auto plain = folder.write("plain.yaml", R"(
espalier: 1
name: plain
data: {use: synthetic, count: 32, size: 8, channels: 3}
network: {use: nasbench201, cell: ')" + genotype.at("cell").as_string() +
                                                    R"(', channels: 2, cells: 1}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.02}}]
)");
  const auto parameters = [&](const std::filesystem::path& of, const std::string& set) {
    const Value plan = from_json(espalier_command("plan --json " + of.string() + set).text);
    return plan.at("network").at("params").as_int();
  };
  EXPECT_EQ(parameters(other, ""), parameters(plain, ""));
  EXPECT_EQ(stages.as_list()[2].at("after").at("params").as_int(), parameters(plain, " --set network.channels=3"));
}

TEST(Genotype, WrongReferencesAreSaidBeforeTheRun) {
  const TempFolder folder;
  const auto refused = [&](const std::string& text) {
    const Output o = espalier_command("validate " + folder.write("r.yaml", text).string());
    EXPECT_EQ(o.status, 1) << o.text;
    return o.text;
  };
  std::string wrong = retrain;
  wrong.replace(wrong.find("derive.genotype"), 15, "derive.genotypes");
  EXPECT_THAT(refused(derived(wrong)), HasSubstr("did you mean 'derive.genotype'?"));
  EXPECT_THAT(refused(derived("expect: {retrain.skip_ratio: {value: 0, within: 0}}\n")),
              HasSubstr("no metric is called 'retrain.skip_ratio'"));
  EXPECT_THAT(refused(searched_by("{use: darts, stop_at_skip_ratio: 1.5}")), HasSubstr("stop_at_skip_ratio"));
  EXPECT_THAT(refused(searched_by("{use: darts, hessian_every: -1}")), HasSubstr("hessian_every"));
}

// The table is in a folder of --data, which every run of a matrix searches.
TEST(Genotype, IsLookedUpInATableInAFolderOfData) {
  const TempFolder folder;
  std::string table = "Accuracy,ArchitectureString\n";
  const std::vector<std::string> operations{"none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"};
  for (size_t cell = 0; cell < 15625; ++cell) {
    std::vector<std::string> ops;
    for (size_t rest = cell, edge = 0; edge < 6; ++edge, rest /= 5) ops.push_back(operations[rest % 5]);
    table +=
        "77,"
        "|" +
        ops[0] + "~0|+|" + ops[1] + "~0|" + ops[2] + "~1|+|" + ops[3] + "~0|" + ops[4] + "~1|" + ops[5] + "~2|\n";
  }
  folder.write("data/cells/nats_bench.csv", table);
  const std::string recipe = folder
                                 .write("r.yaml", R"(
espalier: 1
name: r
threads: 1
data: {use: synthetic, count: 32, size: 8, channels: 3, batch: 8}
network: {use: nasbench201_search, channels: 2, cells: 1}
stages: [{name: derive, epochs: 0, controller: {use: derive, table: cells}}]
matrix: {seed: [0, 1]}
)")
                                 .string();
  EXPECT_THAT(espalier_command("validate " + recipe).text, HasSubstr("the 'table' is not there yet"));
  const std::string data = " --data " + (folder / "data").string();
  EXPECT_THAT(espalier_command("validate " + recipe + data).text, Not(HasSubstr("not there yet")));
  const Output o = espalier_command("run -q " + recipe + data + " --out " + (folder / "out").string());
  ASSERT_EQ(o.status, 0) << o.text;
  for (const std::string run : {"seed=0", "seed=1"}) {
    const Value summary = from_json(read_file(folder / "out" / run / "summary.json"));
    EXPECT_EQ(summary.at("stages").as_list()[0].at("measured").at("Accuracy").as_double(), 77);
  }
}

// A network of one weight and one architecture parameter is no cell; that is said before its stage is trained.
TEST(Genotype, OfANetworkThatDerivesNothingIsRefusedBeforeTheStage) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", solvable(R"(
    epochs: 1
    optimizer: {use: sgd, lr: 0.01}
    controller: derive
)"));
  const Output o = espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
  EXPECT_EQ(o.status, 1) << o.text;
  EXPECT_THAT(o.text, HasSubstr("derive"));
  const auto metrics = folder / "run" / "metrics.jsonl";
  EXPECT_TRUE(!std::filesystem::exists(metrics) || lines_of(metrics).empty()) << o.text;
}

TEST(Genotype, ASearchEndsWhereItHasCollapsed) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", searched_by("{use: joint, stop_at_skip_ratio: 1}"));
  const Output o = espalier_command("run " + recipe.string() +
                                    " --set stages.0.epochs=3 --set 'network.operations=[skip_connect, none]' "
                                    "--set network.derive_none=false --out " +
                                    (folder / "run").string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("the search has collapsed"));
  EXPECT_EQ(lines_of(folder / "run" / "metrics.jsonl").size(), 1U);
}

}  // namespace
}  // namespace espalier
