// Whole runs of the program.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"
#include "espalier/value.h"
#include "formats/safetensors.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

constexpr const char* small = R"(
espalier: 1
name: small
threads: 2
data: {use: synthetic, count: 600, test_limit: 37, batch: 50, validation: 0.2, augment: [crop: 1, flip]}
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages:
  - name: shrink
    epochs: 3
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    schedule: {use: cosine, warmup: 1}
    regularizers: [{use: group_lasso, weight: 0.02}]
    controller: {use: threshold, tau: 0.3}
    label_smoothing: 0.1
    clip_norm: 5
  - name: finetune
    epochs: 1
    optimizers: [{use: adam, lr: 0.002, on: weights}, {use: sgd, lr: 0.01, on: biases}]
    start_from: last
)";

// A run that cannot begin leaves no folder: the next one of its name would be NAME-seed0-2, where recipes that name the
// folder do not look. A folder that was there before stays.
TEST(Run, LeavesNoFolderBehindWhereItCannotBegin) {
  const TempFolder folder;
  const auto recipe = folder.write("none.yaml", R"(
espalier: 1
name: none
data: {use: from_file, batch: 2}
network: {use: mlp, hidden: [8]}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.01}}]
)");
  const std::string run = "run " + recipe.string() + " --plugins " ESPALIER_FIXTURE_DIR "/libresumable.so";
  const auto fresh = folder / "fresh", there = folder / "there";
  std::filesystem::create_directories(there);
  for (const auto& out : {fresh, there}) {
    const Output o = espalier_command(run + " --out " + out.string());
    EXPECT_EQ(o.status, 1);
    EXPECT_THAT(o.text, ::testing::HasSubstr("pixels.txt is in no data folder"));
  }
  EXPECT_FALSE(std::filesystem::exists(fresh));
  EXPECT_TRUE(std::filesystem::exists(there));
  // What has begun stays: the first checkpoint is there before the first step.
  folder.write("data/pixels.txt", "");
  const Output o = espalier_command(run + " --out " + fresh.string() + " --data " + (folder / "data").string() +
                                    " --set stages.train.optimizer.lr=1e30 --set stages.train.epochs=50");
  EXPECT_EQ(o.status, 1) << o.text;
  EXPECT_TRUE(std::filesystem::exists(fresh / "checkpoints/last.safetensors")) << o.text;
}

TEST(Run, LeavesACompleteRunFolder) {
  const TempFolder folder;
  const auto recipe = folder.write("small.yaml", small);
  const Output o = espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  for (const char* f : {"recipe.yaml", "metrics.jsonl", "history.jsonl", "summary.json", "model.safetensors",
                        "graph.json", "model.py", "checkpoints/last.safetensors", "checkpoints/best.safetensors"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / "run" / f)) << f;
  }
  const std::string events = read_file(folder / "run/events.out.tfevents.0.espalier");
  for (const char* part : {"_hparams_/experiment", "stages.shrink.optimizers.sgd.lr", "_hparams_/session_end_info",
                           "The stage **finetune** begins", "lr/adam", "lr/sgd2", "widths/conv1", "conv1.weight"})
    EXPECT_THAT(events, ::testing::HasSubstr(part));
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  EXPECT_EQ(summary.at("status").as_string(), "finished");
  EXPECT_EQ(summary.at("stages").size(), 2U);
  EXPECT_EQ(summary.at("metrics").find("top5"), nullptr) << "fewer than 20 classes";
  const std::vector<Value> metrics = lines_of(folder / "run" / "metrics.jsonl");
  ASSERT_EQ(metrics.size(), 4U);
  EXPECT_EQ(metrics.back().at("test_accuracy").as_double(), summary.at("metrics").at("accuracy").as_double());
  EXPECT_NE(metrics.back().find("validation_accuracy"), nullptr);
  for (const Value& m : metrics) {  // so many of 37
    const double right = m.at("test_accuracy").as_double() * 37 / 100;
    EXPECT_NEAR(right, std::round(right), 1e-9);
  }

  // Something went, everything that went was checked, and the last entry is the final network.
  const std::vector<Value> history = lines_of(folder / "run" / "history.jsonl");
  ASSERT_FALSE(history.empty());
  for (const Value& line : history) {
    EXPECT_LE(line.at("removal_difference").as_double(), 1e-5);
    EXPECT_GT(line.at("zeroing_difference").as_double(), 0);
    EXPECT_LT(line.at("after").at("macs").as_int(), line.at("before").at("macs").as_int());
  }
  EXPECT_TRUE(history.back().at("after") == summary.at("final"));
  const Value graph = from_json(read_file(folder / "run" / "graph.json"));
  EXPECT_EQ(graph.at("macs").as_int(), summary.at("final").at("macs").as_int());

  // Train cost by hand: MACs of each epoch over those of the network as first built.
  double cost = 0;
  for (const Value& m : metrics) cost += m.at("macs").as_double() / 4 / summary.at("base").at("macs").as_double();
  EXPECT_NEAR(summary.at("train_cost").as_double(), cost, 1e-12);

  // The resolved recipe is a recipe.
  EXPECT_EQ(espalier_command("validate " + (folder / "run" / "recipe.yaml").string()).status, 0);
  // An earlier run is never overwritten.
  const Output again = espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
  EXPECT_EQ(again.status, 1);
  EXPECT_NE(again.text.find("not empty"), std::string::npos) << again.text;
}

