#include "recipe/recipe.h"

#include <chrono>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"
#include "recipe/extends.h"
#include "recipe/yaml.h"
#include "temp_folder.h"
#include "test_components.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

using test::toys;

Recipe load(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const TempFolder folder;
  return load_recipe(folder.write("r.yaml", text), overrides, toys());
}

const char small[] = R"(
espalier: 1
name: small
data: toy_images
network: toy_net
stages:
  - {name: one, epochs: 2, optimizer: toy_sgd}
)";

const char large[] = R"(
espalier: 1
name: large-1.0
description: everything that can be said
seed: 7
device: cpu
precision: bf16
threads: 2
data:
  use: toy_images
  samples: 50
  batch: 64
  eval_batch: 500
  augment: [crop, flip, rotate: 15, {cutout: 8}]
  normalize: {mean: [0.5], std: [0.25]}
  validation: 0.1
  limit: 1000
  shuffle: false
  drop_last: true
network: {use: toy_net, width: 0.5, hidden: [3, 4]}
stages:
  - name: search
    epochs: 3
    optimizers:
      - {use: toy_bregman, on: weights, lr: 1}
      - {use: toy_sgd, on: [architecture, "!fc2"]}
    regularizers: [toy_grouped, {use: toy_l1, on: gates}]
    controller: toy_grow
    schedule: {use: step, milestones: [0.5, 2], warmup: 1}
    clip_norm: 5
    label_smoothing: 0.1
    evaluate_every: 3
  - name: retrain
    epochs: 1e1
    optimizer: {use: toy_sgd, on: weights}
    start_from: best
    data: {batch: 32, augment: []}
    network: toy_plain
  - name: look
    epochs: 0
    data: {use: toy_vectors}
base: {macs: 41.5e6}
expect:
  accuracy: {value: 92.07, within: 0.5}
)";

TEST(LoadRecipe, FillsInWhatIsLeftOut) {
  const Recipe r = load(small);
  EXPECT_EQ(r.name, "small");
  EXPECT_EQ(r.seed, 0);
  EXPECT_EQ(r.device, "auto");
  EXPECT_EQ(r.data.batch, 128);
  EXPECT_EQ(to_json(r.data.dataset), R"({"use":"toy_images","samples":100})");
  EXPECT_TRUE(r.data.normalize.input.on);
  EXPECT_EQ(to_json(r.network), R"({"use":"toy_net","width":1.0,"hidden":[10]})");
  ASSERT_EQ(r.stages.size(), 1u);
  EXPECT_EQ(to_json(r.stages[0].controllers.at(0)), R"({"use":"none"})");
  EXPECT_EQ(to_json(r.stages[0].schedule), R"({"use":"constant","warmup":0.0})");
  EXPECT_TRUE(r.stages[0].optimizers.at(0).on.empty());
  EXPECT_FALSE(r.stages[0].clip_norm);
  EXPECT_FALSE(r.stages[0].data);
  EXPECT_TRUE(r.stages[0].network.is_null());
  EXPECT_TRUE(r.base.is_null());
}

