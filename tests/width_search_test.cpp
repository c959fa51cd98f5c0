// A search of widths by the program: gates, one threshold, folding, a teacher, and what the run leaves.
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

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string recipe(const std::string& search, const std::string& prune) {
  return R"(
espalier: 1
name: widths
threads: 1
data: {use: synthetic, count: 64, size: 8, channels: 3, batch: 16}
network: {use: preresnet56, width: 0.25, select: true}
stages:
  - name: search
    epochs: 1
    data: {validation: 0.5}
    optimizers:
      - {use: sgd, lr: 0.1, momentum: 0.9, weight_decay: 1e-4, on: [all, "!architecture"]}
      - {use: sgd, lr: 0.1, on: architecture}
)" + search +
         R"(
  - name: finetune
    epochs: 1
    data: {validation: 0}
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9, weight_decay: 1e-4}
    loss: {use: distillation, teacher_stage: search}
)" + prune;
}

constexpr const char* by_rarts = R"(
    regularizers: [{use: l1, weight: 1e-4, on: architecture}]
    controller: {use: rarts, gates: norms}
)";
constexpr const char* by_quantile = R"(
    controller: {use: prune, score: gate, target: {quantile: 0.4}, protect: 0, fold: true}
)";

Value summary_of(const fs::path& run) {
  return from_json(read_file(run / "summary.json"));
}

TEST(WidthSearch, PrunesFoldsTrainsOnAndExports) {
  const TempFolder folder;
  const std::string run = (folder / "run").string();
  const Output plan = espalier_command("plan " + folder.write("r.yaml", recipe(by_rarts, by_quantile)).string());
  EXPECT_EQ(plan.status, 0) << plan.text;
  // A quarter of 4,048 coefficients.
  EXPECT_THAT(plan.text, HasSubstr("405 of 1012 positions are to go"));
  const Output o = espalier_command("run -q " + (folder / "r.yaml").string() + " --out " + run);
  ASSERT_EQ(o.status, 0) << o.text;
  const Value& removed = from_json(read_file(folder / "run/artefacts/finetune.removed.json"));
  EXPECT_EQ(removed.at("positions").as_int(), 1012);
  EXPECT_GE(removed.at("gone").as_int(), 390) << "a width of which nothing would be left keeps a position";
  EXPECT_LE(removed.at("gone").as_int(), 405);
  const Value stages = summary_of(run).at("stages");
  EXPECT_LT(summary_of(run).at("final").at("macs").as_int(), summary_of(run).at("base").at("macs").as_int());
  const std::string graph = read_file(folder / "run/graph.json");
  EXPECT_EQ(graph.find("coefficient"), std::string::npos) << "the gates are folded";
  // Each form is compared with the network before its file gets a name.
  for (const char* form : {"onnx", "torchscript", "python"}) {
    const Output e = espalier_command("export " + run + " --to " + form + " --out " + (folder / form).string());
    EXPECT_EQ(e.status, 0) << e.text;
  }
}

// The removal stands behind, and is not done again.
TEST(WidthSearch, GoesOnBehindTheRemoval) {
  const TempFolder folder;
  const std::string file = folder.write("r.yaml", recipe(by_rarts, by_quantile)).string();
  const auto run = [&](const char* name) { return (folder / name).string(); };
  ASSERT_EQ(espalier_command("run -q " + file + " --set stages.finetune.epochs=2 --out " + run("whole")).status, 0);
  ASSERT_EQ(espalier_command("run -q " + file + " --out " + run("parts")).status, 0);
  const Output o = espalier_command("resume -q " + run("parts") + " --set stages.finetune.epochs=2");
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_EQ(read_file(folder / "whole/model.safetensors"), read_file(folder / "parts/model.safetensors"));
  EXPECT_EQ(read_file(folder / "whole/artefacts/finetune.removed.json"),
            read_file(folder / "parts/artefacts/finetune.removed.json"));
}

// Two steps of the rate .1 with a weight of 5 take a coefficient of 1 to zero: those whose gradient does not hold them.
TEST(WidthSearch, TakesAwayWhatProximalStepsMadeZero) {
  const TempFolder folder;
  const std::string text = recipe(R"(
    regularizers: [{use: l1, weight: 5, on: architecture, solver: proximal}]
    controller: {use: darts, gates: norms}
)",
                                  R"(
    controller: {use: prune, score: gate, target: {threshold: 0}, protect: 0, fold: true}
)");
  const Output o =
      espalier_command("run -q " + folder.write("r.yaml", text).string() + " --out " + (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const int64_t gone = from_json(read_file(folder / "run/artefacts/finetune.removed.json")).at("gone").as_int();
  EXPECT_GT(gone, 100);
  EXPECT_LT(gone, 1012);
}

TEST(WidthSearch, SaysBeforeWhatIsWrong) {
  const TempFolder folder;
  const auto refused = [&](const std::string& search, const std::string& prune) {
    const Output o = espalier_command("plan " + folder.write("r.yaml", recipe(search, prune)).string());
    EXPECT_EQ(o.status, 1) << o.text;
    EXPECT_THAT(o.text, HasSubstr("r.yaml:"));
    return o.text;
  };
  const auto search = [](const std::string& gates) { return "    controller: {use: rarts, gates: " + gates + "}\n"; };
  const auto prune = [](const std::string& more) { return "    controller: {use: prune, score: gate" + more + "}\n"; };
  EXPECT_THAT(refused(search("norm"), by_quantile), HasSubstr("did you mean 'norms'"));
  EXPECT_THAT(refused(search("all"), by_quantile), HasSubstr("given from outside"));
  EXPECT_THAT(refused("    controller: rarts\n", by_quantile), HasSubstr("gates: norms"));
  EXPECT_THAT(refused(by_rarts, prune(", target: {quantile: 40}")), HasSubstr("quantile"));
  EXPECT_THAT(refused(by_rarts, prune(", target: {quantil: 0.4}")), HasSubstr("did you mean 'quantile'"));
  EXPECT_THAT(refused(by_rarts, prune(", target: {threshold: -1}")), HasSubstr("threshold"));
  EXPECT_THAT(refused(by_rarts, prune(", target: {quantile: 0.4}, scope: layer")), HasSubstr("leave 'scope' out"));
  EXPECT_THAT(refused(by_rarts, prune(", target: {quantile: 0.4}, folded: true")), HasSubstr("folded"));
}

}  // namespace
}  // namespace espalier
