// What stages and plugins hand to each other: artefacts, ranks over all layers, steps after the update, augmentations
// and schedules of a plugin's own.
#include <cstdint>
#include <filesystem>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/ne.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/value.h"
#include "formats/safetensors.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char search[] = R"(espalier: 1
name: door
threads: 2
data: {use: synthetic, count: 256, batch: 32, augment: [crop, {negative: 0.5}]}
network: {use: lenet5, conv1: 8, conv2: 16, hidden: 32}
stages:
  - name: search
    epochs: 2
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    schedule: line
    regularizers: [{use: soft_threshold, weight: 0.05}]
    controller: {use: global_rank, share: 0.4}
)";
constexpr char retrain[] = R"(  - name: retrain
    epochs: 1
    network:
      use: lenet5
      conv1: {from: search.ranking.widths.conv1}
      conv2: {from: search.ranking.widths.conv2}
      hidden: {from: search.ranking.widths.fc1}
    optimizer: {use: sgd, lr: 0.05}
)";

Output run(const std::string& arguments) {
  return espalier_command(arguments + " --plugins '" ESPALIER_FIXTURE_DIR "'");
}

class Doors : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    folder_->write("door.yaml", std::string(search) + retrain);
    const Output o = run("run -q " + (*folder_ / "door.yaml").string() + " --save-every 0 --out " + out().string());
    ASSERT_EQ(o.status, 0) << o.text;
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static fs::path out() { return *folder_ / "door-seed0"; }
  static Value ranking() { return from_json(read_file(out() / "artefacts" / "search.ranking.json")); }
  static inline TempFolder* folder_ = nullptr;
};

TEST_F(Doors, ALaterStageIsBuiltFromWhatAnEarlierOnePublished) {
  const Value widths = ranking().at("widths");
  int64_t left = 0;
  for (const Value::Entry& e : widths.as_map()) left += e.value.as_int();
  EXPECT_EQ(left, 56 - 22) << "0.4 of 8 + 16 + 32 filters and units, rounded down, go";
  const Value graph = from_json(read_file(out() / "graph.json"));
  for (const Value& axis : graph.at("axes").as_list()) {
    const std::string& name = axis.at("name").as_string();
    if (const Value* w = widths.find(name)) {
      EXPECT_EQ(axis.at("size").as_int(), w->as_int()) << name;
    }
  }
  const auto norms = load_safetensors(out() / "artefacts" / "search.ranking.safetensors").tensors;
  ASSERT_EQ(norms.size(), 1U);
  EXPECT_EQ(norms[0].second.numel(), 56);
}

// 0.05 of the learning rate as threshold, at each of 16 steps: a subgradient would leave no weight at exactly zero.
TEST_F(Doors, AProximalStepMakesWeightsExactlyZero) {
  const auto tensors = load_safetensors(out() / "checkpoints" / "previous.safetensors").tensors;
  const TempFolder folder;
  const auto recipe = folder.write("one.yaml", search);
  const std::string whole = (folder / "run").string();
  const Output o = run("run -q " + recipe.string() + " --set stages.search.controller=none --out " + whole);
  ASSERT_EQ(o.status, 0) << o.text;
  int64_t zeros = 0, all = 0;
  for (const auto& [name, tensor] : load_safetensors(folder / "run" / "model.safetensors").tensors) {
    if (name.find("weight") == std::string::npos) continue;
    all += tensor.numel();
    zeros += tensor.numel() - tensor.ne(0).sum().item<int64_t>();
  }
  EXPECT_GT(zeros, all / 20);
  EXPECT_LT(zeros, all);
}

TEST_F(Doors, AResumedRunHasTheArtefactsAndTheSameBytes) {
  const TempFolder folder;
  const auto recipe = folder.write("door.yaml", std::string(search) + retrain);
  const fs::path there = folder / "resumed";
  // Stopped in the last stage: the artefact comes from the checkpoint alone.
  ASSERT_EQ(run("run -q " + recipe.string() + " --out " + there.string()).status, 0);
  fs::remove_all(there / "artefacts");
  fs::remove(there / "summary.json");
  fs::remove(there / "checkpoints" / "last.safetensors");
  const Output o = run("resume -q " + there.string() + " --from previous");
  ASSERT_EQ(o.status, 0) << o.text;
  for (const char* file :
       {"artefacts/search.ranking.json", "artefacts/search.ranking.safetensors", "model.safetensors"})
    EXPECT_EQ(read_file(there / file), read_file(out() / file)) << file;
}

