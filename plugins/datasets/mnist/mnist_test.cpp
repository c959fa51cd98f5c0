#include <ATen/TensorOperators.h>

#include <espalier/dataset.h>
#include <espalier/testkit.h>

#include "sample_files.h"

namespace espalier {
namespace {

using samples::Bytes;
using testing::AllOf;
using testing::HasSubstr;

std::unique_ptr<Dataset> mnist() {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libmnist.so");
  return Registry::instance().create<Dataset>(Value::map({{"use", "mnist"}}));
}

TEST(Mnist, DescribesItselfWithoutData) {
  const DatasetInfo info = mnist()->info();
  EXPECT_EQ(info.input.channels, 1);
  EXPECT_EQ(info.input.height, 28);
  EXPECT_EQ(info.input.width, 28);
  EXPECT_EQ(info.target.outputs, 10);
  EXPECT_EQ(info.classes.at(7), "7");
  EXPECT_EQ(info.mean, std::vector<double>{0.1307});
  EXPECT_EQ(info.deviation, std::vector<double>{0.3081});
}

// As large as the real one, since another number of images is an error; counting bytes instead of digits.
TEST(Mnist, ReadsPlainAndCompressedFiles) {
  const samples::Folder folder;
  samples::write(folder / "mnist/t10k-images-idx3-ubyte.gz", samples::gzip(samples::idx({10000, 28, 28})));
  samples::write(folder / "mnist/t10k-labels-idx1-ubyte", samples::idx({10000}, 10));
  const Split test = mnist()->load("test", {folder.path()});
  EXPECT_EQ(test.input().sizes(), (std::vector<int64_t>{10000, 1, 28, 28}));
  EXPECT_EQ(test.input().scalar_type(), at::kByte);
  EXPECT_EQ(test.target().sizes(), std::vector<int64_t>{10000});
  EXPECT_EQ(test.target().scalar_type(), at::kLong);
  const auto* pixels = test.input().const_data_ptr<uint8_t>();
  for (int64_t i = 0; i < test.input().numel(); ++i) ASSERT_EQ(pixels[i], i % 251);
  for (int64_t i = 0; i < 10000; ++i) ASSERT_EQ(test.target().const_data_ptr<int64_t>()[i], i % 10);
}

TEST(Mnist, RejectsWrongFiles) {
  const samples::Folder folder;
  const auto dataset = mnist();
  const auto error_of = [&](const std::string& part) {
    return samples::input_error([&] { dataset->load(part, {folder.path()}); });
  };
  EXPECT_THAT(error_of("validation"), HasSubstr("mnist has no part 'validation'; expected train or test"));
  EXPECT_THAT(error_of("test"), AllOf(HasSubstr("mnist was not found"), HasSubstr(folder.path().string()),
                                      HasSubstr("espalier data fetch mnist")));

  const std::filesystem::path images = folder / "t10k-images-idx3-ubyte", labels = folder / "t10k-labels-idx1-ubyte";
  samples::write(images, samples::idx({10, 28, 28}));
  samples::write(labels, samples::idx({10000}, 10));
  EXPECT_THAT(error_of("test"),
              HasSubstr(images.string() + ": holds 10 x 28 x 28; the images of mnist are 10,000 x 28 x 28"));
  samples::write(images, samples::idx({10000, 28, 27}));
  EXPECT_THAT(error_of("test"), HasSubstr("10,000 x 28 x 27"));
  samples::write(images, samples::idx({10000}));
  EXPECT_THAT(error_of("test"), HasSubstr("holds 10,000; the images"));
  samples::write(images, samples::idx({10000, 28, 28}));
  samples::write(labels, samples::idx({9999}, 10));
  EXPECT_THAT(error_of("test"), HasSubstr(labels.string() + ": holds 9,999; the labels of mnist are 10,000"));
  samples::write(labels, samples::idx({10000}, 11));
  EXPECT_THAT(error_of("test"), HasSubstr("record 10 (counted from 0) has the label 10; expected 0 to 9"));
  Bytes cut = samples::read(images);
  cut.resize(5000);
  samples::write(images, cut);
  EXPECT_THAT(error_of("test"), HasSubstr("holds 5,000 of 7,840,016 bytes"));
}

TEST(Mnist, IsNotFashionMnist) {
  const std::filesystem::path fashion = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(fashion)) GTEST_SKIP() << "dataset-fashion-mnist is not installed";
  EXPECT_THAT(
      samples::input_error([&] { mnist()->load("test", {fashion}); }),
      HasSubstr("this is Fashion-MNIST articles of clothing (data set fashion_mnist), not MNIST handwritten digits"));
}

TEST(Mnist, ReadsTheRealOne) {
  const std::filesystem::path data = samples::data_folder_with("mnist");
  if (data.empty()) GTEST_SKIP() << "mnist is not on this machine";
  const Split train = mnist()->load("train", {data});
  EXPECT_EQ(train.input().size(0), 60000);
  // 5, 0, 4, 1, 9: the first digits, known from many a figure.
  for (const auto& [i, digit] : {std::pair(0, 5), {1, 0}, {2, 4}, {3, 1}, {4, 9}})
    EXPECT_EQ(train.target()[i].item<int64_t>(), digit);
  EXPECT_NEAR(train.input().to(at::kDouble).mean().item<double>() / 255, 0.1307, 5e-5);
}

}  // namespace
}  // namespace espalier