TEST(Run, ValidateGoesOnAfterABadFileAndLooksAtTheScales) {
  const TempFolder folder;
  const std::string recipe = R"(
espalier: 1
name: r
data: {use: synthetic, count: 300}
network: {use: lenet5}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.01}}]
)";
  const std::string good = folder.write("good.yaml", recipe + "scales: {smoke: {data.count: 100}}\n").string();
  const std::string bad = folder.write("bad.yaml", recipe + "sed: 3\n").string();
  const std::string last = folder.write("last.yaml", recipe).string();
  const Output all = espalier_command("validate " + good + " " + bad + " " + last);
  EXPECT_EQ(all.status, 1);
  EXPECT_THAT(all.text, testing::AllOf(testing::HasSubstr(good + ": fine (r, 1 stage, 1 scale)"),
                                       testing::HasSubstr("bad.yaml:7:1: "), testing::HasSubstr(last + ": fine")));
  EXPECT_EQ(espalier_command("validate " + good + " " + last).status, 0);

  // A scale that nobody has asked for yet is part of the recipe.
  const auto said = [&](const std::string& scales) {
    const Output o = espalier_command("validate " + folder.write("s.yaml", recipe + scales).string());
    EXPECT_EQ(o.status, 1) << o.text;
    return o.text;
  };
  EXPECT_THAT(said("scales: {smoke: {datait: 100}}\n"),
              testing::AllOf(testing::HasSubstr("with --scale smoke: "), testing::HasSubstr("s.yaml:7:18: "),
                             testing::HasSubstr("did you mean 'data'?")));
  EXPECT_THAT(said("scales: {smoke: {stages.tran.epochs: 1}}\n"), testing::HasSubstr("did you mean 'train'?"));
  EXPECT_THAT(said("scales: {smoke: {stages.train.epochs: many}}\n"), testing::HasSubstr("'epochs' must be"));
}

// `bench` does the steps of a run: the mean of an epoch's losses is the run's.
TEST(Run, BenchDoesTheSameSteps) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
threads: 2
data: {use: synthetic, count: 300, batch: 30}
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages: [{name: train, epochs: 1, optimizer: {use: adam, lr: 0.01}, regularizers: [{use: l2, weight: 0.1}]}]
)");
  const Output run = espalier_command("run -q " + recipe.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(run.status, 0) << run.text;
  const Output bench = espalier_command("bench " + recipe.string() + " --json --steps 12 --warmup 3");
  ASSERT_EQ(bench.status, 0) << bench.text;
  const Value result = from_json(bench.text);
  double sum = 0;
  for (size_t i = 0; i < 10; ++i) sum += result.at("losses").as_list()[i].as_double();
  EXPECT_NEAR(sum / 10, lines_of(folder / "run" / "metrics.jsonl")[0].at("loss").as_double(), 1e-9);
  EXPECT_EQ(result.at("losses").size(), 15U);
  double phases = 0;
  for (const Value::Entry& phase : result.at("phases_ms").as_map()) phases += phase.value.as_double();
  EXPECT_GT(phases, 0);
  EXPECT_LE(phases, 1.5 * result.at("step_ms").as_double()) << "medians of the parts and of the whole";
}

