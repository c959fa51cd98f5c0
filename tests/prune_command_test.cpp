// `espalier prune`, and the controller in runs: targets, data for scores, resumed runs, wrong inputs.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/value.h"
#include "recipe/yaml.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const char* recipe_text = R"(
espalier: 1
name: small
threads: 1
data: {use: synthetic, size: 8, channels: 3, classes: 3, count: 60, batch: 20}
network: {use: resnet20, widths: [4, 6, 8], blocks: [1, 1, 1]}
stages:
  - {name: train, epochs: 1, optimizer: {use: sgd, lr: 0.01, momentum: 0.9}}
)";

class PruneCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_.write("r.yaml", recipe_text);
    const Output o = espalier_command("run -q " + path("r.yaml") + " --out " + path("run"));
    ASSERT_EQ(o.status, 0) << o.text;
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  Output prune(const std::string& arguments) const { return espalier_command("prune --threads 1 " + arguments); }
  Value json(const std::string& name) const { return from_json(read_file(folder_ / name)); }
  TempFolder folder_;
};

TEST_F(PruneCommand, MakesASmallerNetworkAndWritesTheRecipe) {
  const Output o = prune("-q " + path("run") + " --target macs=0.5 --protect 0 --finetune 1 --out " + path("half"));
  ASSERT_EQ(o.status, 0) << o.text;
  const double before = json("run/graph.json").at("macs").as_double();
  const double after = json("half/graph.json").at("macs").as_double();
  // Few positions, each worth one to three percent.
  EXPECT_NEAR(after / before, 0.5, 0.02);
  // The recipe that it wrote makes the same network again.
  const Value written = read_yaml(folder_ / "half/prune.yaml");
  EXPECT_EQ(written.at("name").as_string(), "small-pruned");
  EXPECT_EQ(written.at("stages").as_list()[0].at("epochs").as_int(), 1);
  const Output again = espalier_command("run -q --threads 1 " + path("half/prune.yaml") + " --out " + path("again"));
  ASSERT_EQ(again.status, 0) << again.text;
  EXPECT_EQ(read_file(folder_ / "half/model.safetensors"), read_file(folder_ / "again/model.safetensors"));
  // A pruned run is a run.
  const Output quarter = prune("-q " + path("half") + " --target macs=0.6 --protect 0 --out " + path("quarter"));
  ASSERT_EQ(quarter.status, 0) << quarter.text;
  // A few filters more or less: each is worth several percent of so small a network.
  EXPECT_LT(json("quarter/graph.json").at("macs").as_double(), 0.7 * after);
}

TEST_F(PruneCommand, TakesAFileOfValuesWithItsNetwork) {
  const Output o = prune("-q " + path("run/model.safetensors") +
                         " --network '{use: resnet20, widths: [4, 6, 8], blocks: [1, 1, 1]}' --dataset '{use: "
                         "synthetic, size: 8, channels: 3, classes: 3, count: 60, batch: 20}' --score '{use: taylor, "
                         "batches: 2}' --target params=0.5 --protect 0 --out " +
                         path("half"));
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_NEAR(json("half/graph.json").at("parameter_count").as_double() /
                  json("run/graph.json").at("parameter_count").as_double(),
              0.5, 0.02);
}

TEST_F(PruneCommand, PlansWithoutDoing) {
  const Output o = prune(path("run") + " --target macs=0.5 --plan --out " + path("none"));
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, AllOf(HasSubstr("scores of"), HasSubstr("multiply-accumulates ("),
                            HasSubstr("cannot go: 'fc' (3): its size is given from outside")));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none"));
}

