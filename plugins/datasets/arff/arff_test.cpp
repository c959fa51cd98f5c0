#include <ATen/TensorOperators.h>

#include "table_samples.h"

namespace espalier {
namespace {

using samples::numbers;
using testing::ElementsAre;
using testing::HasSubstr;

std::unique_ptr<Dataset> arff(Value options) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libarff.so");
  options["use"] = "arff";
  return samples::table(options);
}

TEST(ArffData, LearnsTheLastAttribute) {
  const samples::Folder folder;
  const std::string file = folder
                               .write("t.arff",
                                      "@relation r\n@attribute a {p, q, r}\n@attribute x numeric\n"
                                      "@attribute k {no, perhaps, yes}\n@data\nq,1,yes\np,2,no\nq,3,yes\n")
                               .string();
  const auto data = arff(Value::map({{"file", file}, {"test", 0}}));
  // Also values and classes that are declared and never occur.
  EXPECT_EQ(data->info().input.channels, 4);
  EXPECT_EQ(data->info().target, (TargetSpec{.outputs = 3, .task = task::classification}));
  EXPECT_THAT(data->info().classes, ElementsAre("no", "perhaps", "yes"));
  EXPECT_THAT(numbers(data->load("train", {}).input()), ElementsAre(0, 1, 0, 1, 1, 0, 0, 2, 0, 1, 0, 3));
  EXPECT_THAT(numbers(data->load("train", {}).target()), ElementsAre(2, 0, 2));
}

TEST(ArffData, LearnsTheLabelsOfMeka) {
  const samples::Folder folder;
  const std::string file = folder
                               .write("t.arff",
                                      "@relation 'r: -C 2'\n@attribute a {0,1}\n@attribute b {0,1}\n"
                                      "@attribute x numeric\n@data\n{0 1,2 5}\n{1 1}\n{2 1}\n")
                               .string();
  const auto data = arff(Value::map({{"file", file}, {"test", 0}}));
  EXPECT_EQ(data->info().target, (TargetSpec{.outputs = 2, .task = task::multilabel}));
  EXPECT_THAT(numbers(data->load("train", {}).target()), ElementsAre(1, 0, 0, 1, 0, 0));
  EXPECT_THAT(numbers(data->load("train", {}).input()), ElementsAre(5, 0, 1));
  // What the recipe says goes before.
  EXPECT_EQ(arff(Value::map({{"file", file}, {"test", 0}, {"target", "x"}}))->info().target.task, task::regression);
}

// The published sizes of Mulan's data sets for multi-target regression (Spyromitros-Xioufis et al. 2016, table 1).
TEST(ArffData, ReadsMulan) {
  const std::filesystem::path data = samples::data_folder_with("mulan");
  if (data.empty()) GTEST_SKIP() << "mulan is not on this machine";
  struct Set {
    const char* name;
    int64_t rows, targets;
    int64_t features;  // with one for each category
  };
  // The ten inputs of sf1 and sf2 have 7, 6, 4, 2, 3, 3, 2, 2, 2 and 2 values.
  const Set sets[] = {{"andro", 49, 6, 30}, {"atp1d", 337, 6, 411},  {"edm", 154, 2, 16},     {"enb", 768, 2, 8},
                      {"jura", 359, 3, 15}, {"oes10", 403, 16, 298}, {"oes97", 334, 16, 263}, {"sf1", 323, 3, 33},
                      {"sf2", 1066, 3, 33}, {"slump", 103, 3, 7},    {"wq", 1060, 14, 16}};
  for (const Set& set : sets) {
    const std::filesystem::path file = data / "mulan" / (std::string(set.name) + ".arff");
    std::vector<std::string> last;
    for (int64_t i = set.targets; i > 0; --i) last.push_back(std::to_string(-i));
    const auto dataset = arff(Value::map({{"file", file.string()}, {"target", last}, {"task", "regression"}}));
    const DatasetInfo info = dataset->info();
    EXPECT_EQ(info.input.channels, set.features) << set.name;
    EXPECT_EQ(info.target, (TargetSpec{.outputs = set.targets, .task = task::regression})) << set.name;
    const Split train = dataset->load("train", {}), test = dataset->load("test", {});
    EXPECT_EQ(train.size() + test.size(), set.rows) << set.name;
    EXPECT_EQ(test.size(), std::llround(0.2 * static_cast<double>(set.rows))) << set.name;
    EXPECT_TRUE(train.input().isfinite().all().item<bool>()) << set.name;
  }
  // The first row of slump, as the file writes it.
  const auto slump = arff(Value::map({{"file", (data / "mulan/slump.arff").string()},
                                      {"target", std::vector<std::string>{"*LUMP*", "FLOW*", "-1"}},
                                      {"test", 0}}));
  const Split all = slump->load("train", {});
  EXPECT_THAT(numbers(all.input()[0]), ElementsAre(273, 82, 105, 210, 9, 904, 680));
  EXPECT_THAT(numbers(all.target()[0]), ElementsAre(23, 62, 34.990001678466797));
}

}  // namespace
}  // namespace espalier