// The forward pass alone, of a run's network and of a recipe's.
TEST(Run, BenchTimesTheInferenceOfANetwork) {
  const TempFolder folder;
  const auto recipe = folder.write("small.yaml", small);
  const std::string run = (folder / "run").string();
  ASSERT_EQ(espalier_command("run -q " + recipe.string() + " --out " + run).status, 0);
  const int64_t params = from_json(read_file(folder / "run/summary.json")).at("final").at("params").as_int();
  const Output timed = espalier_command("bench " + run + " --inference 1,7 --steps 5 --json");
  ASSERT_EQ(timed.status, 0) << timed.text;
  const Value result = from_json(timed.text);
  EXPECT_EQ(result.at("params").as_int(), params);
  ASSERT_EQ(result.at("inference").size(), 2U);
  EXPECT_EQ(result.at("inference").as_list()[1].at("batch").as_int(), 7);
  EXPECT_GT(result.at("inference").as_list()[1].at("ms").as_double(), 0);
  EXPECT_EQ(espalier_command("bench " + recipe.string() + " --inference 2 --steps 2").status, 0);
  EXPECT_THAT(espalier_command("bench " + run).text, testing::HasSubstr("--inference N"));
  EXPECT_THAT(espalier_command("bench " + run + " --inference 1 --threads two").text,
              testing::HasSubstr("no number of threads"));
}

TEST(Run, GivesTheSameBytesInTwoProcesses) {
  const TempFolder folder;
  const auto recipe = folder.write("small.yaml", small);
  for (const char* out : {"a", "b"})
    ASSERT_EQ(espalier_command("run -q " + recipe.string() + " --out " + (folder / out).string()).status, 0);
  ASSERT_EQ(espalier_command("run -q " + recipe.string() + " --seed 1 --out " + (folder / "c").string()).status, 0);
  const auto bytes = [&](const char* run) { return read_file(folder / run / "model.safetensors"); };
  EXPECT_EQ(bytes("a"), bytes("b"));
  EXPECT_NE(bytes("a"), bytes("c"));
}

// Proximal steps leave exact zeros, so that the threshold is zero, and cutting them off changes no accuracy.
TEST(Run, ReadsTheStructureOffNestedGroups) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: sizes
threads: 1
data: {use: synthetic, size: 16, channels: 3, count: 200, batch: 20}
network: {use: kernelnet_cifar18x5, width: 0.07, layers: 5, halve_at: [2]}
stages:
  - name: train
    epochs: 2
    optimizer: {use: sgd, lr: 0.1}
    regularizers: [{use: kernel_size, weight: 0.2, solver: proximal}]
    controller: {use: kernel_threshold, tau: 0, frontier: [0, 0.5], vanished: identity, correlation: true}
  - {name: finetune, epochs: 1, optimizer: {use: sgd, lr: 0.01}}
)");
  const auto out = folder / "out";
  const Output o = shell(ESPALIER_PROGRAM " run -q " + recipe.string() + " --out " + out.string());
  ASSERT_EQ(o.status, 0) << o.text;
  const Value summary = from_json(read_file(out / "summary.json"));
  const Value& train = summary.at("stages").as_list()[0];
  const Value& measured = train.at("measured");
  EXPECT_EQ(measured.at("accuracy_before").as_double(), measured.at("accuracy_zeroed").as_double());
  EXPECT_EQ(measured.at("macs_before").as_double(), static_cast<double>(train.at("before").at("macs").as_int()));
  EXPECT_EQ(measured.at("macs_removed").as_double(), static_cast<double>(train.at("after").at("macs").as_int()));
  EXPECT_LT(measured.at("kernel_size_mean").as_double(), 5);
  EXPECT_EQ(summary.at("stages").as_list()[1].find("measured"), nullptr);
  const Value points = from_json(read_file(out / "artefacts/train.frontier.json"));
  EXPECT_NE(to_json(points).find("\"tau\""), std::string::npos);
  EXPECT_NE(read_file(out / "metrics.jsonl").find("kernel_correlation"), std::string::npos);
}