TEST(LoadRecipe, ReadsEveryKey) {
  const Recipe r = load(large);
  EXPECT_EQ(r.description, "everything that can be said");
  EXPECT_EQ(r.seed, 7);
  EXPECT_EQ(r.precision, "bf16");
  EXPECT_EQ(r.threads, 2);
  EXPECT_EQ(r.data.eval_batch, 500);
  EXPECT_EQ(r.data.validation, 0.1);
  EXPECT_EQ(r.data.limit, 1000);
  EXPECT_FALSE(r.data.shuffle);
  EXPECT_TRUE(r.data.drop_last);
  std::vector<std::string> augment;
  for (const Value& a : r.data.augment) augment.push_back(to_json(a));
  EXPECT_THAT(augment, ElementsAre(R"({"use":"crop","padding":4})", R"({"use":"flip","probability":0.5})",
                                   R"({"use":"rotate","angle":15})", R"({"use":"cutout","size":8})"));
  EXPECT_THAT(r.data.normalize.input.mean, ElementsAre(0.5));
  EXPECT_THAT(r.data.normalize.input.deviation, ElementsAre(0.25));

  ASSERT_EQ(r.stages.size(), 3u);
  const StageSection& search = r.stages[0];
  ASSERT_EQ(search.optimizers.size(), 2u);
  EXPECT_EQ(to_json(search.optimizers[0].spec), R"({"use":"toy_bregman","lr":1,"momentum":0.0})");
  EXPECT_EQ(search.optimizers[0].on.str(), "weights");
  EXPECT_EQ(search.optimizers[1].on.str(), "architecture, !fc2");
  EXPECT_EQ(search.regularizers.size(), 2u);
  EXPECT_EQ(search.clip_norm, 5);
  EXPECT_EQ(search.evaluate_every, 3);
  EXPECT_EQ(search.label_smoothing, 0.1);

  const StageSection& retrain = r.stages[1];
  EXPECT_EQ(retrain.epochs, 10);
  EXPECT_EQ(retrain.start_from, "best");
  EXPECT_EQ(name_of(retrain.network, "backbone"), "toy_plain");
  ASSERT_TRUE(retrain.data);
  EXPECT_EQ(retrain.data->batch, 32);
  EXPECT_EQ(retrain.data->eval_batch, 500);  // the recipe's
  EXPECT_EQ(retrain.data->dataset.at("samples").as_int(), 50);
  EXPECT_TRUE(retrain.data->augment.empty());
  EXPECT_EQ(r.stages[2].data->batch, 128);  // another data set begins anew
  EXPECT_EQ(r.base.at("macs").as_int(), 41'500'000);
  EXPECT_EQ(r.expect.at("accuracy").at("within").as_double(), 0.5);
}

TEST(LoadRecipe, TheResolvedRecipeIsARecipeThatResolvesToItself) {
  for (const char* text : {small, large}) {
    const Recipe first = load(text);
    const std::string yaml = to_yaml(first.resolved);
    const Recipe second = load(yaml);
    EXPECT_EQ(to_json(second.resolved), to_json(first.resolved)) << yaml;
    EXPECT_EQ(second.stages.size(), first.stages.size());
  }
}

TEST(LoadRecipe, OverridesAreCheckedLikeTheRest) {
  EXPECT_EQ(load(small, {"stages.one.epochs=5", "network.width=2"}).stages[0].epochs, 5);
  EXPECT_EQ(load(small, {"data.batch=7", "data.batch=8"}).data.batch, 8);
  EXPECT_EQ(load(small, {"stages.one.optimizer.lr=1e-3"}).stages[0].optimizers[0].spec.at("lr").as_double(), 1e-3);
  EXPECT_THAT(
      [] { load(small, {"stages.one.epocs=5"}); },
      ThrowsMessage<InputError>(AllOf(HasSubstr("--set stages.one.epocs: "), HasSubstr("did you mean 'epochs'?"))));
  EXPECT_THAT([] { load(small, {"data.batch=0"}); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("--set data.batch: "), HasSubstr("integer >= 1"))));
}

TEST(Extends, MergesRelativeToTheRecipesOwnFolder) {
  const TempFolder folder;
  folder.write("common/data.yaml", "data: {use: toy_images, batch: 64, samples: 9}\nseed: 1\n");
  folder.write("common/base.yaml",
               std::string("extends: data.yaml\nespalier: 1\nname: base\nnetwork: {use: toy_net, width: 2}\n") +
                   "stages: [{name: one, epochs: 1, optimizer: {use: toy_sgd, lr: 1}}]\n");
  folder.write("more.yaml", "seed: 3\nprecision: float64\n");
  const auto path = folder.write(
      "r.yaml", "extends: [common/base.yaml, more.yaml]\nname: mine\ndata: {batch: 32}\nnetwork: {hidden: [5]}\n");
  const Recipe r = load_recipe(path, {}, toys());
  EXPECT_EQ(r.name, "mine");
  EXPECT_EQ(r.seed, 3);
  EXPECT_EQ(r.precision, "float64");
  EXPECT_EQ(r.data.batch, 32);
  EXPECT_EQ(to_json(r.network), R"({"use":"toy_net","width":2,"hidden":[5]})");
  EXPECT_EQ(r.data.dataset.at("samples").as_int(), 9);
  EXPECT_EQ(r.resolved.find("extends"), nullptr);
}

