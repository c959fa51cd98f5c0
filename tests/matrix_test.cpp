#include "sweep/matrix.h"

#include <limits>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"
#include "recipe/overrides.h"
#include "recipe/yaml.h"
#include "sweep/report.h"
#include "test_components.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using test::toys;

const std::string recipe = R"(espalier: 1
name: small
data: toy_images
network: toy_net
stages:
  - name: one
    epochs: 2
    optimizer: {use: toy_sgd, lr: 0.1}
    regularizers: [toy_l1]
)";

std::vector<std::string> names(const std::string& matrix) {
  std::vector<std::string> result;
  for (const MatrixPoint& p : matrix_points(parse_yaml(recipe + "matrix: " + matrix, "r.yaml")))
    result.push_back(p.name);
  return result;
}

// The resolved recipes, as JSON.
std::vector<Recipe> recipes(const std::string& matrix, const std::vector<std::string>& overrides = {}) {
  Value tree = parse_yaml(recipe + "matrix: " + matrix, "r.yaml");
  for (const std::string& o : overrides) apply_override(tree, o);
  std::vector<Recipe> result;
  for_each_run(tree, matrix_points(tree), toys(), [&](const MatrixPoint&, const Recipe& r) { result.push_back(r); });
  return result;
}

TEST(Matrix, IsEveryCombinationInOrderTheLastKeyFastest) {
  EXPECT_THAT(names("{seed: [0, 1, 2], stages.one.regularizers.0.weight: [0.002, 4e-3]}"),
              ElementsAre("seed=0,weight=0.002", "seed=0,weight=0.004", "seed=1,weight=0.002", "seed=1,weight=0.004",
                          "seed=2,weight=0.002", "seed=2,weight=0.004"));
  const std::vector<Recipe> all =
      recipes("{seed: [3, 4], stages.one.optimizer.lr: [1, 2], network.hidden: [[5], [6, 7]]}");
  ASSERT_EQ(all.size(), 8U);
  std::vector<std::string> said;
  for (const Recipe& r : all) {
    said.push_back(std::to_string(r.seed) + " " + to_json(r.stages[0].optimizers[0].spec.at("lr")) + " " +
                   to_json(r.network.at("hidden")));
  }
  EXPECT_THAT(said, ElementsAre("3 1 [5]", "3 1 [6,7]", "3 2 [5]", "3 2 [6,7]", "4 1 [5]", "4 1 [6,7]", "4 2 [5]",
                                "4 2 [6,7]"));
  for (const Recipe& r : all) EXPECT_EQ(r.resolved.find("matrix"), nullptr);
}

TEST(Matrix, OfAListIsItsRuns) {
  const std::string matrix = "[{seed: 1, network.width: 2}, {network: toy_plain}]";
  EXPECT_THAT(names(matrix), ElementsAre("seed=1,width=2", "network=toy_plain"));
  const std::vector<Recipe> all = recipes(matrix);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].seed, 1);
  EXPECT_EQ(all[1].seed, 0) << "the recipe's own";
  EXPECT_EQ(name_of(all[1].network, "backbone"), "toy_plain");
}

TEST(Matrix, ThatIsNullIsNone) {
  EXPECT_TRUE(names("~").empty());
  EXPECT_TRUE(matrix_points(parse_yaml(recipe, "r.yaml")).empty());
}

TEST(Matrix, MayReplaceAComponentAndThenVaryIt) {
  EXPECT_EQ(recipes("{network: [{use: toy_net, width: 9}], network.width: [3, 4]}")[1].network.at("width").as_int(), 4);
}

TEST(Matrix, NamesColumnsAsShortlyAsTheyCanBeToldApart) {
  EXPECT_THAT(short_names({"seed", "stages.0.regularizers.0.weight"}), ElementsAre("seed", "weight"));
  EXPECT_THAT(short_names({"stages.a.epochs", "stages.b.epochs"}), ElementsAre("a.epochs", "b.epochs"));
  EXPECT_THAT(short_names({"epochs", "stages.b.epochs"}), ElementsAre("epochs", "b.epochs"));
  EXPECT_THAT(short_names({"network.use", "network.hidden.0"}), ElementsAre("network.use", "hidden.0"));
  EXPECT_THAT(short_names({"tau.\"conv1.weight\""}), ElementsAre("conv1.weight"));
}