// What is Espalier's own (updates, pooling, norms, regularizers) does the same with every instruction set; LibTorch
// keeps its own. Convolutions of 3x3 kernels, of VGG here, are LibTorch's with the baseline and Espalier's with AVX2
// and AVX-512, which must agree.
TEST(Run, GivesTheSameBytesWithEveryInstructionSet) {
  const TempFolder folder;
  const auto small_recipe = folder.write("small.yaml", small);
  const auto with_norms = [&](const std::string& name, const std::string& network) {
    return folder.write(name + ".yaml", R"(
espalier: 1
name: )" + name + R"(
threads: 2
data: {use: synthetic, size: 32, channels: 3, count: 64, batch: 16}
network: )" + network + R"(
stages:
  - name: train
    epochs: 1
    optimizer: {use: adam, lr: 0.001}
    regularizers:
      - {use: kernel_size, weight: 0.001}
      - {use: kernel_size, weight: 0.01, norm: linf, solver: proximal, on: convolutions}
      - {use: kernel_size, weight: 0.01, solver: proximal, groups: ring}
      - {use: kernel_number, weight: 0.01, form: squared, solver: proximal}
)");
  };
  struct Case {
    std::string name;
    std::filesystem::path recipe;
    int first;  // the first instruction set that computes it as the next ones do
  };
  const Case cases[] = {
      {"small", small_recipe, 0},
      {"wide", with_norms("wide", "{use: kernelnet_cifar18x5, width: 0.2, layers: 6}"), 0},
      {"vgg", with_norms("vgg", "{use: vgg16, width: 0.3}"), 1},
  };
  const char* names[] = {"baseline", "v3", "v4"};
  const int most = __builtin_cpu_supports("x86-64-v4") ? 3 : __builtin_cpu_supports("x86-64-v3") ? 2 : 1;
  for (const Case& c : cases) {
    const auto out = [&](int i) { return folder / (c.name + "-" + names[i]); };
    for (int i = c.first; i < most; ++i) {
      const Output o = shell("ESPALIER_ISA=" + std::string(names[i]) + " " ESPALIER_PROGRAM " run -q " +
                             c.recipe.string() + " --out " + out(i).string());
      ASSERT_EQ(o.status, 0) << o.text;
      EXPECT_EQ(from_json(read_file(out(i) / "environment.json")).at("isa").as_string(), names[i]);
      // Not EXPECT_EQ, which would print megabytes.
      EXPECT_TRUE(read_file(out(i) / "model.safetensors") == read_file(out(c.first) / "model.safetensors"))
          << c.name << " with " << names[i];
    }
  }
  const Output wrong = shell("ESPALIER_ISA=avx2 " ESPALIER_PROGRAM " run -q " + small_recipe.string());
  EXPECT_EQ(wrong.status, 1);
  EXPECT_NE(wrong.text.find("none of baseline, v3, v4"), std::string::npos) << wrong.text;
}

TEST(Run, LearnsWithEveryPrecision) {
  const TempFolder folder;
  for (const char* precision : {"float32", "float64", "bf16"}) {
    const auto recipe = folder.write(std::string(precision) + ".yaml",
                                     "espalier: 1\nname: p\nprecision: " + std::string(precision) + R"(
data: {use: synthetic, count: 1200, batch: 50}
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages: [{name: train, epochs: 4, optimizer: {use: adam, lr: 0.005}}]
)");
    const auto out = folder / (std::string(precision) + "-run");
    const Output o = espalier_command("run -q " + recipe.string() + " --out " + out.string());
    ASSERT_EQ(o.status, 0) << o.text;
    EXPECT_GT(from_json(read_file(out / "summary.json")).at("metrics").at("accuracy").as_double(), 60)
        << precision << ": four classes";
    const auto expected = std::string(precision) == "float64" ? at::kDouble : at::kFloat;
    EXPECT_EQ(load_safetensors(out / "model.safetensors").tensors.front().second.scalar_type(), expected);
  }
}