TEST(Extends, ChangesStagesByTheirNames) {
  const TempFolder folder;
  folder.write("base.yaml", small);
  const Recipe old = load_recipe(folder / "base.yaml", {}, toys());
  const std::string name = old.stages[0].name;
  const auto path = folder.write("r.yaml", "extends: base.yaml\nstages: {" + name + ": {epochs: 77}}\n");
  const Recipe r = load_recipe(path, {}, toys());
  ASSERT_EQ(r.stages.size(), 1U);
  EXPECT_EQ(r.stages[0].epochs, 77);
  EXPECT_EQ(to_json(r.stages[0].optimizers[0].spec), to_json(old.stages[0].optimizers[0].spec));
  const auto wrong = folder.write("w.yaml", "extends: base.yaml\nstages: {" + name + "x: {epochs: 77}}\n");
  EXPECT_THAT([&] { read_extended(wrong); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("w.yaml:2:10: "), HasSubstr("did you mean '" + name + "'?"))));
}

TEST(Scales, ChangeTheRecipeAndItsName) {
  const TempFolder folder;
  const auto path = folder.write("r.yaml", std::string(small) +
                                               "expect: {accuracy: {value: 92, within: 1}}\n"
                                               "scales:\n  smoke: {data.batch: 5, stages.0.epochs: 2}\n"
                                               "  tiny: {expect: {accuracy: {value: 50, within: 5}}}\n");
  EXPECT_EQ(load_recipe(path, {}, toys()).name, "small");
  EXPECT_FALSE(load_recipe(path, {}, toys()).expect.is_null());
  const Recipe r = check_recipe(read_recipe(path, {}, "smoke"), toys());
  EXPECT_TRUE(r.expect.is_null()) << "what the whole recipe reaches";
  EXPECT_EQ(check_recipe(read_recipe(path, {}, "tiny"), toys()).expect.at("accuracy").at("value").as_double(), 50);
  EXPECT_EQ(r.name, "small-smoke");
  EXPECT_EQ(r.data.batch, 5);
  EXPECT_EQ(r.stages[0].epochs, 2);
  EXPECT_EQ(r.resolved.find("scales"), nullptr);
  EXPECT_EQ(check_recipe(read_recipe(path, {"data.batch=6"}, "smoke"), toys()).data.batch, 6)
      << "--set has the last word";
  const auto without = folder.write("without.yaml", "extends: r.yaml\nscales: {tiny: }\n");
  EXPECT_THAT(scales_of(without), ::testing::ElementsAre("smoke")) << "one of two is taken away";
  EXPECT_THAT([&] { read_recipe(path, {}, "smoek"); }, ThrowsMessage<InputError>(HasSubstr("did you mean 'smoke'?")));
}

TEST(Scales, AreRefusedWhereTheyAreWrong) {
  const TempFolder folder;
  const auto read = [&](const std::string& more, const std::string& scale) {
    return read_recipe(folder.write("r.yaml", std::string(small) + more), {}, scale);
  };
  EXPECT_THAT([&] { read("", "smoke"); }, ThrowsMessage<InputError>(HasSubstr("has no scales")));
  EXPECT_THAT([&] { read("scales: [smoke]\n", ""); }, ThrowsMessage<InputError>(HasSubstr("'scales' must be")));
  EXPECT_THAT([&] { read("scales: {smoke: 3}\n", ""); }, ThrowsMessage<InputError>(HasSubstr("the scale 'smoke'")));
  EXPECT_THAT([&] { read("scales: {smoke: {stages.5.epochs: 1}}\n", "smoke"); },
              ThrowsMessage<InputError>(HasSubstr("r.yaml:8:18: ")));
}

