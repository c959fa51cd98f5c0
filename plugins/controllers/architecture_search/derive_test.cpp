// Cells as functions, the controller derive, and the look-up of cells in tables.
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/backbone.h>
#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/foresight.h>
#include <espalier/testkit.h>

#include "../../../datasets/tests/sample_files.h"
#include "../../../tests/temp_folder.h"
#include "cells.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::array<const char*, 5> operations{"none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"};

std::string text_of(const std::array<std::string, 6>& ops) {
  return "|" + ops[0] + "~0|+|" + ops[1] + "~0|" + ops[2] + "~1|+|" + ops[3] + "~0|" + ops[4] + "~1|" + ops[5] + "~2|";
}

std::vector<std::string> all_cells() {
  std::vector<std::string> cells;
  for (int number = 0; number < 15625; ++number) {
    std::array<std::string, 6> ops;
    int rest = number;
    for (std::string& op : ops) op = operations[static_cast<size_t>(rest % 5)], rest /= 5;
    cells.push_back(text_of(ops));
  }
  return cells;
}

// What a cell computes of a number, where each operation is a function of numbers that is zero at zero: the
// convolutions are not additive; whether the pooling is, is the caller's choice.
double value_of(const std::string& text, double x, double (*pooling)(double)) {
  std::vector<double> nodes{x};
  for (const std::vector<CellEdge>& edges : read_cell(text)) {
    double sum = 0;
    for (const CellEdge& e : edges) {
      const double from = nodes[static_cast<size_t>(e.input)];
      if (e.operation == "skip_connect") sum += from;
      if (e.operation == "nor_conv_1x1") sum += std::sin(1.7 * from);
      if (e.operation == "nor_conv_3x3") sum += std::sinh(0.9 * from);
      if (e.operation == "avg_pool_3x3") sum += pooling(from);
    }
    nodes.push_back(sum);
  }
  return nodes.back();
}

// The number of classes that numbers tell apart, and whether each class has one text of its own.
struct Classes {
  size_t count = 0;
  bool as_texts = true;
};
Classes classes_of(double (*pooling)(double)) {
  std::map<std::pair<int64_t, int64_t>, std::string> texts;
  std::set<std::string> different;
  Classes classes;
  for (const std::string& cell : all_cells()) {
    // Sums in another order differ by 1e-16 of themselves, other functions by more than 1e-9.
    const auto rounded = [&](double x) { return std::llround(value_of(cell, x, pooling) * 1e10); };
    const std::string text = function_of(read_cell(cell));
    const auto [it, fresh] = texts.emplace(std::pair(rounded(0.37), rounded(-0.61)), text);
    classes.as_texts = classes.as_texts && it->second == text && (!fresh || different.insert(text).second);
  }
  classes.count = texts.size();
  return classes;
}

// As numbers say, the 15,625 cells are 4,930 functions if the pooling is any function, and cells have the same text if
// and only if they are the same function. With a pooling that is additive, 4,660 are left.
TEST(Cells, AreEqualIfTheyAreTheSameFunction) {
  const Classes classes = classes_of([](double x) { return std::tanh(1.3 * x) + 0.2 * x * x; });
  EXPECT_EQ(classes.count, 4930U);
  EXPECT_TRUE(classes.as_texts);
  EXPECT_EQ(classes_of([](double x) { return 1.3 * x; }).count, 4660U);
}

// How the program of NATS-Bench writes a cell (to_unique_str with consider_zero): it keeps the zeros of dead edges in
// its sums, and sums within sums, and so it tells 6,466 cells apart (Dong and Yang 2020, section 2).
std::string unique_string(const Cell& cell) {
  std::vector<std::string> nodes{"0"};
  for (const std::vector<CellEdge>& edges : cell) {
    std::vector<std::string> terms;
    for (const CellEdge& e : edges) {
      const std::string& from = nodes[static_cast<size_t>(e.input)];
      if (e.operation == "none" || from == "#") {
        terms.emplace_back("#");
      } else {
        terms.push_back(e.operation == "skip_connect" ? from : "(" + from + ")@" + e.operation);
      }
    }
    std::ranges::sort(terms);
    std::string sum;
    for (const std::string& t : terms) sum += (sum.empty() ? "" : "+") + t;
    nodes.push_back(sum);
  }
  return nodes.back();
}