TEST(Run, NamesTheBatchNormThatABatchOfOneCannotTrain) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, size: 32, channels: 3, count: 17, batch: 16}
network: {use: vgg16, width: 0.05}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.001}}]
)");
  for (const char* precision : {"float32", "float64"}) {  // the CPU's own form, LibTorch's
    const Output o = espalier_command("run " + recipe.string() + " --set precision=" + precision + " --out " +
                                      (folder / precision).string());
    EXPECT_EQ(o.status, 1);
    EXPECT_NE(o.text.find("error: batch norm 'bn"), std::string::npos) << "no controller is blamed: " << o.text;
    EXPECT_NE(o.text.find("(stage 'train', epoch 1, step 2)"), std::string::npos) << o.text;
    EXPECT_NE(o.text.find("data.drop_last: true"), std::string::npos) << o.text;
    // What it advises is possible, also with another batch size.
    const std::string resume = "espalier resume " + (folder / precision).string();
    EXPECT_NE(o.text.find(resume), std::string::npos) << o.text;
    const std::string change = precision == std::string("float32") ? "data.drop_last=true" : "data.batch=17";
    const Output again = espalier_command(resume.substr(9) + " --set " + change);
    EXPECT_EQ(again.status, 0) << again.text;
  }
}

TEST(Run, DoesNotTakeTheBestOfAStageBeforeTheLast) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 200, batch: 20}
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages:
  - {name: learn, epochs: 1, optimizer: {use: sgd, lr: 0.01}}
  - {name: prune, epochs: 0, controller: {use: threshold, tau: 1000, min_filters: 3}}
  - {name: end, epochs: 0, start_from: best}
)");
  const Output o = espalier_command("run -q " + recipe.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const Value stages = from_json(read_file(folder / "run" / "summary.json")).at("stages");
  EXPECT_TRUE(stages.as_list()[2].at("before") == stages.as_list()[1].at("after")) << "what was pruned stays pruned";
}

// The best epochs of a stage that removes filters at its end are of a network that is no more.
TEST(Run, TakesTheBestOfTheFinalStructure) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
threads: 2
data: {use: synthetic, count: 200, batch: 20}
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages:
  - {name: prune, epochs: 2, optimizer: {use: sgd, lr: 0.05}, controller: {use: soft_filter_prune, ratio: 0.5, on: all}}
  - {name: end, epochs: 0, start_from: best}
)");
  const Output o = espalier_command("run -q " + recipe.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const Value summary = from_json(read_file(folder / "run" / "summary.json"));
  const Value::List& stages = summary.at("stages").as_list();
  EXPECT_LT(stages[0].at("after").at("params").as_int(), stages[0].at("before").at("params").as_int());
  EXPECT_TRUE(stages[1].at("before") == stages[0].at("after"));
  EXPECT_TRUE(summary.at("final") == stages[0].at("after"));
}

// A controller that copies an average into the weights at the end, without an edit: what is measured is what is saved.
TEST(Run, EvaluatesWhatAControllerLeavesAtTheEndOfAStage) {
  const TempFolder folder;
  const std::string head = R"(
espalier: 1
name: r
threads: 2
data: {use: synthetic, count: 300, batch: 20}
)";
  const auto recipe = folder.write("r.yaml", head + R"(
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages: [{name: keep, epochs: 1, optimizer: {use: sgd, lr: 0.05}, controller: keeper}]
)");
  const Output o =
      espalier_command("run -q " + recipe.string() + " --plugins '" ESPALIER_FIXTURE_DIR "/libresumable.so' --out " +
                       (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const auto again = folder.write("again.yaml", head + "network: {from: run}\nstages: [{name: look, epochs: 0}]\n");
  const Output look = espalier_command("run -q " + again.string() + " --out " + (folder / "again").string());
  ASSERT_EQ(look.status, 0) << look.text;
  const Value one = from_json(read_file(folder / "run" / "summary.json"));
  const Value two = from_json(read_file(folder / "again" / "summary.json"));
  EXPECT_EQ(one.at("metrics").at("accuracy").as_double(), two.at("metrics").at("accuracy").as_double());
  EXPECT_EQ(one.at("loss").as_double(), two.at("loss").as_double());
  EXPECT_NE(one.at("loss").as_double(), lines_of(folder / "run" / "metrics.jsonl").back().at("test_loss").as_double())
      << "the average is another network than the last epoch's";
}

// model.py, by PyTorch alone, against the run that wrote it, on real images.
TEST(Run, ItsPythonModelHasExactlyItsAccuracy) {
  const std::filesystem::path data = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(data))
    GTEST_SKIP() << "Fashion-MNIST is not installed (Debian package dataset-fashion-mnist)";
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  const TempFolder folder;
  const auto recipe = folder.write("fashion.yaml", R"(
espalier: 1
name: fashion
threads: 2
data: {use: fashion_mnist, batch: 64, limit: 4000}
network: {use: lenet5}
stages:
  - name: shrink
    epochs: 1
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    regularizers: [{use: group_lasso, weight: 0.01}]
    controller: {use: threshold, tau: 0.6, min_filters: 3}
)");
  const Output run = espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(run.status, 0) << run.text;
  EXPECT_FALSE(lines_of(folder / "run" / "history.jsonl").empty()) << "a pruned network is meant: " << run.text;
  const Output python =
      shell("OMP_NUM_THREADS=2 '" ESPALIER_PYTHON "' " + (folder / "run" / "model.py").string() + " " +
            (data / "t10k-images-idx3-ubyte.gz").string() + " " + (data / "t10k-labels-idx1-ubyte.gz").string());
  ASSERT_EQ(python.status, 0) << python.text;
  const auto at = python.text.find("accuracy ");
  ASSERT_NE(at, std::string::npos) << python.text;
  EXPECT_DOUBLE_EQ(std::stod(python.text.substr(at + 9)),
                   from_json(read_file(folder / "run" / "summary.json")).at("metrics").at("accuracy").as_double());
}

