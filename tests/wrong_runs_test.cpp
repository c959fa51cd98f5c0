// Recipes that only a plan can refuse, files that are no recipes, and flags: what is said, where, in what time, and
// that nothing is written.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "all_plugins.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "plan/plan.h"
#include "plugins/builtin.h"
#include "recipe/recipe.h"
#include "subprocess.h"
#include "system/text.h"
#include "temp_folder.h"
#include "within_a_second.h"

namespace espalier {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
namespace fs = std::filesystem;

const Registry& plugins() {
  static const bool loaded = [] {
    load_all_plugins();
    register_builtin(Registry::instance());
    return true;
  }();
  static_cast<void>(loaded);
  return Registry::instance();
}

const std::string full = R"(espalier: 1
name: x
data: {use: synthetic, count: 100}
network: {use: lenet5}
stages:
  - name: one
    epochs: 1
    optimizer: {use: sgd, lr: 0.1}
)";

// The recipe with something else in the place of `part`.
std::string with(const std::string& part, const std::string& other) {
  std::string text = full;
  EXPECT_NE(text.find(part), std::string::npos) << part;
  replace_all(text, part, other);
  return text;
}

// What reading and planning a file says, with the folder left out.
std::string error_of(const fs::path& file, const TempFolder& folder, const std::vector<std::string>& flags = {}) {
  const Registry& registry = plugins();
  std::string said = within_a_second([&]() -> std::string {
    try {
      plan_recipe(load_recipe(file, flags, registry));
      return "no error";
    } catch (const Error& e) {
      return e.what();
    }
  });
  replace_all(said, folder.path().string() + "/", "");
  return said;
}

struct Wrong {
  const char* name;
  std::string text;
  std::string place;
  std::vector<std::string> words;
};

class WrongPlan : public ::testing::TestWithParam<Wrong> {};

TEST_P(WrongPlan, SaysWhereAndWhatToDo) {
  const TempFolder folder;
  const std::string said = error_of(folder.write("r.yaml", GetParam().text), folder);
  EXPECT_THAT(said, StartsWith("r.yaml:" + GetParam().place + ": "));
  for (const std::string& word : GetParam().words) EXPECT_THAT(said, HasSubstr(word));
}

const std::string optimizer = "optimizer: {use: sgd, lr: 0.1}";