TEST_F(PruneCommand, CountsWithATableThatWasMeasuredHere) {
  const Output measured =
      espalier_command("latency " + path("run") + " --passes 2 --threads 1 --out " + path("t.json"));
  ASSERT_EQ(measured.status, 0) << measured.text;
  EXPECT_THAT(measured.text, AllOf(HasSubstr("conv2d"), HasSubstr("a pass of the whole network takes")));
  Value table = json("t.json");
  EXPECT_EQ(table.at("batch").as_int(), 1);
  EXPECT_EQ(table.at("threads").as_int(), 1);
  EXPECT_EQ(table.at("precision").as_string(), "float32");
  EXPECT_GT(table.at("network").at("ms").as_double(), 0);
  // Every node of the network, and of the pruned one, is in it. What is left does not depend on how fast this machine
  // is: each time is now the product of its widths.
  for (Value& e : table["entries"].as_list()) {
    std::vector<double> ms{1e-3};
    for (const Value& sizes : e.at("widths").as_list()) {
      std::vector<double> next;
      for (const double t : ms) {
        for (const Value& n : sizes.as_list()) next.push_back(t * n.as_double());
      }
      ms = next;
    }
    ASSERT_EQ(e.at("ms").size(), ms.size());
    for (const Value& t : e.at("ms").as_list()) EXPECT_GT(t.as_double(), 0);
    e["ms"] = ms;
  }
  folder_.write("t.json", to_json(table));
  const Output half = prune("-q " + path("run") + " --target latency=0.7 --protect 0 --table " + path("t.json") +
                            " --out " + path("half"));
  ASSERT_EQ(half.status, 0) << half.text;
  EXPECT_LT(json("half/graph.json").at("macs").as_int(), json("run/graph.json").at("macs").as_int());
  // What the recipe that it wrote says is enough to do the same again.
  const Output again = espalier_command("run -q --threads 1 " + path("half/prune.yaml") + " --out " + path("again"));
  ASSERT_EQ(again.status, 0) << again.text;
  EXPECT_EQ(read_file(folder_ / "half/model.safetensors"), read_file(folder_ / "again/model.safetensors"));

  Value other = table;
  other["model"] = "Abacus 3000";
  folder_.write("other.json", to_json(other));
  const std::string arguments = path("run") + " --target latency=0.7 --protect 0 --table " + path("other.json");
  const Output refused = prune(arguments + " --plan");
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.text, AllOf(HasSubstr("was measured on 'Abacus 3000'"), HasSubstr("any_device")));
  const Output allowed = prune(arguments + " --any-device --plan");
  EXPECT_EQ(allowed.status, 0) << allowed.text;
  EXPECT_THAT(allowed.text, HasSubstr("Abacus 3000, 1 thread, float32, batch 1"));
}

TEST_F(PruneCommand, MeasuresNetworksAndRecipesToo) {
  const auto says = [&](const std::string& arguments, int status, const std::string& what) {
    const Output o = espalier_command("latency --passes 1 --threads 1 " + arguments);
    EXPECT_EQ(o.status, status) << o.text;
    EXPECT_THAT(o.text, HasSubstr(what)) << arguments;
  };
  const std::string data = " --dataset '{use: synthetic, size: 8, channels: 3, classes: 3, count: 60}'";
  says(
      "'{use: lenet5, conv1: 3, conv2: 4, hidden: 5}' --dataset '{use: synthetic, size: 16, channels: 1, classes: 3, "
      "count: 60}' --out " +
          path("l.json"),
      0, "Wrote ");
  says(path("r.yaml") + " --batch 4 --precision bf16 --out " + path("r.json"), 0, "bf16, batch 4");
  says("resnet20", 1, "there is no such run and no such recipe");
  says("resnet21" + data, 1, "no backbone is called 'resnet21'");
  says(path("r.yaml") + " --out " + path("no/where.json"), 1, "there is no folder");
  says(path("r.yaml") + " --out " + folder_.path().string(), 1, "is a folder; name a file");
  says(path("r.yaml") + " --batch 0", 2, "--batch");
}

