// Networks that grow while they are trained (paper 000), from recipes: budgets, costs, records, replays.
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "espalier/value.h"
#include "formats/safetensors.h"
#include "run_files.h"
#include "subprocess.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr int64_t macs = 60'000, params = 6'000;

const std::string growth = R"(
espalier: 1
name: growth
threads: 2
data: {use: synthetic, size: 16, classes: 4, count: 600, batch: 20}
network: {use: lenet5, conv1: 4, conv2: 4, hidden: 20}
stages:
  - name: grow
    epochs: 30
    optimizer: {use: lbi, lr: 0.05, nu: 5, lambda: 0.02}
    controller: {use: adenel, every: 2, tau: 0.25, add: 2, ratio: 1, macs: 60000, params: 6000, record: conv1.weight}
  - name: finetune
    epochs: 2
    optimizer: {use: lbi, lr: 0.01, nu: 5, lambda: 0.02}
base: {use: lenet5, epochs: 50}
)";

class Growth : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    folder_->write("growth.yaml", growth);
    const Output o = espalier_command("run -q " + path("growth.yaml") + " --out " + path("whole"));
    ASSERT_EQ(o.status, 0) << o.text;
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string path(const std::string& name) { return (*folder_ / name).string(); }
  static fs::path file(const char* name) { return *folder_ / "whole" / name; }
  static Value json(const fs::path& p) { return from_json(read_file(p)); }

  static TempFolder* folder_;
};
TempFolder* Growth::folder_ = nullptr;

TEST_F(Growth, UsesItsBudgetsWithoutExceedingThemAndEndsByItself) {
  const std::vector<Value> history = lines_of(file("history.jsonl"));
  ASSERT_GE(history.size(), 2U);
  for (const Value& line : history) {
    EXPECT_LE(line.at("after").at("macs").as_int(), macs);
    EXPECT_LE(line.at("after").at("params").as_int(), params);
    EXPECT_EQ(line.at("epoch").as_int() % 2, 1) << "at the end of rounds of two epochs";
  }
  const Value& last = history.back().at("after");
  EXPECT_TRUE(last.at("macs").as_int() > macs * 9 / 10 || last.at("params").as_int() > params * 9 / 10);
  const Value summary = json(file("summary.json"));
  const int64_t grown = summary.at("stages").as_list()[0].at("epochs").as_int();
  EXPECT_EQ(grown, history.back().at("epoch").as_int() + 3) << "a round after the last growth, nothing fits any more";
  EXPECT_LT(grown, 30);
}

TEST_F(Growth, CostsWhatItsHistorySays) {
  const std::vector<Value> history = lines_of(file("history.jsonl"));
  const Value summary = json(file("summary.json"));
  double total = 0;
  int64_t now = history.front().at("before").at("macs").as_int();
  for (const Value& stage : summary.at("stages").as_list()) {
    for (int64_t epoch = 0; epoch < stage.at("epochs").as_int(); ++epoch) {
      total += static_cast<double>(now);
      for (const Value& line : history) {
        if (line.at("stage") == stage.at("name") && line.at("epoch").as_int() == epoch)
          now = line.at("after").at("macs").as_int();
      }
    }
  }
  // A LeNet-5 of 20-50-500 filters on images of 16 x 16 in 4 classes, over fifty epochs.
  const double base = 50.0 * (20 * 25 * 12 * 12 + 50 * 20 * 25 * 2 * 2 + 50 * 500 + 500 * 4);
  EXPECT_NEAR(summary.at("train_cost").as_double(), total / base, 1e-9);
}

TEST_F(Growth, KeepsTheFiltersOfEveryRound) {
  const std::vector<Value> history = lines_of(file("history.jsonl"));
  size_t rounds = 0;
  for (const auto& entry : fs::directory_iterator(file("records"))) {
    const TensorFile kept = load_safetensors(entry.path());
    ASSERT_EQ(kept.tensors.size(), 2U);
    EXPECT_EQ(kept.tensors[0].first, "conv1.weight");
    EXPECT_EQ(kept.tensors[0].second.size(0), kept.tensors[1].second.size(0));
    ++rounds;
  }
  const Value summary = json(file("summary.json"));
  EXPECT_EQ(static_cast<int64_t>(rounds), summary.at("stages").as_list()[0].at("epochs").as_int() / 2);
}

