// Matrices of random draws.
#include "sweep/draws.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"
#include "recipe/overrides.h"
#include "recipe/yaml.h"
#include "sweep/kept_recipe.h"
#include "sweep/matrix.h"
#include "temp_folder.h"
#include "test_components.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<RandomDraw> draws(const std::string& matrix) {
  return random_draws(parse_yaml(matrix, "m.yaml"));
}

// The numbers that `draw` gives for one path, of 1000 runs, which are all that a matrix may have, with several seeds.
std::vector<double> numbers(const std::string& distribution, int seeds = 10) {
  std::vector<double> all;
  for (int seed = 0; seed < seeds; ++seed) {
    // The second path keeps draws apart that have the same number.
    for (const RandomDraw& d : draws("{random: 1000, seed: " + std::to_string(seed) + ", draw: {x: " + distribution +
                                     ", apart: {int: [0, 1000000000000]}}}")) {
      all.push_back(d.values.at("x").as_double());
    }
  }
  return all;
}

double share_at_most(const std::vector<double>& numbers, double x) {
  return static_cast<double>(std::ranges::count_if(numbers, [&](double n) { return n <= x; })) /
         static_cast<double>(numbers.size());
}

// Of 10,000 draws a share is within four standard deviations of its probability p, sqrt(p (1 - p) / 10000) <= 0.005,
// but for one time in 16,000; the draws are always the same.
constexpr double tolerance = 0.02;

TEST(Draws, OfALogarithmHaveItsDistributionAndBounds) {
  const std::vector<double> all = numbers("{log_uniform: [1e-5, 1e-2]}");
  ASSERT_EQ(all.size(), 10'000U);
  EXPECT_GE(*std::ranges::min_element(all), 1e-5);
  EXPECT_LE(*std::ranges::max_element(all), 1e-2);
  // P(x <= t) = log(t / low) / log(high / low): each power of ten has a third, and the median is the geometric mean.
  EXPECT_NEAR(share_at_most(all, std::sqrt(1e-5 * 1e-2)), 0.5, tolerance);
  EXPECT_NEAR(share_at_most(all, 1e-4), 1.0 / 3, tolerance);
  EXPECT_NEAR(share_at_most(all, 1e-3), 2.0 / 3, tolerance);
}

TEST(Draws, OfABoundedNumberAreUniform) {
  const std::vector<double> all = numbers("{uniform: [-1, 3]}");
  EXPECT_GE(*std::ranges::min_element(all), -1);
  EXPECT_LE(*std::ranges::max_element(all), 3);
  for (const double t : {-0.5, 0.0, 1.0, 2.5}) EXPECT_NEAR(share_at_most(all, t), (t + 1) / 4, tolerance) << t;
}

TEST(Draws, OfIntegersTakeEachBound) {
  const std::vector<double> all = numbers("{int: [-1, 3]}");
  EXPECT_EQ(std::set<double>(all.begin(), all.end()), (std::set<double>{-1, 0, 1, 2, 3}));
  for (const double t : {-1.0, 0.0, 1.0, 2.0}) EXPECT_NEAR(share_at_most(all, t), (t + 2) / 5, tolerance) << t;
}

TEST(Draws, OfIntegersByTheLogarithmTakeSmallOnesMoreOften) {
  // k stands for [k, k + 1), so that P(n <= t) = log((t + 1) / low) / log((high + 1) / low).
  const std::vector<double> all = numbers("{log_int: [20, 5000]}");
  EXPECT_GE(*std::ranges::min_element(all), 20);
  EXPECT_LE(*std::ranges::max_element(all), 5000);
  for (const double t : {25.0, 100.0, 1000.0})
    EXPECT_NEAR(share_at_most(all, t), std::log((t + 1) / 20) / std::log(5001.0 / 20), tolerance) << t;
  const double median = std::sqrt(20 * 5001.0);
  EXPECT_NEAR(share_at_most(all, median), 0.5, tolerance);
  const std::vector<double> small = numbers("{log_int: [1, 2]}");
  EXPECT_NEAR(share_at_most(small, 1), std::log(2) / std::log(3), tolerance);
  EXPECT_EQ(*std::ranges::max_element(small), 2);
}

TEST(Draws, ChooseEachValueAsOften) {
  int counts[3] = {};
  for (const RandomDraw& d :
       draws("{random: 1000, draw: {x: {choice: [a, {use: b, k: 1}, ~]}, y: {uniform: [0, 1]}}}")) {
    const Value& x = d.values.at("x");
    ++counts[x.is_string() ? 0 : x.is_map() ? 1 : 2];
  }
  // Four standard deviations of sqrt(1000 * 1/3 * 2/3) = 15, of fewer than 1000 where some repeat.
  for (const int n : counts) EXPECT_NEAR(n, 333, 60);
}

TEST(Draws, AreNumbersThatAPersonWouldWrite) {
  for (const double x : numbers("{log_uniform: [1e-5, 1e-2]}", 1)) EXPECT_LE(to_json(Value(x)).size(), 9U) << x;
  for (const double x : numbers("{uniform: [0, 1]}", 1)) EXPECT_LE(to_json(Value(x)).size(), 6U) << x;
  for (const double x : numbers("{log_int: [1, 1000000]}", 1))
    EXPECT_EQ(std::fmod(x, x >= 1e5 ? 100 : x >= 1e4 ? 10 : 1), 0) << x;
  // Where four digits would leave few values, there are more, and bounds stay bounds.
  for (const char* narrow : {"{log_uniform: [0.123456, 0.123466]}", "{uniform: [100.00001, 100.00002]}"}) {
    const std::vector<double> all = numbers(narrow, 1);
    EXPECT_GT(std::set<double>(all.begin(), all.end()).size(), 500U) << narrow;
  }
  const std::vector<double> narrow = numbers("{uniform: [100.00001, 100.00002]}", 1);
  EXPECT_GE(*std::ranges::min_element(narrow), 100.00001);
  EXPECT_LE(*std::ranges::max_element(narrow), 100.00002);
}

TEST(Draws, TakeBoundsOfAnySize) {
  for (const char* wide :
       {"{log_uniform: [1e-300, 1e300]}", "{log_uniform: [2.3e-308, 1.7e308]}", "{uniform: [-1.7e308, 1.7e308]}",
        "{uniform: [0, 1e-300]}", "{int: [-1e15, 1e15]}", "{log_int: [1, 1e15]}"}) {
    const std::vector<double> all = numbers(wide, 1);
    EXPECT_TRUE(std::ranges::all_of(all, [](double x) { return std::isfinite(x); })) << wide;
    EXPECT_GT(std::set<double>(all.begin(), all.end()).size(), 1U) << wide;
  }
  EXPECT_NEAR(share_at_most(numbers("{log_uniform: [1e-300, 1e300]}"), 1), 0.5, tolerance);
}

// Computed from the definition by a program of its own, with exact integers and the functions of another libm.
TEST(Draws, AreTheSameOnEveryMachine) {
  std::vector<std::string> said;
  for (const RandomDraw& d :
       draws("{random: 4, seed: 7, draw: {lr: {log_uniform: [1e-5, 1e-2]}, momentum: {uniform: [-1, 2]},"
             "batch: {log_int: [20, 5000]}, depth: {int: [1, 5]}, act: {choice: [a, b, c]}}}")) {
    std::string line = std::to_string(d.number);
    for (const char* key : {"lr", "momentum", "batch", "depth", "act"}) line += " " + short_text(d.values.at(key));
    said.push_back(line);
  }
  EXPECT_THAT(said, ElementsAre("0 0.0003877 -0.9663 255 1 a", "1 0.0006906 0.0153 852 2 a", "2 0.005719 1.911 270 2 c",
                                "3 1.321e-05 0.351 2075 1 a"));
}

std::string text_of(const std::vector<RandomDraw>& all, size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i) text += std::to_string(all.at(i).number) + to_json(all[i].values) + "\n";
  return text;
}