TEST(Matrix, NamesFoldersSafelyAndEachDifferently) {
  for (const char* matrix : {
           "{description: [a/b, a b, 'a:b', A-B, '../..', '', ' ', \"\\n\", '日本', .a]}",
           "{description: [x, X, x-2, 'x/2', 'x 2']}",
           "{network: [toy_net, {use: toy_net, hidden: [1, 2]}, {use: toy_net, hidden: [[1, 2]]}, ~]}",
       }) {
    std::set<std::string> folders;
    const std::vector<std::string> all = names(matrix);
    for (std::string name : all) {
      EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,=_+-"),
                std::string::npos)
          << name;
      EXPECT_NE(name[0], '.') << name;
      EXPECT_LE(name.size(), 130U) << name;
      for (char& c : name) c = static_cast<char>(std::tolower(c));
      EXPECT_TRUE(folders.insert(name).second) << name << " stands for two runs";
    }
  }
  const std::string a(300, 'a');
  const std::vector<std::string> longest = names("{description: [" + a + "1, " + a + "2]}");
  EXPECT_NE(longest[0], longest[1]);
  EXPECT_LE(longest[0].size(), 130U);
}

TEST(Matrix, RefusesWhatTheCommandLineSetsToo) {
  const auto error = [](const std::string& matrix, const std::string& flag) {
    try {
      recipes(matrix, {flag});
      return std::string("no error");
    } catch (const InputError& e) {
      return std::string(e.what());
    }
  };
  EXPECT_THAT(error("{seed: [0, 1]}", "seed=3"),
              testing::AllOf(StartsWith("--set seed: "), HasSubstr("the matrix varies 'seed' itself (r.yaml:10:10)")));
  EXPECT_THAT(error("{stages.one.epochs: [3]}", "stages.0.epochs=1"), StartsWith("--set stages.0.epochs: "))
      << "by another name";
  EXPECT_THAT(error("{network: [toy_plain]}", "network.width=1"), StartsWith("--set network.width: "))
      << "a part of it";
  EXPECT_EQ(error("{seed: [0, 1]}", "stages.0.epochs=1"), "no error");
  EXPECT_EQ(recipes("{seed: [0, 1]}", {"matrix.seed=[5, 6, 7]"}).size(), 3U);
}

struct WrongMatrix {
  const char* name;
  std::string matrix;
  std::string place;
  std::vector<std::string> words;
};

class MatrixErrors : public ::testing::TestWithParam<WrongMatrix> {};

TEST_P(MatrixErrors, SayWhereAndWhatToWrite) {
  std::string said = "no error";
  try {
    recipes(GetParam().matrix);
  } catch (const InputError& e) {
    said = e.what();
  }
  EXPECT_THAT(said, StartsWith("r.yaml:" + GetParam().place + ": "));
  for (const std::string& word : GetParam().words) EXPECT_THAT(said, HasSubstr(word));
}

std::string thousand_seeds() {
  std::string text = "[0";
  for (int i = 1; i < 500; ++i) text += ", " + std::to_string(i);
  return text + "]";
}

