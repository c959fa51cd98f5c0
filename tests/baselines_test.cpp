// Methods that others are compared with, on images made on the spot: what is left of the network, and what was written
// down.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/registry.h"
#include "espalier/testkit.h"
#include "espalier/value.h"
#include "replayed.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

Graph resnet(const std::string& options) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet_cifar.so");
  return testkit::build(R"({"use": "resnet20", "widths": [4, 8, 16])" + options + "}",
                        {.channels = 1, .height = 16, .width = 16}, {.outputs = 4});
}

Output run_stages(const TempFolder& folder, const std::string& validation, const std::string& blocks,
                  const std::string& stages) {
  const auto recipe = folder.write("recipe.yaml", R"(
espalier: 1
name: baseline
threads: 1
data: {use: synthetic, count: 200, batch: 20)" + validation +
                                                      R"(}
network: {use: resnet20, widths: [4, 8, 16], blocks: )" +
                                                      blocks + "}\nstages:\n" + stages);
  return espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
}

// Its numbers are those of a backbone made so.
void expect_became(const TempFolder& folder, const Graph& first, const Graph& last) {
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  EXPECT_EQ(summary.at("base").at("params").as_int(), first.parameter_count());
  EXPECT_EQ(summary.at("final").at("params").as_int(), last.parameter_count());
  EXPECT_EQ(summary.at("final").at("macs").as_int(), last.macs());
  expect_replays(folder / "run", first);
}

TEST(Baselines, L1PruneHalvesATrainedResnetAtOnce) {
  const TempFolder folder;
  const Output o = run_stages(folder, "", "[1, 2, 2]", R"(
  - {name: train, epochs: 2, optimizer: {use: sgd, lr: 0.05, momentum: 0.9}}
  - {name: finetune, epochs: 1, optimizer: {use: sgd, lr: 0.01}, controller: {use: l1_prune, ratio: 0.5}}
expect: {accuracy_best: {value: 200, within: 99.9}, top5: {value: 1, within: 1}, params: {value: 1e4, within: 9.5e3}}
)");
  ASSERT_EQ(o.status, 0) << o.text;
  expect_became(folder, resnet(R"(, "blocks": [1, 2, 2])"), resnet(R"(, "blocks": [1, 2, 2], "inner": [2, 4, 8])"));
  const std::vector<Value> history = lines_of(folder / "run" / "history.jsonl");
  ASSERT_EQ(history.size(), 1U) << "all widths in one pass";
  EXPECT_EQ(history[0].at("stage").as_string(), "finetune");
  EXPECT_EQ(history[0].at("epoch").as_int(), 0);
  EXPECT_EQ(history[0].at("axes").size(), 5U);
  EXPECT_GT(history[0].at("zeroing_difference").as_double(), 1e-3) << "trained filters counted";
  EXPECT_LE(history[0].at("removal_difference").as_double(), history[0].at("tolerance").as_double());

  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  const std::vector<Value> epochs = lines_of(folder / "run" / "metrics.jsonl");
  EXPECT_EQ(summary.at("metric").at("best"), epochs.at(2).at("test_accuracy"))
      << "the only epoch of the pruned network";
  const Value& expected = summary.at("expect");
  EXPECT_EQ(expected.at("accuracy_best").at("found"), summary.at("metric").at("best"));
  EXPECT_FALSE(expected.at("accuracy_best").at("met").as_bool());
  EXPECT_TRUE(expected.at("top5").at("found").is_null()) << "of four classes";
  EXPECT_FALSE(expected.at("top5").at("met").as_bool());
  EXPECT_EQ(expected.at("params").at("found"), summary.at("final").at("params"));
  EXPECT_TRUE(expected.at("params").at("met").as_bool());
  EXPECT_THAT(o.text, ::testing::ContainsRegex("accuracy_best +200.000 ± 99.900 +[0-9.]+ +missed"));
  EXPECT_THAT(o.text, ::testing::ContainsRegex("params +10,000 ± 9,500 +[0-9,]+ +met"));
}