TEST(Cells, AreFewerFunctionsThanTheBenchmarksStringsSay) {
  std::map<std::string, std::string> function_of_string;
  bool refined = true;
  for (const std::string& text : all_cells()) {
    const Cell cell = read_cell(text);
    const std::string function = function_of(cell);
    refined = refined && function_of_string.emplace(unique_string(cell), function).first->second == function;
  }
  EXPECT_EQ(function_of_string.size(), 6466U);
  EXPECT_TRUE(refined) << "cells with one string of the benchmark are one function";
}

TEST(Cells, OfAnyNumberOfNodesAreRead) {
  EXPECT_EQ(read_cell("|a~0|").size(), 1U);
  EXPECT_EQ(read_cell("|a~0|+|b~0|c~1|")[1][1].operation, "c");
  for (const char* wrong : {"", "|", "a~0", "|a~1|", "|a~0|+", "|a~0|+|b~0|", "|a~0|b~1|", "|~0|", "|a~0|+|b~0|c~2|",
                            "|a~0|+|b~0|c~1|x", "|a~0||b~0|c~1|"})
    EXPECT_THROW(read_cell(wrong), Error) << wrong;
}

TEST(Cells, NameTheOperationsOfGenotypes) {
  EXPECT_THAT(operations_of(from_json(R"({"normal": ["sep_conv_3x3<-0", "skip_connect<-1"], "layers": 8})")),
              ElementsAre("sep_conv_3x3", "skip_connect"));
  EXPECT_THAT(operations_of(from_json(R"({"cell": "|none~0|+|skip_connect~0|none~1|", "channels": 16})")),
              ElementsAre("none", "skip_connect", "none"));
  EXPECT_TRUE(operations_of(from_json(R"({"name": "x", "sizes": [1, 2]})")).empty());
}

// ---- the controller ----

std::unique_ptr<Controller> derive(const std::string& options = "") {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libarchitecture_search.so");
  return Registry::instance().create<Controller>(from_json(R"({"use": "derive")" + options + "}"));
}

Graph search_network() {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libnasbench201.so");
  return testkit::build(R"({"use": "nasbench201_search", "channels": 2, "cells": 1})", {3, 8, 8}, {10});
}

class DeriveTable : public ::testing::Test {
 protected:
  // Writes a table of three cells, of which the first two are one function.
  std::string table() {
    const std::filesystem::path file = folder_.path() / "cells.csv";
    std::ofstream(file) << "CIFAR10TestAccuracy200Epochs,Speed,ArchitectureString,UniqueString\n"
                        << "90.5,3," << direct << ",a\n"
                        << "91.1,5," << around << ",b\n"
                        << "10,7,|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,c\n";
    return file.string();
  }
  static constexpr const char* direct = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|";
  // The skip connection hands the input to a convolution, and nothing reads what pools nothing.
  static constexpr const char* around = "|skip_connect~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|";
  TempFolder folder_;
};

TEST_F(DeriveTable, GivesWhatTheTableSaysOfTheCellAndOfEqualOnes) {
  testkit::TestRun run(search_network(), 1);
  run.derived = Value::map({{"cell", around}, {"channels", 16}});
  const auto c = derive(R"(, "table": ")" + table() + "\"");
  c->stage_begin(run);
  c->stage_end(run);
  const auto& m = run.metrics();
  EXPECT_EQ(m.at("cifar10_accuracy"), 91.1);
  EXPECT_NEAR(m.at("cifar10_accuracy_mean"), 90.8, 1e-12);
  EXPECT_NEAR(m.at("cifar10_accuracy_deviation"), 0.6 / std::sqrt(2), 1e-12);
  EXPECT_EQ(m.at("Speed"), 5);
  EXPECT_EQ(m.at("Speed_mean"), 4);
  EXPECT_EQ(m.at("equal_cells"), 2);
  EXPECT_NEAR(m.at("skip_ratio"), 1. / 6, 1e-15);
  EXPECT_FALSE(m.contains("skip_ratio.cell")) << "there is one cell, whose ratio is that of all";
  EXPECT_EQ(to_json(run.artefacts.at("test.genotype").value), to_json(run.derived));
  EXPECT_THAT(run.notes, ::testing::Contains(HasSubstr(around)));
}