const Wrong wrong_plans[] = {
    {"OptimizerOnNothing",
     with(optimizer, "optimizer: {use: sgd, lr: 0.1, on: conv9}"),
     "8:40",
     {"'conv9' matches no parameter", "did you mean 'conv1'?"}},
    {"OptimizerOnAClassThatIsNotThere",
     with(optimizer, "optimizer: {use: sgd, lr: 0.1, on: norms}"),
     "8:40",
     {"'norms' matches no parameter", "its layers are conv1 conv2 fc1 fc2"}},
    {"OptimizerOnWhatItTakesAway",
     with(optimizer, "optimizer: {use: sgd, lr: 0.1, on: [weights, \"!weights\"]}"),
     "8:40",
     {"cancel out"}},
    {"RegularizerOnNothing", full + "    regularizers: [{use: l1, on: conv9}]\n", "9:34", {"one.l1.on", "'conv1'"}},
    {"ThresholdOnNothing",
     full + "    controller: {use: threshold, tau: {cnov1: 0.1}}\n",
     "9:47",
     {"one.controller.tau", "'cnov1' matches no parameter", "did you mean 'conv1'?"}},
    {"TwoOptimizersOfEverything",
     with(optimizer, "optimizers: [{use: sgd, lr: 0.1}, {use: adam}]"),
     "8:39",
     {"conv1.weight is updated by optimizer 1 already", "`on`"}},
    {"TwoOptimizersOfALayer",
     with(optimizer, "optimizers: [{use: sgd, lr: 0.1, on: biases}, {use: sgd, on: weights}, {use: adam, on: fc1}]"),
     "8:92",
     {"fc1.weight is updated by optimizer 2 already"}},
    {"KernelLargerThanTheImage",
     with("count: 100", "count: 100, size: 8"),
     "4:10",
     {"'conv2'", "a kernel of 5 does not fit"}},
    {"NoFilters", with("lenet5", "lenet5, conv1: 0"), "4:31", {"an integer >= 1"}},
    {"MoreFiltersThanMemory",
     with("lenet5", "lenet5, conv1: 1000000000000"),
     "4:10",
     {"more than fit into any memory"}},
    {"MeansOfOtherChannels",
     with("count: 100", "count: 100, normalize: {mean: [0, 0, 0], std: [1, 1, 1]}"),
     "3:7",
     {"3 means", "1 channel"}},
    {"CropOfEverything", with("count: 100", "count: 100, augment: [crop: 16]"), "3:7", {"'crop' by 16 pixels", "16"}},
    {"CutoutOfEverything", with("count: 100", "count: 100, augment: [cutout: 32]"), "3:7", {"'cutout' of 32 pixels"}},
    {"OtherClassesUnderTheOldNetwork",
     full + "  - {name: two, epochs: 1, optimizer: sgd, data: {classes: 5}}\n",
     "9:50",
     {"stage 'two'", "5 classes", "4 classes", "give the stage a 'network'"}},
    {"OtherImagesUnderTheOldNetwork",
     full + "  - {name: two, epochs: 1, optimizer: sgd, data: {size: 20}}\n",
     "9:50",
     {"1 x 20 x 20 pixels", "1 x 16 x 16 pixels"}},
    {"StageNetworkThatDoesNotFit",
     full + "  - {name: two, epochs: 0, network: {use: vgg16}}\n",
     "9:37",
     {"backbone 'vgg16'", "does not fit into the input"}},
    {"BaseThatDoesNotFit", full + "base: {use: vgg16}\n", "9:7", {"backbone 'vgg16'", "does not fit"}},
    {"ControllerThatIsAnOptimizer", full + "    controller: sgd\n", "9:17", {"'sgd' is an optimizer"}},
    {"DatasetThatIsABackbone", with("use: synthetic", "use: lenet5"), "3:13", {"'lenet5' is a backbone"}},
    {"ThresholdOfWhatIsNotPruned",
     full + "    controller: {use: threshold, on: fc1, tau: {conv1: 0.1}}\n",
     "9:17",
     {"`tau` names 'conv1'", "name its layers by `on`"}},
    {"ThresholdThatKeepsAll",
     full + "    controller: {use: threshold, on: [conv1, conv2], min_filters: 50}\n",
     "9:17",
     {"no layer has more than the 50", "`min_filters`"}},
    {"GroupsWhereThereAreNone",
     full + "    controller: {use: threshold, of_groups: whole}\n",
     "9:17",
     {"`of_groups: whole` is for layers with groups", "leave it out"}},
    {"SharesOfGroupsWhereThereAreNone",
     full + "    controller: {use: l1_prune, of_groups: whole}\n",
     "9:17",
     {"`of_groups: whole` is for layers with groups"}},
    {"GrowsAboveAll",
     with(optimizer, "optimizer: lbi\n    controller: {use: adenel, tau: 1.5}"),
     "9:17",
     {"above 1 nothing ever grows"}},
    {"ReplayOfNoRun",
     full + "    controller: {use: replay, run: nothing}\n",
     "9:17",
     {"nothing/summary.json", "finished run"}},
    {"BlocksWhereThereAreNone",
     full + "    controller: sparsify\n",
     "9:17",
     {"the network has no residual blocks", "a sum of a shortcut and of layers"}},
    {"BranchesWhereThereAreNone",
     full + "    controller: {use: sparsify, groups: branches}\n",
     "9:17",
     {"no grouped convolutions that one layer reads"}},
    {"AdjacencyWithoutAGraph",
     full + "    controller: {use: sparsify, groups: adjacency}\n",
     "9:17",
     {"`groups: adjacency` is for networks with graph convolutions"}},
    {"SumsWithoutTheirNames",
     full + "    controller: {use: sparsify, groups: sums}\n",
     "9:17",
     {"`groups: sums` needs `on`"}},
    {"StageThatIsNotThere",
     with("lenet5", "resnet20") + "    controller: {use: sparsify, on: [layer4]}\n",
     "9:17",
     {"'on' names 'layer4'", "did you mean 'layer1'?"}},
    {"StageMisspelled",
     with("lenet5", "resnet20") + "    controller: {use: sparsify, on: [layer1, layr2]}\n",
     "9:17",
     {"'on' names 'layr2'", "did you mean 'layer2'?"}},
    {"KeepsOfOtherGroups",
     with("lenet5", "resnet20") + "    controller: {use: sparsify, keep: [1, 2]}\n",
     "9:17",
     {"'keep' has 2 numbers, and the network has 3 groups"}},
    {"SoftmaxWithoutKeep",
     with("lenet5", "resnet20") + "    controller: {use: sparsify, coefficients: softmax}\n",
     "9:17",
     {"never become zero", "`keep` must say how many"}},
    {"SampledWithoutKeep",
     with("lenet5", "resnet20") + "    controller: {use: sparsify, coefficients: sampled}\n",
     "9:17",
     {"needs one number `keep`"}},
    {"ThresholdOfWhatHasNone",
     with("lenet5", "resnet20") + "    controller: {use: sparsify, coefficients: free, beta: 1}\n",
     "9:17",
     {"'beta' belongs to `coefficients: competition`; leave it out"}},
    {"SymmetricByTurns",
     with("lenet5", "gcn") + "    controller: {use: sparsify, groups: adjacency, adjacency: {symmetric: true}}\n",
     "9:17",
     {"needs `normalize: balanced`", "rows and columns are not treated alike"}},
    {"NormOfNoPenalty", full + "    regularizers: [{use: competition_norm, p: 2}]\n", "9:47", {"a number > 0"}},
    {"StrideOfBottlenecksWithoutAny",
     with("lenet5", "resnet18, stem: cifar, stride_in: 1x1"),
     "4:10",
     {"'stride_in' is for bottlenecks"}},
    {"ActivationWithoutHiddenLayers", with("lenet5", "mlp, hidden: [], dropout: 0.5"), "4:10", {"`hidden` has none"}},
    {"WidthsOfAPlainNetwork",
     with("lenet5", "resnet20, shortcut: none, own_widths: true"),
     "4:10",
     {"'own_widths' gives shortcuts"}},
    {"DropPathOfOneBlock",
     with("lenet5", "vit_tiny, patch: 4, depth: 1, drop_path: 0.1"),
     "4:10",
     {"'drop_path' rises from 0"}},
    {"DropPathOfOneWindow",
     with("lenet5", "swin_t, patch: 4, depths: [1], heads: [3], drop_path: 0.1"),
     "4:10",
     {"'drop_path' rises from 0"}},
    {"RandomPartsOfACentre",
     with("synthetic, count: 100", "image_folder, folder: x, crop: center, scale: [0.5, 1]"),
     "3:7",
     {"scale and ratio are of random parts"}},
    {"LossOfAnotherTask",
     full + "    loss: mse\n",
     "9:11",
     {"mse is a loss for regression", "write cross_entropy, focal or distillation"}},
    {"ImagesOfATable",
     with("synthetic, count: 100", "synthetic_table"),
     "4:10",
     {"a convolution needs an input of [channels, height, width]", "of vectors, mlp and linear learn"}},
    {"NameInCapitals", with("lenet5", "LeNet5"), "4:16", {"did you mean 'lenet5'?"}},
};

