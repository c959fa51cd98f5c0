// Several controllers of one stage, what they are told of, and the plugins of examples/plugins that use it.
#include <csignal>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

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
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* rest = R"(espalier: 1
name: several
threads: 1
data: {use: synthetic, size: 16, classes: 4, count: 60, batch: 20, validation: 0.2}
network: {use: lenet5, conv1: 4, conv2: 6, hidden: 12}
stages:
  - name: train
    epochs: 2
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    regularizers: [{use: l2, weight: 1e-3}]
)";

class Controllers : public ::testing::Test {
 protected:
  // A recipe with these further keys of its stage.
  fs::path recipe(const std::string& keys) {
    return folder_.write("r" + std::to_string(++recipes_) + ".yaml", rest + ("    " + keys) + "\n");
  }
  Output run(const std::string& keys, const std::string& out, const std::string& environment = "") {
    return command("run -q " + recipe(keys).string() + " --out " + (folder_ / out).string(), environment);
  }
  Output command(const std::string& arguments, const std::string& environment = "") const {
    std::string plugins;
    for (const char* name : {"turns", "sam", "ema", "probe_removal", "resumable"})
      plugins += std::string(" --plugins " ESPALIER_FIXTURE_DIR "/lib") + name + ".so";
    return shell(environment + " ESPALIER_STORE=none " + program_word() + " " + arguments +
                 (arguments.starts_with("resume") ? "" : plugins));
  }
  std::string message(const std::string& keys) {
    const Output o = run(keys, "refused");
    EXPECT_NE(o.status, 0) << keys;
    EXPECT_FALSE(fs::exists(folder_ / "refused")) << keys;
    return o.text;
  }
  std::vector<std::string> turns() const {
    std::vector<std::string> all;
    std::istringstream in(read_file(folder_ / "turns.txt"));
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  std::string model(const std::string& out) const { return read_file(folder_ / out / "model.safetensors"); }

  TempFolder folder_;
  int recipes_ = 0;
};

TEST_F(Controllers, TakeTheirTurnsInTheOrderOfTheRecipe) {
  const Output o = run("controllers: [{use: turns, as: a}, {use: turns_with_step, as: b}]", "run",
                       "ESPALIER_TEST_TURNS=" + (folder_ / "turns.txt").string());
  ASSERT_EQ(o.status, 0) << o.text;
  std::vector<std::string> all = turns();
  // What is asked of them while the recipe is checked does not count.
  const auto begun = std::ranges::find(all, "a stage_begin");
  ASSERT_NE(begun, all.end());
  all.erase(all.begin(), begun);
  std::vector<std::string> expected;
  const auto both = [&](const std::string& what) {
    for (const char* name : {"a ", "b "}) expected.push_back(name + what);
  };
  both("stage_begin");
  for (int epoch = 0; epoch < 2; ++epoch) {
    both("epoch_begin");
    for (int step = 0; step < 3; ++step) {  // 48 images
      expected.emplace_back("b step");
      for (const char* what : {"backward_end", "update_begin", "update_end", "step_end"}) both(what);
    }
    for (const char* what : {"evaluation_begin", "evaluation_end", "epoch_end"}) both(what);
  }
  both("stage_end");
  EXPECT_EQ(all, expected);
  const Output plan = command("plan " + (folder_ / "r1.yaml").string());
  EXPECT_LT(plan.text.find("{\"use\":\"turns\",\"as\":\"a\""),
            plan.text.find("{\"use\":\"turns_with_step\",\"as\":\"b\""))
      << plan.text;
}

TEST_F(Controllers, AreRefusedWhereTheyCannotWorkTogether) {
  EXPECT_THAT(message("controllers: [turns_with_step, turns, turns_with_another_step]"),
              HasSubstr("'turns_with_step' and 'turns_with_another_step' both have a training step of their own"));
  EXPECT_THAT(message("controllers: [turns]\n    controller: turns"), HasSubstr("both 'controller' and 'controllers'"));
  EXPECT_THAT(message("controllers: [turns, {use: truns}]"), HasSubstr("did you mean 'turns'?"));
  EXPECT_THAT(message("controllers: [turns, {use: turns, az: x}]"), HasSubstr("did you mean 'as'?"));
  const Output o = run("controllers: [{use: turns, as: a}, {use: turns, as: b, spoil: true}]", "spoilt");
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("evaluation_end() must put back"));
}