TEST(Run, ItsPythonModelResizesAsTheRunDid) {
  const std::filesystem::path data = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(data))
    GTEST_SKIP() << "Fashion-MNIST is not installed (Debian package dataset-fashion-mnist)";
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
  const TempFolder folder;
  const auto recipe = folder.write("small.yaml", R"(
espalier: 1
name: small
precision: float64
data: {use: fashion_mnist, batch: 64, limit: 2000, resize: {size: 20, interpolation: bicubic}}
network: {use: mlp, hidden: [30]}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.05, momentum: 0.9}}]
)");
  const Output run = espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(run.status, 0) << run.text;
  const Output python =
      shell("OMP_NUM_THREADS=2 '" ESPALIER_PYTHON "' " + (folder / "run" / "model.py").string() + " " +
            (data / "t10k-images-idx3-ubyte.gz").string() + " " + (data / "t10k-labels-idx1-ubyte.gz").string());
  ASSERT_EQ(python.status, 0) << python.text;
  const auto at = python.text.find("accuracy ");
  ASSERT_NE(at, std::string::npos) << python.text;
  // The program normalises and resizes in float32, which may move a few of 10,000 images across an edge.
  EXPECT_NEAR(std::stod(python.text.substr(at + 9)),
              from_json(read_file(folder / "run" / "summary.json")).at("metrics").at("accuracy").as_double(), 0.05);
}

// LibTorch would wait for ever for threads that do not come.
TEST(Run, SaysWhatStandsInTheWayOfItsThreads) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 20, batch: 20}
network: {use: mlp, hidden: [4]}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.1}}]
)");
  const auto run = [&](const std::string& variables, const std::string& flags, const char* out) {
    return shell(variables + " timeout 60 '" ESPALIER_PROGRAM "' run " + recipe.string() + " --out " +
                 (folder / out).string() + " " + flags);
  };
  const Output limited = run("OMP_THREAD_LIMIT=1", "--threads 2", "a");
  EXPECT_EQ(limited.status, 1) << limited.text;
  EXPECT_NE(limited.text.find("2 threads are needed, and OpenMP gives 1: OMP_THREAD_LIMIT=1 in the environment"),
            std::string::npos)
      << limited.text;
  EXPECT_EQ(run("OMP_THREAD_LIMIT=1", "--threads 1", "b").status, 0) << "what it advises";
  const Output many = run("", "--threads 300", "c");
  EXPECT_EQ(many.status, 0) << many.text;
  EXPECT_NE(many.text.find("300 threads on "), std::string::npos) << many.text;
}

std::string faults() {
  return " --plugins '" ESPALIER_FIXTURE_DIR "/libfaults.so'";
}

