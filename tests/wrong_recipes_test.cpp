#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/build_config.h"
#include "espalier/error.h"
#include "plugins/loader.h"
#include "recipe/recipe.h"
#include "recipe/sections.h"
#include "recipe/yaml.h"
#include "temp_folder.h"
#include "test_components.h"
#include "within_a_second.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// The toys, the plugins that are built, and the SDK's own components.
const Registry& components() {
  static Registry* registry = [] {
    auto* r = new Registry;
    if (std::filesystem::is_directory(ESPALIER_PLUGIN_DIR)) load_plugins({ESPALIER_PLUGIN_DIR}, *r);
    test::register_toys(*r);
    for (const Registered* c : Registry::instance().all()) {  // what the SDK brings: scores, losses, metrics
      if (!r->find(c->component.kind, c->component.name)) r->add(c->component, c->origin);
    }
    return r;
  }();
  return *registry;
}

// What is said about a recipe, with the folder left out of its name.
std::string error_of(const std::string& text) {
  static const TempFolder folder;
  const std::string path = folder.write("r.yaml", text).string();
  try {
    load_recipe(path, {}, components());
    return "no error";
  } catch (const InputError& e) {
    std::string said = e.what();
    for (size_t at = 0; (at = said.find(folder.path().string() + "/")) != std::string::npos;)
      said.erase(at, folder.path().string().size() + 1);
    return said;
  }
}

struct Wrong {
  const char* name;
  std::string text;
  std::string place;
  std::vector<std::string> words;
};

class WrongRecipe : public ::testing::TestWithParam<Wrong> {};

TEST_P(WrongRecipe, SaysWhereWhatAndTheNearest) {
  const Wrong& w = GetParam();
  const std::string said = within_a_second([&] { return error_of(w.text); });
  EXPECT_THAT(said, StartsWith("r.yaml:" + w.place + ": "));
  for (const std::string& word : w.words) EXPECT_THAT(said, HasSubstr(word));
}

std::string repeated(const std::string& s, int n) {
  std::string all;
  for (int i = 0; i < n; ++i) all += s;
  return all;
}

// Ten times as many values with every line.
std::string bomb() {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string n = std::to_string(i);
    text += "a" + n + ": &a" + n + " [" + repeated("*a" + std::to_string(i - 1) + ", ", 10) + "]\n";
  }
  return text;
}

const std::string head = "espalier: 1\nname: x\n";
const std::string parts = head + "data: toy_images\nnetwork: toy_net\n";
const std::string stage = "stages:\n  - name: one\n    epochs: 1\n    optimizer: toy_sgd\n";
const std::string full = parts + stage;

