// Runs in which neurons leave while training goes on.
#include <cmath>

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

constexpr const char* recipe = R"(
espalier: 1
name: shrink
precision: float64
threads: 1
data: {use: synthetic, size: 16, count: 400, batch: 50}
network: {use: lenet5, conv1: 8, conv2: 10, hidden: 24}
stages:
  - name: shrink
    epochs: 5
    optimizer: {use: adam, lr: 0.004}
    regularizers: [{use: l1, weight: 0.01, on: gates}, {use: l2, weight: 1e-5, on: weights}]
    controller: {use: shrinknets, gamma: 0.5}
)";

// The run in which the dead stay, multiplied by zero, is the oracle of the one in which they go.
TEST(ShrinkNetsRun, LossesAreThoseOfTheSameRunWithMasks) {
  const TempFolder folder;
  const auto file = folder.write("r.yaml", recipe);
  const auto run = [&](const std::string& name, const std::string& flags) {
    const Output o = espalier_command("run -q " + file.string() + flags + " --out " + (folder / name).string());
    EXPECT_EQ(o.status, 0) << o.text;
    return lines_of(folder / name / "metrics.jsonl");
  };
  const std::vector<Value> masked = run("masked", " --set stages.shrink.controller.every=0");
  const std::vector<Value> shrinking = run("shrinking", "");
  const std::vector<Value> often = run("often", " --set stages.shrink.controller.unit=steps");
  ASSERT_EQ(masked.size(), 5U);
  for (size_t e = 0; e < masked.size(); ++e) {
    for (const auto* other : {&shrinking[e], &often[e]}) {
      // Sums of other lengths, over 40 steps in float64.
      EXPECT_NEAR(other->at("loss").as_double(), masked[e].at("loss").as_double(), 1e-9) << e;
      EXPECT_NEAR(other->at("test_loss").as_double(), masked[e].at("test_loss").as_double(), 1e-9) << e;
      EXPECT_EQ(other->at("alive"), masked[e].at("alive")) << e;
      EXPECT_EQ(other->at("neuron_steps"), masked[e].at("neuron_steps")) << e;
    }
  }
  EXPECT_LT(masked.back().at("alive").as_double(), 42) << "some are dead";
  EXPECT_EQ(masked.back().at("neurons").as_double(), 42);
  EXPECT_EQ(shrinking.back().at("neurons"), shrinking.back().at("alive"));
  // At the end they have gone from both, and the networks are the same.
  const Value a = from_json(read_file(folder / "masked" / "summary.json")),
              b = from_json(read_file(folder / "shrinking" / "summary.json"));
  EXPECT_EQ(a.at("final"), b.at("final"));
  EXPECT_NEAR(a.at("loss").as_double(), b.at("loss").as_double(), 1e-9);
  EXPECT_LT(b.at("train_cost").as_double(), a.at("train_cost").as_double());
  EXPECT_GT(b.at("sparsity").as_double(), 0);
}

}  // namespace
}  // namespace espalier