TEST(Run, LabelsWhatAComponentThrowsInAStepAndLeavesAFailedSummary) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(espalier: 1
name: r
data: {use: synthetic, count: 100}
network: {use: mlp, hidden: [4]}
stages:
  - name: train
    epochs: 1
    optimizer: {use: sgd, lr: 0.1}
    regularizers: [{use: throws_in_step}]
)");
  const Output o = espalier_command("run " + recipe.string() + faults() + " --out " + (folder / "run").string());
  EXPECT_EQ(o.status, 1);
  EXPECT_NE(o.text.find("r.yaml:9:20: regularizer 'throws_in_step' of plugin faults 1.0.0"), std::string::npos)
      << o.text;
  EXPECT_EQ(o.text.find("controller"), std::string::npos) << "only the innermost component is named: " << o.text;
  EXPECT_NE(o.text.find("the penalty is out of order"), std::string::npos) << o.text;
  EXPECT_EQ(from_json(read_file(folder / "run" / "summary.json")).at("status").as_string(), "failed");
}

TEST(Run, RefusesAnEditThatChangesTheFunctionAndPutsEverythingBack) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 100}
network: {use: liar_network}
stages:
  - name: train
    epochs: 0
    controller: {use: threshold, tau: 1000, min_filters: 4}
)");
  const Output o = espalier_command("run " + recipe.string() + faults() + " --out " + (folder / "run").string());
  EXPECT_EQ(o.status, 1);
  EXPECT_NE(o.text.find("the network's function changed"), std::string::npos) << o.text;
  EXPECT_TRUE(read_file(folder / "run" / "history.jsonl").empty()) << "what did not happen is not in the history";
}

TEST(Run, NeedsNoPythonFormOfItsOperations) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 100}
network: {use: liar_network}
stages: [{name: train, epochs: 1, optimizer: {use: sgd, lr: 0.1}}]
)");
  const Output o = espalier_command("run -q " + recipe.string() + faults() + " --out " + (folder / "run").string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_NE(o.text.find("model.py is not written: node 'lie'"), std::string::npos) << o.text;
  EXPECT_EQ(from_json(read_file(folder / "run" / "summary.json")).at("status").as_string(), "finished");
  EXPECT_TRUE(std::filesystem::exists(folder / "run" / "model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(folder / "run" / "model.py"));
}

TEST(Run, PutsEverythingBackWhereTheLastOfSeveralEditsIsImpossible) {
  const TempFolder folder;
  std::map<std::string, std::string> values;
  for (const std::string controller : {"none", "asks_too_much"}) {
    const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 100}
network: {use: mlp, hidden: [6]}
stages:
  - name: train
    epochs: 1
    optimizer: {use: sgd, lr: 0.1, momentum: 0.9}
    controller: {use: )" + controller + "}\n");
    const Output o = espalier_command("run " + recipe.string() + faults() + " --out " + (folder / controller).string());
    ASSERT_EQ(o.status, 0) << o.text;
    EXPECT_EQ(o.text.find("no such block") != std::string::npos, controller == "asks_too_much") << o.text;
    EXPECT_TRUE(read_file(folder / controller / "history.jsonl").empty());
    values[controller] = read_file(folder / controller / "model.safetensors");
  }
  EXPECT_EQ(values["asks_too_much"], values["none"]);
}

TEST(Run, SaysThatTheLossIsNotANumber) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 200, batch: 20}
network: {use: mlp, hidden: [8]}
stages: [{name: wild, epochs: 3, optimizer: {use: sgd, lr: 1.0e+30}}]
)");
  const Output o = espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
  EXPECT_EQ(o.status, 1);
  EXPECT_NE(o.text.find("stage 'wild', epoch"), std::string::npos) << o.text;
  EXPECT_NE(o.text.find("smaller learning rate"), std::string::npos) << o.text;
}

