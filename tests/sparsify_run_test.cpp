// Runs in which components compete and leave (paper 004), and what such runs refuse.
#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/value.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A penalty that is far too strong, so that blocks leave within eighty steps of plain SGD.
constexpr const char* recipe = R"(
espalier: 1
name: sparsify
precision: float64
threads: 1
data: {use: synthetic, size: 8, count: 400, batch: 20}
network: {use: resnet20, widths: [2, 3, 4], blocks: [3, 3, 1]}
stages:
  - name: sparsify
    epochs: 4
    optimizers:
      - {use: sgd, lr: 0.05, momentum: 0.9, on: [all, "!architecture"]}
      - {use: sgd, lr: 0.2, momentum: 0.9, on: architecture}
    regularizers: [{use: competition_norm, weight: 0.5}]
    controller: {use: sparsify, patience: 3, every: 1}
)";

int64_t removed_by(const std::vector<Value>& history, const std::string& kind) {
  int64_t count = 0;
  for (const Value& line : history) {
    for (const Value& e : line.at("edits").as_list()) count += e.at("edit").as_string() == kind;
  }
  return count;
}

class SparsifyRun : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    folder_->write("r.yaml", recipe);
    const Output o = espalier_command("run -q " + path("r.yaml") + " --out " + path("whole"));
    ASSERT_EQ(o.status, 0) << o.text;
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string path(const std::string& name) { return (*folder_ / name).string(); }
  static TempFolder* folder_;
};
TempFolder* SparsifyRun::folder_ = nullptr;

// The run in which zeros stay is the oracle of the one in which they go.
TEST_F(SparsifyRun, LossesAreThoseOfTheSameRunWithZeros) {
  const Output o = espalier_command("run -q " + path("r.yaml") +
                                    " --set stages.sparsify.controller.remove=never --out " + path("zeros"));
  ASSERT_EQ(o.status, 0) << o.text;
  const std::vector<Value> removing = lines_of(fs::path(path("whole")) / "metrics.jsonl"),
                           keeping = lines_of(fs::path(path("zeros")) / "metrics.jsonl");
  ASSERT_EQ(removing.size(), keeping.size());
  for (size_t e = 0; e < removing.size(); ++e) {
    // Sums of other lengths, over eighty steps in float64.
    EXPECT_NEAR(removing[e].at("loss").as_double(), keeping[e].at("loss").as_double(), 1e-9) << e;
    EXPECT_NEAR(removing[e].at("test_loss").as_double(), keeping[e].at("test_loss").as_double(), 1e-9) << e;
    // One that has become zero waits for its patience.
    const auto alive = [](const Value& line) {
      return line.at("components").as_double() - line.at("zeros").as_double();
    };
    EXPECT_EQ(alive(removing[e]), alive(keeping[e])) << e;
  }
  EXPECT_LT(removing.back().at("components").as_double(), 7) << "some have left";
  EXPECT_GT(removing.back().at("components").as_double(), 0);
  const std::vector<Value> history = lines_of(fs::path(path("whole")) / "history.jsonl");
  EXPECT_GE(removed_by(history, "drop_block"), 2);
  EXPECT_GE(removed_by(history, "fold_gate"), 1);
  // Each removal promised that the function stays, so the run has held it to rounding.
  for (const Value& line : history) {
    for (const Value& e : line.at("edits").as_list()) {
      const std::string& kind = e.at("edit").as_string();
      if (kind != "drop_block" && kind != "disconnect") continue;
      EXPECT_TRUE(e.at("exact").as_bool()) << to_json(e);
      EXPECT_LE(line.at("difference").as_double(), line.at("tolerance").as_double()) << to_json(e);
    }
  }
  const Value a = from_json(read_file(fs::path(path("whole")) / "summary.json")),
              b = from_json(read_file(fs::path(path("zeros")) / "summary.json"));
  EXPECT_LT(a.at("train_cost").as_double(), b.at("train_cost").as_double()) << "steps got cheaper";
}

TEST_F(SparsifyRun, GoesOnAfterAKillAsIfNothingHadBeen) {
  const std::string run = path("killed");
  // Killed behind the first removal.
  const Output killed = shell("'" ESPALIER_PROGRAM "' run -q --save-every 0 " + path("r.yaml") + " --out " + run +
                              " & p=$!; while [ ! -s " + run +
                              "/history.jsonl ] && kill -0 $p; do sleep 0.01; done; kill -9 $p; wait $p");
  ASSERT_EQ(killed.status, 137) << killed.text;
  const Output resumed = espalier_command("resume -q " + run);
  ASSERT_EQ(resumed.status, 0) << resumed.text;
  for (const char* name : {"model.safetensors", "history.jsonl", "graph.json"})
    EXPECT_EQ(read_file(fs::path(run) / name), read_file(fs::path(path("whole")) / name)) << name;
  EXPECT_TRUE(timeless_lines(fs::path(run) / "metrics.jsonl") ==
              timeless_lines(fs::path(path("whole")) / "metrics.jsonl"));
}

// `exact` of an edit is a promise that the run holds it to.
TEST_F(SparsifyRun, RefusesToTakeOutWhatIsNotZero) {
  for (const bool exact : {true, false}) {
    const std::string recorded = exact ? "recorded_exact" : "recorded";
    folder_->write(recorded + "/summary.json", R"({"status": "finished", "stages": [{"name": "train", "epochs": 1}]})");
    folder_->write(recorded + "/history.jsonl",
                   R"({"stage": "train", "epoch": 0, "step": 5, "edits": [{"edit": "drop_block", "block": "layer1.1")" +
                       std::string(exact ? R"(, "exact": true)" : "") + "}]}\n");
    folder_->write("replay.yaml",
                   "extends: r.yaml\nname: replay\nstages:\n  - name: train\n    epochs: 1\n    optimizer: sgd\n"
                   "    controller: {use: replay, run: " +
                       path(recorded) + "}\n");
    const Output o = espalier_command("run -q " + path("replay.yaml") + " --out " + path(exact ? "refused" : "done"));
    if (exact) {
      EXPECT_NE(o.status, 0);
      EXPECT_THAT(o.text, HasSubstr("layer1.1"));
      EXPECT_THAT(o.text, HasSubstr("where this edit must not change it"));
    } else {
      EXPECT_EQ(o.status, 0) << o.text;
    }
  }
}

}  // namespace
}  // namespace espalier
