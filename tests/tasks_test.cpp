// Runs on tables and graphs: what is learned against closed forms and published figures.
#include <cmath>
#include <sstream>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/matmul.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../datasets/tests/sample_files.h"
#include "all_plugins.h"
#include "data/scaling.h"
#include "espalier/dataset.h"
#include "espalier/error.h"
#include "espalier/random_fill.h"
#include "espalier/registry.h"
#include "espalier/value.h"
#include "formats/safetensors.h"
#include "recipe/yaml.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// x [n, features] and y [n, targets] as comma-separated values with 17 digits: x1 ... y1 ...
std::string csv_of(const at::Tensor& x, const at::Tensor& y) {
  std::ostringstream text;
  text.precision(17);
  for (int64_t j = 0; j < x.size(1); ++j) text << "x" << j + 1 << ",";
  for (int64_t j = 0; j < y.size(1); ++j) text << "y" << j + 1 << (j + 1 < y.size(1) ? "," : "\n");
  for (int64_t i = 0; i < x.size(0); ++i) {
    for (int64_t j = 0; j < x.size(1); ++j) text << x[i][j].item<double>() << ",";
    for (int64_t j = 0; j < y.size(1); ++j) text << y[i][j].item<double>() << (j + 1 < y.size(1) ? "," : "\n");
  }
  return text.str();
}

at::Tensor tensor_of(const TensorFile& file, const std::string& name) {
  const at::Tensor* found = find_tensor(file.tensors, name);
  if (!found) throw Error("no " + name);
  return *found;
}

// The minimum of mean((x w + b - y)^2) + weight / 2 |w|^2 over w [features, targets] and b.
struct Ridge {
  at::Tensor w, b;
  double loss = 0;  // the mean of squares alone
  Ridge(const at::Tensor& x, const at::Tensor& y, double weight) {
    const at::Tensor mx = x.mean(at::IntArrayRef{0}), my = y.mean(at::IntArrayRef{0});
    const at::Tensor xc = x - mx, yc = y - my;
    const double scale = weight / 2 * static_cast<double>(y.numel());
    w = at::linalg_solve(xc.t().matmul(xc) + scale * at::eye(x.size(1), x.options()), xc.t().matmul(yc));
    b = my - mx.matmul(w);
    loss = (x.matmul(w) + b - y).square().mean().item<double>();
  }
};

