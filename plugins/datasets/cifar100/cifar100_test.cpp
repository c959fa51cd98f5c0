#include <ATen/TensorOperators.h>

#include <espalier/dataset.h>
#include <espalier/testkit.h>

#include "sample_files.h"

namespace espalier {
namespace {

using testing::HasSubstr;

std::unique_ptr<Dataset> cifar100(const std::string& labels) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libcifar100.so");
  return Registry::instance().create<Dataset>(Value::map({{"use", "cifar100"}, {"labels", labels}}));
}

TEST(Cifar100, DescribesBothWaysOfLabelling) {
  const DatasetInfo fine = cifar100("fine")->info(), coarse = cifar100("coarse")->info();
  EXPECT_EQ(fine.target.outputs, 100);
  EXPECT_EQ(fine.classes.at(0), "apple");
  EXPECT_EQ(fine.classes.at(99), "worm");
  EXPECT_EQ(coarse.target.outputs, 20);
  EXPECT_EQ(coarse.classes.at(4), "fruit_and_vegetables");
  EXPECT_EQ(fine.mean, (std::vector<double>{0.5071, 0.4865, 0.4409}));
  EXPECT_EQ(fine.deviation, (std::vector<double>{0.2673, 0.2564, 0.2762}));
  // Fine where nothing is said.
  EXPECT_EQ(Registry::instance().create<Dataset>(Value::map({{"use", "cifar100"}}))->info().target.outputs, 100);
  EXPECT_THROW(cifar100("medium"), InputError);
}

TEST(Cifar100, TakesTheLabelsAskedFor) {
  const samples::Folder folder;
  samples::write(folder / "cifar-100-binary/test.bin", samples::cifar(10000, {20, 100}));
  const Split fine = cifar100("fine")->load("test", {folder.path()}),
              coarse = cifar100("coarse")->load("test", {folder.path()});
  EXPECT_EQ(fine.input().sizes(), (std::vector<int64_t>{10000, 3, 32, 32}));
  EXPECT_TRUE(fine.input().equal(coarse.input()));
  EXPECT_TRUE(fine.target().is_contiguous());
  for (int64_t i = 0; i < 10000; ++i) {
    ASSERT_EQ(fine.target().const_data_ptr<int64_t>()[i], i % 100);
    ASSERT_EQ(coarse.target().const_data_ptr<int64_t>()[i], i % 20);
    ASSERT_EQ(fine.input().const_data_ptr<uint8_t>()[i * 3072 + 5], (i + 5) % 251);
  }
}

TEST(Cifar100, RejectsWrongFiles) {
  const samples::Folder folder;
  // CIFAR-10's records are a byte shorter.
  samples::write(folder / "test.bin", samples::cifar(10000, {10}));
  EXPECT_THAT(
      samples::input_error([&] { cifar100("fine")->load("test", {folder.path()}); }),
      HasSubstr("holds 30,730,000 bytes, which is no whole number of records; expected 10,000 records of 3,074 bytes"));
}

TEST(Cifar100, ReadsTheRealOne) {
  const std::filesystem::path data = samples::data_folder_with("cifar-100-binary");
  if (data.empty()) GTEST_SKIP() << "cifar100 is not on this machine";
  const Split fine = cifar100("fine")->load("train", {data}), coarse = cifar100("coarse")->load("train", {data});
  EXPECT_EQ(fine.input().size(0), 50000);
  // All apples (0) are fruit (4), all worms (99) are invertebrates (13).
  EXPECT_TRUE((coarse.target().masked_select(fine.target() == 0) == 4).all().item<bool>());
  EXPECT_TRUE((coarse.target().masked_select(fine.target() == 99) == 13).all().item<bool>());
}

}  // namespace
}  // namespace espalier