TEST(Draws, StayWhenThereAreMore) {
  const std::string rest = ", seed: 3, draw: {a: {log_uniform: [1e-9, 1]}, b: {choice: [x, z]}}}";
  EXPECT_EQ(text_of(draws("{random: 50" + rest), 50), text_of(draws("{random: 80" + rest), 50));
  EXPECT_EQ(draws("{random: 80" + rest).size(), 80U);
  EXPECT_NE(text_of(draws("{random: 5" + rest), 5), text_of(draws("{random: 5, draw: {a: {log_uniform: [1e-9, 1]}, b: "
                                                                  "{choice: [x, z]}}}"),
                                                            5))
      << "another seed";
}

TEST(Draws, DoNotDependOnTheOrderOfTheKeysNorOnOtherKeys) {
  const std::vector<RandomDraw> one =
      draws("{random: 9, draw: {n.w: {int: [0, 99]}, n: {choice: [x, z]}, s: {uniform: [0, 1]}}}");
  const std::vector<RandomDraw> two =
      draws("{draw: {s: {uniform: [0, 1]}, n: {choice: [x, z]}, n.w: {int: [0, 99]}}, random: 9}");
  EXPECT_EQ(text_of(one, 9), text_of(two, 9));
  EXPECT_EQ(one[0].values.as_map().back().key, "n.w") << "what lies within n is set after it";
  const std::vector<RandomDraw> fewer = draws("{random: 9, draw: {s: {uniform: [0, 1]}}}");
  for (size_t i = 0; i < 9; ++i) EXPECT_EQ(fewer[i].values.at("s"), one[i].values.at("s"));
}