TEST_F(DeriveTable, RefusesCellsThatItDoesNotHave) {
  const auto refusal = [&](const Value& derived, const std::string& file) -> std::string {
    testkit::TestRun run(search_network(), 1);
    run.derived = derived;
    const auto c = derive(R"(, "table": ")" + file + "\"");
    try {
      c->stage_begin(run);
      c->stage_end(run);
    } catch (const Error& e) {
      return e.what();
    }
    return "nothing was refused";
  };
  const std::string file = table();
  const std::string other = text_of({"none", "none", "none", "none", "none", "skip_connect"});
  EXPECT_THAT(refusal(Value::map({{"cell", other}}), file), HasSubstr("has no cell " + other));
  EXPECT_THAT(refusal(Value::map({{"normal", "x<-0"}}), file), HasSubstr("no option 'cell'"));
  EXPECT_THAT(refusal(Value::map({{"cell", around}}), file + ".csv"), HasSubstr("there is no such file"));
  const auto with = [&](const std::string& text) {
    const std::filesystem::path wrong = folder_.path() / "wrong.csv";
    std::ofstream(wrong) << text;
    return refusal(Value::map({{"cell", around}}), wrong.string());
  };
  EXPECT_THAT(with("A,B\n1,2\n"), HasSubstr("ArchitectureString"));
  EXPECT_THAT(with(std::string("ArchitectureString,A\n") + around + ",high\n"), HasSubstr("'A' holds no numbers"));
  EXPECT_THAT(with(std::string("ArchitectureString,A\n") + around + ",1\n" + direct + ",\n"), HasSubstr("wrong.csv:3"));
  EXPECT_THAT(with("ArchitectureString,A\n|none~0|+|,1\n"), HasSubstr("wrong.csv:2"));
  EXPECT_THAT(with(std::string("ArchitectureString\n") + around + "\n"), HasSubstr("no column of accuracies"));
}

TEST_F(DeriveTable, IsMissedBeforeTheRun) {
  const Graph graph = search_network();
  const auto notes = [&](const std::string& file) {
    const auto c = derive(R"(, "table": ")" + file + "\"");
    return dynamic_cast<const Foresight&>(*c).idle(graph, 0);
  };
  EXPECT_TRUE(notes(table()).empty());
  EXPECT_THAT(notes((folder_.path() / "nothing").string()), ElementsAre(HasSubstr("nats_bench.csv")));
}

// A name that is no path is looked for where data sets are: first in the folders of --data, which the program puts
// before those of $ESPALIER_DATA, then in these, then in the cache.
TEST_F(DeriveTable, IsLookedForInTheDataFoldersInTheirOrder) {
  const auto write = [&](const std::string& folder, const char* accuracy) {
    const std::filesystem::path file = folder_.path() / folder / "cells/nats_bench.csv";
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << "Accuracy,ArchitectureString\n" << accuracy << "," << direct << "\n";
  };
  const auto found = [&](const std::string& table) {
    testkit::TestRun run(search_network(), 1);
    run.derived = Value::map({{"cell", direct}});
    // What a recipe calls `cells` is a path beside the recipe when it comes here.
    const auto c = derive(R"(, "table": ")" + (folder_.path() / "recipes" / table).string() + "\"");
    EXPECT_TRUE(dynamic_cast<const Foresight&>(*c).idle(run.graph(), 0).empty());
    c->stage_begin(run);
    c->stage_end(run);
    return run.metrics().at("Accuracy");
  };
  const samples::Variable cache("XDG_CACHE_HOME", (folder_.path() / "cache").string());
  const samples::Variable data("ESPALIER_DATA",
                               (folder_.path() / "first").string() + ":" + (folder_.path() / "second").string());
  write("cache/espalier/data", "1");
  EXPECT_EQ(found("cells"), 1);
  EXPECT_EQ(found("cells/nats_bench.csv"), 1);
  write("second", "2");
  EXPECT_EQ(found("cells"), 2);
  write("first", "3");
  EXPECT_EQ(found("cells"), 3);
  write("recipes", "4");
  EXPECT_EQ(found("cells"), 4) << "what is there is not looked for";
}

