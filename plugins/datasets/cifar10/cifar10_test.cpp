#include <ATen/TensorOperators.h>

#include <espalier/dataset.h>
#include <espalier/testkit.h>

#include "sample_files.h"

namespace espalier {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::unique_ptr<Dataset> cifar10() {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libcifar10.so");
  return Registry::instance().create<Dataset>(Value::map({{"use", "cifar10"}}));
}

TEST(Cifar10, DescribesItselfWithoutData) {
  const DatasetInfo info = cifar10()->info();
  EXPECT_EQ(info.input.channels, 3);
  EXPECT_EQ(info.input.height, 32);
  EXPECT_EQ(info.target.outputs, 10);
  EXPECT_EQ(info.classes.at(9), "truck");
  EXPECT_EQ(info.mean, (std::vector<double>{0.4914, 0.4822, 0.4465}));
  EXPECT_EQ(info.deviation, (std::vector<double>{0.2470, 0.2435, 0.2616}));
}

TEST(Cifar10, ReadsBatchesInOrder) {
  const samples::Folder folder;
  const samples::Bytes batch = samples::cifar(10000, {10});
  for (int64_t b = 1; b <= 5; ++b) {
    // Each batch begins with a label of its own.
    samples::Bytes mine = batch;
    mine[0] = static_cast<uint8_t>(b);
    samples::write(folder / "cifar-10-batches-bin" / ("data_batch_" + std::to_string(b) + ".bin"), mine);
  }
  const Split train = cifar10()->load("train", {folder.path()});
  EXPECT_EQ(train.input().sizes(), (std::vector<int64_t>{50000, 3, 32, 32}));
  EXPECT_EQ(train.input().scalar_type(), at::kByte);
  EXPECT_EQ(train.target().scalar_type(), at::kLong);
  const auto* pixels = train.input().const_data_ptr<uint8_t>();
  const auto* targets = train.target().const_data_ptr<int64_t>();
  for (int64_t i = 0; i < 50000; ++i) {
    ASSERT_EQ(targets[i], i % 10000 == 0 ? i / 10000 + 1 : i % 10);
    ASSERT_EQ(pixels[i * 3072], i % 10000 % 251);
    ASSERT_EQ(pixels[i * 3072 + 3071], (i % 10000 + 3071) % 251);
  }
  // The test batch is missing.
  EXPECT_THAT(samples::input_error([&] { cifar10()->load("test", {folder.path()}); }),
              AllOf(HasSubstr("is incomplete: test_batch.bin missing"), HasSubstr("espalier data fetch cifar10")));
}

TEST(Cifar10, RejectsWrongFiles) {
  const samples::Folder folder;
  const auto error_of = [&] { return samples::input_error([&] { cifar10()->load("test", {folder.path()}); }); };
  const std::filesystem::path file = samples::write(folder / "test_batch.bin", samples::cifar(9999, {10}));
  EXPECT_THAT(error_of(),
              HasSubstr(file.string() + ": holds 9,999 records (30,726,927 bytes); expected 10,000 records"));
  samples::Bytes bytes = samples::cifar(10000, {10});
  bytes[9999 * 3073] = 10;
  samples::write(file, bytes);
  EXPECT_THAT(error_of(), HasSubstr("record 9,999 (counted from 0) has the label 10; expected 0 to 9"));
}

TEST(Cifar10, ReadsTheRealOne) {
  const std::filesystem::path data = samples::data_folder_with("cifar-10-batches-bin");
  if (data.empty()) GTEST_SKIP() << "cifar10 is not on this machine";
  const Split train = cifar10()->load("train", {data}), test = cifar10()->load("test", {data});
  EXPECT_EQ(train.input().size(0), 50000);
  EXPECT_EQ(test.input().size(0), 10000);
  const std::vector<double> mean = cifar10()->info().mean;
  for (int64_t c = 0; c < 3; ++c) {
    EXPECT_NEAR(train.input().select(1, c).to(at::kFloat).mean().item<double>() / 255, mean[static_cast<size_t>(c)],
                1e-4);
  }
}

}  // namespace
}  // namespace espalier