const Wrong wrong_recipes[] = {
    {"NotAMap", "[1, 2]\n", "1:1", {"expected a recipe"}},
    {"NoVersion", "name: x\n", "1:1", {"needs", "'espalier'"}},
    {"OtherVersion", "espalier: 2\nname: x\n", "1:11", {"version 2", "'espalier: 1'"}},
    {"VersionOfText", "espalier: one\nname: x\n", "1:11", {"'espalier' must be an integer", "'one'"}},
    // Before anything else: a later version may have other keys.
    {"NeedsALaterSdk",
     head + "needs_sdk: '>= 99.1'\nkey_of_later: 1\n",
     "3:12",
     {"needs Espalier >= 99.1 (needs_sdk)", "this is Espalier " ESPALIER_VERSION}},
    {"NeedsAnEarlierSdk", head + "needs_sdk: '>= 0.1, < 0.1'\n", "3:12", {"needs Espalier >= 0.1, < 0.1"}},
    {"NeedsSdkWithoutSign", full + "needs_sdk: '1.2'\n", "9:12", {"'1.2' is no condition", "\">= 1.2\""}},
    {"NeedsSdkWithoutQuotes", full + "needs_sdk: 1.2\n", "9:12", {"in quotes", "\">= 1.2\""}},
    {"NeedsSdkOfWords", full + "needs_sdk: latest\n", "9:12", {"'latest' is no condition"}},
    {"NoName", "espalier: 1\n", "1:1", {"'name'"}},
    {"NameIsAPath",
     "espalier: 1\nname: ../../etc\ndata: toy_images\nnetwork: toy_net\n" + stage,
     "2:7",
     {"'name' must be", "letters"}},
    {"NameWithSpace",
     "espalier: 1\nname: a b\ndata: toy_images\nnetwork: toy_net\n" + stage,
     "2:7",
     {"'name' must be"}},
    {"NameIsANumber",
     "espalier: 1\nname: 3\ndata: toy_images\nnetwork: toy_net\n" + stage,
     "2:7",
     {"'name' must be a string", "the integer 3"}},
    {"UnknownKey", full + "sed: 3\n", "9:1", {"has no key 'sed'", "did you mean 'seed'?"}},
    {"UseOfARecipe", full + "use: x\n", "9:1", {"has no key 'use'"}},
    {"UnknownDevice", full + "device: tpu\n", "9:9", {"one of auto, cpu, cuda", "'tpu'"}},
    {"MisspeltDevice", full + "device: cuba\n", "9:9", {"did you mean 'cuda'?"}},
    {"NegativeSeed", full + "seed: -1\n", "9:7", {"an integer >= 0", "-1"}},
    {"FractionalSeed", full + "seed: 1.5\n", "9:7", {"an integer >= 0", "1.5"}},
    {"NoData", head + "network: toy_net\n" + stage, "1:1", {"needs the key 'data'"}},
    {"NoNetwork", head + "data: toy_images\n" + stage, "1:1", {"'network'", "backbone"}},
    {"NoStages", parts, "1:1", {"needs the key 'stages'"}},
    {"EmptyStages", parts + "stages: []\n", "5:9", {"at least one stage"}},
    {"StagesAreAMap", parts + "stages: {name: one}\n", "5:9", {"a list of stages", "got a map"}},
    {"StageIsAWord", parts + "stages: [one]\n", "5:10", {"a stage must be a map"}},
    {"UnknownDataset",
     head + "data: toy_imags\nnetwork: toy_net\n" + stage,
     "3:7",
     {"no dataset is called 'toy_imags'", "did you mean 'toy_images'?"}},
    {"DataWithoutUse", head + "data: {batch: 3}\nnetwork: toy_net\n" + stage, "3:7", {"'use'"}},
    {"DataIsAList",
     head + "data: [toy_images]\nnetwork: toy_net\n" + stage,
     "3:7",
     {"'data' must be a map", "got a list"}},
    {"MisspeltDataKey",
     head + "data: {use: toy_images, bacth: 3}\nnetwork: toy_net\n" + stage,
     "3:25",
     {"did you mean 'batch'?"}},
    {"MisspeltDatasetParameter",
     head + "data: {use: toy_images, sampels: 3}\nnetwork: toy_net\n" + stage,
     "3:25",
     {"did you mean 'samples'?"}},
    {"WrongDatasetParameter",
     head + "data: {use: toy_images, samples: 0}\nnetwork: toy_net\n" + stage,
     "3:34",
     {"'samples' must be an integer >= 1"}},
    {"BatchOfNothing",
     head + "data: {use: toy_images, batch: 0}\nnetwork: toy_net\n" + stage,
     "3:32",
     {"integer >= 1", "samples"}},
    {"ValidationIsAll",
     head + "data: {use: toy_images, validation: 1}\nnetwork: toy_net\n" + stage,
     "3:37",
     {"a number >= 0 and < 1"}},
    {"UnknownAugmentation",
     head + "data: {use: toy_images, augment: [crp]}\nnetwork: toy_net\n" + stage,
     "3:35",
     {"no augmentation", "did you mean 'crop'?"}},
    {"AugmentedTwice",
     head + "data: {use: toy_images, augment: [flip, flip: .1]}\nnetwork: toy_net\n" + stage,
     "3:41",
     {"'flip' is written twice"}},
    {"AugmentedByANumber",
     head + "data: {use: toy_images, augment: [3]}\nnetwork: toy_net\n" + stage,
     "3:35",
     {"a list of augmentations"}},
    {"FlippedTooOften",
     head + "data: {use: toy_images, augment: [flip: 2]}\nnetwork: toy_net\n" + stage,
     "3:41",
     {"'probability' must be a number >= 0 and <= 1"}},
    {"NormalizeByAWord",
     head + "data: {use: toy_images, normalize: all}\nnetwork: toy_net\n" + stage,
     "3:36",
     {"true, false, standardize, {mean"}},
    {"NormalizeWithoutDeviation",
     head + "data: {use: toy_images, normalize: {mean: [1]}}\nnetwork: toy_net\n" + stage,
     "3:36",
     {"'std'"}},
    {"NormalizeUnequally",
     head + "data: {use: toy_images, normalize: {mean: [1, 2], std: [1]}}\nnetwork: toy_net\n" + stage,
     "3:36",
     {"each channel", "2 and 1"}},
    {"DeviationOfZero",
     head + "data: {use: toy_images, normalize: {mean: [0], std: [0]}}\nnetwork: toy_net\n" + stage,
     "3:54",
     {"'std'", "> 0"}},
    {"UnknownBackbone",
     head + "data: toy_images\nnetwork: {use: toy_nett}\n" + stage,
     "4:16",
     {"no backbone is called 'toy_nett'", "did you mean 'toy_net'?"}},
    {"BackboneOfAnotherKind",
     head + "data: toy_images\nnetwork: toy_sgd\n" + stage,
     "4:10",
     {"'toy_sgd' is an optimizer"}},
    {"BackboneParameter",
     head + "data: toy_images\nnetwork: {use: toy_net, width: wide}\n" + stage,
     "4:32",
     {"'width' must be a number > 0 and < 100", "'wide'"}},
    {"StageWithoutName", parts + "stages:\n  - epochs: 1\n", "6:5", {"stage 1", "'name'"}},
    {"StageWithoutEpochs", parts + "stages:\n  - name: one\n", "6:5", {"stage 'one'", "'epochs'"}},
    {"NegativeEpochs", parts + "stages:\n  - {name: one, epochs: -1}\n", "6:25", {"an integer >= 0 (epochs)"}},
    {"StageNameIsAPath", parts + "stages:\n  - {name: a/b, epochs: 0}\n", "6:12", {"'name' must be"}},
    {"MisspeltStageKey",
     full + "    optimiser: sgd\n",
     "9:5",
     {"stage 'one' has no key 'optimiser'", "did you mean 'optimizer'?"}},
    {"StagesOfOneName", full + "  - {name: one, epochs: 0}\n", "9:12", {"two stages are called 'one'", "r.yaml:6:5"}},
    {"NoOptimizer",
     parts + "stages:\n  - name: one\n    epochs: 3\n",
     "6:5",
     {"stage 'one' trains for 3 epochs", "optimizer: {use: NAME}"}},
    {"BothOptimizers", full + "    optimizers: [toy_sgd]\n", "9:5", {"both 'optimizer' and 'optimizers'"}},
    {"OptimizerIsANumber",
     parts + "stages:\n  - {name: one, epochs: 1, optimizer: 3}\n",
     "6:39",
     {"an optimizer: {use: NAME, ...}", "the integer 3"}},
    {"OptimizerWithoutUse",
     parts + "stages:\n  - {name: one, epochs: 1, optimizer: {lr: 3}}\n",
     "6:39",
     {"needs the key 'use'"}},
    {"UseIsAList",
     parts + "stages:\n  - {name: one, epochs: 1, optimizer: {use: [a]}}\n",
     "6:45",
     {"'use' must be the name of an optimizer"}},
    {"OptimizerParameter",
     parts + "stages:\n  - {name: one, epochs: 1, optimizer: {use: toy_sgd, lr: 0}}\n",
     "6:58",
     {"'lr' must be a number > 0, got 0"}},
    {"SelectorIsANumber",
     parts + "stages:\n  - {name: one, epochs: 1, optimizer: {use: toy_sgd, on: 3}}\n",
     "6:58",
     {"'on' must be a selector", "the integer 3"}},
    {"UnknownRegularizer",
     full + "    regularizers: [toy_l2]\n",
     "9:20",
     {"no regularizer is called 'toy_l2'", "did you mean 'toy_l1'?"}},
    {"RegularizerParameter",
     full + "    regularizers: [{use: toy_l1, weigth: 1}]\n",
     "9:34",
     {"did you mean 'weight'?"}},
    {"UnknownController", full + "    controller: {use: toy_evry}\n", "9:23", {"did you mean 'toy_every'?"}},
    {"MissingParameter",
     full + "    controller: {use: toy_every}\n",
     "9:17",
     {"needs the parameter 'needed'", "an integer >= 0 (steps)", "has to be there"}},
    {"NestedParameter",
     full + "    controller: {use: toy_every, needed: 1, inner: {use: toy_sgd, lr: x}}\n",
     "9:71",
     {"'lr' must be a number > 0"}},
    {"NestedListParameter",
     full + "    controller:\n      use: toy_every\n      needed: 1\n      penalties:\n        - toy_l1\n        - "
            "{use: toy_l1, weight: -1}\n",
     "14:33",
     {"'weight' must be a number >= 0"}},
    {"NestedUnknown",
     full + "    controller: {use: toy_every, needed: 1, inner: toy_sdg}\n",
     "9:52",
     {"did you mean 'toy_sgd'?"}},
    {"PerSelectorParameter",
     full + "    controller: {use: toy_every, needed: 1, tau: {conv1: .1, \"*\": -1}}\n",
     "9:67",
     {"'tau' must be a number >= 0"}},
    {"UnmetNeed",
     full + "    controller: toy_grow\n",
     "9:17",
     {"controller 'toy_grow' needs 'state:gamma'", "'toy_bregman'"}},
    {"UnknownSchedule",
     full + "    schedule: cosin\n",
     "9:15",
     {"no schedule is called 'cosin'", "did you mean 'cosine'?"}},
    {"ScheduleParameter",
     full + "    schedule: {use: step, every: -3}\n",
     "9:34",
     {"'every' must be an integer >= 0 (epochs)"}},
    {"ScheduleWithoutEpochs", full + "    schedule: step\n", "9:15", {"schedule 'step'", "either 'milestones'"}},
    {"OptionByItsFormerName",
     full + "    schedule: {use: step, at: [2]}\n",
     "9:27",
     {"'at' is called 'milestones' now"}},
    {"ScheduleOfHalfEpochs", full + "    schedule: {use: step, milestones: [1.5]}\n", "9:15", {"whole epochs"}},
    {"SmoothedTooMuch", full + "    label_smoothing: 1\n", "9:22", {"a number >= 0 and < 1"}},
    {"ClippedToNothing", full + "    clip_norm: 0\n", "9:16", {"a number > 0"}},
    {"StartFromSomewhere", full + "    start_from: lst\n", "9:17", {"one of last, best", "did you mean 'last'?"}},
    {"StageDataKey", full + "    data: {bath: 3}\n", "9:12", {"did you mean 'batch'?"}},
    {"StageDataIsANumber", full + "    data: 3\n", "9:11", {"'data' must be a map"}},
    {"StageNetwork",
     full + "    network: {use: toy_net, hidden: [0]}\n",
     "9:38",
     {"'hidden' must be a list of integers each >= 1"}},
    {"BaseKey", full + "base: {mac: 3}\n", "9:8", {"did you mean 'macs'?"}},
    {"BaseOfNothing", full + "base: {macs: 0}\n", "9:14", {"an integer >= 1"}},
    {"BaseEpochs", full + "base: {use: toy_net, epochs: 0}\n", "9:30", {"an integer >= 1"}},
    {"BaseIsANumber", full + "base: 3\n", "9:7", {"expected a backbone"}},
    {"BaseUnknown", full + "base: toy_nt\n", "9:7", {"did you mean 'toy_net'?"}},
    {"ExpectIsAList", full + "expect: [92]\n", "9:9", {"a map of metrics"}},
    {"ExpectIsANumber", full + "expect: {accuracy: 92}\n", "9:20", {"{value: NUMBER, within: NUMBER}"}},
    {"ExpectWithoutTolerance", full + "expect: {accuracy: {value: 92}}\n", "9:20", {"'within'"}},
    {"ExpectKey", full + "expect: {accuracy: {value: 92, wihtin: 1}}\n", "9:32", {"did you mean 'within'?"}},
    {"ExpectUnknown",
     full + "expect: {acuracy: {value: 92, within: 1}}\n",
     "9:10",
     {"no metric is called 'acuracy'", "did you mean 'accuracy'?"}},
    {"SeedBeyondIntegers", full + "seed: 1e19\n", "9:7", {"'seed' must be an integer >= 0", "1e+19"}},
    {"Sexagesimal", full + "seed: 12:30\n", "9:7", {"'seed' must be an integer", "'12:30'"}},
    {"SeedOfNothing", full + "seed: ~\n", "9:1", {"'seed' must be an integer", "nothing"}},
    {"NoDataBehindTheKey",
     head + "data:\nnetwork: toy_net\n" + stage,
     "3:1",
     {"'data' must be a map: {use: DATASET, ...}", "nothing"}},
    {"NoStagesBehindTheKey", parts + "stages:\n", "5:1", {"'stages' must be a list", "nothing"}},
    {"NoOptimizerBehindTheKey", parts + "stages: [{name: one, epochs: 1, optimizer: }]\n", "5:10", {"no optimizer"}},
    {"EndlessStage", parts + "stages: [{name: one, epochs: 2000000000}]\n", "5:30", {"would not end"}},
    {"BatchBeyondAnyData",
     head + "data: {use: toy_images, batch: 1e9}\nnetwork: toy_net\n" + stage,
     "3:32",
     {"'batch' is 1000000000 samples"}},
    {"ValidationLeavesNothing",
     head + "data: {use: toy_images, limit: 10, validation: 0.96}\nnetwork: toy_net\n" + stage,
     "3:48",
     {"of 10 samples (limit)", "leaves nothing to train on"}},
    {"ValidationHoldsOutNothing",
     head + "data: {use: toy_images, limit: 10, validation: 0.01}\nnetwork: toy_net\n" + stage,
     "3:48",
     {"holds out nothing"}},
    {"NoStageBefore", full + "    start_from: best\n", "9:17", {"stage 'one' is the first"}},
    {"EmptySelector",
     parts + "stages:\n  - {name: one, epochs: 1, optimizer: {use: toy_sgd, on: []}}\n",
     "6:58",
     {"'on' is empty", "leave it out"}},
    {"EmptySelectorText",
     parts + "stages:\n  - {name: one, epochs: 1, optimizer: {use: toy_sgd, on: ''}}\n",
     "6:58",
     {"'on' is empty"}},
    {"NoThresholds",
     full + "    controller: {use: toy_every, needed: 1, tau: {}}\n",
     "9:50",
     {"'tau' must be a number >= 0", "an empty map"}},
    {"TooManyStages",
     parts + "stages: [" + repeated("{name: s, epochs: 0}, ", 1001) + "]\n",
     "5:9",
     {"more than 1000 stages"}},
    {"Matrix", full + "matrix: {seed: [0, 1]}\n", "9:9", {"a recipe with a matrix is several", "--set matrix="}},
    {"AliasBomb", full + bomb(), "12:40", {"stand for more than 10000 values"}},
    {"Deep",
     full + "expect: " + repeated("[", 100'000) + repeated("]", 100'000) + "\n",
     "9:72",
     {"nested deeper than 64 levels"}},
    {"DeepMaps", full + "expect: " + repeated("{a: ", 100'000) + "\n", "9:261", {"nested deeper than 64 levels"}},
    {"KeyTwiceInAComponent",
     head + "data: toy_images\nnetwork: {use: toy_net, width: 1, \"width\": 2}\n" + stage,
     "4:35",
     {"'width' is written twice"}},
    {"Latin1", full + "description: caf\xe9\n", "9:17", {"not UTF-8", "save the file as UTF-8"}},
    {"Yes", full + "    data: {shuffle: yes}\n", "9:21", {"write true"}},
    {"Octal", full + "seed: 010\n", "9:7", {"write 10"}},
    {"TwiceTheSame", full + "seed: 1\nseed: 2\n", "10:1", {"'seed' is written twice", "line 9"}},
    {"Tabs", full + "expect:\n\taccuracy: 1\n", "10:1", {"a tab"}},
};

INSTANTIATE_TEST_SUITE_P(All, WrongRecipe, ::testing::ValuesIn(wrong_recipes),
                         [](const auto& test) { return std::string(test.param.name); });

// ---- every parameter that is declared anywhere: wrong type, below, above, misspelt ----

Value recipe() {
  return parse_yaml(full, "r.yaml");
}

// Where a section stands in a recipe: keys, and numbers of list items.
using Path = std::vector<std::string>;

Value& walk(Value& v, const Path& path) {
  Value* at = &v;
  for (const std::string& step : path)
    at = at->is_list() ? &at->as_list()[static_cast<size_t>(std::stoi(step))] : &(*at)[step];
  return *at;
}

Value a_value_of(const ParameterInfo& p) {
  switch (p.type) {
    case ParameterType::boolean:
      return true;
    case ParameterType::string:
    case ParameterType::path:
      return "x";
    case ParameterType::choice:
      return p.choices.at(0);
    case ParameterType::strings:
    case ParameterType::selector:
      return "weights";
    case ParameterType::component:
    case ParameterType::components:
      return components().names(p.component_kind).at(0);
    case ParameterType::options:
      return Value::map();
    default: {
      if (p.name == "espalier") return 1;
      double v = std::isfinite(p.least) ? std::floor(p.least) + 1 : 1;
      if (v > p.most || (v == p.most && p.open_above)) v = (p.least + p.most) / 2;
      return v;
    }
  }
}

Value wrong_type_for(const ParameterInfo& p) {
  switch (p.type) {
    case ParameterType::boolean:
      return 3;
    case ParameterType::string:
    case ParameterType::path:
    case ParameterType::choice:
      return Value(std::vector<int64_t>{1});
    case ParameterType::integers:
    case ParameterType::numbers:
    case ParameterType::strings:
    case ParameterType::selector:
      return Value::map({{"a", 1}});
    case ParameterType::component:
    case ParameterType::components:
      return 3;
    default:
      return "text";
  }
}

bool is_numeric(const ParameterInfo& p) {
  return p.type == ParameterType::integer || p.type == ParameterType::number || p.type == ParameterType::integers ||
         p.type == ParameterType::numbers || p.type == ParameterType::per_selector;
}

class Declared {
 public:
  Declared(const Value& recipe, Path section, const std::vector<ParameterInfo>& parameters, std::string what)
      : recipe_(recipe), section_(std::move(section)), parameters_(parameters), what_(std::move(what)) {
    Value& s = walk(recipe_, section_);
    for (const ParameterInfo& p : parameters_) {
      if (p.required && !s.find(p.name)) s[p.name] = a_value_of(p);
    }
  }

  int check_all() {
    for (const ParameterInfo& p : parameters_) {
      expect_refused(p.name, wrong_type_for(p), "'" + p.name + "' must be " + p.expected());
      if (is_numeric(p) && std::isfinite(p.least))
        expect_refused(p.name, p.open_below ? p.least : p.least - 1, p.expected());
      if (is_numeric(p) && std::isfinite(p.most))
        expect_refused(p.name, p.open_above ? p.most : p.most + 1, p.expected());
      if (p.type == ParameterType::choice)
        expect_refused(p.name, p.choices[0] + "x", "did you mean '" + p.choices[0] + "'?");
      if (p.type == ParameterType::component || p.type == ParameterType::components) {
        expect_refused(p.name, "no_such_thing_anywhere",
                       "no " + p.component_kind + " is called 'no_such_thing_anywhere'");
      }
      expect_misspelt(p);
      if (p.required) expect_missing(p);
    }
    return checks_;
  }

 private:
  Location location_of(const Value& parsed, const std::string& key, bool of_key) const {
    Value copy = parsed;
    for (const Value::Entry& e : walk(copy, section_).as_map()) {
      if (e.key == key) return of_key ? e.key_location : e.value.location;
    }
    return {};
  }

  void expect_error(Value changed, const std::string& key, bool at_key, const std::string& words) {
    ++checks_;
    const std::string text = to_yaml(changed);
    const std::string said = error_of(text);
    const std::string place = location_of(parse_yaml(text, "r.yaml"), key, at_key).str();
    EXPECT_THAT(said, StartsWith(place)) << what_ << "\n" << text;
    EXPECT_THAT(said, HasSubstr(words)) << what_ << "\n" << text;
  }

  void expect_refused(const std::string& key, const Value& value, const std::string& words) {
    Value changed = recipe_;
    walk(changed, section_)[key] = value;
    expect_error(changed, key, false, words);
  }

  void expect_misspelt(const ParameterInfo& p) {
    const std::string misspelt = p.name + "x";
    for (const ParameterInfo& other : parameters_) {
      if (other.name == misspelt) return;
    }
    Value changed = recipe_;
    Value& s = walk(changed, section_);
    s.erase(p.name);
    s[misspelt] = a_value_of(p);
    expect_error(changed, misspelt, true, "did you mean '" + p.name + "'?");
  }

  void expect_missing(const ParameterInfo& p) {
    ++checks_;
    Value changed = recipe_;
    walk(changed, section_).erase(p.name);
    const std::string said = error_of(to_yaml(changed));
    EXPECT_THAT(said, StartsWith("r.yaml:")) << what_;
    EXPECT_THAT(said, HasSubstr("'" + p.name + "'")) << what_;
  }

  Value recipe_;
  Path section_;
  std::vector<ParameterInfo> parameters_;
  std::string what_;
  int checks_ = 0;
};

TEST(EveryDeclaredParameter, OfEveryComponentIsCheckedWithItsPlace) {
  int checks = 0;
  for (const Registered* r : components().all()) {
    const Component& c = r->component;
    Path section;
    Value whole = recipe();
    Value spec = Value::map({{"use", c.name}});
    if (c.kind == "dataset") {
      section = {"data"};
    } else if (c.kind == "backbone") {
      section = {"network"};
    } else if (c.kind == "regularizer") {
      walk(whole, {"stages", "0"})["regularizers"] = Value::list();
      walk(whole, {"stages", "0", "regularizers"}).push_back(Value());
      section = {"stages", "0", "regularizers", "0"};
    } else if (c.kind == "augmentation") {
      whole["data"] = Value::map({{"use", "toy_images"}, {"augment", Value::list()}});
      whole["data"]["augment"].push_back(Value());
      section = {"data", "augment", "0"};
    } else if (c.kind == "score") {
      walk(whole, {"stages", "0"})["controller"] = Value::map({{"use", "prune"}});
      section = {"stages", "0", "controller", "score"};
    } else if (c.kind == "operation") {
      continue;  // not part of a recipe; below
    } else {
      section = {"stages", "0", c.kind};
    }
    walk(whole, section) = spec;
    checks += Declared(whole, section, c.parameters, r->str()).check_all();
  }
  EXPECT_GT(checks, 100);
}

TEST(EveryDeclaredParameter, OfEveryOperationIsChecked) {
  for (const Registered* r : components().all()) {
    if (r->component.kind != "operation") continue;
    for (const ParameterInfo& p : r->component.parameters) {
      Value spec = Value::map({{"use", r->component.name}, {p.name.c_str(), wrong_type_for(p)}});
      EXPECT_THROW(components().check("operation", spec), InputError) << r->str() << " " << p.name;
    }
  }
}

TEST(EveryDeclaredParameter, OfTheRecipeItselfIsCheckedWithItsPlace) {
  Declared(recipe(), {}, Declare<RecipeKeys>().parameters(), "recipe").check_all();
  Value whole = recipe();
  whole["data"] = Value::map({{"use", "toy_images"}});
  Declared(whole, {"data"}, Declare<DataKeys>().parameters(), "data").check_all();
  whole["data"]["normalize"] = Value::map();
  Declared(whole, {"data", "normalize"}, Declare<NormalizeKeys>().parameters(), "normalize").check_all();
  // Without an optimizer, which excludes `optimizers`.
  whole = recipe();
  walk(whole, {"stages", "0"}) = Value::map({{"name", "one"}, {"epochs", 0}});
  Declared(whole, {"stages", "0"}, Declare<StageKeys>().parameters(), "stage").check_all();
  whole = recipe();
  whole["base"] = Value::map();
  Declared(whole, {"base"}, Declare<BaseKeys>().parameters(), "base").check_all();
  whole = recipe();
  whole["expect"]["accuracy"] = Value::map();
  Declared(whole, {"expect", "accuracy"}, Declare<ExpectKeys>().parameters(), "expect").check_all();
}

}  // namespace
}  // namespace espalier
