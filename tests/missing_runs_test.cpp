// Recipes whose needed recipes have not been run yet: what `validate` and `plan` note, what they check all the same,
// and how `run` refuses them.
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/value.h"
#include "subprocess.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// The recipe that the others need; of its search network a genotype is derived.
constexpr char base[] = R"(espalier: 1
name: base
threads: 1
data: {use: synthetic, count: 32, size: 8, channels: 3, batch: 8}
network: {use: nasbench201_search, channels: 2, cells: 1}
stages: [{name: derive, epochs: 0, controller: derive}]
scales: {smoke: {data.count: 16}}
)";
// What a recipe that needs it begins with.
constexpr char head[] = R"(espalier: 1
name: r
threads: 1
data: {use: synthetic, count: 32, size: 8, channels: 3, batch: 8}
)";

// A way to name a run: RUN stands for its folder.
struct Way {
  const char* name;
  const char* text;  // the network and the stages
  bool network_known;
};

void PrintTo(const Way& way, std::ostream* out) {
  *out << way.name;
}

class Ways : public ::testing::TestWithParam<Way> {
 protected:
  // The recipe with a run's folder, and with more of its keys. Returns its path.
  std::string recipe(const std::string& run, const std::string& more) {
    std::string text = std::string(head) + GetParam().text;
    for (size_t at = text.find("RUN"); at != std::string::npos; at = text.find("RUN")) text.replace(at, 3, run);
    return folder_.write("r.yaml", text + more).string();
  }
  std::string base_recipe() { return folder_.write("base.yaml", base).string(); }

  TempFolder folder_;
};

TEST_P(Ways, AreNotedWithTheCommandThatMakesTheRun) {
  const std::string makes = "does not exist yet: espalier run " + base_recipe();
  const std::string r = recipe("runs/base-seed0", "needs: [base.yaml]\n");
  for (const std::string command : {"validate ", "plan "}) {
    const Output o = espalier_command(command + r);
    EXPECT_EQ(o.status, 0) << o.text;
    EXPECT_THAT(o.text, AllOf(HasSubstr("r.yaml:"), HasSubstr((folder_ / "runs/base-seed0").string()),
                              HasSubstr(makes + " makes it"), Not(HasSubstr("error"))));
    const std::string first = o.text.substr(o.text.find("does not exist yet: ") + 1);
    EXPECT_THAT(first, Not(HasSubstr("does not exist yet: "))) << "one run is noted once";
  }
  const std::string smoke = recipe("runs/base-smoke-seed0", "needs: base.yaml\n");
  const Output o = espalier_command("validate " + smoke);
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr(makes + " --scale smoke makes it"));
}

TEST_P(Ways, LeaveWhatIsKnownInThePlan) {
  base_recipe();
  const Output o = espalier_command("plan --json " + recipe("runs/base-seed0", "needs: [base.yaml]\n"));
  ASSERT_EQ(o.status, 0) << o.text;
  const Value plan = from_json(o.text.substr(o.text.find("{\n")));
  EXPECT_EQ(plan.at("network").is_null(), !GetParam().network_known);
  EXPECT_EQ(plan.at("memory").is_null(), !GetParam().network_known);
  EXPECT_EQ(plan.at("stages").as_list().back().at("name").as_string(), "train");
}

TEST_P(Ways, AreRefusedByRun) {
  const std::string makes = "does not exist yet: espalier run " + base_recipe() + " makes it";
  const std::string out = (folder_ / "out").string();
  const Output o = espalier_command("run -q " + recipe("runs/base-seed0", "needs: [base.yaml]\n") + " --out " + out);
  EXPECT_EQ(o.status, 1) << o.text;
  EXPECT_THAT(o.text, HasSubstr(makes));
  EXPECT_FALSE(fs::exists(out));
}

TEST_P(Ways, AreErrorsWhereNoNeededRecipeMakesTheRun) {
  base_recipe();
  for (const auto& [run, more] : {std::pair("runs/base-seed0", ""), std::pair("runs/other-seed0", "needs: base.yaml\n"),
                                  std::pair("runs/based-seed0", "needs: base.yaml\n")}) {
    const Output o = espalier_command("validate " + recipe(run, more));
    EXPECT_EQ(o.status, 1) << o.text;
    EXPECT_THAT(o.text, AllOf(HasSubstr(run), Not(HasSubstr("does not exist yet"))));
  }
}

