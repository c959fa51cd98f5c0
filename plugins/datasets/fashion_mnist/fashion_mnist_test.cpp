#include <ATen/TensorOperators.h>

#include <espalier/dataset.h>
#include <espalier/testkit.h>

#include "sample_files.h"

namespace espalier {
namespace {

using testing::HasSubstr;

std::unique_ptr<Dataset> fashion_mnist() {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libfashion_mnist.so");
  return Registry::instance().create<Dataset>(Value::map({{"use", "fashion_mnist"}}));
}

TEST(FashionMnist, DescribesItselfWithoutData) {
  const DatasetInfo info = fashion_mnist()->info();
  EXPECT_EQ(info.input.channels, 1);
  EXPECT_EQ(info.target.outputs, 10);
  EXPECT_EQ(info.classes.at(9), "Ankle boot");
  EXPECT_EQ(info.mean, std::vector<double>{0.2860});
  EXPECT_EQ(info.deviation, std::vector<double>{0.3530});
}

TEST(FashionMnist, SaysHowToGetIt) {
  const samples::Folder folder;
  EXPECT_THAT(samples::input_error([&] { fashion_mnist()->load("train", {folder.path()}); }),
              HasSubstr("apt-get install dataset-fashion-mnist"));
}

TEST(FashionMnist, ReadsTheInstalledOne) {
  const std::filesystem::path data = samples::data_folder_with("fashion-mnist");
  if (data.empty()) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  const Split train = fashion_mnist()->load("train", {data}), test = fashion_mnist()->load("test", {data});
  EXPECT_EQ(train.input().sizes(), (std::vector<int64_t>{60000, 1, 28, 28}));
  EXPECT_EQ(test.input().sizes(), (std::vector<int64_t>{10000, 1, 28, 28}));
  EXPECT_EQ(train.target()[0].item<int64_t>(), 9);
  EXPECT_EQ(test.target()[0].item<int64_t>(), 9);
  for (int64_t c = 0; c < 10; ++c) {
    EXPECT_EQ((train.target() == c).sum().item<int64_t>(), 6000);
    EXPECT_EQ((test.target() == c).sum().item<int64_t>(), 1000);
  }
  const at::Tensor x = train.input().to(at::kDouble) / 255;
  EXPECT_NEAR(x.mean().item<double>(), 0.2860, 1e-4);
  EXPECT_NEAR(x.std().item<double>(), 0.3530, 1e-4);
}

}  // namespace
}  // namespace espalier
