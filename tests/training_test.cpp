// What a stage does beside stepping: accumulated batches, frozen parameters, factors of learning rates, averages, ends
// of its own, losses and metrics, teachers.
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/graph.h"
#include "espalier/value.h"
#include "formats/safetensors.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// An MLP on images of shapes, float64, one thread.
std::string recipe(const std::string& data, const std::string& stage) {
  return R"(
espalier: 1
name: t
precision: float64
threads: 1
data: {use: synthetic, size: 8, count: 128, )" +
         data + R"(}
network: {use: mlp, hidden: [12, 9]}
stages:
  - {name: train, epochs: 1, optimizer: {use: sgd, lr: 0.1}, )" +
         stage + "}\n";
}

class Training : public ::testing::Test {
 protected:
  // The values that a run ends with.
  TensorFile run(const std::string& name, const std::string& text, const std::string& flags = "") {
    const auto file = folder_.write(name + ".yaml", text);
    const Output o = espalier_command("run -q " + file.string() + flags + " --out " + (folder_ / name).string());
    EXPECT_EQ(o.status, 0) << o.text;
    return load_safetensors(folder_ / name / "model.safetensors");
  }
  std::string refused(const std::string& text) {
    const auto file = folder_.write("wrong.yaml", text);
    const Output o = espalier_command("validate " + file.string());
    EXPECT_NE(o.status, 0);
    return o.text;
  }
  Value summary(const std::string& name) { return from_json(read_file(folder_ / name / "summary.json")); }
  std::vector<Value> metrics(const std::string& name) { return lines_of(folder_ / name / "metrics.jsonl"); }

  static at::Tensor of(const TensorFile& file, const std::string& name) {
    for (const auto& [other, tensor] : file.tensors) {
      if (other == name) return tensor;
    }
    ADD_FAILURE() << "no " << name;
    return {};
  }

  TempFolder folder_;
};

TEST_F(Training, FourAccumulatedBatchesAreOneOfFourTimesTheSize) {
  const TensorFile whole = run("whole", recipe("batch: 64", ""));
  const TensorFile parts = run("parts", recipe("batch: 16", "accumulate: 4"));
  const TensorFile few = run("few", recipe("batch: 16", ""));
  for (const auto& [name, tensor] : whole.tensors) {
    // Sums in another order, in float64.
    EXPECT_TRUE(of(parts, name).allclose(tensor, 1e-11, 1e-12)) << name;
    EXPECT_FALSE(of(few, name).allclose(tensor, 1e-3, 1e-4)) << name;
  }
  EXPECT_EQ(metrics("parts")[0].at("step"), metrics("whole")[0].at("step"));
  EXPECT_NEAR(metrics("parts")[0].at("loss").as_double(), metrics("whole")[0].at("loss").as_double(), 1e-12);
  EXPECT_EQ(metrics("parts")[0].at("train_accuracy"), metrics("whole")[0].at("train_accuracy"));
}

TEST_F(Training, AccumulatedBatchesOfUnequalWeightAreOneBatch) {
  const std::string loss = "loss: {use: cross_entropy, class_weight_values: [5, 1, 0.5, 0.1]}";
  const TensorFile whole = run("whole", recipe("batch: 128", loss));
  // The last part has 28 samples.
  const TensorFile parts = run("parts", recipe("batch: 50", loss + ", accumulate: 3"));
  for (const auto& [name, tensor] : whole.tensors) EXPECT_TRUE(of(parts, name).allclose(tensor, 1e-11, 1e-12)) << name;
}

// What one step changes, by name.
TEST_F(Training, LearningRatesHaveTheFactorsOfTheirLayers) {
  const std::string data = "batch: 128";
  const TensorFile first = run("first", recipe(data, ""), " --set stages.train.epochs=0");
  const TensorFile plain = run("plain", recipe(data, ""));
  const TensorFile scaled = run("scaled", recipe(data, "lr_scale: {fc1: 0.25, '*.bias': 2}"));
  const TensorFile decayed = run("decayed", recipe(data, "layer_decay: 0.5"));
  const auto expect = [&](const TensorFile& got, const std::string& name, double factor) {
    const at::Tensor step = of(plain, name) - of(first, name);
    EXPECT_GT(step.abs().max().item<double>(), 1e-5) << name;
    EXPECT_TRUE((of(got, name) - of(first, name)).allclose(factor * step, 1e-9, 1e-15)) << name;
  };
  expect(scaled, "fc1.weight", 0.25);
  expect(scaled, "fc1.bias", 0.25);
  expect(scaled, "fc2.bias", 2);
  expect(scaled, "fc3.weight", 1);
  expect(decayed, "fc3.weight", 1);
  expect(decayed, "fc2.weight", 0.5);
  expect(decayed, "fc1.bias", 0.25);
}

