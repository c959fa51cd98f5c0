// The hardest demand of each method on the core, in its smallest form: ordinary plugins, on real data or closed forms.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include <gtest/gtest.h>

#include "espalier/edit.h"
#include "espalier/graph.h"
#include "espalier/operation.h"
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

bool has_data(const std::string& name) {
  std::istringstream lines(espalier_command("data list").text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + " ")) return line.find("not found") == std::string::npos;
  }
  return false;
}

#define REQUIRE_DATA(name) \
  if (!has_data(name)) GTEST_SKIP() << "the data set " << name << " is not on this machine"

int run_recipe(const TempFolder& folder, const std::string& text, std::string* output = nullptr) {
  const auto recipe = folder.write("recipe.yaml", text);
  const Output o = espalier_command("run -q " + recipe.string() + " --plugins '" ESPALIER_FIXTURE_DIR "' --out " +
                                    (folder / "run").string());
  if (output) *output = o.text;
  EXPECT_EQ(o.status, 0) << o.text;
  return o.status;
}

void expect_replays(const TempFolder& folder, const char* library, const char* backbone) {
  testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + library + ".so");
  expect_replays(folder / "run", testkit::build(backbone, {.channels = 3, .height = 32, .width = 32}, {.outputs = 10}));
}

TEST(Probe, GrowsResNet20OnceABlockAndAlongTheResiduals) {
  REQUIRE_DATA("cifar10");
  for (const char* optimizer : {"{use: adam, lr: 0.001}", "{use: sgd, lr: 0.05, momentum: 0.9}"}) {
    const TempFolder folder;
    constexpr int64_t budget = 8'000'000;
    ASSERT_EQ(run_recipe(folder, std::string(R"(
espalier: 1
name: growth
threads: 2
data: {use: cifar10, batch: 50, limit: 300, eval_batch: 100}
network: {use: resnet20, widths: [4, 8, 16]}
stages:
  - name: grow
    epochs: 3
    optimizer: )") + optimizer + R"(
    controller: {use: probe_growth, macs: 8000000, count: 2}
  - name: finetune
    epochs: 1
    optimizer: {use: sgd, lr: 0.01}
)"),
              0);
    const std::vector<Value> history = lines_of(folder / "run" / "history.jsonl");
    ASSERT_GE(history.size(), 3U);
    for (const Value& line : history) EXPECT_LE(line.at("after").at("macs").as_int(), budget);
    EXPECT_GT(history.back().at("after").at("macs").as_int(), budget * 95 / 100) << "the budget is used";
    // The first round: nine inner widths, and three along the residuals, each once.
    std::vector<std::string> names;
    for (const Value& axis : history.front().at("axes").as_list()) {
      names.push_back(axis.at("name").as_string());
      EXPECT_EQ(axis.at("after").as_int(), axis.at("before").as_int() + 2) << names.back();
    }
    EXPECT_EQ(names.size(), 12U) << to_json(history.front().at("axes"));
    std::ranges::sort(names);
    EXPECT_EQ(std::ranges::adjacent_find(names), names.end());
    for (const Value& m : lines_of(folder / "run" / "metrics.jsonl")) EXPECT_LT(m.at("loss").as_double(), 5);
    expect_replays(folder, "resnet_cifar", R"({"use": "resnet20", "widths": [4, 8, 16]})");
  }
}

TEST(Probe, RemovesChannelsOfVgg16WithinEpochs) {
  REQUIRE_DATA("cifar10");
  const TempFolder folder;
  ASSERT_EQ(run_recipe(folder, R"(
espalier: 1
name: removal
threads: 2
data: {use: cifar10, batch: 32, limit: 640, eval_batch: 100}
network: {use: vgg16, width: 0.125, hidden: 32, dropout: 0}
stages:
  - name: shrink
    epochs: 3
    optimizer: {use: adam, lr: 0.01}
    regularizers: [{use: l1, on: gates, weight: 0.05}]
    controller: {use: probe_removal, tau: 0.6, every: 5}
)"),
            0);
  const std::vector<Value> history = lines_of(folder / "run" / "history.jsonl");
  ASSERT_FALSE(history.empty());
  int within = 0, folded = 0;
  for (const Value& line : history) {
    const std::string kind = line.at("edits").as_list().front().at("edit").as_string();
    within += kind == "shrink" && line.at("step").as_int() > 0 && line.at("step").as_int() < 20;
    folded += kind == "fold_gate";
    const char* difference = kind == "shrink" ? "removal_difference" : "difference";
    EXPECT_LE(line.at(difference).as_double(), line.at("tolerance").as_double()) << kind;
  }
  EXPECT_GT(within, 0) << "channels go in the middle of epochs";
  EXPECT_EQ(folded, 14) << "13 convolutions and the hidden layer";
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  EXPECT_LT(summary.at("final").at("macs").as_int(), history.front().at("before").at("macs").as_int() * 3 / 4);
  const Graph g = Graph::from_value(from_json(read_file(folder / "run" / "graph.json")));
  for (const Node& n : g.nodes()) EXPECT_NE(n.op->type(), "gate");
  expect_replays(folder, "vgg16", R"({"use": "vgg16", "width": 0.125, "hidden": 32, "dropout": 0})");
}

TEST(Probe, CropsKernelsOfSingleFilters) {
  REQUIRE_DATA("fashion_mnist");
  const TempFolder folder;
  ASSERT_EQ(run_recipe(folder, R"(
espalier: 1
name: half-rings
threads: 2
data: {use: fashion_mnist, batch: 100, limit: 3000, eval_batch: 500}
network: {use: lenet5, conv1: 8, conv2: 12, hidden: 30}
stages:
  - name: shrink
    epochs: 3
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    regularizers: [{use: probe_half_rings, weight: 0.01}]
    controller: {use: probe_crop, tau: 0.25}
  - name: finetune
    epochs: 1
    optimizer: {use: sgd, lr: 0.02, momentum: 0.9}
)"),
            0);
  const Graph g = Graph::from_value(from_json(read_file(folder / "run" / "graph.json")));
  std::vector<int64_t> all;
  for (const char* name : {"conv1", "conv2"}) {
    const Node& n = g.node(name);
    const Indices sizes = n.op->kernel_sizes(g, n);
    all.insert(all.end(), sizes.begin(), sizes.end());
  }
  std::ranges::sort(all);
  EXPECT_GE(std::unique(all.begin(), all.end()) - all.begin(), 3) << "filters of several sizes";
  for (const Value& line : lines_of(folder / "run" / "history.jsonl"))
    EXPECT_LE(line.at("removal_difference").as_double(), line.at("tolerance").as_double());
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  EXPECT_EQ(g.macs(), summary.at("final").at("macs").as_int());
  // Exported, and executed by PyTorch alone on the real test images.
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch: the export was not run";
  const std::filesystem::path data = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(data)) GTEST_SKIP() << "the export was not run: Fashion-MNIST is not in " << data;
  const Output python =
      shell("OMP_NUM_THREADS=2 '" ESPALIER_PYTHON "' " + (folder / "run" / "model.py").string() + " " +
            (data / "t10k-images-idx3-ubyte.gz").string() + " " + (data / "t10k-labels-idx1-ubyte.gz").string());
  ASSERT_EQ(python.status, 0) << python.text;
  const auto at = python.text.find("accuracy ");
  ASSERT_NE(at, std::string::npos) << python.text;
  // Two of 10,000 images may lie on the other side of a boundary by rounding.
  EXPECT_NEAR(std::stod(python.text.substr(at + 9)), summary.at("metrics").at("accuracy").as_double(), 0.02);
}

}  // namespace
}  // namespace espalier