TEST(Tasks, RidgeRegressionReachesTheClosedForm) {
  const TempFolder folder;
  const RandomKey key(5);
  const at::Tensor x = normal({150, 6}, 1, key.with("x"));
  const at::Tensor y = x.matmul(normal({6, 2}, 1, key.with("w"))) + 0.5 + normal({150, 2}, 0.3, key.with("noise"));
  folder.write("table.csv", csv_of(x, y));
  const auto recipe = folder.write("ridge.yaml", R"(
espalier: 1
name: ridge
precision: float64
threads: 1
data: {use: csv, file: table.csv, target: ["y*"], test: 0, standardize: false, batch: 150}
network: linear
stages:
  - name: descend
    epochs: 300
    evaluate_every: 100
    optimizer: {use: sgd, lr: 0.3}
    regularizers: [{use: l2, weight: 0.1}]
)");
  const Output o = espalier_command("run -q " + recipe.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const Ridge closed(x, y, 0.1);
  const TensorFile got = load_safetensors(folder / "run" / "model.safetensors");
  EXPECT_TRUE(tensor_of(got, "fc.weight").t().allclose(closed.w, 0, 1e-5));
  EXPECT_TRUE(tensor_of(got, "fc.bias").allclose(closed.b, 0, 1e-5));
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  EXPECT_EQ(summary.at("metric").at("name").as_string(), "mse");
  EXPECT_FALSE(summary.at("metric").at("larger_is_better").as_bool());
  EXPECT_NEAR(summary.at("metrics").at("mse").as_double(), closed.loss, 1e-5);
  EXPECT_LE(summary.at("metric").at("best").as_double(), summary.at("metrics").at("mse").as_double())
      << "of errors the smallest is the best";
  const at::Tensor residual = x.matmul(closed.w) + closed.b - y;
  EXPECT_NEAR(summary.at("metrics").at("mae").as_double(), residual.abs().mean().item<double>(), 1e-5);
  const at::Tensor r2 = 1 - residual.square().sum(0) / (y - y.mean(at::IntArrayRef{0})).square().sum(0);
  EXPECT_NEAR(summary.at("metrics").at("r2").as_double(), r2.mean().item<double>(), 1e-5);
  // The exported program computes what the network does.
  const std::string program = read_file(folder / "run" / "model.py");
  EXPECT_THAT(program, HasSubstr("OUTPUTS = 2"));
  EXPECT_THAT(program, HasSubstr("INPUT = (6,)"));
}

// Multi-target tables, standardized with what they hold.
TEST(Tasks, RidgeRegressionOfRealTablesReachesTheLossOfTheClosedForm) {
  const fs::path data = samples::data_folder_with("mulan");
  if (data.empty()) GTEST_SKIP() << "the mulan tables are not on this machine: ESPALIER_DATA names their folder";
  load_all_plugins();
  const TempFolder folder;
  const std::pair<const char*, const char*> tables[] = {
      {"enb", R"(["Y1", "Y2"])"}, {"jura", R"(["Cd", "Co", "Cu"])"}, {"oes97", R"(["-16", "-15", "-14", "-13", "-12",
        "-11", "-10", "-9", "-8", "-7", "-6", "-5", "-4", "-3", "-2", "-1"])"}};
  for (const auto& [name, target] : tables) {
    SCOPED_TRACE(name);
    const std::string spec = "use: arff, file: " + (data / "mulan" / name).string() + ".arff, target: " + target +
                             ", test: 0, standardize_target: true";
    const auto recipe = folder.write(std::string(name) + ".yaml", R"(
espalier: 1
name: ridge
precision: float64
threads: 1
data: {)" + spec + R"(, batch: 100000, eval_batch: 100000}
network: linear
stages:
  - name: descend
    epochs: 3000
    evaluate_every: 3000
    optimizer: {use: adam, lr: 0.02}
    schedule: {use: cosine}
    regularizers: [{use: l2, weight: 0.02}]
)");
    const fs::path run = folder / name;
    const Output o = espalier_command("run -q --save-every 1e6 " + recipe.string() + " --out " + run.string());
    ASSERT_EQ(o.status, 0) << o.text;
    const Split split = Registry::instance().create<Dataset>(parse_yaml("{" + spec + "}", "spec"))->load("train", {});
    const Split all = scaled(split, {{"input", scaling_of(split.input())}, {"target", scaling_of(split.target())}});
    const Ridge closed(all.input().to(at::kDouble), all.target().to(at::kDouble), 0.02);
    const double found = from_json(read_file(run / "summary.json")).at("metrics").at("mse").as_double();
    EXPECT_NEAR(found, closed.loss, 0.01 * closed.loss);
    EXPECT_GT(closed.loss, 1e-3);
  }
}

TEST(Tasks, SeveralLabelsAreLearnedEndToEnd) {
  const TempFolder folder;
  const auto recipe = folder.write("labels.yaml", R"(
espalier: 1
name: labels
threads: 1
data: {use: synthetic_table, task: multilabel, features: 12, outputs: 4, count: 1500, noise: 0.01, batch: 50}
network: {use: mlp, hidden: [24]}
stages:
  - {name: train, epochs: 8, optimizer: {use: adam, lr: 0.01}, loss: {use: bce}}
  - {name: more, epochs: 2, optimizer: {use: adam, lr: 0.003}, loss: {use: focal, alpha: 0.5}}
)");
  const Output o = espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  EXPECT_EQ(summary.at("metric").at("name").as_string(), "mean_average_precision");
  // Labels of a linear teacher with little noise: far above the half of the samples that have one.
  EXPECT_GT(summary.at("metrics").at("mean_average_precision").as_double(), 95);
  EXPECT_THAT(o.text, HasSubstr("test mean_average_precision"));
  for (const Value& line : lines_of(folder / "run" / "metrics.jsonl"))
    EXPECT_EQ(line.find("train_mean_average_precision"), nullptr) << "it ranks all samples together";
}

TEST(Tasks, NodesOfAGraphHaveClasses) {
  const fs::path data = samples::data_folder_with("cora");
  if (data.empty()) GTEST_SKIP() << "cora is not on this machine: ESPALIER_DATA names its folder";
  const TempFolder folder;
  const Output o = espalier_command("run -q " ESPALIER_SOURCE_DIR "/recipes/gcn-cora.yaml --set matrix= --data " +
                                    data.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  // Kipf and Welling 2017: 81.5 % in the mean; ten of their runs lie within 1.5 points of it.
  EXPECT_NEAR(summary.at("metrics").at("accuracy").as_double(), 81.5, 2);
}

TEST(Tasks, WhatDoesNotFitIsRefused) {
  const TempFolder folder;
  folder.write("t.csv", "a,b,y\n1,2,0.5\n2,1,0.25\n3,5,0.75\n4,4,1\n5,0,0\n");
  const auto refused = [&](const std::string& data, const std::string& rest) {
    const auto recipe = folder.write("r.yaml", "espalier: 1\nname: r\ndata: {use: csv, file: t.csv" + data +
                                                   "}\nnetwork: linear\nstages: [{name: s, epochs: 1, optimizer: {use: "
                                                   "sgd, lr: 0.1}" +
                                                   rest + "}]\n");
    const Output o = espalier_command("validate " + recipe.string());
    EXPECT_NE(o.status, 0) << o.text;
    return o.text;
  };
  EXPECT_THAT(refused("", ", loss: cross_entropy"), HasSubstr("the task of the data is regression"));
  EXPECT_THAT(refused("", ", label_smoothing: 0.1"), HasSubstr("'label_smoothing' is for classes"));
  EXPECT_THAT(refused(", augment: [flip]", ""), HasSubstr("'augment' is for images"));
  EXPECT_THAT(refused(", resize: 32", ""), HasSubstr("'resize' is for images, and these data are vectors"));
  EXPECT_THAT(refused(", normalize: {mean: [1, 1, 1], std: [1, 1, 1]}", ""), HasSubstr("2"));
  EXPECT_THAT(refused(", target: z", ""), HasSubstr("z"));
}

}  // namespace
}  // namespace espalier
