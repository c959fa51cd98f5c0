// What `espalier show` says of a run.
#include <filesystem>
#include <string>

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

TEST(Show, NamesStagesEditsStatesAndCheckpoints) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: shown
threads: 1
data: {use: synthetic, size: 8, classes: 3, count: 60, batch: 20}
network: {use: mlp, hidden: [4]}
stages:
  - {name: train, epochs: 1, optimizer: {use: sgd, lr: 0.01, momentum: 0.9}}
  - {name: prune, epochs: 1, optimizer: {use: adam}, controller: {use: l1_prune, ratio: 0.5, on: fc1, when: end}}
)");
  const std::string run = (folder / "run").string();
  ASSERT_EQ(espalier_command("run -q " + recipe.string() + " --out " + run).status, 0);
  const Output text = espalier_command("show " + run);
  ASSERT_EQ(text.status, 0) << text.text;
  EXPECT_THAT(text.text, AllOf(HasSubstr("shown, seed 0: finished"), HasSubstr("shrink fc1 to 2"),
                               HasSubstr("after stage 2"), HasSubstr("adam")));

  // An MLP 64-4-3 that became one of 64-2-3: 64 x 4 + 4 + 4 x 3 + 3 parameters, then 64 x 2 + 2 + 2 x 3 + 3.
  const Output json = espalier_command("show --json " + run);
  ASSERT_EQ(json.status, 0);
  const Value v = from_json(json.text);
  EXPECT_EQ(v.at("stages").size(), 2U);
  ASSERT_EQ(v.at("edits").size(), 1U);
  EXPECT_EQ(v.at("edits").as_list()[0].at("before").at("params").as_int(), 275);
  ASSERT_EQ(v.at("checkpoints").size(), 3U);
  for (const Value& c : v.at("checkpoints").as_list()) {
    const bool before = c.at("name").as_string() == "previous";  // the stage's end
    const int64_t units = before ? 4 : 2;
    EXPECT_EQ(c.at("params").as_int(), 64 * units + units + 3 * units + 3);
    const Value& weights = c.at("weights").as_list()[0];
    const Value& fc1 = weights.at("tensors").as_list()[0];
    EXPECT_EQ(fc1.at("name").as_string(), "fc1.weight");
    const Value shape(std::vector<int64_t>{units, 64});
    EXPECT_TRUE(fc1.at("shape") == shape);
    EXPECT_GE(fc1.at("states").size(), 2U) << "Adam's two moments";
    for (const Value::Entry& state : fc1.at("states").as_map()) EXPECT_TRUE(state.value == shape) << state.key;
  }
}

TEST(Show, SaysWhatIsDamagedAndWhatIsNoRun) {
  const TempFolder folder;
  folder.write("run/recipe.yaml", "");
  folder.write("run/checkpoints/last.safetensors", "nothing");
  const Output damaged = espalier_command("show " + (folder / "run").string());
  EXPECT_EQ(damaged.status, 0) << damaged.text;
  EXPECT_THAT(damaged.text, AllOf(HasSubstr("not finished"), HasSubstr("damaged: "), HasSubstr("no edits")));
  EXPECT_EQ(espalier_command("show " + folder.path().string()).status, 1);
}

}  // namespace
}  // namespace espalier