// Before anything is trained.
TEST_F(DeriveTable, IsMissedWhenTheStageBegins) {
  testkit::TestRun run(search_network(), 1);
  run.derived = Value::map({{"cell", direct}});
  EXPECT_NO_THROW(derive()->stage_begin(run));
  EXPECT_THROW(derive(R"(, "table": ")" + (folder_.path() / "nothing").string() + "\"")->stage_begin(run), Error);
}

TEST(Derive, NeedsASearchNetwork) {
  GraphBuilder g({.channels = 3});
  const Graph plain = g.output(g.linear("fc", g.input(), {.features = 2}));
  try {
    derive()->check(plain);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("nothing to derive"));
  }
}

// ---- the published table ----

// The table of NATS-Bench, in a data folder: 6,466 different cells by its own strings, 4,930 functions, and what Dong
// and Yang 2020 report of the best cell and of one that only skips.
TEST(PublishedTable, AnswersForKnownCells) {
  std::filesystem::path folder;
  if (const char* data = std::getenv("ESPALIER_DATA")) folder = data;
  if (const char* home = std::getenv("HOME"); folder.empty() && home)
    folder = std::filesystem::path(home) / ".cache/espalier/data";
  const std::filesystem::path file = folder / "nats-bench/nats_bench.csv";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "there is no nats-bench/nats_bench.csv in the data folder";

  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  std::set<std::string> cells, strings, functions;
  while (std::getline(in, line)) {
    std::vector<std::string> fields;
    std::istringstream row(line);
    for (std::string field; std::getline(row, field, ',');) fields.push_back(field);
    ASSERT_EQ(fields.size(), 5U);
    cells.insert(fields[3]);
    strings.insert(fields[4]);
    functions.insert(function_of(read_cell(fields[3])));
  }
  EXPECT_EQ(cells.size(), 15625U);
  EXPECT_EQ(strings.size(), 6466U);
  EXPECT_EQ(functions.size(), 4930U);

  const auto look_up = [&](const std::string& cell) {
    testkit::TestRun run(search_network(), 1);
    run.derived = Value::map({{"cell", cell}});
    const auto c = derive(R"(, "table": ")" + file.parent_path().string() + "\"");
    c->stage_begin(run);
    c->stage_end(run);
    return run.metrics();
  };
  const auto skips = look_up(
      text_of({"skip_connect", "skip_connect", "skip_connect", "skip_connect", "skip_connect", "skip_connect"}));
  EXPECT_NEAR(skips.at("cifar10_accuracy"), 54.30, 0.01);
  EXPECT_NEAR(skips.at("cifar100_accuracy"), 15.61, 0.01);
  EXPECT_NEAR(skips.at("imagenet16_120_accuracy"), 16.32, 0.01);
  EXPECT_EQ(skips.at("skip_ratio"), 1);
  const auto best = look_up(
      text_of({"nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "nor_conv_1x1"}));
  EXPECT_NEAR(best.at("cifar10_accuracy"), 94.37, 0.01);
  EXPECT_LE(best.at("cifar10_accuracy_mean"), best.at("cifar10_accuracy")) << "no cell is better";
}

}  // namespace
}  // namespace espalier