// The runner's own average does the same: it is the oracle.
TEST_F(Controllers, TheExampleOfAnAverageIsThatOfTheStagesKey) {
  Output o = run("ema: {decay: 0.9}", "key");
  ASSERT_EQ(o.status, 0) << o.text;
  o = run("controllers: [{use: moving_average, decay: 0.9}, turns]", "plugin");
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_EQ(model("key"), model("plugin"));
  const std::vector<Value> a = lines_of(folder_ / "key" / "metrics.jsonl"),
                           b = lines_of(folder_ / "plugin" / "metrics.jsonl");
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    for (const char* key : {"test_accuracy", "test_loss", "validation_loss"})
      EXPECT_EQ(a[i].at(key).as_double(), b[i].at(key).as_double()) << key;
  }
  o = run("controller: none", "without");
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_NE(model("without"), model("plugin"));
}

// Two passes, an average, a state beside the parameters, filters that go in the middle of epochs.
TEST_F(Controllers, GoOnFromACheckpointToTheSameBytes) {
  const std::string keys =
      "controllers: [{use: sam, rho: 0.1}, turns, keeper, {use: probe_removal, every: 2, tau: 0.2}, {use: "
      "moving_average, decay: 0.9}]";
  Output o = run(keys, "whole");
  ASSERT_EQ(o.status, 0) << o.text;
  for (const int stop : {1, 3, 5}) {
    const std::string out = "stopped" + std::to_string(stop);
    o = run(keys, out, "ESPALIER_TEST_STOP=" + std::to_string(stop));
    EXPECT_EQ(o.status, 128 + SIGTERM) << o.text;
    o = command("resume -q " + (folder_ / out).string());
    ASSERT_EQ(o.status, 0) << o.text;
    EXPECT_EQ(model("whole"), model(out)) << "after step " << stop;
    EXPECT_EQ(read_file(folder_ / "whole" / "graph.json"), read_file(folder_ / out / "graph.json"));
  }
}

// Each batch goes through the network twice.
TEST_F(Controllers, TheExampleOfSharpnessAwareMinimizationCostsTwoPasses) {
  const auto macs = [&](const std::string& keys, const std::string& out) {
    const Output o = run(keys, out);
    EXPECT_EQ(o.status, 0) << o.text;
    return from_json(read_file(folder_ / out / "summary.json")).at("train_macs").as_double();
  };
  EXPECT_EQ(macs("controllers: [turns, sam]", "twice"), 2 * macs("controller: none", "once"));
  // With a ball of no size to speak of, both passes are the same.
  EXPECT_EQ(macs("controller: {use: sam, rho: 1e-12}", "point"), 2 * macs("controller: none", "again"));
  const auto loss = [&](const std::string& out) {
    return lines_of(folder_ / out / "metrics.jsonl")[1].at("loss").as_double();
  };
  EXPECT_NEAR(loss("point"), loss("once"), 1e-6);
  EXPECT_NE(loss("twice"), loss("once"));
}

TEST_F(Controllers, OfAStageThatHasBegunCannotBeReplaced) {
  Output o = run("controllers: [turns, {use: sam, rho: 0.1}]", "run", "ESPALIER_TEST_STOP=2");
  ASSERT_EQ(o.status, 128 + SIGTERM) << o.text;
  o = command("resume -q " + (folder_ / "run").string() + " --set 'stages.train.controllers=[turns]'");
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("controller 2 of the stage was 'sam' and is 'none' now"));
  o = command("resume -q " + (folder_ / "run").string() + " --set stages.train.controllers.sam.rho=0.2");
  EXPECT_EQ(o.status, 0) << o.text;
}

}  // namespace
}  // namespace espalier