TEST_P(Ways, LeaveOtherFaultsErrors) {
  base_recipe();
  for (const auto& [change, said] : {std::pair("sed=3", "did you mean 'seed'?"), std::pair("seed=many", "'seed'"),
                                     std::pair("stages.train.optimizer={use: sgd, rate: 1}", "no parameter 'rate'"),
                                     std::pair("data.augment=[{crop: 9}]", "crop")}) {
    const Output o =
        espalier_command("validate " + recipe("runs/base-seed0", "needs: [base.yaml]\n") + " --set '" + change + "'");
    EXPECT_EQ(o.status, 1) << change << "\n" << o.text;
    EXPECT_THAT(o.text, HasSubstr(said)) << change;
  }
}

TEST_P(Ways, SayNothingOnceTheRunIsThere) {
  const Output made = espalier_command("run -q " + base_recipe() + " --out " + (folder_ / "runs/base-seed0").string());
  ASSERT_EQ(made.status, 0) << made.text;
  const std::string r = recipe("runs/base-seed0", "needs: [base.yaml]\n");
  for (const std::string command : {"validate ", "plan "}) {
    const Output o = espalier_command(command + r);
    EXPECT_EQ(o.status, 0) << o.text;
    EXPECT_THAT(o.text, Not(HasSubstr("does not exist yet")));
  }
}

#define TRAIN "name: train, epochs: 1, optimizer: {use: sgd, lr: 0.1}"
INSTANTIATE_TEST_SUITE_P(
    MissingRuns, Ways,
    ::testing::Values(
        Way{"WholeNetwork", "network: {from: RUN}\nstages: [{" TRAIN "}]\n", false},
        Way{"WholeNetworkOfItsBest", "network: {from: RUN, which: best}\nstages: [{" TRAIN "}]\n", false},
        Way{"Values", "network: {use: nasbench201_search, channels: 2, cells: 1, from: RUN}\nstages: [{" TRAIN "}]\n",
            true},
        Way{"Artefact",
            "network: {use: nasbench201, channels: 2, cells: 1, cell: {from: derive.genotype.cell, run: "
            "RUN}}\nstages: [{" TRAIN "}]\n",
            false},
        Way{"Teacher",
            "network: {use: nasbench201_search, channels: 2, cells: 1}\nstages: [{" TRAIN
            ", loss: {use: distillation, teacher: RUN}}]\n",
            true},
        Way{"OptionOfAController",
            "network: {use: nasbench201_search, channels: 2, cells: 1}\nstages: [{" TRAIN
            ", controller: {use: replay, run: RUN}}]\n",
            true},
        Way{"NetworkOfALaterStage",
            "network: {use: nasbench201_search, channels: 2, cells: 1}\nstages: [{name: before, epochs: 0}, "
            "{" TRAIN ", network: {from: RUN}}]\n",
            true},
        Way{"Base",
            "network: {use: nasbench201_search, channels: 2, cells: 1}\nbase: {use: recorded, graph: RUN}\n"
            "stages: [{" TRAIN "}]\n",
            true},
        Way{"TwoPlaces", "network: {from: RUN}\nstages: [{" TRAIN ", loss: {use: distillation, teacher: RUN}}]\n",
            false}),
    [](const auto& way) { return std::string(way.param.name); });

class MissingRuns : public ::testing::Test {
 protected:
  std::string write(const std::string& file, const std::string& text) { return folder_.write(file, text).string(); }
  TempFolder folder_;
};

TEST_F(MissingRuns, OfAMatrixAreNotedOnceEach) {
  const std::string needed = write("base.yaml", base);
  const std::string r = write("r.yaml", std::string(head) + R"(needs: [base.yaml]
network: {from: runs/base/seed=0}
stages: [{name: train, epochs: 1, optimizer: sgd}]
matrix:
  - {seed: 0}
  - {seed: 1, network.from: runs/base/seed=1}
  - {seed: 2, network.from: runs/base/seed=1, stages.train.loss: {use: distillation, teacher: runs/base/seed=0}}
)");
  for (const std::string command : {"validate ", "plan "}) {
    const Output o = espalier_command(command + r);
    EXPECT_EQ(o.status, 0) << o.text;
    size_t notes = 0;
    for (size_t at = o.text.find("does not exist yet: "); at != std::string::npos;
         at = o.text.find("does not exist yet: ", at + 1))
      ++notes;
    EXPECT_EQ(notes, 2U) << o.text;
    EXPECT_THAT(o.text, AllOf(HasSubstr("runs/base/seed=0"), HasSubstr("runs/base/seed=1"), HasSubstr(needed)));
  }
  EXPECT_THAT(espalier_command("validate " + r).text, HasSubstr("3 runs, without what depends on 2 runs"));
  EXPECT_THAT(espalier_command("plan " + r).text, HasSubstr("not known"));
  Output o = espalier_command("run -q " + r + " --out " + (folder_ / "out").string());
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("espalier run " + needed + " makes it"));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
  // A fault of one run of the matrix is found.
  o = espalier_command("validate " + r + " --set matrix.1.network.widht=2");
  EXPECT_EQ(o.status, 1) << o.text;
}