INSTANTIATE_TEST_SUITE_P(All, WrongPlan, ::testing::ValuesIn(wrong_plans),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(RightPlan, NotesParametersThatNoOptimizerUpdates) {
  const TempFolder folder;
  const auto notes = [&](const std::string& text) {
    return to_json(plan_recipe(load_recipe(folder.write("r.yaml", text), {}, plugins())).at("notes"));
  };
  EXPECT_EQ(notes(full), "[]");
  EXPECT_EQ(notes(with(optimizer, "optimizers: [{use: sgd, on: weights}, {use: adam, on: biases}]")), "[]");
  EXPECT_EQ(notes(with(optimizer, "optimizer: {use: sgd, on: [all, \"!conv1\", \"!fc2.bias\"]}")),
            R"(["stage 'one': no optimizer updates conv1.weight, conv1.bias, fc2.bias"])");
}

// What is allowed and does nothing: a note says where.
TEST(RightPlan, NotesWhatIsWithoutEffect) {
  const std::string pruned = with("epochs: 1", "epochs: 5");
  const struct {
    std::string text, place, words;
  } cases[] = {
      {with(optimizer, "optimizer: {use: sgd, decoupled: true}"), "8:16", "optimizer 'sgd': 'decoupled'"},
      {with(optimizer, "optimizer: {use: sgd, decay_on: weights}"), "8:16", "'decay_on'"},
      {with(optimizer, "optimizer: {use: adam, decoupled: true}"), "8:16", "it decays no weights"},
      {with(optimizer, "optimizer: {use: adamw, weight_decay: 0, decay_on: weights}"), "8:16", "'decay_on'"},
      {with(optimizer, "optimizer: {use: lbi, decay_on: all}"), "8:16", "'decay_on'"},
      {with(optimizer, "optimizer: {use: lbi, groups: false, groups_on: fc1}"), "8:16", "'groups_on'"},
      {with(optimizer, "optimizer: {use: lbi, groups: false, threshold: rms}"), "8:16", "'threshold'"},
      {with(optimizer, "optimizer: {use: lbi, scale_z: true}"), "8:16", "'scale_z'"},
      {with(optimizer, "optimizer: {use: lbi, sparse_on: biases}"), "8:16", "'sparse_on: biases' names no weight"},
      {with(optimizer, "optimizer: {use: lbi, sparse_on: conv1, groups_on: fc1}"), "8:16", "'groups_on'"},
      {pruned + "    controller: {use: threshold, every: 5}\n", "9:17", "it removes at the end alone"},
      {pruned + "    controller: {use: soft_filter_prune, every: 6}\n", "9:17", "filters never become zero"},
      {with(optimizer, "optimizer: lbi\n    controller: {use: adenel, every: 1}"), "9:17", "nothing grows"},
      {pruned + "    schedule: {use: step, every: 5}\n", "9:15", "does not fall"},
      {pruned + "    schedule: {use: step, milestones: [2], factor: 1}\n", "9:15", "'factor' is 1"},
      {pruned + "    schedule: {use: cosine, min_factor: 1}\n", "9:15", "'min_factor' is 1"},
      {pruned + "    schedule: {use: cosine, warmup: 5}\n", "9:15", "'warmup' takes all epochs"},
      {pruned + "    schedule: {use: plateau, patience: 3}\n", "9:15", "'patience' is 3 evaluations"},
      {pruned + "    schedule: {use: plateau, patience: 0, min_factor: 1}\n", "9:15", "'min_factor' is 1"},
      {with("epochs: 1", "epochs: 0") + "    clip_norm: 1\n    regularizers: [l1]\n", "6:5",
       "has no epochs: what it has under 'regularizers', 'clip_norm'"},
      {full + "  - {name: two, epochs: 0, start_from: best, network: lenet5}\n", "9:5", "'start_from'"},
      {with("count: 100", "count: 100, limit: 100"), "3:7", "'limit' is 100, and there are 100 training samples"},
      {with("count: 100", "count: 100, augment: [flip: 0]"), "3:7", "'flip' has 'probability' 0"},
  };
  const TempFolder folder;
  for (const auto& c : cases) {
    std::string notes = to_json(plan_recipe(load_recipe(folder.write("r.yaml", c.text), {}, plugins())).at("notes"));
    replace_all(notes, folder.path().string() + "/", "");
    EXPECT_THAT(notes, HasSubstr("\"r.yaml:" + c.place + ": ")) << c.text;
    EXPECT_THAT(notes, HasSubstr(c.words)) << c.text;
  }
  // The same with an effect.
  for (const std::string& text :
       {with(optimizer, "optimizer: {use: sgd, decoupled: true, weight_decay: 0.1, decay_on: weights}"),
        with(optimizer, "optimizer: {use: lbi, groups_on: fc1, threshold: rms, scale_z: true, kappa: 2}"),
        pruned + "    controller: {use: threshold, every: 4}\n    schedule: {use: step, every: 4}\n",
        pruned + "    controller: {use: soft_filter_prune, every: 5}\n    schedule: {use: plateau, patience: 2}\n",
        pruned + "    schedule: {use: cosine, warmup: 4, min_factor: 0.5}\n"})
    EXPECT_EQ(to_json(plan_recipe(load_recipe(folder.write("r.yaml", text), {}, plugins())).at("notes")), "[]") << text;
}

TEST(RightPlan, NotesWhatAutogrowDoesNotUse) {
  const TempFolder folder;
  const auto notes = [&](const std::string& options) {
    return to_json(plan_recipe(load_recipe(folder.write("r.yaml", R"(espalier: 1
name: x
data: {use: synthetic, channels: 3, size: 32, count: 100, validation: 0.2}
network: {use: resnet20, blocks: [1, 2, 2], width: 0.25}
stages: [{name: grow, epochs: 9, optimizer: sgd, controller: {use: autogrow, )" +
                                                                      options + "}}]\n"),
                                           {}, plugins()))
                       .at("notes"));
  };
  EXPECT_EQ(notes("every: 3, patience: 4, std: 0.5"), "[]");
  EXPECT_THAT(notes("every: 9"), HasSubstr("nothing grows"));
  EXPECT_THAT(notes("every: 3, patience: 3"), HasSubstr("'patience' is without effect"));
  EXPECT_THAT(notes("init: random, std: 0.5"), HasSubstr("'std' is without effect"));
}

TEST(RightPlan, TakesOtherDataOfTheSameShape) {
  const TempFolder folder;
  EXPECT_EQ(error_of(folder.write("r.yaml", full + "  - {name: two, epochs: 1, optimizer: sgd, data: {count: 50, "
                                                   "augment: [crop: 15, cutout: 31]}}\n"),
                     folder),
            "no error");
}

struct WrongFlag {
  const char* name;
  std::string flag;
  std::string where;  // that the message begins with
  std::vector<std::string> words;
};

class WrongSet : public ::testing::TestWithParam<WrongFlag> {};

TEST_P(WrongSet, SaysWhichFlagAndWhatToWrite) {
  const TempFolder folder;
  const std::string said = error_of(folder.write("r.yaml", full), folder, {GetParam().flag});
  EXPECT_THAT(said, StartsWith("--set " + GetParam().where + ": "));
  for (const std::string& word : GetParam().words) EXPECT_THAT(said, HasSubstr(word));
}

const WrongFlag wrong_flags[] = {
    {"UnknownKey", "sed=3", "sed", {"did you mean 'seed'?"}},
    {"UnknownStage", "stages.on.epochs=3", "stages.on.epochs", {"did you mean 'one'?"}},
    {"UnknownParameter", "network.conv3=3", "network.conv3", {"did you mean 'conv1'?"}},
    {"NoEqualsSign", "seed", "seed", {"KEY.KEY=VALUE"}},
    {"NoKey", "=3", "=3", {"KEY.KEY=VALUE"}},
    {"OpenQuote", "\"seed=3", "\"seed=3", {"KEY.KEY=VALUE"}},
    {"IndexOutOfRange", "stages.7.epochs=3", "stages.7.epochs", {"'stages' has no '7'", "one item, counted from 0"}},
    {"NegativeIndex", "stages.-1.epochs=3", "stages.-1.epochs", {"'stages' has no '-1'", "known: one"}},
    {"IndexBeyondIntegers", "stages.99999999999999999999.epochs=3", "stages.99999999999999999999.epochs", {"has no"}},
    {"ScalarAsMap", "stages.one.epochs.x=3", "stages.one.epochs.x", {"has no 'x'", "it is the integer 1"}},
    {"NameAsMap", "name.x=3", "name.x", {"'name' has no 'x'", "it is the string 'x'"}},
    {"Nothing", "network.conv1=", "network.conv1", {"'conv1' must be an integer >= 1", "nothing"}},
    {"NotYaml", "seed=[1", "seed", {"not valid YAML", "is not closed"}},
    {"Tag", "seed=!!int 3", "seed", {"tags are not read"}},
    {"Yes", "data.shuffle=yes", "data.shuffle", {"write true"}},
    {"Octal", "seed=010", "seed", {"write 10"}},
    {"TwoDocuments", "seed=1\n---\n2", "seed", {"a second document"}},
    {"TooLong", "seed=" + std::string(100'000, '9'), "seed", {"longer than 10000 bytes"}},
    {"TooDeep", "seed=" + std::string(50'000, '['), "seed", {"nested deeper than 64"}},
    {"WordForAList", "stages=one", "stages", {"'stages' must be a list", "the string 'one'"}},
    {"MapForAName", "name={a: 1}", "name", {"'name' must be a string", "a map"}},
    {"Gpu", "device=gpu", "device", {"a GPU is called cuda"}},
    {"WordOfNormalize", "data.normalize=standardise", "data.normalize", {"did you mean 'standardize'?"}},
    {"ListForAChoice",
     "stages.one.loss={use: cross_entropy, class_weights: [1, 2]}",
     "stages.one.loss",
     {"'class_weights' must be one of none, balanced", "a list is what 'class_weight_values' takes"}},
    {"HomeFolder", "data={use: csv, file: ~/t.csv}", "data", {"'~' is not replaced here"}},
    {"Matrix", "matrix={seed: [1]}", "matrix", {"a recipe with a matrix is several"}},
};

INSTANTIATE_TEST_SUITE_P(All, WrongSet, ::testing::ValuesIn(wrong_flags),
                         [](const auto& test) { return std::string(test.param.name); });

// Files that a recipe extends, and what is said of them.
class WrongExtends : public ::testing::TestWithParam<Wrong> {};

TEST_P(WrongExtends, SaysWhichFileAndWhoExtendsIt) {
  const TempFolder folder;
  folder.write("base.yaml", full);
  folder.write("list.yaml", "- a\n");
  folder.write("empty.yaml", "# nothing\n");
  folder.write("open.yaml", "a: [1\n");
  folder.write("circle.yaml", "extends: r.yaml\n");
  for (int i = 0; i < 80; ++i)
    folder.write("c" + std::to_string(i) + ".yaml", "extends: c" + std::to_string(i + 1) + ".yaml\n");
  folder.write("c80.yaml", "seed: 1\n");
  fs::create_directory(folder / "folder");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  const std::string said = error_of(folder.write("r.yaml", GetParam().text + full), folder);
  EXPECT_THAT(said, StartsWith(GetParam().place + ": "));
  for (const std::string& word : GetParam().words) EXPECT_THAT(said, HasSubstr(word));
}

const Wrong wrong_extends[] = {
    {"Missing",
     "extends: bass.yaml\n",
     "r.yaml:1:10",
     {"no file bass.yaml", "did you mean 'base.yaml'?", "r.yaml -> "}},
    {"MissingAmongOthers", "extends: [base.yaml, no.yaml]\n", "r.yaml:1:22", {"no file no.yaml"}},
    {"MissingFolder", "extends: no/base.yaml\n", "r.yaml:1:10", {"there is no folder no"}},
    {"Absolute", "extends: /no/where.yaml\n", "r.yaml:1:10", {"no file /no/where.yaml"}},
    {"Itself", "extends: r.yaml\n", "r.yaml:1:10", {"extends itself"}},
    {"ItselfByAnotherPath", "extends: folder/../r.yaml\n", "r.yaml:1:10", {"extends itself"}},
    {"InACircle", "extends: circle.yaml\n", "circle.yaml:1:10", {"extends itself: r.yaml -> circle.yaml -> r.yaml"}},
    {"AFolder", "extends: folder\n", "r.yaml:1:10", {"folder: is a folder"}},
    {"APipe", "extends: pipe\n", "r.yaml:1:10", {"pipe: is a pipe"}},
    {"AnEmptyFile", "extends: empty.yaml\n", "r.yaml:1:10", {"empty.yaml: is empty"}},
    {"AList", "extends: list.yaml\n", "list.yaml:1:1", {"expected a recipe (key: value), got a list"}},
    {"NoYaml", "extends: open.yaml\n", "open.yaml:2:1", {"a list ([) that begins in line 1 is not closed"}},
    {"AChainWithoutEnd", "extends: c0.yaml\n", "c62.yaml:1:10", {"more than 64 recipes"}},
    {"AMap", "extends: {a: 1}\n", "r.yaml:1:10", {"a file or a list of files, got a map"}},
    {"AListOfMaps", "extends: [{a: 1}]\n", "r.yaml:1:11", {"a file or a list of files, got a map"}},
    {"Nothing", "extends:\n", "r.yaml:1:1", {"a file or a list of files, got nothing"}},
};

INSTANTIATE_TEST_SUITE_P(All, WrongExtends, ::testing::ValuesIn(wrong_extends),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(WrongFile, IsRefusedWithoutReadingItWhole) {
  const TempFolder folder;
  folder.write("quickstart.yaml", full);
  fs::create_directory(folder / "folder");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::ofstream(folder / "sparse.yaml").close();
  fs::resize_file(folder / "sparse.yaml", 1 << 30);
  const auto said = [&](const std::string& file) { return error_of(folder / file, folder); };
  EXPECT_THAT(said("qickstart.yaml"), HasSubstr("No such file or directory (did you mean "));
  EXPECT_THAT(said("qickstart.yaml"), HasSubstr("quickstart.yaml'?)"));
  EXPECT_THAT(said("quickstart"), HasSubstr("quickstart.yaml'?)"));
  EXPECT_THAT(said("quickstart.yml"), HasSubstr("quickstart.yaml'?)"));
  EXPECT_THAT(said("no/r.yaml"), HasSubstr("there is no folder no"));
  EXPECT_THAT(said("folder"), HasSubstr("folder: is a folder, not a recipe"));
  EXPECT_THAT(said("pipe"), HasSubstr("pipe: is a pipe or a device"));
  EXPECT_THAT(said("sparse.yaml"), HasSubstr("larger than 1 MB"));
  EXPECT_THAT(error_of("/dev/zero", folder), HasSubstr("is a pipe or a device"));
  EXPECT_THAT(error_of("", folder), HasSubstr("file is empty"));
}

TEST(WrongFile, ThatCannotBeReadSaysWhy) {
  if (::geteuid() == 0) GTEST_SKIP() << "root reads everything";
  const TempFolder folder;
  const auto file = folder.write("r.yaml", full);
  fs::permissions(file, fs::perms::none);
  EXPECT_THAT(error_of(file, folder), HasSubstr("r.yaml: cannot be read: Permission denied"));
}

TEST(RightFile, MayHaveAByteOrderMarkAndLineEndsOfWindows) {
  const TempFolder folder;
  std::string text = full;
  replace_all(text, "\n", "\r\n");
  EXPECT_EQ(error_of(folder.write("r.yaml", "\xef\xbb\xbf" + text), folder), "no error");
}

// By the program, from a folder of its own: it fails, says why, and leaves nothing behind.
TEST(WrongRun, LeavesNothingBehind) {
  const struct {
    std::string text, flags, place, words;
  } cases[] = {
      {"", "", "r.yaml", "is empty"},
      {full + "seed: yes\n", "", "r.yaml:9:7", "write true"},
      {full + "seed: [" + std::string(100'000, '['), "", "r.yaml:9:", "nested deeper"},
      {with("lenet5", "lnet5"), "", "r.yaml:4:16", "did you mean 'lenet5'?"},
      {with("count: 100", "count: 100, size: 8"), "", "r.yaml:4:10", "does not fit"},
      {with(optimizer, "optimizers: [sgd, adam]"), "", "r.yaml:8:", "updated by optimizer 1 already"},
      {full, "--set stages.9.epochs=1", "--set stages.9.epochs", "one item"},
      {full, "--seed x", "--set seed", "'seed' must be an integer"},
      {full + "matrix: {seed: [0, -1]}\n", "", "r.yaml:9:20", "in the run seed=-1 of the matrix"},
      {full + "matrix: {seed: [0, 1]}\n", "--seed 3", "--set seed", "the matrix varies 'seed' itself"},
      {full + "matrix: {network.conv1: [3, 1000000000000]}\n", "--out sweep", "r.yaml:4:10", "more than fit"},
  };
  for (const auto& c : cases) {
    const TempFolder folder;
    folder.write("r.yaml", c.text);
    const Output o = shell("cd " + folder.path().string() + " && " + program_word() + " run r.yaml " + c.flags +
                           " 2>&1 >output.txt; status=$?; test -s output.txt && echo something on standard output; rm "
                           "output.txt; exit $status");
    EXPECT_EQ(o.status, 1) << o.text;
    EXPECT_THAT(o.text, StartsWith("espalier: error: " + c.place));
    EXPECT_THAT(o.text, HasSubstr(c.words));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << "only the recipe: " << o.text;
  }
}

}  // namespace
}  // namespace espalier