TEST_F(Growth, EndsAsAnUninterruptedRunDoes) {
  const std::string run = path("killed");
  // Killed behind the first growth, and later once more.
  const Output killed = shell("'" ESPALIER_PROGRAM "' run -q --save-every 0 " + path("growth.yaml") + " --out " + run +
                              " & p=$!; while [ ! -s " + run +
                              "/history.jsonl ] && kill -0 $p; do sleep 0.01; done; "
                              "sleep 0.1; kill -9 $p; wait $p");
  ASSERT_EQ(killed.status, 137) << killed.text;
  const Output resumed = espalier_command("resume -q " + run);
  ASSERT_EQ(resumed.status, 0) << resumed.text;
  for (const char* name : {"model.safetensors", "history.jsonl", "graph.json"})
    EXPECT_EQ(read_file(fs::path(run) / name), read_file(file(name))) << name;
  EXPECT_TRUE(timeless_lines(fs::path(run) / "metrics.jsonl") == timeless_lines(file("metrics.jsonl")));
  for (const auto& entry : fs::directory_iterator(file("records")))
    EXPECT_EQ(read_file(fs::path(run) / "records" / entry.path().filename()), read_file(entry.path()));
}

// Paper 000, table 4: the same growth with sgd, and the final structure from its beginning.
TEST_F(Growth, IsReplayedWithAnotherOptimizerAndTrainedFromScratch) {
  folder_->write("replay.yaml",
                 "extends: growth.yaml\nname: replay\nstages:\n"
                 "  - {name: grow, epochs: 30, optimizer: {use: sgd, lr: 0.05, momentum: 0.9},\n"
                 "     controller: {use: replay, run: " +
                     path("whole") +
                     ", states: reset}}\n"
                     "  - {name: finetune, epochs: 2, optimizer: {use: sgd, lr: 0.01}}\n");
  const Output replayed = espalier_command("run -q " + path("replay.yaml") + " --out " + path("replayed"));
  ASSERT_EQ(replayed.status, 0) << replayed.text;
  EXPECT_EQ(read_file(fs::path(path("replayed")) / "graph.json"), read_file(file("graph.json")));
  const Value one = json(file("summary.json")), two = json(fs::path(path("replayed")) / "summary.json");
  EXPECT_EQ(two.at("train_cost"), one.at("train_cost"));
  EXPECT_EQ(two.at("stages").as_list()[0].at("epochs"), one.at("stages").as_list()[0].at("epochs"));

  folder_->write("scratch.yaml",
                 "extends: growth.yaml\nname: scratch\nnetwork: {use: recorded, graph: " + path("whole") +
                     "}\nstages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.05}}]\n");
  const Output scratch = espalier_command("run -q " + path("scratch.yaml") + " --out " + path("scratch"));
  ASSERT_EQ(scratch.status, 0) << scratch.text;
  EXPECT_EQ(json(fs::path(path("scratch")) / "summary.json").at("base"), one.at("final"));
}

TEST_F(Growth, PlanTellsWhatWillBeSelected) {
  const Output o = espalier_command("plan " + path("growth.yaml"));
  ASSERT_EQ(o.status, 0) << o.text;
  // lambda nu / (lr N) with N = 2 epochs of 30 steps.
  EXPECT_NE(o.text.find("in 60 steps"), std::string::npos) << o.text;
  EXPECT_NE(o.text.find("0.0333"), std::string::npos) << o.text;
  EXPECT_NE(o.text.find("conv2.weight"), std::string::npos) << o.text;
  const size_t once = o.text.find("a filter is selected where");
  EXPECT_EQ(o.text.find("a filter is selected where", once + 1), std::string::npos)
      << "the second stage begins with what the first one leaves";
}

}  // namespace
}  // namespace espalier
