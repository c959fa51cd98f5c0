// A search of the dimensions of a transformer by the program, in the four stages of paper 003, figure 4.1: scores are
// searched, what is small goes, and what is left is trained on from its weights.
#include <cmath>
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

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// controller: what trains the scores that `score` has put into the network.
std::string recipe(const std::string& use, const std::string& controller) {
  return R"(
espalier: 1
name: dimensions
threads: 1
data: {use: synthetic, count: 64, size: 8, channels: 3, batch: 16}
network: {use: swin_t, patch: 2, dim: 8, depths: [1, 2], heads: [2, 4], window: 2, mlp_ratio: 2, drop_path: 0}
stages:
  - {name: score, epochs: 0, controller: {use: )" +
         use + R"(, ratio: 0}}
  - name: search
    epochs: 1
    data: {validation: 0.5}
    optimizers:
      - {use: adamw, lr: 0.001, weight_decay: 0.05, decay_on: weights, on: [all, "!architecture"]}
      - {use: adam, lr: 0.05, on: architecture}
    regularizers: [{use: l1, weight: 1e-4, on: architecture}]
    controller: )" +
         controller + R"(
  - {name: prune, epochs: 0, controller: {use: )" +
         use + R"(, ratio: 0.4}}
  - name: retrain
    epochs: 1
    data: {validation: 0}
    optimizer: {use: adamw, lr: 0.001, weight_decay: 0.05, decay_on: weights}
)";
}

struct Found {
  Value summary, kept;
};

Found run_of(const TempFolder& folder, const std::string& text) {
  const std::string file = folder.write("r.yaml", text).string(), run = (folder / "run").string();
  const Output plan = espalier_command("plan " + file);
  EXPECT_EQ(plan.status, 0) << plan.text;
  EXPECT_THAT(plan.text, HasSubstr("how many dimensions of each layer go is found in the run"));
  const Output o = espalier_command("run -q " + file + " --out " + run);
  EXPECT_EQ(o.status, 0) << o.text;
  if (o.status != 0) return {};
  return {from_json(read_file(folder / "run/summary.json")),
          from_json(read_file(folder / "run/artefacts/prune.kept.json"))};
}

// Not gates of their own but those that are there are what the searches train.
TEST(TransformerSearch, AnySearchDecidesTheScores) {
  for (const char* search : {"{use: rarts}", "{use: darts}", "{use: joint}"}) {
    const TempFolder folder;
    const Found found = run_of(folder, recipe("sidt", search));
    ASSERT_FALSE(found.summary.is_null()) << search;
    // 3 blocks of 4 dimensions; hidden units of 16 and twice 32.
    double gone = 0, all = 0;
    for (const Value::Entry& e : found.kept.as_map()) {
      const double size = e.key.ends_with("fc1") ? (e.key.find("layers.0") == 0 ? 16 : 32) : 4;
      gone += size * (1 - e.value.as_double());
      all += size;
    }
    EXPECT_EQ(all, 3 * 4 + 16 + 2 * 32);
    EXPECT_NEAR(gone, 36, 1e-9) << search << ": 40 % of 92, rounded down";
    EXPECT_LT(found.summary.at("final").at("params").as_int(), found.summary.at("base").at("params").as_int());
    const std::string graph = read_file(folder / "run/graph.json");
    EXPECT_EQ(graph.find("\"gate\""), std::string::npos) << "the scores are folded";
    // 1e-4 times 92 scores of 1, had the search not moved them.
    bool searched = false;
    for (const Value& epoch : lines_of(folder / "run/metrics.jsonl")) {
      if (epoch.at("stage").as_string() != "search") continue;
      searched = true;
      EXPECT_GT(std::abs(epoch.at("penalty").as_double() - 92e-4), 1e-6) << search;
    }
    EXPECT_TRUE(searched);
  }
}

TEST(TransformerSearch, VtpGoesThroughTheSameStages) {
  const TempFolder folder;
  const Found found = run_of(folder, recipe("vtp", "{use: joint}"));
  ASSERT_FALSE(found.summary.is_null());
  EXPECT_EQ(found.kept.size(), 4 * 3) << "four layers of each block";
  for (const char* form : {"onnx", "torchscript", "python"}) {
    // Each form is compared with the network before its file gets a name.
    const Output e = espalier_command("export " + (folder / "run").string() + " --to " + form + " --out " +
                                      (folder / form).string());
    EXPECT_EQ(e.status, 0) << e.text;
  }
}

// One stage may search and prune, and a run that was stopped behind the removal goes on as one that was not.
TEST(TransformerSearch, GoesOnBehindTheRemoval) {
  const TempFolder folder;
  const std::string file = folder.write("r.yaml", recipe("sidt", "{use: joint}")).string();
  const auto run = [&](const char* name) { return (folder / name).string(); };
  ASSERT_EQ(espalier_command("run -q " + file + " --set stages.retrain.epochs=2 --out " + run("whole")).status, 0);
  ASSERT_EQ(espalier_command("run -q " + file + " --out " + run("parts")).status, 0);
  const Output o = espalier_command("resume -q " + run("parts") + " --set stages.retrain.epochs=2");
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_EQ(read_file(folder / "whole/model.safetensors"), read_file(folder / "parts/model.safetensors"));
  EXPECT_EQ(read_file(folder / "whole/artefacts/prune.kept.json"),
            read_file(folder / "parts/artefacts/prune.kept.json"));
}

// A search before which no stage puts scores into the network has nothing to search.
TEST(TransformerSearch, WithoutScoresIsRefused) {
  const TempFolder folder;
  const std::string text = recipe("sidt", "{use: joint}");
  const std::string without =
      text.substr(0, text.find("  - {name: score")) + text.substr(text.find("  - name: search"));
  const Output o = espalier_command("validate " + folder.write("r.yaml", without).string());
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("has no architecture parameters"));
}

}  // namespace
}  // namespace espalier