TEST(LoadRecipe, TakesTheEpochsOfTheBase) {
  const TempFolder folder;
  const Recipe net = load(std::string(small) + "base: {use: toy_net, width: 3, epochs: 300}\n");
  EXPECT_EQ(net.base_epochs, 300);
  EXPECT_EQ(to_json(net.base), R"({"use":"toy_net","width":3,"hidden":[10]})");
  EXPECT_EQ(net.resolved.at("base").at("epochs").as_int(), 300);
  EXPECT_EQ(load(std::string(small) + "base: {macs: 5, epochs: 7}\n").base_epochs, 7);
  EXPECT_FALSE(load(std::string(small) + "base: toy_net\n").base_epochs);
  EXPECT_THAT([] { load(std::string(small) + "base: {macs: 5, with_start: true}\n"); },
              ThrowsMessage<InputError>(HasSubstr("'with_start' counts the training of the run")));
}

TEST(Extends, NamesTheFileInWhichAnErrorIs) {
  const TempFolder folder;
  folder.write("base.yaml", std::string(small) + "seed: -1\n");
  const auto path = folder.write("r.yaml", "extends: base.yaml\n");
  EXPECT_THAT([&] { load_recipe(path, {}, toys()); },
              ThrowsMessage<InputError>(HasSubstr((folder / "base.yaml").string() + ":8:7: ")));
}

TEST(Extends, RefusesCirclesAndMissingFilesWithTheChain) {
  const TempFolder folder;
  folder.write("a.yaml", "extends: b.yaml\n");
  folder.write("b.yaml", "name: x\nextends: [./a.yaml]\n");
  EXPECT_THAT([&] { read_extended(folder / "a.yaml"); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("b.yaml:2:11: "), HasSubstr("extends itself"),
                                              HasSubstr("a.yaml -> "), HasSubstr("b.yaml -> "))));
  folder.write("c.yaml", "extends: d.yaml\n");
  folder.write("d.yaml", "extends: nowhere.yaml\n");
  EXPECT_THAT(
      [&] { read_extended(folder / "c.yaml"); },
      ThrowsMessage<InputError>(AllOf(HasSubstr("d.yaml:1:10: "), HasSubstr("nowhere.yaml"), HasSubstr("c.yaml -> "))));
  folder.write("self.yaml", "extends: self.yaml\n");
  EXPECT_THAT([&] { read_extended(folder / "self.yaml"); }, ThrowsMessage<InputError>(HasSubstr("extends itself")));
  folder.write("number.yaml", "extends: 3\n");
  EXPECT_THAT([&] { read_extended(folder / "number.yaml"); },
              ThrowsMessage<InputError>(HasSubstr("a file or a list of files, got the integer 3")));
}

TEST(Extends, ManyFilesThatExtendTwoEachAreRefused) {
  const TempFolder folder;
  for (int i = 0; i < 40; ++i) {
    const std::string next = std::to_string(i + 1) + ".yaml";
    folder.write(std::to_string(i) + ".yaml", "extends: [" + next + ", " + next + "]\n");
  }
  folder.write("40.yaml", "name: x\n");
  EXPECT_THAT([&] { read_extended(folder / "0.yaml"); }, ThrowsMessage<InputError>(HasSubstr("more than 64 recipes")));
}

