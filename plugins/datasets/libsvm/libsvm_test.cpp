#include "table_samples.h"

namespace espalier {
namespace {

using samples::numbers;
using testing::ElementsAre;
using testing::HasSubstr;

class LibsvmData : public testing::Test {
 protected:
  LibsvmData() { testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblibsvm.so"); }
  std::unique_ptr<Dataset> libsvm(const std::string& text, Value options = Value::map()) {
    options["use"] = "libsvm";
    options["file"] = folder_.write("t.txt", text).string();
    return samples::table(options);
  }
  samples::Folder folder_;
};

TEST_F(LibsvmData, LearnsClassesValuesOrLabels) {
  const Value all = Value::map({{"test", 0}});
  const auto classes = libsvm("2 1:1 3:2\n1 2:3\n2 1:4\n", all);
  EXPECT_EQ(classes->info().target, (TargetSpec{.outputs = 2, .task = task::classification}));
  EXPECT_THAT(classes->info().classes, ElementsAre("1", "2"));
  EXPECT_THAT(numbers(classes->load("train", {}).input()), ElementsAre(1, 0, 2, 0, 3, 0, 4, 0, 0));
  EXPECT_THAT(numbers(classes->load("train", {}).target()), ElementsAre(1, 0, 1));
  EXPECT_EQ(libsvm("2.5 1:1\n1 2:3\n", all)->info().target, (TargetSpec{.outputs = 1, .task = task::regression}));
  // Ratings are numbers if the recipe says so.
  const auto ratings = libsvm("5 1:1\n-1 1:3\n", Value::map({{"test", 0}, {"task", "regression"}}));
  EXPECT_THAT(numbers(ratings->load("train", {}).target()), ElementsAre(5, -1));
  const auto labels = libsvm("0,2 1:1\n1 2:3\n", all);
  EXPECT_EQ(labels->info().target, (TargetSpec{.outputs = 3, .task = task::multilabel}));
  EXPECT_THAT(numbers(labels->load("train", {}).target()), ElementsAre(1, 0, 1, 0, 1, 0));
}

TEST_F(LibsvmData, HasTheFeaturesOfBothFiles) {
  const std::string test = folder_.write("test.txt", "1 4:7\n").string();
  const auto data = libsvm("1 1:1\n2 2:1\n", Value::map({{"test_file", test}}));
  EXPECT_EQ(data->info().input.channels, 4);
  EXPECT_THAT(numbers(data->load("test", {}).input()), ElementsAre(0, 0, 0, 7));
  EXPECT_EQ(libsvm("1 0:1\n2 2:1\n", Value::map({{"zero_based", true}, {"test", 0}}))->info().input.channels, 3);
  EXPECT_EQ(libsvm("1 1:1\n2 2:1\n", Value::map({{"features", 10}, {"test", 0}}))->info().input.channels, 10);
}

}  // namespace
}  // namespace espalier