TEST_F(PruneCommand, SaysWhatIsWrong) {
  const auto says = [&](const std::string& arguments, const std::string& what) {
    const Output o = prune(arguments + " --out " + path("none"));
    EXPECT_NE(o.status, 0) << arguments;
    EXPECT_THAT(o.text, HasSubstr(what)) << arguments;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "none")) << arguments;
  };
  const std::string run = path("run");
  says(path("nothing") + " --target macs=0.5", "there is no such run and no such file");
  says(path("") + " --target macs=0.5", "is no folder of a run");
  says(run + " --target 0.5", "--target: expected NAME=VALUE, such as macs=0.5");
  says(run + " --target mac=0.5", "--target: 'target' has no parameter 'mac' (did you mean 'macs'?)");
  says(run + " --target macs=half", "--target: 'target.macs' must be a number > 0, got");
  says(run + " --target macs=0.001", "'target' cannot be met");
  says(run + " --target macs=2e12", "nothing would go");
  says(run + " --target share=1", "'target.share' must be a number > 0 and < 1");
  says(run + " --target macs=0.5 --score l3", "--score: no score is called 'l3'");
  says(run + " --target macs=0.5 --score '{use: l2, of: all}'", "--score: 'of' must be one of filters, group");
  says(run + " --target macs=0.5 --score gate", "no gate with coefficients of its own multiplies it");
  says(run + " --target macs=0.5 --on conv7", "conv7");
  says(run + " --target macs=0.5 --on fc", "'fc' (3): its size is given from outside");
  says(run + " --target macs=0.5 --scope layers", "--scope: 'scope' must be one of global, layer, block");
  says(run + " --target macs=0.5 --network resnet20", "leave it out");
  says(path("run/model.safetensors") + " --target macs=0.5", "--network: a file of values does not say");
  says(path("run/model.safetensors") + " --target macs=0.5 --network resnet20", "--dataset: say what data");
}

// A stage behind a removal is checked with what is left, as far as that is known before anything is trained.
TEST_F(PruneCommand, PlansTheStagesBehindARemoval) {
  const auto plan = [&](const std::string& first, const std::string& target) {
    folder_.write("two.yaml", std::string(R"(
espalier: 1
name: two
threads: 1
data: {use: synthetic, size: 8, channels: 3, classes: 3, count: 60, batch: 20}
network: {use: resnet20, widths: [4, 6, 8], blocks: [1, 1, 1]}
stages:
  - {name: first, epochs: 1, optimizer: {use: sgd, lr: 0.01}, controller: {use: prune, protect: 0, )") +
                                  first + R"(}}
  - {name: second, epochs: 0, controller: {use: prune, protect: 0, target: {macs: )" +
                                  target + "}}}\n");
    return espalier_command("plan " + path("two.yaml")).text;
  };
  const int64_t macs = json("run/graph.json").at("macs").as_int();
  const auto part = [&](double share) { return std::to_string(std::llround(share * static_cast<double>(macs))); };
  // Half is known to have gone: .7 of the whole is more than there is then.
  EXPECT_THAT(plan("target: {macs: 0.5}", part(0.7)), HasSubstr("nothing would go"));
  EXPECT_THAT(plan("target: {macs: 0.5}", part(0.3)),
              HasSubstr("how much of each width goes is found in the run, of values that the stages before it make"));
  // By data it is known only in the run, which the plan says; the second stage is checked with the whole network.
  const std::string by_data = plan("target: {macs: 0.5}, score: {use: taylor, batches: 3}", part(0.7));
  EXPECT_THAT(by_data, AllOf(HasSubstr("(50.00 %) are to stay; how much of each width goes is found in the run"),
                             HasSubstr("3 batches of training data")));
  EXPECT_THAT(by_data, ::testing::Not(HasSubstr("nothing would go")));
}

TEST_F(PruneCommand, RemovesInSteps) {
  folder_.write("s.yaml", std::string(recipe_text) + R"(
  - name: prune
    epochs: 3
    optimizer: {use: sgd, lr: 0.01}
    controller: {use: prune, target: {macs: 0.5}, protect: 0, schedule: {steps: 3}, score: {use: obd, batches: 1}}
)");
  const Output whole = espalier_command("run -q " + path("s.yaml") + " --out " + path("whole"));
  ASSERT_EQ(whole.status, 0) << whole.text;
  const std::string history = read_file(folder_ / "whole/history.jsonl");
  EXPECT_EQ(std::ranges::count(history, '\n'), 3) << history;
}

}  // namespace
}  // namespace espalier