TEST(Run, StartsAStageFromTheBestOrTheLastOfTheStageBefore) {
  const TempFolder folder;
  for (const std::string start : {"best", "last"}) {
    // A learning rate that rises until it ruins the network; the second stage has no epoch and shows what it was given.
    const auto recipe = folder.write(start + ".yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 400, batch: 20}
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages:
  - {name: learn, epochs: 6, optimizer: {use: adam, lr: 0.3}, schedule: {use: constant, warmup: 6}}
  - {name: end, epochs: 0, start_from: )" + start + "}\n");
    const Output o = espalier_command("run -q " + recipe.string() + " --out " + (folder / start).string());
    ASSERT_EQ(o.status, 0) << o.text;
    std::vector<double> accuracy;
    for (const Value& line : lines_of(folder / start / "metrics.jsonl"))
      accuracy.push_back(line.at("test_accuracy").as_double());
    const double best = *std::ranges::max_element(accuracy);
    ASSERT_NE(best, accuracy.back()) << "the test needs a last epoch that is not the best";
    EXPECT_EQ(from_json(read_file(folder / start / "summary.json")).at("metrics").at("accuracy").as_double(),
              start == "best" ? best : accuracy.back());
  }
}

TEST(Run, NotesAPenaltyOfExactlyZeroOnce) {
  for (const auto& [regularizer, noted] :
       std::vector<std::pair<const char*, bool>>{{"{use: group_lasso, on: fc2}", true},
                                                 {"{use: group_lasso, weight: 0}", true},
                                                 {"{use: l1, weight: 0.001}", false}}) {
    const TempFolder folder;
    const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 100, batch: 20}
network: {use: lenet5, conv1: 2, conv2: 2, hidden: 4}
stages:
  - {name: train, epochs: 2, optimizer: {use: sgd, lr: 0.01}, regularizers: [)" +
                                                   std::string(regularizer) + "]}\n");
    const Output o = espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
    EXPECT_EQ(o.status, 0) << o.text;
    const std::string text = "is exactly zero in the stage's first step";
    const size_t first = o.text.find(text);
    EXPECT_EQ(first != std::string::npos, noted) << o.text;
    if (noted) {
      EXPECT_EQ(o.text.find(text, first + 1), std::string::npos) << o.text;
    }
  }
}

// Damage that zeroing and removing would agree on shows against the accuracy of a network that only reads zeros.
TEST(Run, KeepsWhatAConcatenationPassesOnBesideWhatGoes) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 200}
network: {use: densenet40, growth: 4}
stages:
  - {name: train, epochs: 1, optimizer: {use: sgd, lr: 0.05, momentum: 0.9}}
  - {name: prune, epochs: 0, controller: {use: l1_prune, ratio: 0.5, on: [dense1.2.conv1]}}
)");
  const Output o = espalier_command("run " + recipe.string() + " --out " + (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  const std::vector<Value> history = lines_of(folder / "run" / "history.jsonl");
  ASSERT_EQ(history.size(), 1U);
  EXPECT_LE(history[0].at("removal_difference").as_double(), history[0].at("tolerance").as_double());
  const Value& accuracy = history[0].at("accuracy");
  EXPECT_EQ(accuracy.at("after"), accuracy.at("zeroed"));
  EXPECT_GT(accuracy.at("samples").as_int(), 0);
}

// Options that mean nothing together are refused before anything is trained.
TEST(Run, RefusesOptionsThatMeanNothingTogether) {
  for (const auto& [data, optimizer, schedule, why] :
       std::vector<std::tuple<const char*, const char*, const char*, const char*>>{
           {"", "{use: sgd, lr: 0.1, nesterov: true}", "constant", "'nesterov' looks ahead"},
           {"", "{use: lbi, lr: 0.1, nesterov: true, momentum: 0}", "constant", "'nesterov' looks ahead"},
           {"", "{use: sgd, lr: 0.1}", "{use: step, milestones: [5]}", "'milestones' has 5"},
           {"", "{use: sgd, lr: 0.1}", "{use: cosine, warmup: 3}", "'warmup' takes 3"},
           {", validation: 0.001", "{use: sgd, lr: 0.1}", "constant", "which is no sample of 100"}}) {
    const TempFolder folder;
    const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
data: {use: synthetic, count: 100)" + std::string(data) +
                                                   R"(}
network: {use: mlp, hidden: [4]}
stages: [{name: train, epochs: 2, optimizer: )" + optimizer +
                                                   ", schedule: " + schedule + "}]\n");
    const Output o = espalier_command("validate " + recipe.string());
    EXPECT_EQ(o.status, 1) << o.text;
    EXPECT_NE(o.text.find(why), std::string::npos) << o.text;
    EXPECT_NE(o.text.find("r.yaml:"), std::string::npos) << o.text;
  }
}

}  // namespace
}  // namespace espalier