const WrongMatrix wrong[] = {
    {"Scalar", "3", "10:9", {"'matrix' must be", "a map of lists", "the integer 3"}},
    {"EmptyMap", "{}", "10:9", {"the matrix is empty", "seed: [0, 1, 2]"}},
    {"EmptyList", "[]", "10:9", {"the matrix is empty"}},
    {"ScalarForAList", "{seed: 3}", "10:16", {"a list of values for 'seed'", "the integer 3"}},
    {"MapForAList", "{network: {use: toy_net}}", "10:19", {"a list of values for 'network'", "a map"}},
    {"NoValues", "{seed: []}", "10:16", {"'seed' is empty"}},
    {"Twice", "{seed: [1, 2, 1.0]}", "10:23", {"'seed' takes", "twice"}},
    {"TooMany", "{seed: " + thousand_seeds() + ", network.width: [1, 2, 3]}", "10:2408", {"1500 runs", "1000"}},
    {"RunIsAWord", "[one]", "10:10", {"a run of the matrix must be a map", "'one'"}},
    {"RunIsEmpty", "[{seed: 1}, {}]", "10:21", {"an empty one"}},
    {"RunTwice", "[{seed: 1, network.width: 2}, {network.width: 2, seed: 1}]", "10:39", {"r.yaml:10:10"}},
    {"GarbledPath", "{a..b: [1]}", "10:10", {"'a..b' is no path"}},
    {"OfItself", "{matrix.seed: [1]}", "10:10", {"cannot vary 'matrix'"}},
    {"OfExtends", "{extends: [a.yaml]}", "10:10", {"cannot vary 'extends'"}},
    {"UnknownKey", "{sed: [1]}", "10:10", {"no key 'sed'", "did you mean 'seed'?", "in the run sed=1"}},
    {"UnknownStage", "{stages.tow.epochs: [1]}", "10:10", {"'stages' has no 'tow'", "known: one"}},
    {"NoSuchItem", "{stages.3.epochs: [1]}", "10:10", {"'stages' has no '3'", "one item, counted from 0"}},
    {"ThroughAScalar", "{stages.one.epochs.x: [1]}", "10:10", {"has no 'x'", "the integer 2"}},
    {"ThroughAName", "{name.x: [1]}", "10:10", {"'name' has no 'x'", "the string 'small'"}},
    {"TwoNamesOfOnePlace", "{stages.one.epochs: [1], stages.0.epochs: [2]}", "10:34", {"leave one of them out"}},
    {"ReplacedByALater", "{network.width: [1, 2], network: [toy_net]}", "10:33", {"write it first"}},
    {"WrongValue", "{seed: [1, -2]}", "10:20", {"an integer >= 0", "-2", "in the run seed=-2 of the matrix"}},
    {"WrongCombination",
     "{network: [toy_plain, toy_net], stages.one.controller: [none, toy_grow]}",
     "10:71",
     {"needs 'state:gamma'", "in the run network=toy_plain,controller=toy_grow"}},
};

INSTANTIATE_TEST_SUITE_P(All, MatrixErrors, ::testing::ValuesIn(wrong),
                         [](const auto& test) { return std::string(test.param.name); });

SweepRun run(int seed, double weight, double accuracy, int macs, const std::string& status = "finished") {
  SweepRun r;
  r.name = "seed=" + std::to_string(seed);
  r.values = Value::map({{"seed", seed}, {"stages.0.regularizers.0.weight", weight}});
  r.status = status;
  r.seconds = 65;
  if (status == "finished") {
    r.summary.emplace().status = status;
    RunResult& result = r.summary->result.emplace();
    result.metrics = {{"accuracy", accuracy}};
    result.base = {1000, 4000};
    result.final = {500, macs};
  }
  return r;
}

TEST(SweepReport, ShowsTheRunsAndTheirShareOfTheBase) {
  EXPECT_EQ(runs_table({run(0, 0.1, 91.5, 1000), run(1, 0.1, 0, 0, "failed")}),
            "seed  weight  test accuracy  params  of base   MACs  of base  time    status\n"
            "----  ------  -------------  ------  -------  -----  -------  ----  --------\n"
            "0        0.1        91.50 %     500   50.0 %  1,000   25.0 %  1:05  finished\n"
            "1        0.1                                                  1:05    failed\n");
}

TEST(ParetoFront, IsWhatNothingElseBeats) {
  //                            best       small   beaten by both  as small as the 2nd, worse
  EXPECT_THAT(pareto_front({{100, 90}, {10, 80}, {100, 70}, {10, 79}}), ElementsAre(true, true, false, false));
  EXPECT_THAT(pareto_front({{1, 1}, {2, 2}, {3, 3}}), ElementsAre(true, true, true)) << "larger ones are better";
  EXPECT_THAT(pareto_front({{1, 3}, {2, 2}, {3, 1}}), ElementsAre(true, false, false)) << "the smallest is the best";
  EXPECT_THAT(pareto_front({{5, 5}, {5, 5}, {6, 5}, {5, 4}}), ElementsAre(true, true, false, false)) << "equal ones";
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(pareto_front({{1, nan}, {2, 2}}), ElementsAre(false, true)) << "a loss without a number beats nothing";
  EXPECT_TRUE(pareto_front({}).empty());
}