TEST(Baselines, SoftFilterPruneTrainsTheWholeAndRemovesInTheEnd) {
  const TempFolder folder;
  const Output o = run_stages(folder, "", "[1, 2, 2]", R"(
  - name: prune
    epochs: 3
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    controller: {use: soft_filter_prune, ratio: 0.5}
)");
  ASSERT_EQ(o.status, 0) << o.text;
  const Graph first = resnet(R"(, "blocks": [1, 2, 2])");
  expect_became(folder, first, resnet(R"(, "blocks": [1, 2, 2], "inner": [2, 4, 8])"));
  const std::vector<Value> history = lines_of(folder / "run" / "history.jsonl");
  ASSERT_EQ(history.size(), 1U);
  EXPECT_LE(history[0].at("removal_difference").as_double(), history[0].at("tolerance").as_double());
  for (const Value& m : lines_of(folder / "run" / "metrics.jsonl")) {
    EXPECT_EQ(m.at("params").as_int(), first.parameter_count()) << "until then nothing goes";
    EXPECT_LT(m.at("loss").as_double(), 3);
  }
}

TEST(Baselines, AutoGrowAddsBlocksInTurn) {
  const TempFolder folder;
  const Output o = run_stages(folder, ", validation: 0.2", "[1, 2, 2]", R"(
  - name: grow
    epochs: 5
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    controller: {use: autogrow, every: 1, patience: 100}
)");
  ASSERT_EQ(o.status, 0) << o.text;
  expect_became(folder, resnet(R"(, "blocks": [1, 2, 2])"), resnet(R"(, "blocks": [3, 3, 3])"));
  EXPECT_THAT(o.text, ::testing::ContainsRegex("layer1.1.conv1 +new +0 → 144 +0 → 36,864")) << "4 x 4 x 9, at 16 x 16";
  std::vector<double> first;
  for (const Value& m : lines_of(folder / "run" / "metrics.jsonl")) {
    first.push_back(m.at("blocks.layer1").as_double());
    EXPECT_LT(m.at("loss").as_double(), 10);
  }
  EXPECT_EQ(first, (std::vector<double>{1, 2, 2, 2, 3}));
}

TEST(Baselines, AutoGrowEndsItsStageWhereNothingHelps) {
  const TempFolder folder;
  const Output o = run_stages(folder, "", "[1, 2, 2]", R"(
  - name: grow
    data: {validation: 0.2}
    epochs: 50
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    controller: {use: autogrow, every: 1, min_delta: 100, init: preserving}
  - {name: tail, epochs: 1, optimizer: {use: sgd, lr: 0.01}}
)");
  ASSERT_EQ(o.status, 0) << o.text;
  expect_became(folder, resnet(R"(, "blocks": [1, 2, 2])"), resnet(R"(, "blocks": [2, 3, 3])"));
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  EXPECT_EQ(summary.at("stages").as_list().front().at("epochs").as_int(), 4);
  for (const Value& line : lines_of(folder / "run" / "history.jsonl"))
    EXPECT_LE(line.at("difference").as_double(), line.at("tolerance").as_double());
}

TEST(Baselines, AutoGrowSaysWhatItLacksBeforeAnythingIsTrained) {
  const std::string stage = R"(
  - {name: grow, epochs: 5, optimizer: {use: sgd, lr: 0.1}, controller: autogrow}
)";
  const TempFolder folder;
  Output o = run_stages(folder, "", "[1, 2, 2]", stage);
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("needs 'data:validation'"));
  EXPECT_THAT(o.text, HasSubstr("recipe.yaml:9:"));
  o = run_stages(folder, ", validation: 0.2", "[1, 1, 1]", stage);
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("the sub-network 'layer2' cannot grow"));
  EXPECT_THAT(o.text, HasSubstr("recipe.yaml:9:"));
}

}  // namespace
}  // namespace espalier
