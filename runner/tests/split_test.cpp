#include "data/split.h"

#include <string>

#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A data set called 'own' of two classes of images of 1 x 2 x 2.
class CheckedData : public ::testing::Test {
 protected:
  CheckedData() {
    component_.component.kind = "dataset";
    component_.component.name = "own";
    info_ = {.input = {.channels = 1, .height = 2, .width = 2},
             .target = {.outputs = 2},
             .classes = {},
             .mean = {0.5},
             .deviation = {0.25}};
    split_ = {.inputs = {{"input", at::zeros({3, 1, 2, 2}, at::kByte)}},
              .targets = {{"target", at::tensor({0, 1, 1}, at::kLong)}}};
  }
  std::string said() const {
    try {
      check_info(info_, component_, {});
      check_split(split_, "test", info_, component_, {});
      return "";
    } catch (const InputError& e) {
      return e.what();
    }
  }
  Registered component_;
  DatasetInfo info_;
  Split split_;
};

TEST_F(CheckedData, IsFineAsItShouldBe) {
  EXPECT_EQ(said(), "");
}

TEST_F(CheckedData, NamesDataSetPartAndValue) {
  const auto expect = [&](const std::string& value) {
    EXPECT_THAT(said(), AllOf(HasSubstr("dataset 'own'"), HasSubstr("part 'test'"), HasSubstr(value)));
  };
  const Split good = split_;
  split_.targets = {{"target", at::tensor({0, 2, 1}, at::kLong)}};
  expect("the target of sample 1 is 2; with 2 classes targets are 0 to 1");
  split_.targets = {{"target", at::tensor({0, 1, -1}, at::kLong)}};
  expect("the target of sample 2 is -1");
  split_.targets = {{"target", at::tensor({0, 1}, at::kLong)}};
  expect("3 inputs and 2 targets");
  split_.targets = {{"target", at::zeros({0}, at::kLong)}};
  expect("no samples");
  split_.targets = {{"target", at::zeros({3}, at::kFloat)}};
  expect("int64 [N], got Float [3]");
  split_ = good;
  split_.inputs = {{"input", at::zeros({3, 1, 2, 3}, at::kByte)}};
  expect("uint8 or floating point [N] + [1, 2, 2], got Byte [3, 1, 2, 3]");
  split_.inputs = {{"input", at::zeros({3, 1, 2, 2}, at::kInt)}};
  expect("got Int");
}

TEST_F(CheckedData, HasFiniteMeansAndDeviations) {
  info_.mean = {std::numeric_limits<double>::quiet_NaN()};
  EXPECT_THAT(said(), AllOf(HasSubstr("dataset 'own'"), HasSubstr("mean")));
  info_.mean = {0.5};
  info_.deviation = {0};
  EXPECT_THAT(said(), HasSubstr("deviation of a channel is 0"));
}

}  // namespace
}  // namespace espalier