SweepRun sized(const std::string& name, int64_t params, int64_t macs, double metric, bool larger_is_better) {
  SweepRun r = run(0, 0.1, metric, 0);
  r.name = name;
  r.summary->result->final = {params, macs};
  r.summary->result->leading = {larger_is_better ? "accuracy" : "mse", "", larger_is_better};
  return r;
}

TEST(ParetoFront, OfRunsKnowsWhichMetricIsBetterAndWhichSizeIsMeant) {
  for (const bool larger : {true, false}) {
    const auto at = [&](double goodness) { return larger ? goodness : -goodness; };
    std::vector<SweepRun> runs = {sized("big", 900, 10, at(9), larger), sized("beaten", 900, 50, at(8), larger),
                                  sized("small", 100, 90, at(5), larger), sized("twin", 100, 80, at(5), larger),
                                  run(7, 0.1, 0, 0, "failed")};
    EXPECT_THAT(front_of(runs, &NetworkSize::params), ElementsAre("small", "twin", "big")) << larger;
    EXPECT_THAT(front_of(runs, size_of_front("macs")), ElementsAre("big")) << larger;
    runs[1].summary->result->leading.name = "another";
    EXPECT_THAT(front_of(runs, &NetworkSize::params), ElementsAre()) << "metrics that cannot be compared";
    runs.resize(1);
    EXPECT_THAT(front_of(runs, &NetworkSize::params), ElementsAre()) << "one run has no front";
  }
}

TEST(SweepReport, MarksTheFrontAndNumbersTheDraws) {
  std::vector<SweepRun> runs = {run(0, 0.1, 91.5, 1000), run(1, 0.2, 90, 1000)};
  runs[0].draw = 0;
  runs[1].draw = 3;
  EXPECT_EQ(runs_table(runs, front_of(runs, &NetworkSize::params)),
            "draw  seed  weight  test accuracy  params  of base   MACs  of base  time    status  front\n"
            "----  ----  ------  -------------  ------  -------  -----  -------  ----  --------  -----\n"
            "0        0     0.1        91.50 %     500   50.0 %  1,000   25.0 %  1:05  finished      *\n"
            "3        1     0.2        90.00 %     500   50.0 %  1,000   25.0 %  1:05  finished\n");
  EXPECT_EQ(SweepRun::from_value(runs[1].to_value()).draw, 3);
}

TEST(SweepReport, TakesMeanAndSampleDeviationOverTheSeedsThatFinished) {
  const Value groups =
      over_seeds({run(0, 0.1, 90, 1000), run(1, 0.1, 92, 3000), run(2, 0.1, 0, 0, "failed"), run(0, 0.2, 80, 500)});
  ASSERT_EQ(groups.size(), 2U);
  const Value& first = groups.as_list()[0];
  EXPECT_EQ(to_json(first.at("seeds")), "[0,1]");
  EXPECT_EQ(first.at("values").find("seed"), nullptr);
  EXPECT_DOUBLE_EQ(first.at("accuracy").at("mean").as_double(), 91);
  EXPECT_DOUBLE_EQ(first.at("accuracy").at("deviation").as_double(), std::sqrt(2));
  EXPECT_DOUBLE_EQ(first.at("macs").at("mean").as_double(), 2000);
  EXPECT_TRUE(groups.as_list()[1].at("accuracy").at("deviation").is_null()) << "of one run nothing is known";
  EXPECT_EQ(seeds_table(groups),
            "weight  seeds   test accuracy   params           MACs\n"
            "------  -----  --------------  -------  -------------\n"
            "0.1         2  91.00 ± 1.41 %  500 ± 0  2,000 ± 1,414\n"
            "0.2         1         80.00 %      500            500\n");
  EXPECT_EQ(over_seeds({}).size(), 0U);
}

}  // namespace
}  // namespace espalier
