#include <filesystem>
#include <fstream>

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <espalier/dataset.h>
#include <espalier/error.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

namespace fs = std::filesystem;

class PixelCsv : public ::testing::Test {
 protected:
  PixelCsv() : folder_(fs::temp_directory_path() / ("pixel_csv_test" + std::to_string(::getpid()))) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libpixel_csv.so");
    fs::create_directories(folder_);
  }
  ~PixelCsv() override { fs::remove_all(folder_); }
  Split load(const std::string& text) const {
    std::ofstream(folder_ / "train.csv") << text;
    const auto dataset = Registry::instance().create<Dataset>(
        from_json(R"({"use": "pixel_csv", "train": "train.csv", "test": "test.csv", "size": 2, "classes": 3})"));
    return dataset->load("train", {folder_});
  }
  std::string refusal(const std::string& text) const {
    try {
      load(text);
    } catch (const InputError& e) {
      return e.what();
    }
    return "";
  }
  fs::path folder_;
};

TEST_F(PixelCsv, ReadsClassesAndPixels) {
  const Split train = load("2,0,255,7,8\r\n\n0,1,2,3,4");
  EXPECT_EQ(train.input().sizes().vec(), (std::vector<int64_t>{2, 1, 2, 2}));
  EXPECT_EQ(train.input()[0][0][0][1].item<int64_t>(), 255);
  EXPECT_EQ(train.input()[1][0][1][0].item<int64_t>(), 3);
  EXPECT_EQ(train.target()[0].item<int64_t>(), 2);
}

TEST_F(PixelCsv, SaysWhichLineIsWrong) {
  EXPECT_NE(refusal("0,1,2,3,4\n3,1,2,3,4\n").find("train.csv:2: field 1 is no whole number from 0 to 2"),
            std::string::npos);
  EXPECT_NE(refusal("0,1,2,3,256\n").find("field 5 is no whole number from 0 to 255"), std::string::npos);
  EXPECT_NE(refusal("0,1,2,3\n").find("a line has 5 numbers"), std::string::npos);
  EXPECT_NE(refusal("0,1,2,3,4,5\n").find("a line has 5 numbers"), std::string::npos);
  EXPECT_NE(refusal("\n").find("holds no image"), std::string::npos);
}

}  // namespace
}  // namespace espalier