TEST_F(Training, FrozenParametersStayUntilTheyThaw) {
  const std::string data = "batch: 32";
  const TensorFile first = run("first", recipe(data, ""), " --set stages.train.epochs=0");
  const TensorFile frozen = run("frozen", recipe(data, "freeze: [fc1, fc2.bias]"), " --set stages.train.epochs=2");
  for (const char* name : {"fc1.weight", "fc1.bias", "fc2.bias"})
    EXPECT_TRUE(of(frozen, name).equal(of(first, name))) << name;
  for (const char* name : {"fc2.weight", "fc3.weight", "fc3.bias"})
    EXPECT_FALSE(of(frozen, name).equal(of(first, name))) << name;
  const TensorFile thawed =
      run("thawed", recipe(data, "freeze: [fc1], unfreeze_at: 1"), " --set stages.train.epochs=2");
  EXPECT_FALSE(of(thawed, "fc1.weight").equal(of(first, "fc1.weight")));
  const Output noted = espalier_command("plan " + (folder_ / "frozen.yaml").string());
  EXPECT_THAT(noted.text, ::testing::Not(HasSubstr("no optimizer updates"))) << "what is frozen is meant to stay";
}

TEST_F(Training, AnAverageTakesThePlaceOfTheNetworkOrStandsBeside) {
  const std::string data = "batch: 32";
  const TensorFile plain = run("plain", recipe(data, ""));
  const TensorFile beside = run("beside", recipe(data, "ema: {decay: 0.9, evaluate: beside}"));
  const TensorFile instead = run("instead", recipe(data, "ema: {decay: 0.9}"));
  const TensorFile average = load_safetensors(folder_ / "beside" / "networks" / "train.ema" / "model.safetensors");
  for (const auto& [name, tensor] : plain.tensors) {
    EXPECT_TRUE(of(beside, name).equal(tensor)) << name;
    EXPECT_FALSE(of(average, name).equal(tensor)) << name;
    EXPECT_TRUE(of(instead, name).equal(of(average, name))) << name;
  }
  EXPECT_EQ(metrics("beside")[0].at("ema_test_loss"), metrics("instead")[0].at("test_loss"));
  EXPECT_NE(metrics("beside")[0].at("test_loss"), metrics("instead")[0].at("test_loss"));
  EXPECT_EQ(metrics("plain")[0].at("test_loss"), metrics("beside")[0].at("test_loss"));
  const fs::path exported = folder_ / "average.safetensors";
  const Output o = espalier_command("export " + (folder_ / "beside").string() + " --to safetensors --from ema --out " +
                                    exported.string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_TRUE(of(load_safetensors(exported), "fc1.weight").equal(of(average, "fc1.weight")));
  const fs::path best = folder_ / "best.safetensors";
  espalier_command("export " + (folder_ / "instead").string() + " --to safetensors --from best --out " + best.string());
  EXPECT_TRUE(of(load_safetensors(best), "fc1.weight").equal(of(average, "fc1.weight")));
}

TEST_F(Training, AnAverageBesideLosesWhatTheControllerRemovesAtTheEnd) {
  run("pruned",
      recipe("batch: 32", "ema: {decay: 0.5, evaluate: beside}, controller: {use: l1_prune, ratio: 0.5, on: linears}"));
  const Graph network = Graph::from_value(from_json(read_file(folder_ / "pruned" / "graph.json")));
  const Graph average =
      Graph::from_value(from_json(read_file(folder_ / "pruned" / "networks" / "train.ema" / "graph.json")));
  EXPECT_EQ(average.parameter_count(), network.parameter_count());
  const TensorFile values = load_safetensors(folder_ / "pruned" / "networks" / "train.ema" / "model.safetensors");
  EXPECT_EQ(of(values, "fc1.weight").size(0), 6) << "half of twelve units";
}

TEST_F(Training, DropLastLeavesOutAnIncompleteBatchAndNoFullOne) {
  // 128 samples are three batches of 40 and eight samples more.
  run("dropped", recipe("batch: 40, drop_last: true", "accumulate: 2"));
  EXPECT_EQ(metrics("dropped")[0].at("step").as_int(), 2) << "of two batches and of one";
  run("whole", recipe("batch: 40", "accumulate: 2"));
  EXPECT_EQ(metrics("whole")[0].at("step").as_int(), 2);
  run("all", recipe("batch: 40, drop_last: true, repeat: 3", ""));
  EXPECT_EQ(metrics("all")[0].at("step").as_int(), 9);
}

TEST_F(Training, TheBestIsWhatTheValidationPartChooses) {
  run("r", recipe("batch: 16, validation: 0.25", ""), " --set stages.train.epochs=8");
  double chosen = 0, best = -1;
  for (const Value& line : metrics("r")) {
    if (line.at("validation_accuracy").as_double() <= best) continue;
    best = line.at("validation_accuracy").as_double();
    chosen = line.at("test_accuracy").as_double();
  }
  EXPECT_EQ(summary("r").at("metric").at("best").as_double(), chosen);
  EXPECT_EQ(summary("r").at("metric").at("validation").as_double(), best);
}

TEST_F(Training, WhatEndedByItselfCanGoOn) {
  run("stopped", recipe("batch: 128", "early_stop: {metric: loss, patience: 2, min_delta: 0.5}"),
      " --set stages.train.epochs=6 --set stages.train.optimizer.lr=1e-9");
  ASSERT_EQ(metrics("stopped").size(), 3U);
  const std::string resume = "resume -q " + (folder_ / "stopped").string();
  const Output refused = espalier_command(resume + " --set stages.train.epochs=8");
  EXPECT_NE(refused.status, 0);
  EXPECT_THAT(refused.text, HasSubstr("'early_stop' of stage 'train' ended it"));
  const Output o = espalier_command(resume + " --set stages.train.early_stop=");
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_EQ(metrics("stopped").size(), 6U);
}

TEST_F(Training, EndsByItself) {
  // At this rate nothing is learned.
  run("stopped", recipe("batch: 128", "early_stop: {metric: loss, patience: 2, min_delta: 0.5}"),
      " --set stages.train.epochs=20 --set stages.train.optimizer.lr=1e-9");
  EXPECT_EQ(metrics("stopped").size(), 3U) << "the first evaluation, and two without improvement";
  run("below",
      recipe("batch: 128",
             "schedule: {use: step, every: 1, factor: 0.1}, stop_below: {lr: 0.0009}, gradient_norm: true"),
      " --set stages.train.epochs=20");
  EXPECT_EQ(metrics("below").size(), 3U) << "0.1, 0.01, 0.001";
  EXPECT_GT(metrics("below")[0].at("gradient_norm").as_double(), 0);
  EXPECT_EQ(summary("below").at("stages").as_list()[0].at("epochs").as_int(), 3);
}

TEST_F(Training, MetricsAreThoseOfTheRecipe) {
  run("r", recipe("batch: 32, validation: 0.25", "") +
               "metrics: [balanced_accuracy, accuracy]\nexpect: {balanced_accuracy_best: {value: 50, within: 50}}\n");
  const Value s = summary("r");
  EXPECT_EQ(s.at("metric").at("name").as_string(), "balanced_accuracy");
  EXPECT_TRUE(s.at("metric").at("larger_is_better").as_bool());
  EXPECT_EQ(s.at("metrics").as_map().size(), 2U);
  EXPECT_TRUE(s.at("expect").at("balanced_accuracy_best").at("met").as_bool());
  for (const char* name :
       {"train_balanced_accuracy", "test_balanced_accuracy", "test_accuracy", "validation_balanced_accuracy"})
    EXPECT_NE(metrics("r")[0].find(name), nullptr) << name;
}

TEST_F(Training, ATeacherIsAnEarlierStageOrARun) {
  const std::string two = recipe("batch: 32", "") +
                          "  - name: learn\n    epochs: 1\n    optimizer: {use: sgd, lr: 0.1}\n"
                          "    network: {use: mlp, hidden: [5]}\n"
                          "    loss: {use: distillation, teacher_stage: train, temperature: 2}\n";
  const TensorFile of_stage = run("stage", two);
  const std::string one = recipe("batch: 32", "");
  const TensorFile teacher = run("teacher", one);
  // The same network of the same data learns the same from the run that the first stage alone is.
  std::string from_run = two;
  const std::string word = "teacher_stage: train";
  from_run.replace(from_run.find(word), word.size(), "teacher: teacher");
  const TensorFile of_run = run("run", from_run);
  for (const auto& [name, tensor] : of_stage.tensors) EXPECT_TRUE(of(of_run, name).equal(tensor)) << name;
  std::string alone = two;
  const std::string loss = "    loss: {use: distillation, teacher_stage: train, temperature: 2}\n";
  alone.replace(alone.find(loss), loss.size(), "");
  EXPECT_FALSE(of(run("alone", alone), "fc1.weight").equal(of(of_stage, "fc1.weight"))) << "the teacher counts";
  const Output plan = espalier_command("plan " + (folder_ / "stage.yaml").string());
  EXPECT_THAT(plan.text, HasSubstr("each step computes the network that teaches, train, too"));
}

// A teacher reads what this recipe makes of the data.
TEST_F(Training, ATeacherOfInputsThatWerePreparedOtherwiseIsNoted) {
  run("teacher", recipe("batch: 32", ""));
  const std::string loss = "loss: {use: distillation, teacher: teacher}";
  const auto plan = [&](const std::string& text) {
    return espalier_command("plan " + folder_.write("p.yaml", text).string()).text;
  };
  EXPECT_THAT(plan(recipe("batch: 32", loss)), Not(HasSubstr("was trained with data.normalize")));
  EXPECT_THAT(plan(recipe("batch: 32, normalize: false", loss)),
              HasSubstr("was trained with data.normalize true, and reads inputs with false here"));
}

TEST_F(Training, PlanShowsTheKeysOfAStageThatAreNotAsUsual) {
  const Output o = espalier_command(
      "plan " +
      folder_.write("p.yaml", recipe("batch: 32", "ema: {decay: 0.9}, accumulate: 2, clip_norm: 1")).string());
  EXPECT_THAT(o.text, AllOf(HasSubstr("clip_norm 1"), HasSubstr("accumulate 2"), HasSubstr("ema {\"decay\":0.9")));
  EXPECT_THAT(o.text, Not(HasSubstr("layer_decay")));
}

TEST_F(Training, AnotherTeacherIsNoticedWhenTheRunGoesOn) {
  run("teacher", recipe("batch: 32", ""));
  run("learner", recipe("batch: 32", "loss: {use: distillation, teacher: teacher}"));
  run("other", recipe("batch: 32", ""), " --seed 5");
  fs::copy_file(folder_ / "other" / "model.safetensors", folder_ / "teacher" / "model.safetensors",
                fs::copy_options::overwrite_existing);
  const std::string resume = "resume -q " + (folder_ / "learner").string() + " --set stages.train.epochs=2";
  const Output o = espalier_command(resume);
  EXPECT_NE(o.status, 0);
  EXPECT_THAT(o.text, HasSubstr("is not the one that the run began with"));
  EXPECT_EQ(espalier_command(resume + " --changed-data").status, 0);
}

TEST_F(Training, WrongThingsAreRefusedAtTheirPlace) {
  const std::string data = "batch: 32";
  EXPECT_THAT(refused(recipe(data, "loss: mse")), HasSubstr("mse is a loss for regression"));
  EXPECT_THAT(refused(recipe(data, "loss: {use: cross_entropi}")), HasSubstr("did you mean 'cross_entropy'?"));
  EXPECT_THAT(refused(recipe(data, "loss: {use: focal}, label_smoothing: 0.1")), HasSubstr("leave it out"));
  EXPECT_THAT(refused(recipe(data, "loss: {use: distillation, teacher_stage: dense}")),
              HasSubstr("no stage before it is called 'dense'"));
  EXPECT_THAT(refused(recipe(data, "loss: {use: distillation, teacher: nowhere}")), HasSubstr("nowhere"));
  EXPECT_THAT(refused(recipe(data, "") + "  - name: learn\n    epochs: 1\n    optimizer: {use: sgd, lr: 0.1}\n"
                                         "    data: {resize: 6}\n    network: {use: mlp, hidden: [5]}\n"
                                         "    loss: {use: distillation, teacher_stage: train}\n"),
              HasSubstr("reads the input 'input' as [1, 8, 8], and the one that learns as [1, 6, 6]"));
  EXPECT_THAT(refused(recipe(data + ", normalize: {image: standardize}", "")), HasSubstr("no such input or target"));
  EXPECT_THAT(refused(recipe(data + ", normalize: {target: standardize}", "")), HasSubstr("which holds classes"));
  EXPECT_THAT(refused(recipe(data, "loss: {use: cross_entropy, class_weight_values: [0, 0, 0, 0]}")),
              HasSubstr("nothing would be learned"));
  EXPECT_THAT(refused(recipe(data, "freeze: fc7")), HasSubstr("'fc7' matches no parameter"));
  EXPECT_THAT(refused(recipe(data, "lr_scale: {fc7: 2}")), HasSubstr("'fc7' matches no parameter"));
  EXPECT_THAT(refused(recipe(data, "unfreeze_at: 1")), HasSubstr("freezes nothing"));
  EXPECT_THAT(refused(recipe(data, "early_stop: {metric: acuracy}")), HasSubstr("did you mean 'accuracy'?"));
  EXPECT_THAT(refused(recipe(data, "ema: {decay: 1}")), HasSubstr("a number >= 0 and < 1"));
  EXPECT_THAT(refused(recipe(data, "ema: 0.99")), HasSubstr("'ema' must be a map: {decay: 0.999}"));
  EXPECT_THAT(refused(recipe(data, "accumulate: 0")), HasSubstr(">= 1"));
  EXPECT_THAT(refused(recipe(data, "") + "metrics: [mse]\n"), HasSubstr("mse is a metric of regression"));
  EXPECT_THAT(refused(recipe(data, "") + "metrics: [acuracy]\n"), HasSubstr("did you mean 'accuracy'?"));
  EXPECT_THAT(refused(recipe(data + ", normalize: standardise", "")), HasSubstr("'normalize' must be"));
}

}  // namespace
}  // namespace espalier