TEST(Draws, ThatRepeatAnEarlierOneAreLeftOut) {
  const Value matrix = parse_yaml("{random: 50, draw: {a: {choice: [x, z]}}}", "m.yaml");
  const std::vector<RandomDraw> all = random_draws(matrix);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].number, 0);
  EXPECT_EQ(repeated_draws(&matrix, all.size()), "48 of the 50 draws repeat earlier ones and are left out");
  EXPECT_EQ(repeated_draws(&matrix, 49), "1 of the 50 draws repeats an earlier one and is left out");
  EXPECT_EQ(repeated_draws(&matrix, 50), "");
  EXPECT_EQ(repeated_draws(nullptr, 50), "");
}

const std::string recipe = R"(espalier: 1
name: small
data: toy_images
network: toy_net
stages:
  - name: one
    epochs: 2
    optimizer: {use: toy_sgd, lr: 0.1}
)";

TEST(Draws, AreRunsOfAMatrix) {
  const Value tree = parse_yaml(recipe +
                                    "matrix: {random: 3, draw: {stages.one.optimizer.lr: {log_uniform: [0.01, 1]}, "
                                    "network.width: {int: [2, 200]}}}",
                                "r.yaml");
  const std::vector<MatrixPoint> points = matrix_points(tree);
  std::vector<std::string> names;
  for_each_run(tree, points, test::toys(), [&](const MatrixPoint& p, const Recipe& r) {
    names.push_back(p.name);
    EXPECT_EQ(r.stages[0].optimizers[0].spec.at("lr"), p.values.at("stages.one.optimizer.lr"));
    EXPECT_EQ(r.network.at("width"), p.values.at("network.width"));
    // The recipe of the run repeats it exactly.
    EXPECT_EQ(parse_yaml(to_yaml(r.resolved), "y"), r.resolved);
  });
  EXPECT_THAT(names, ElementsAre("draw=0", "draw=1", "draw=2"));
  EXPECT_EQ(points[2].draw, 2);
}

TEST(Draws, AKeptRecipeSaysTheSameAndWhereItWasWritten) {
  const TempFolder folder;
  Value tree = parse_yaml(recipe + "matrix: {seed: [0, 1], x: ['1', 1, 1.0e-5, ~, {}, []]}\n", "in/r.yaml");
  apply_override(tree, "stages.one.epochs=3");
  keep_recipe(folder.path(), tree);
  const Value kept = kept_recipe(folder.path());
  EXPECT_EQ(kept, tree);
  EXPECT_EQ(kept.at("matrix").at("seed").location.str(),
            std::filesystem::absolute("in/r.yaml").string() + ":" + "9:16");
  EXPECT_EQ(kept.at("stages").as_list()[0].at("epochs").location.str(),
            std::filesystem::absolute("command line").string());
  EXPECT_THROW(kept_recipe(folder.path() / "other"), InputError);
  for (const char* wrong : {"", "{}", R"({"recipe": {"a": 1}, "files": [], "places": [[0, 1, 1]]})",
                            R"({"recipe": {"a": 1}, "files": ["f"], "places": [[0, 1], [0, 1, 1], [0, 1, 1]]})"}) {
    folder.write("recipe.json", wrong);
    EXPECT_THROW(kept_recipe(folder.path()), InputError) << wrong;
  }
}

struct WrongDraws {
  const char* name;
  std::string matrix;
  std::string place;
  std::vector<std::string> words;
};

class DrawsErrors : public ::testing::TestWithParam<WrongDraws> {};

TEST_P(DrawsErrors, SayWhereAndWhatToWrite) {
  std::string said = "no error";
  try {
    const Value tree = parse_yaml(recipe + "matrix: " + GetParam().matrix, "r.yaml");
    for_each_run(tree, matrix_points(tree), test::toys(), [](const MatrixPoint&, const Recipe&) {});
  } catch (const InputError& e) {
    said = e.what();
  }
  EXPECT_THAT(said, StartsWith("r.yaml:" + GetParam().place + ": "));
  for (const std::string& word : GetParam().words) EXPECT_THAT(said, HasSubstr(word));
}

std::string draw_of_seed(const std::string& distribution) {
  return "{random: 2, draw: {seed: " + distribution + "}}";  // the distribution is at column 34
}