// Stages behind one whose network is not known: components are still made and the task of the loss is compared.
TEST_F(MissingRuns, LeaveTheStagesPartsChecked) {
  write("base.yaml", base);
  const auto validated = [&](const std::string& stage) {
    return espalier_command("validate " + write("r.yaml", std::string(head) + R"(needs: [base.yaml]
network: {from: runs/base-seed0}
stages: [{name: train, epochs: 1, optimizer: sgd, )" + stage + "}]\n"));
  };
  EXPECT_EQ(validated("loss: cross_entropy").status, 0);
  Output o = validated("loss: mse");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("mse"));
  o = validated("controller: {use: prune, target: {macs: 0.5, params: 0.5}}");
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("more than one thing"));
}

// A later stage may have a network that is known, and be taught by one that is not.
TEST_F(MissingRuns, AreNoMatterForLaterNetworks) {
  write("base.yaml", base);
  const auto recipe = [&](const std::string& last) {
    return write("r.yaml", std::string(head) + R"(needs: [base.yaml]
network: {from: runs/base-seed0}
stages:
  - {name: first, epochs: 1, optimizer: sgd}
  - {name: second, epochs: 1, optimizer: sgd, )" +
                               last + "}\n");
  };
  const std::string known = "network: {use: resnet20, width: 0.25}, loss: {use: distillation, teacher_stage: ";
  Output o = espalier_command("plan --json " + recipe(known + "first}"));
  ASSERT_EQ(o.status, 0) << o.text;
  const Value plan = from_json(o.text.substr(o.text.find("{\n")));
  EXPECT_TRUE(plan.at("network").is_null());
  EXPECT_GT(plan.at("memory").at("weights").as_int(), 0);
  o = espalier_command("validate " + recipe(known + "frist}"));
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("did you mean 'first'?"));
  o = espalier_command("validate " + recipe("network: {use: resnet20, width: 0.25}, freeze: conv9"));
  EXPECT_EQ(o.status, 1);
  EXPECT_THAT(o.text, HasSubstr("conv9"));
}

// `base-kd-smoke-seed0` begins with `base-`, too.
TEST_F(MissingRuns, AreOfTheRecipeWithTheLongestName) {
  write("base.yaml", base);
  const std::string other = write("kd.yaml", "extends: base.yaml\nname: base-kd\nscales: {smoke: {}, smoke-2: {}}\n");
  for (const std::string needs : {"[base.yaml, kd.yaml]", "[kd.yaml, base.yaml]"}) {
    for (const auto& [run, scale] : {std::pair("base-kd-seed0", ""), std::pair("base-kd-smoke-seed0", " --scale smoke"),
                                     std::pair("base-kd-smoke-2-seed0", " --scale smoke-2")}) {
      const std::string text = std::string(head) + "needs: " + needs + "\nnetwork: {from: runs/" + run +
                               "}\nstages: [{name: train, epochs: 1, optimizer: sgd}]\n";
      const Output o = espalier_command("validate " + write("r.yaml", text));
      EXPECT_EQ(o.status, 0) << o.text;
      EXPECT_THAT(o.text, HasSubstr("espalier run " + other + scale + " makes it"));
    }
  }
}

// The recipes of this tree that need others.
TEST(MissingRunsOfRecipes, AreNoted) {
  const TempFolder copy;  // beside it there are no runs
  fs::copy(ESPALIER_SOURCE_DIR "/recipes", copy / "recipes", fs::copy_options::recursive);
  const std::string folder = (copy / "recipes").string() + "/";
  for (const std::string scale : {"", " --scale smoke"}) {
    Output o = espalier_command("validate " + folder + "width-search-cifar10.yaml" + scale);
    EXPECT_EQ(o.status, 0) << o.text;
    for (const std::string needed : {"base", "slim", "rarts"})
      EXPECT_THAT(o.text,
                  HasSubstr("espalier run " + folder + "width-search-" + needed + ".yaml" + scale + " makes it"));
    o = espalier_command("plan " + folder + "paper/003/t4-c10-rarts-40-kd.yaml" + scale);
    EXPECT_EQ(o.status, 0) << o.text;
    EXPECT_THAT(o.text, AllOf(HasSubstr("t4-c10-base.yaml" + scale + " makes it"), HasSubstr("memory, about")));
  }
}

}  // namespace
}  // namespace espalier
