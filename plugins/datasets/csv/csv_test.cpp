#include <cmath>
#include <set>

#include <ATen/TensorOperators.h>

#include "table_samples.h"

namespace espalier {
namespace {

using samples::numbers;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class CsvData : public testing::Test {
 protected:
  CsvData() { testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libcsv.so"); }

  // A data set of a file with this text.
  std::unique_ptr<Dataset> csv(const std::string& text, Value options = Value::map()) {
    options["use"] = "csv";
    options["file"] = folder_.write("t.csv", text).string();
    return samples::table(options);
  }
  std::string error_of(const std::string& text, const Value& options = Value::map()) {
    return samples::input_error([&] { csv(text, options)->load("train", {}); });
  }
  // What was noted on standard error.
  std::string notes_of(const std::string& text, const Value& options = Value::map()) {
    testing::internal::CaptureStderr();
    csv(text, options)->info();
    return testing::internal::GetCapturedStderr();
  }
  samples::Folder folder_;
};

constexpr char train_and_test[] = "part,x,colour,y\ntrain,1,red,10\ntrain,2,blue,20\ntest,4,green,30\ntrain,6,red,40\n";

TEST_F(CsvData, IsRegressionOfTheLastColumn) {
  const auto data = csv(train_and_test, Value::map({{"split_column", "part"}}));
  const DatasetInfo info = data->info();
  EXPECT_EQ(info.input, (InputSpec{.channels = 4}));
  EXPECT_EQ(info.target, (TargetSpec{.outputs = 1, .task = task::regression}));
  EXPECT_THAT(info.classes, ElementsAre("y"));
  EXPECT_EQ(info.samples, 3);
  EXPECT_THAT(info.standardize, ElementsAre("input"));
  const Split train = data->load("train", {}), test = data->load("test", {});
  // The number, then blue, green, red: also green, which the training part has not.
  EXPECT_EQ(train.input().scalar_type(), at::kFloat);
  EXPECT_EQ(train.input().sizes(), (std::vector<int64_t>{3, 4}));
  EXPECT_THAT(numbers(train.input()), ElementsAre(1, 0, 0, 1, 2, 1, 0, 0, 6, 0, 0, 1));
  EXPECT_THAT(numbers(train.target()), ElementsAre(10, 20, 40));
  EXPECT_EQ(train.target().sizes(), (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(train.target().scalar_type(), at::kFloat);
  EXPECT_THAT(numbers(test.input()), ElementsAre(4, 0, 1, 0));
  EXPECT_THAT(numbers(test.target()), ElementsAre(30));
  EXPECT_THAT(samples::input_error([&] { data->load("validation", {}); }),
              HasSubstr("a table has no part 'validation'; expected train or test"));
}

TEST_F(CsvData, MayHaveAValidationPart) {
  const auto data =
      csv("part,x,y\ntrain,1,2\nvalidation,3,4\ntrain,5,6\ntest,7,8\n", Value::map({{"split_column", "part"}}));
  EXPECT_TRUE(data->info().has_validation);
  EXPECT_THAT(numbers(data->load("validation", {}).input()), ElementsAre(3));
  EXPECT_THAT(numbers(data->load("train", {}).input()), ElementsAre(1, 5));
  EXPECT_FALSE(csv(train_and_test, Value::map({{"split_column", "part"}}))->info().has_validation);
}

TEST_F(CsvData, FindsTheTaskInTheTargets) {
  const auto task_of = [&](const std::string& text, const Value& options = Value::map()) {
    return csv(text, options)->info().target;
  };
  const std::string rows =
      "x,a,b,k\n1,0,1,u\n2,1,0,v\n3,0,0,u\n4,1,1,v\n5,0,0,u\n6,1,1,v\n7,0,0,u\n8,1,1,v\n9,0,1,u\n"
      "10,0,1,v\n";
  EXPECT_EQ(task_of(rows), (TargetSpec{.outputs = 2, .task = task::classification}));
  EXPECT_EQ(task_of(rows, Value::map({{"target", "x"}})), (TargetSpec{.outputs = 1, .task = task::regression}));
  const Value both = std::vector<std::string>{"a", "b"};
  EXPECT_EQ(task_of(rows, Value::map({{"target", both}})), (TargetSpec{.outputs = 2, .task = task::multilabel}));
  EXPECT_EQ(task_of(rows, Value::map({{"target", both}, {"task", "regression"}})).task, task::regression);
  EXPECT_EQ(task_of(rows, Value::map({{"target", std::vector<std::string>{"x", "a"}}})).task, task::regression);
  EXPECT_EQ(task_of(rows, Value::map({{"target", "a"}, {"task", "classification"}})).task, task::classification);
  EXPECT_EQ(task_of(rows, Value::map({{"target", "a"}, {"task", "multilabel"}})).task, task::multilabel);
  EXPECT_THAT(error_of(rows, Value::map({{"target", std::vector<std::string>{"x", "k"}}})),
              HasSubstr("the targets are neither all numbers nor all labels of 0 and 1: column 4 ('k') holds"));
  EXPECT_THAT(error_of(rows, Value::map({{"task", "regression"}})),
              HasSubstr("t.csv:2: column 4 ('k'): 'u' is not a number, and regression learns numbers"));
  EXPECT_THAT(error_of(rows, Value::map({{"target", both}, {"task", "classification"}})),
              HasSubstr("classification learns one column, and `target` names 2"));
  EXPECT_THAT(error_of(rows, Value::map({{"target", std::vector<std::string>{"a", "x"}}, {"task", "multilabel"}})),
              HasSubstr("t.csv:3: column 1 ('x'): 2 is no label; labels are 0 and 1"));
  EXPECT_THAT(error_of("x,y\n1,1\n2,2.5\n", Value::map({{"task", "classification"}, {"test", 0}})),
              HasSubstr("t.csv:3: column 2 ('y'): 2.5 is no class"));
}

TEST_F(CsvData, GivesClassesAndLabels) {
  const Split classes =
      csv("x,k\n1,10\n2,9\n3,10\n", Value::map({{"task", "classification"}, {"test", 0}}))->load("train", {});
  EXPECT_EQ(classes.target().scalar_type(), at::kLong);
  EXPECT_THAT(numbers(classes.target()), ElementsAre(1, 0, 1));
  EXPECT_EQ(classes.target().dim(), 1);
  const auto labelled = csv("a,b,x\nyes,1,1\nno,0,2\nno,1,3\n",
                            Value::map({{"target", std::vector<std::string>{"a", "b"}}, {"test", 0}}));
  EXPECT_EQ(labelled->info().target.task, task::multilabel);
  EXPECT_THAT(labelled->info().classes, ElementsAre("a", "b"));
  EXPECT_THAT(numbers(labelled->load("test", {}).target()), ElementsAre(1, 1, 0, 0, 0, 1));
}

TEST_F(CsvData, StandardizesWhereNumbersAre) {
  const std::string text = "c,x,y\na,1,2\nb,2,3\n";
  const auto standardized = [&](Value options) {
    options["test"] = 0;
    return csv(text, options)->info().standardize;
  };
  EXPECT_THAT(standardized(Value::map()), ElementsAre("input"));
  EXPECT_THAT(standardized(Value::map({{"standardize", false}})), testing::IsEmpty());
  EXPECT_THAT(standardized(Value::map({{"ignore", "x"}})), testing::IsEmpty());
  EXPECT_THAT(standardized(Value::map({{"standardize_target", true}})), ElementsAre("input", "target"));
  EXPECT_THAT(error_of(text, Value::map({{"target", "c"}, {"standardize_target", true}, {"test", 0}})),
              HasSubstr("`standardize_target` is for regression, and this is classification"));
}

constexpr char with_gaps[] =
    "part,x,k,y\ntrain,1,a,1\ntrain,,b,2\ntrain,4,b,3\ntrain,1,,4\ntest,100,a,5\ntest,,a,6\ntest,100,,7\n";

TEST_F(CsvData, FillsMissingValuesByTheTrainingPart) {
  const auto filled = [&](const std::string& how) {
    const auto data = csv(with_gaps, Value::map({{"split_column", "part"}, {"missing", how}}));
    std::vector<double> all = numbers(data->load("train", {}).input());
    for (const double v : numbers(data->load("test", {}).input())) all.push_back(v);
    return all;
  };
  // x, a, b. The mean of 1, 4 and 1 is 2; b is the most frequent, and so is 1.
  EXPECT_THAT(filled("mean"), ElementsAre(1, 1, 0, 2, 0, 1, 4, 0, 1, 1, 0, 1, 100, 1, 0, 2, 1, 0, 100, 0, 1));
  EXPECT_THAT(filled("most_frequent"), ElementsAre(1, 1, 0, 1, 0, 1, 4, 0, 1, 1, 0, 1, 100, 1, 0, 1, 1, 0, 100, 0, 1));
  EXPECT_THAT(filled("drop"), ElementsAre(1, 1, 0, 4, 0, 1, 100, 1, 0));
}

TEST_F(CsvData, CountsMissingValues) {
  const Value split = Value::map({{"split_column", "part"}});
  EXPECT_THAT(error_of(with_gaps, split),
              AllOf(HasSubstr("4 values are missing: 2 in column 2 ('x'), the first at "), HasSubstr("t.csv:3; 2 in "),
                    HasSubstr("column 3 ('k'), the first at "), HasSubstr("t.csv:5. Say `missing: mean`")));
  EXPECT_THAT(error_of("x,y\n1,2\n2,\n3,4\n", Value::map({{"missing", "mean"}, {"test", 0}})),
              HasSubstr("1 value is missing: 1 in column 2 ('y'), the first at " + (folder_ / "t.csv").string() +
                        ":3. Targets are not filled in: say `missing: drop`"));
  EXPECT_THAT(
      error_of("p,x,y\ntrain,,2\ntrain,,3\ntest,5,4\n", Value::map({{"missing", "mean"}, {"split_column", "p"}})),
      HasSubstr("column 2 ('x') has no value in the training part"));
  // What is not used may be missing.
  const std::string gaps = "x,z,y\n1,,2\n2,5,3\n";
  EXPECT_EQ(csv(gaps, Value::map({{"ignore", "z"}, {"test", 0}}))->load("train", {}).size(), 2);
}

TEST_F(CsvData, HoldsRowsOutByClass) {
  std::string text = "x,k\n";
  const std::map<std::string, int> counts = {{"a", 103}, {"b", 57}, {"c", 8}, {"d", 2}, {"e", 1}};
  int x = 0;
  for (const auto& [k, n] : counts) {
    for (int i = 0; i < n; ++i) text += std::to_string(x++) + "," + k + "\n";
  }
  const auto load = [&](const std::string& part, int64_t seed, double share) {
    return csv(text, Value::map({{"seed", seed}, {"test", share}}))->load(part, {});
  };
  for (const double share : {0.1, 0.2, 0.35, 0.5}) {
    const Split train = load("train", 1, share), test = load("test", 1, share);
    EXPECT_EQ(test.size() + train.size(), 171);
    EXPECT_NEAR(static_cast<double>(test.size()), share * 171, 1);
    const at::Tensor of_class = test.target().bincount({}, 5);
    size_t c = 0;
    for (const auto& [k, n] : counts)
      EXPECT_LT(std::abs(of_class[static_cast<int64_t>(c++)].item<double>() - share * n), 1) << k << " of " << share;
    // Each row once.
    std::set<double> rows;
    for (const Split* s : {&train, &test}) {
      for (const double v : numbers(s->input())) rows.insert(v);
    }
    EXPECT_EQ(rows.size(), 171U);
    EXPECT_EQ(of_class[4].item<int64_t>(), 0);  // the only row of its class is to be learned from
  }
  EXPECT_TRUE(load("test", 1, 0.2).input().equal(load("test", 1, 0.2).input()));
  EXPECT_FALSE(load("test", 1, 0.2).input().equal(load("test", 2, 0.2).input()));
  const Split test = csv(text, Value::map({{"target", "x"}}))->load("test", {});  // 0.2 by default, without classes
  EXPECT_EQ(test.size(), 34);
  // All of it is both parts.
  EXPECT_TRUE(load("test", 1, 0).input().equal(load("train", 1, 0).input()));
  EXPECT_EQ(load("test", 1, 0).size(), 171);
}

TEST_F(CsvData, TakesATestFile) {
  const std::string other = folder_.write("test.csv", "x,k\n3,c\n4,a\n").string();
  const auto data = csv("x,k\n1,a\n2,b\n", Value::map({{"test_file", other}, {"target", "x"}}));
  EXPECT_EQ(data->info().input.channels, 3);
  EXPECT_THAT(numbers(data->load("train", {}).input()), ElementsAre(1, 0, 0, 0, 1, 0));
  EXPECT_THAT(numbers(data->load("test", {}).input()), ElementsAre(0, 0, 1, 1, 0, 0));
  EXPECT_THAT(samples::option_error(Value::map({{"use", "csv"}, {"file", "a"}, {"test_file", "b"}, {"test", 0.5}})),
              HasSubstr("`test_file`, `split_column` and `test` each say which rows are the test part"));
}

TEST_F(CsvData, LooksIntoTheDataFolders) {
  const auto elsewhere = [&](const std::string& name) {
    return samples::table(Value::map({{"use", "csv"}, {"file", (folder_ / name).string()}, {"test", 0}}));
  };
  folder_.write("data/tables/t.csv", "x,y\n1,2\n3,4\n");
  const DataPaths paths = {folder_ / "data"};
  EXPECT_EQ(elsewhere("recipes/tables/t.csv")->load("train", paths).size(), 2);
  EXPECT_THAT(samples::input_error([&] { elsewhere("recipes/u.csv")->load("train", paths); }),
              AllOf(HasSubstr((folder_ / "recipes/u.csv").string() + ": there is no such file"),
                    HasSubstr("recipes/u.csv and u.csv: none was found"), HasSubstr((folder_ / "data").string())));
  // For plans, those of the environment are.
  const samples::Variable variable("ESPALIER_DATA", (folder_ / "data").string());
  EXPECT_EQ(elsewhere("tables/t.csv")->info().input.channels, 1);
  EXPECT_THAT(samples::input_error([&] { elsewhere("u.csv")->info(); }), HasSubstr((folder_ / "data").string()));
}

TEST_F(CsvData, RefusesTablesThatNothingCanBeLearnedFrom) {
  const auto all = Value::map({{"test", 0}});
  EXPECT_THAT(error_of("x,k\n1,a\n2,a\n3,a\n", all),
              HasSubstr("column 2 ('k'): every row of the training part is of the class 'a'"));
  EXPECT_THAT(error_of("x\n1\n2\n", all), HasSubstr("no column is left as an input: of 1 columns 1 are targets"));
  EXPECT_THAT(error_of("x,y\n1,2\n3,4\n"), HasSubstr("has too few rows: 0.2 of 2 rows is no row for testing"));
  EXPECT_THAT(error_of("p,x,y\ntrain,1,2\ntest,1,2\n", Value::map({{"split_column", "p"}})),
              HasSubstr("the training part has a single one"));
  EXPECT_THAT(
      error_of("p,x,y\ntrain,1,2\nvalid,1,2\n", Value::map({{"split_column", "p"}})),
      HasSubstr("t.csv:3: column 1 ('p'): 'valid' is no part; `split_column` holds train, test and validation"));
  EXPECT_THAT(error_of("p,x,y\ntrain,1,2\ntrain,1,2\n", Value::map({{"split_column", "p"}})),
              HasSubstr("no row is left for the test part"));
  EXPECT_THAT(error_of("x,y\n1,2\n2,3\n", Value::map({{"target", "weight"}, {"test", 0}})),
              HasSubstr("t.csv: `target`: there is no column 'weight' (there are x and y)"));
  EXPECT_THAT(error_of("x,y\n1,2\n2,3\n", Value::map({{"target", "x"}, {"ignore", "x"}, {"test", 0}})),
              HasSubstr("column 1 ('x') is named in `ignore` and in `target`"));
  EXPECT_THAT(error_of("x,y\n1,2\n1e300,3\n", all),
              HasSubstr("t.csv:3: column 1 ('x'): 1e+300 is too large for float32"));
  std::string text = "name,y\n";
  for (int i = 0; i < 1001; ++i) text += "n" + std::to_string(i) + ",1\n";
  EXPECT_THAT(error_of(text, all), HasSubstr("column 1 ('name') has 1,001 different values"));
}

TEST_F(CsvData, NotesWhatTellsNothing) {
  const auto all = Value::map({{"test", 0}});
  EXPECT_THAT(notes_of("x,c,k,y\n1,5,a,1\n2,5,a,2\n", all),
              HasSubstr("the inputs c and k have the same value in every row of the training part"));
  EXPECT_THAT(notes_of("x,y\n1,3\n2,3\n", all), HasSubstr("the target y has the same value"));
  EXPECT_THAT(notes_of("x,y\n1,3\n2,4\n,5\n", Value::map({{"test", 0}, {"missing", "drop"}})),
              HasSubstr("1 row with missing values left out"));
  EXPECT_THAT(notes_of("p,x,k\ntrain,1,a\ntrain,2,b\ntest,3,c\n", Value::map({{"split_column", "p"}})),
              HasSubstr("classes of the test part that the training part does not have: 1 in 'c'"));
  EXPECT_THAT(notes_of("x,y\n1,3\n2,4\n3,5\n4,6\n", Value::map({{"test", 0.5}})), Not(HasSubstr("same")));
}

// The class, the concentration and 128 features of each measurement, without names.
TEST_F(CsvData, ReadsGasSensorArrayDrift) {
  const std::filesystem::path data = samples::data_folder_with("gas-drift");
  if (data.empty()) GTEST_SKIP() << "gas-drift is not on this machine";
  const std::vector<std::pair<int, int64_t>> batches = {{1, 445}, {2, 1244}, {3, 1586}, {4, 161},
                                                        {5, 197}, {6, 2300}, {8, 294},  {9, 470}};
  for (const auto& [batch, rows] : batches) {
    const auto set =
        samples::table(Value::map({{"use", "csv"},
                                   {"file", (data / "gas-drift").string() + "/batch" + std::to_string(batch) + ".dat"},
                                   {"target", "1"},
                                   {"ignore", "2"}}));
    const DatasetInfo info = set->info();
    EXPECT_EQ(info.input.channels, 128) << batch;
    EXPECT_EQ(info.target.task, task::classification) << batch;
    // Batches 3, 4 and 5 have no toluene.
    EXPECT_EQ(info.target.outputs, batch >= 3 && batch <= 5 ? 5 : 6) << batch;
    EXPECT_EQ(info.classes.front(), "Acetaldehyde");
    EXPECT_EQ(set->load("train", {}).size() + set->load("test", {}).size(), rows) << batch;
  }
}

// `*` stands for all files that match, in the order of their names.
TEST_F(CsvData, ReadsAllFilesThatMatchAsOneTable) {
  folder_.write("b2.csv", "x,y\n3,30\n4,40\n");
  folder_.write("b1.csv", "x,y\n1,10\n2,20\n");
  const std::filesystem::path here = folder_.write("c.csv", "x,y\n5,50\n").parent_path();
  const auto of = [&](const char* file, const char* test_file) {
    Value spec = Value::map({{"use", "csv"}, {"file", (here / file).string()}});
    if (*test_file) spec["test_file"] = (here / test_file).string();
    return samples::table(spec);
  };
  const auto data = of("b*.csv", "c*");
  EXPECT_THAT(numbers(data->load("train", {}).target()), ElementsAre(10, 20, 30, 40));
  EXPECT_THAT(numbers(data->load("test", {}).target()), ElementsAre(50));
  EXPECT_THAT(samples::input_error([&] { of("b*.csv", "*1.csv")->info(); }), HasSubstr("a row is of one part"));
  EXPECT_THAT(samples::input_error([&] { of("d*.csv", "")->info(); }), HasSubstr("no file matches 'd*.csv'"));
  folder_.write("b3.csv", "x,z\n1,10\n");
  EXPECT_THAT(samples::input_error([&] { of("b*.csv", "")->info(); }),
              HasSubstr("all files of a table need the same columns"));
}

// What someone needs who gives rows of a table to an exported network.
TEST_F(CsvData, SaysHowRowsBecomeFeatures) {
  const auto data = csv("part,x,colour,y\ntrain,1,red,10\ntrain,,blue,20\ntrain,6,red,40\ntest,4,,30\n",
                        Value::map({{"split_column", "part"}, {"missing", "mean"}}));
  EXPECT_EQ(data->info().preparation.at("columns"), from_json(R"([{"name": "x", "missing": 3.5},
                          {"name": "colour", "categories": ["blue", "red"], "missing": "red"}])"));
}

}  // namespace
}  // namespace espalier