TEST_F(Doors, AnotherRecipeTakesAnArtefactOfTheRun) {
  const auto recipe = folder_->write("other.yaml", std::string(R"(espalier: 1
name: other
data: {use: synthetic, count: 64}
network: {use: lenet5, conv1: {from: search.ranking.widths.conv1, run: door-seed0}}
stages:
  - {name: train, epochs: 0}
)"));
  const Output o = run("plan --json " + recipe.string());
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_EQ(from_json(o.text.substr(o.text.find("{\n"))).at("network").at("axes").as_list()[1].at("size").as_int(),
            ranking().at("widths").at("conv1").as_int());
}

TEST_F(Doors, PlanSaysWhatIsNotKnownYet) {
  const Output o = run("plan " + (*folder_ / "door.yaml").string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("stage 'retrain': its network is not known yet"));
  EXPECT_EQ(run("validate " + (*folder_ / "door.yaml").string()).status, 0);
}

TEST_F(Doors, ValidateNotesTheRunsOfANeededRecipeAndRunNamesTheCommand) {
  const TempFolder folder;
  folder.write("door.yaml", std::string(search) + retrain);
  const std::string text = R"(espalier: 1
name: other
data: {use: synthetic, count: 64}
network: {use: lenet5, conv1: {from: search.ranking.widths.conv1, run: runs/door-seed0}}
stages:
  - {name: train, epochs: 0}
)";
  const auto recipe = folder.write("other.yaml", text + "needs: [door.yaml]\n");
  Output o = run("validate " + recipe.string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, AllOf(HasSubstr("other.yaml:4:"), HasSubstr("runs/door-seed0"), HasSubstr("does not exist yet"),
                            HasSubstr("espalier run ")));
  o = run("run -q " + recipe.string() + " --out " + (folder / "out").string());
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("does not exist yet: espalier run " + (folder / "door.yaml").string()));
  EXPECT_FALSE(fs::exists(folder / "out"));
  // Without `needs` it is an error at once, and what else is wrong is found all the same.
  o = run("validate " + folder.write("plain.yaml", text).string());
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("does not exist"));
  o = run("validate " + folder.write("wrong.yaml", text + "needs: [door.yaml]\nsed: 3\n").string());
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("did you mean 'seed'?"));
}

// The paper's recipes that repeat the growth of another run say which one, at every scale.
TEST(PaperRecipes, NoteTheRunsThatTheyNeed) {
  const TempFolder copy;  // beside it there are no runs
  fs::copy(ESPALIER_SOURCE_DIR "/recipes", copy / "recipes", fs::copy_options::recursive);
  const std::string folder = (copy / "recipes/paper/000").string() + "/";
  for (const auto& [recipe, needed] :
       {std::pair("t4-resnet32-grow", "t3-width5-c10-ours"), std::pair("t4-vgg16-grow", "t1-vgg16-ours"),
        std::pair("f4-scratch-grow", "f4-lenet5")}) {
    for (const std::string scale : {"", " --scale smoke"}) {
      const Output o = espalier_command("validate " + folder + recipe + ".yaml" + scale);
      EXPECT_EQ(o.status, 0) << o.text;
      EXPECT_THAT(o.text, HasSubstr("espalier run " + folder + needed + ".yaml" + scale + " makes it"));
    }
  }
}

struct WrongReference {
  const char* name;
  const char* change;  // of the width of the first convolution
  std::vector<std::string> said;
};

void PrintTo(const WrongReference& w, std::ostream* out) {
  *out << w.name;
}

class WrongReferences : public Doors, public ::testing::WithParamInterface<WrongReference> {};

TEST_P(WrongReferences, IsRefusedBeforeTheRunWithItsPlace) {
  std::string text = std::string(search) + retrain;
  const std::string from = "conv1: {from: search.ranking.widths.conv1}";
  text.replace(text.find(from), from.size(), std::string("conv1: ") + GetParam().change);
  const TempFolder folder;
  const Output o = run("validate " + folder.write("wrong.yaml", text).string());
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("wrong.yaml:17:"));
  for (const std::string& words : GetParam().said) EXPECT_THAT(o.text, HasSubstr(words));
}

INSTANTIATE_TEST_SUITE_P(
    All, WrongReferences,
    ::testing::Values(WrongReference{"Name",
                                     "{from: search.rankin}",
                                     {"publishes 'search.rankin'", "did you mean 'search.ranking'?"}},
                      WrongReference{"Stage", "{from: serch.ranking}", {"publishes 'serch.ranking'"}},
                      WrongReference{"ItsOwnStage", "{from: retrain.ranking}", {"publishes 'retrain.ranking'"}},
                      WrongReference{"NoSuchRun", "{from: search.ranking, run: nowhere}", {"nowhere does not exist"}},
                      WrongReference{"OneKeyTooMany", "{from: search.ranking, rnu: x}", {"'conv1' must be"}},
                      WrongReference{"NoText", "{from: 3}", {"'conv1' must be"}}),
    [](const auto& test) { return test.param.name; });

// A key that the artefact does not have is known when the stage has run, and is said with its place.
TEST_F(Doors, AMissingPartOfAnArtefactIsSaidWithItsPlace) {
  std::string text = std::string(search) + retrain;
  text.replace(text.find("widths.conv1}"), 13, "widths.conv7}");
  const TempFolder folder;
  const Output o = run("run -q " + folder.write("late.yaml", text).string() + " --set stages.search.epochs=1 --out " +
                       (folder / "out").string());
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, AllOf(HasSubstr("late.yaml:17:"), HasSubstr("has no 'conv7'"), HasSubstr("did you mean 'conv1'?"),
                            Not(HasSubstr("Backtrace"))));
}

TEST(DoorsCheck, EveryComponentOfThePluginPassesItsChecks) {
  const Output o = espalier_command("check --jobs 2 '" ESPALIER_FIXTURE_DIR "/libdoors.so'");
  EXPECT_EQ(o.status, 0) << o.text;
  for (const char* passed : {"schedule/line +factors +passed", "augmentation/negative +batches +passed",
                             "regularizer/soft_threshold +proximal +passed", "controller/global_rank +resume +passed"})
    EXPECT_THAT(o.text, ::testing::ContainsRegex(passed));
  EXPECT_THAT(o.text, HasSubstr(" 0 failed"));
}

}  // namespace
}  // namespace espalier