const WrongDraws wrong[] = {
    {"NoDraw", "{random: 2}", "9:9", {"says not what is drawn", "draw: {stages.0.optimizer.lr"}},
    {"NoRandom", "{draw: {seed: {int: [0, 9]}}}", "9:9", {"no number of runs", "random: 50"}},
    {"None", "{random: 0, draw: {seed: {int: [0, 9]}}}", "9:18", {"an integer from 1 to 1000", "the integer 0"}},
    {"TooMany", "{random: 1001, draw: {seed: {int: [0, 9]}}}", "9:18", {"an integer from 1 to 1000", "1001"}},
    {"HalfARun", "{random: 1.5, draw: {seed: {int: [0, 9]}}}", "9:18", {"an integer from 1 to 1000", "1.5"}},
    {"RandomIsAList", "{random: [0, 1]}", "9:18", {"'random' must be the number of runs", "a list"}},
    {"UnknownKey", "{random: 2, drew: {seed: {int: [0, 9]}}}", "9:21", {"no key 'drew'", "did you mean 'draw'?"}},
    {"Grid", "{random: 2, grid: {seed: [0]}, draw: {name: {int: [0, 9]}}}", "9:21", {"'grid'", "{choice:"}},
    {"Axis",
     "{random: 2, network.width: [1, 2], draw: {seed: {int: [0, 9]}}}",
     "9:21",
     {"'network.width'", "{choice:"}},
    {"SeedAsAnAxis", "{random: 2, seed: [0, 1], draw: {name: {int: [0, 9]}}}", "9:27", {"{seed: {choice: [0, 1]}}"}},
    {"NegativeSeed", "{random: 2, seed: -1, draw: {name: {int: [0, 9]}}}", "9:27", {"an integer >= 0", "-1"}},
    {"DrawIsAList", "{random: 2, draw: [seed]}", "9:27", {"a map of paths to distributions", "a list"}},
    {"DrawIsEmpty", "{random: 2, draw: {}}", "9:27", {"an empty one"}},
    {"Unknown", draw_of_seed("{log_unifrom: [1, 2]}"), "9:35", {"'log_unifrom'", "did you mean 'log_uniform'?"}},
    {"NoDistribution", draw_of_seed("3"), "9:34", {"'seed' needs one distribution", "log_int", "the integer 3"}},
    {"AListOfValues", draw_of_seed("[1, 2]"), "9:34", {"'seed' needs one distribution", "choice"}},
    {"TwoDistributions", draw_of_seed("{int: [1, 2], choice: [3]}"), "9:34", {"one distribution", "got 2"}},
    {"WrongOrder", draw_of_seed("{uniform: [1, 0.5]}"), "9:44", {"wrong order", "[0.5, 1]"}},
    {"Same", draw_of_seed("{int: [3, 3]}"), "9:40", {"the same", "set 'seed' in the recipe"}},
    {"OneBound", draw_of_seed("{log_int: [3]}"), "9:44", {"two bounds", "{log_int: [20, 5000]}", "a list of 1"}},
    {"BoundIsNoList", draw_of_seed("{int: 3}"), "9:40", {"two bounds", "the integer 3"}},
    {"BoundIsAWord", draw_of_seed("{int: [1, many]}"), "9:44", {"two numbers", "'many'"}},
    {"Infinite", draw_of_seed("{uniform: [0, .inf]}"), "9:48", {"no finite number"}},
    {"LogOfZero", draw_of_seed("{log_uniform: [0, 1]}"), "9:49", {"logarithm", "above 0"}},
    {"LogOfANegative", draw_of_seed("{log_uniform: [-1, 1]}"), "9:49", {"logarithm, which -1 has not"}},
    {"LogOfNoInteger", draw_of_seed("{log_int: [0, 9]}"), "9:45", {"at least 1"}},
    {"HalfAnInteger", draw_of_seed("{int: [0, 9.5]}"), "9:44", {"draws integers", "9.5"}},
    {"HugeInteger", draw_of_seed("{int: [0, 1e16]}"), "9:44", {"beyond 1e15"}},
    {"NoChoice", draw_of_seed("{choice: []}"), "9:43", {"'seed' is empty"}},
    {"ChoiceOfAWord", draw_of_seed("{choice: a}"), "9:43", {"a list of values for 'seed'", "'a'"}},
    {"ChoiceTwice", draw_of_seed("{choice: [1, 2, 1.0]}"), "9:50", {"twice"}},
    {"NoPath", "{random: 2, draw: {a..b: {int: [0, 9]}}}", "9:28", {"'a..b' is no path"}},
    {"OfItself", "{random: 2, draw: {matrix.random: {int: [1, 9]}}}", "9:28", {"cannot vary 'matrix'"}},
    {"UnknownPath", "{random: 2, draw: {sed: {int: [1, 9]}}}", "9:28", {"did you mean 'seed'?", "run draw=0 of"}},
    {"WrongValue", draw_of_seed("{int: [-9, -1]}"), "9:34", {"an integer >= 0", "in the run draw=0 of the matrix"}},
    {"TwoNamesOfOnePlace",
     "{random: 2, draw: {stages.one.epochs: {int: [1, 2]}, stages.0.epochs: {int: [1, 2]}}}",
     "9:28",
     {"leave one of them out"}},
};

INSTANTIATE_TEST_SUITE_P(All, DrawsErrors, ::testing::ValuesIn(wrong),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace espalier