TEST(ReadYaml, RefusesWhatIsNoFile) {
  const TempFolder folder;
  EXPECT_THAT([&] { read_yaml(folder / "no.yaml"); },
              ThrowsMessage<InputError>(AllOf(HasSubstr("no.yaml: cannot be read"), HasSubstr("No such file"))));
  EXPECT_THAT([&] { read_yaml(folder.path()); }, ThrowsMessage<InputError>(HasSubstr("is a folder")));
  EXPECT_THAT([&] { read_yaml("/dev/zero"); }, ThrowsMessage<InputError>(HasSubstr("is a pipe or a device")));
  EXPECT_THAT([&] { read_yaml(folder.write("empty.yaml", "")); }, ThrowsMessage<InputError>(HasSubstr("is empty")));
  EXPECT_THAT([&] { read_yaml(folder.write("large.yaml", std::string(3 << 20, '#'))); },
              ThrowsMessage<InputError>(HasSubstr("larger than 1 MB")));
}

// As large as the reader lets them be.
TEST(LoadRecipe, LargeRecipesTakeNoTime) {
  const auto repeated = [](const std::string& s, int n) {
    std::string all;
    for (int i = 0; i < n; ++i) all += s;
    return all;
  };
  std::string metrics, tau;
  for (int i = 0; i < 9'000; ++i) {
    metrics += "m" + std::to_string(i) + ": {value: 1, within: 1}, ";
    tau += "conv" + std::to_string(i) + ": 1, ";
  }
  const std::string stages = "stages: [{name: one, epochs: 0, ";
  const std::string text = std::string(small).substr(0, std::string(small).find("stages:"));
  const auto begin = std::chrono::steady_clock::now();
  load(text + stages + "regularizers: [" + repeated("toy_grouped, ", 40'000) + "]}]\n");
  load(text + stages + "controller: {use: toy_every, needed: 1, tau: {" + tau + "}, penalties: [" +
       repeated("toy_l1, ", 40'000) + "]}}]\n");
  EXPECT_THROW(load(text + stages + "}]\nexpect: {" + metrics + "}\n"), InputError);
  EXPECT_THROW(load(text + stages + "regularizers: [" + std::string(9'999, 'x') + "]}]\n"), InputError);
  EXPECT_THROW(load(text + std::string(9'999, 'x') + ": 1\n"), InputError);
  const TempFolder folder;
  folder.write("a.yaml", text + stages + "}]\nexpect: {" + metrics + "}\n");
  read_recipe(folder.write("b.yaml", "extends: a.yaml\nexpect: {" + metrics + "}\n"), {});
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(took.count(), 20);  // a second or two; sanitizers and busy machines take longer
}

TEST(Needs, AreMetByOtherComponentsOfTheStage) {
  const std::string head =
      "espalier: 1\nname: x\ndata: toy_images\nnetwork: toy_net\nstages:\n  - {name: one, epochs: 1, ";
  EXPECT_NO_THROW(load(head + "optimizer: toy_bregman, controller: toy_grow}\n"));
  EXPECT_THAT([&] { load(head + "optimizer: toy_sgd, controller: toy_grow}\n"); },
              ThrowsMessage<InputError>(
                  AllOf(HasSubstr("r.yaml:6:60: "),
                        HasSubstr("controller 'toy_grow' needs 'state:gamma' (the support is read from it)"),
                        HasSubstr("stage 'one'"), HasSubstr("optimizer 'toy_bregman'"))));
  // A nested component provides too, and the network.
  EXPECT_NO_THROW(load(
      head +
      "optimizer: toy_sgd, controller: {use: toy_every, needed: 1, inner: toy_bregman, penalties: [toy_grouped]}}\n"));
  EXPECT_THAT(
      [&] {
        load(head +
             "optimizer: toy_sgd, network: toy_plain, controller: {use: toy_every, needed: 1, penalties: "
             "[toy_grouped]}}\n");
      },
      ThrowsMessage<InputError>(HasSubstr("regularizer 'toy_grouped' needs 'groups'")));
}

}  // namespace
}  // namespace espalier
