#include <algorithm>
#include <cmath>
#include <map>
#include <thread>

#include <ATen/TensorOperators.h>

#include <espalier/dataset.h>
#include <espalier/testkit.h>

#include "image_files.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using samples::Bytes;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// options: of a folder that lies in a data folder and is called "pictures".
std::unique_ptr<Dataset> image_folder(const std::string& options = "", const std::string& folder = "pictures") {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libimage_folder.so");
  return Registry::instance().create<Dataset>(from_json(R"({"use": "image_folder", "folder": ")" + folder + "\"" +
                                                        (options.empty() ? "" : ", " + options) + "}"));
}

std::string refused(const std::string& options) {
  try {
    image_folder(options);
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "accepted: " << options;
  return {};
}

// A data folder with two classes for training, "a" and "b", where b holds one image. What is tested is put into a.
class ImageFolder : public testing::Test {
 protected:
  ImageFolder() { add("b/b.png", samples::png(1, 1, {1, 2, 3})); }
  fs::path add(const std::string& name, const Bytes& file, const std::string& part = "train") const {
    return samples::write(folder_ / ("pictures/" + part) / name, file);
  }
  Split load(const std::string& options, const std::string& part = "train") const {
    return image_folder(R"("classes": 2)" + (options.empty() ? "" : ", " + options))->load(part, {folder_.path()});
  }
  // Sample `n` as training or evaluation sees it: bytes [3, size, size].
  Bytes read(int64_t size, const std::string& options, int64_t n = 0, bool training = false, uint64_t key = 1) const {
    return read(of_size(size, options), size, n, training, key);
  }
  Split of_size(int64_t size, const std::string& options) const {
    return load("\"size\": " + std::to_string(size) + (options.empty() ? "" : ", " + options));
  }
  static Bytes read(const Split& split, int64_t size, int64_t n, bool training, uint64_t key) {
    Bytes bytes(static_cast<size_t>(3 * size * size));
    split.samples->read(n, training, RandomKey(key), bytes.data());
    return bytes;
  }
  std::string error(const std::string& options = "", const std::string& part = "train") const {
    return samples::input_error([&] { load(options, part); });
  }
  // Of reading the file of that content.
  std::string read_error(const std::string& name, const Bytes& file) const {
    const fs::path path = add("a/" + name, file);
    const std::string message = samples::input_error([&] { read(8, ""); });
    EXPECT_THAT(message, HasSubstr(path.string() + ": "));
    EXPECT_THAT(message, HasSubstr("replace it or take it away"));
    fs::remove(path);
    return message;
  }

  samples::Folder folder_;
};

// Row by row, as files have them.
Bytes interleaved(const Bytes& planes) {
  const size_t n = planes.size() / 3;
  Bytes pixels(planes.size());
  for (size_t i = 0; i < n; ++i) {
    for (size_t c = 0; c < 3; ++c) pixels[3 * i + c] = planes[c * n + i];
  }
  return pixels;
}

int largest_difference(const Bytes& a, const Bytes& b) {
  EXPECT_EQ(a.size(), b.size());
  int most = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

TEST(ImageFolderOptions, DescribeTheDataWithoutReadingIt) {
  const DatasetInfo info = image_folder("", "/no/such/folder")->info();
  EXPECT_EQ(info.input.channels, 3);
  EXPECT_EQ(info.input.height, 224);
  EXPECT_EQ(info.input.width, 224);
  EXPECT_EQ(info.target.outputs, 1000);
  EXPECT_TRUE(info.classes.empty());
  EXPECT_EQ(info.mean, (std::vector<double>{0.485, 0.456, 0.406}));
  EXPECT_EQ(info.deviation, (std::vector<double>{0.229, 0.224, 0.225}));
  const DatasetInfo few = image_folder(R"("only": ["n2", "n1"], "size": 64, "std": [1, 1, 0.5])")->info();
  EXPECT_EQ(few.input.height, 64);
  EXPECT_EQ(few.target.outputs, 2);
  EXPECT_THAT(few.classes, ElementsAre("n1", "n2"));
  EXPECT_EQ(few.deviation, (std::vector<double>{1, 1, 0.5}));
}

TEST(ImageFolderOptions, AreRefusedWhereTheyMakeNoSense) {
  EXPECT_THAT(refused(R"("size": 100, "resize": 99)"), HasSubstr("resize: 99 is less than size: 100"));
  EXPECT_THAT(refused(R"("scale": [0.5, 0.4])"), HasSubstr("scale: two numbers"));
  EXPECT_THAT(refused(R"("ratio": [1])"), HasSubstr("ratio: two numbers"));
  EXPECT_THAT(refused(R"("mean": [0.5])"), HasSubstr("three numbers each"));
  EXPECT_THAT(refused(R"("only": ["a", "b"], "classes": 3)"), HasSubstr("`only` names 2"));
  EXPECT_THAT(refused(R"("only": ["a", "b", "a"])"), HasSubstr("'a' is named twice"));
  EXPECT_THAT(refused(R"("only": ["a"])"), HasSubstr("two classes are the least"));
}

TEST_F(ImageFolder, NumbersSortedClassesAndFilesAndPassesOverTheRest) {
  const Bytes file = samples::png(1, 1, {7, 7, 7});
  for (const char* name : {"a/2.PNG", "a/10.png", "a/images/1.png", "a/.hidden.png", "a/note.txt", "a/png", "c/3.png",
                           ".trash/4.png", "loose.png"})
    add(name, file);
  add("a/0.JpEg", samples::jpeg(1, 1, {9, 9, 9}));
  add("a/1.jpg", samples::jpeg(1, 1, {20, 20, 20}));
  const Split split = image_folder(R"("classes": 3, "size": 1)")->load("train", {"/no/such", folder_.path()});
  // a: 0.JpEg, 1.jpg, 10.png, 2.PNG, images/1.png; b: b.png; c: 3.png.
  ASSERT_EQ(split.target().scalar_type(), at::kLong);
  const auto* targets = split.target().const_data_ptr<int64_t>();
  EXPECT_THAT(std::vector<int64_t>(targets, targets + split.target().numel()), ElementsAre(0, 0, 0, 0, 0, 1, 2));
  EXPECT_FALSE(split.input().defined());
  ASSERT_EQ(split.samples->size(), 7);
  std::vector<int> red;
  for (int64_t i = 0; i < 7; ++i) {
    Bytes pixel(3);
    split.samples->read(i, false, RandomKey(), pixel.data());
    red.push_back(pixel[0]);
  }
  EXPECT_THAT(red, ElementsAre(9, 20, 7, 7, 7, 1, 7));

  const Split some = image_folder(R"("only": ["c", "b"])")->load("train", {folder_.path()});
  targets = some.target().const_data_ptr<int64_t>();
  EXPECT_THAT(std::vector<int64_t>(targets, targets + some.target().numel()), ElementsAre(0, 1)) << "b, c";
}

TEST_F(ImageFolder, ReadsEveryFormOfPngAsColour) {
  const Bytes colour = {10, 200, 77};
  const auto expect = [&](const Bytes& pixel, const Bytes& file, const char* form) {
    add("a/1.png", file);
    EXPECT_EQ(interleaved(read(8, R"("resize": 8)")), samples::filled(8, 8, pixel)) << form;
  };
  const auto of = [](const Bytes& pixel, int type, int depth = 8) {
    return samples::png(8, 8, samples::filled(8, 8, pixel), {.color_type = type, .depth = depth});
  };
  expect(colour, of(colour, PNG_COLOR_TYPE_RGB), "colour");
  expect(colour, of({10, 200, 77, 3}, PNG_COLOR_TYPE_RGBA), "colour and alpha");
  expect({90, 90, 90}, of({90}, PNG_COLOR_TYPE_GRAY), "grey");
  expect({90, 90, 90}, of({90, 5}, PNG_COLOR_TYPE_GRAY_ALPHA), "grey and alpha");
  // 0x80ff / 257 = 128.5 - 0.002, 0x12ff / 257 = 18.92
  expect({128, 19, 255}, of({0x80, 0xff, 0x12, 0xff, 0xff, 0xff}, PNG_COLOR_TYPE_RGB, 16), "16 bits");
  expect({128, 128, 128}, of({0x80, 0xff}, PNG_COLOR_TYPE_GRAY, 16), "16 bits, grey");
  // Two and four pixels a byte.
  expect({0xaa, 0xaa, 0xaa}, samples::png(8, 8, Bytes(8 * 4, 0xaa), {.color_type = PNG_COLOR_TYPE_GRAY, .depth = 4}),
         "4 bits, grey");
  expect(colour,
         samples::png(8, 8, Bytes(8 * 2, 0x55),
                      {.color_type = PNG_COLOR_TYPE_PALETTE,
                       .depth = 2,
                       .palette = {{1, 1, 1}, {10, 200, 77}, {2, 2, 2}},
                       .palette_alpha = {0, 9}}),
         "a palette with alpha");
  const Bytes picture = samples::noise(8, 8);
  add("a/1.png", samples::png(8, 8, picture, {.color_type = PNG_COLOR_TYPE_RGB, .depth = 8, .interlaced = true}));
  EXPECT_EQ(interleaved(read(8, R"("resize": 8)")), picture) << "interlaced";
}

TEST_F(ImageFolder, ReadsEveryFormOfJpegAsColour) {
  const auto expect = [&](const Bytes& pixel, const Bytes& file, int within, const char* form) {
    add("a/1.jpg", file);
    EXPECT_LE(largest_difference(interleaved(read(16, R"("resize": 16)")), samples::filled(16, 16, pixel)), within)
        << form;
  };
  const auto of = [](const Bytes& pixel, J_COLOR_SPACE space) {
    return samples::jpeg(16, 16, samples::filled(16, 16, pixel), space, 100);
  };
  expect({100, 100, 100}, of({100}, JCS_GRAYSCALE), 0, "grey");
  expect({10, 200, 77}, of({10, 200, 77}, JCS_RGB), 2, "colour");
  // Inverted, as Adobe's programs write it: 255 is no ink. Half as much light through half of the black.
  expect({10, 200, 77}, of({10, 200, 77, 255}, JCS_CMYK), 1, "CMYK");
  expect({100, 50, 127}, of({200, 100, 255, 127}, JCS_CMYK), 2, "CMYK with black");
}

TEST_F(ImageFolder, GoesByTheContentOfAFileNotItsName) {
  // ImageNet has such a file.
  add("a/1.JPEG", samples::png(4, 4, samples::noise(4, 4)));
  EXPECT_EQ(interleaved(read(4, R"("resize": 4)")), samples::noise(4, 4));
}

// Two rows of three pixels as Pillow 13.0.0 wrote them (lossless): red, green, blue; white, black, (12, 34, 56).
TEST_F(ImageFolder, ReadsWebPBmpAndTiff) {
  const Bytes pixels = {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 12, 34, 56};
  const Bytes webp = {82,  73,  70, 70,  58,  0,   0,   0,   87,  69,  66,  80,  86,  80,  56,  76,  46,
                      0,   0,   0,  47,  2,   64,  0,   0,   47,  32,  16,  32,  104, 241, 223, 104, 67,
                      32,  144, 36, 176, 63,  238, 2,   1,   130, 44,  255, 97,  230, 63,  64,  108, 114,
                      108, 21,  40, 72,  219, 128, 197, 221, 83,  178, 136, 254, 199, 213, 1};
  const Bytes bmp = {66, 77, 78,  0,  0, 0, 0, 0, 0,   0, 54,  0, 0,   0, 40,  0,   0,   0, 3,   0,
                     0,  0,  2,   0,  0, 0, 1, 0, 24,  0, 0,   0, 0,   0, 24,  0,   0,   0, 196, 14,
                     0,  0,  196, 14, 0, 0, 0, 0, 0,   0, 0,   0, 0,   0, 255, 255, 255, 0, 0,   0,
                     56, 34, 12,  0,  0, 0, 0, 0, 255, 0, 255, 0, 255, 0, 0,   0,   0,   0};
  const Bytes tiff = {73, 73, 42,  0,  8, 0, 0,   0, 10, 0,   0,   1,   4,   0,   1,  0, 0, 0,  3,  0,   0, 0, 1,
                      1,  4,  0,   1,  0, 0, 0,   2, 0,  0,   0,   2,   1,   3,   0,  3, 0, 0,  0,  134, 0, 0, 0,
                      3,  1,  3,   0,  1, 0, 0,   0, 1,  0,   0,   0,   6,   1,   3,  0, 1, 0,  0,  0,   2, 0, 0,
                      0,  17, 1,   4,  0, 1, 0,   0, 0,  140, 0,   0,   0,   21,  1,  3, 0, 1,  0,  0,   0, 3, 0,
                      0,  0,  22,  1,  4, 0, 1,   0, 0,  0,   2,   0,   0,   0,   23, 1, 4, 0,  1,  0,   0, 0, 18,
                      0,  0,  0,   28, 1, 3, 0,   1, 0,  0,   0,   1,   0,   0,   0,  0, 0, 0,  0,  8,   0, 8, 0,
                      8,  0,  255, 0,  0, 0, 255, 0, 0,  0,   255, 255, 255, 255, 0,  0, 0, 12, 34, 56};
  const Bytes packed = {73, 73, 42, 0, 24, 0, 0,  0,  128, 63, 192, 16, 56,  20, 17, 255, 7, 129, 128, 1,  130, 33, 196,
                        4,  10, 0,  0, 1,  3, 0,  1,  0,   0,  0,   3,  0,   0,  0,  1,   1, 3,   0,   1,  0,   0,  0,
                        2,  0,  0,  0, 2,  1, 3,  0,  3,   0,  0,   0,  150, 0,  0,  0,   3, 1,   3,   0,  1,   0,  0,
                        0,  5,  0,  0, 0,  6, 1,  3,  0,   1,  0,   0,  0,   2,  0,  0,   0, 17,  1,   4,  0,   1,  0,
                        0,  0,  8,  0, 0,  0, 21, 1,  3,   0,  1,   0,  0,   0,  3,  0,   0, 0,   22,  1,  3,   0,  1,
                        0,  0,  0,  2, 0,  0, 0,  23, 1,   4,  0,   1,  0,   0,  0,  16,  0, 0,   0,   28, 1,   3,  0,
                        1,  0,  0,  0, 1,  0, 0,  0,  0,   0,  0,   0,  8,   0,  8,  0,   8, 0};
  for (const auto& [name, file] :
       std::map<std::string, Bytes>{{"1.webp", webp}, {"1.BMP", bmp}, {"1.tif", tiff}, {"1.tiff", packed}}) {
    const fs::path path = add("a/" + name, file);
    Bytes out(static_cast<size_t>(3 * 2 * 2));
    const Split split = load(R"("size": 2, "resize": 2)");
    ASSERT_EQ(split.samples->size(), 2) << name;
    // Of 3 x 2 pixels the centre of 2 x 2: columns 0 and 1 (halves to even).
    split.samples->read(0, false, RandomKey(), out.data());
    EXPECT_EQ(interleaved(out), (Bytes{pixels[0], pixels[1], pixels[2], pixels[3], pixels[4], pixels[5], pixels[9],
                                       pixels[10], pixels[11], pixels[12], pixels[13], pixels[14]}))
        << name;
    Bytes cut = file;
    cut.resize(file.size() / 2);
    add("a/" + name, cut);
    EXPECT_THAT(samples::input_error([&] { split.samples->read(0, false, RandomKey(), out.data()); }),
                HasSubstr(path.string() + ": a damaged "));
    fs::remove(path);
  }
}

TEST_F(ImageFolder, SaysHowManyFilesItPassesOverAndNeverReadsWhatIsHidden) {
  add("a/1.png", samples::png(1, 1, {1, 1, 1}));
  add("a/.ipynb_checkpoints/0.png", samples::png(1, 1, {2, 2, 2}));
  add("a/inner/.git/0.png", samples::png(1, 1, {2, 2, 2}));
  for (const char* name : {"a/2.gif", "a/inner/3.gif", "a/4.heic", "a/Thumbs", "a/.DS_Store"}) add(name, {1});
  testing::internal::CaptureStderr();
  const Split split = load("");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(split.samples->size(), 2) << "a/1.png and b/b.png";
  EXPECT_THAT(said, AllOf(HasSubstr("4 files are passed over"), HasSubstr("2 .gif"), HasSubstr("1 .heic"),
                          HasSubstr("1 without an ending")));
}

TEST_F(ImageFolder, TakesTheCentreOfTheResizedImage) {
  // Not resized: 40 x 20 with a shorter side of 20, the middle 16 x 16 of it.
  add("a/1.png", samples::png(40, 20, samples::drawn(40, 20, [](int x, int y, int c) { return c == 0 ? x : y; })));
  EXPECT_EQ(interleaved(read(16, R"("resize": 20)")),
            samples::drawn(16, 16, [](int x, int y, int c) { return c == 0 ? x + 12 : y + 2; }));
  // Halves are rounded to even: of 23 - 20 = 3 pixels 2 are left out on the left.
  add("a/1.png", samples::png(20, 23, samples::drawn(20, 23, [](int, int y, int) { return y; })));
  EXPECT_EQ(read(20, R"("resize": 20)")[0], 2);
  // In training too, where that is asked for.
  EXPECT_EQ(read(20, R"("resize": 20, "crop": "center")", 0, true), read(20, R"("resize": 20)"));
}

TEST_F(ImageFolder, HalvesAnImageByTheWeightsOneThreeThreeOne) {
  const Bytes picture = samples::noise(16, 16);
  add("a/1.png", samples::png(16, 16, picture));
  // A triangle of four pixels; beyond the border there are none. Along the rows first, rounded, then down the columns.
  const auto halved = [](const std::vector<double>& line) {
    std::vector<double> half;
    for (size_t i = 0; i < line.size(); i += 2) {
      const double inner = 3 * line[i] + 3 * line[i + 1];
      const double outer = (i > 0 ? line[i - 1] : 0) + (i + 2 < line.size() ? line[i + 2] : 0);
      half.push_back(std::floor((inner + outer) / (i > 0 && i + 2 < line.size() ? 8 : 7) + 0.5));
    }
    return half;
  };
  Bytes expected(size_t{3} * 8 * 8);
  for (size_t c = 0; c < 3; ++c) {
    std::vector<std::vector<double>> rows;
    for (size_t y = 0; y < 16; ++y) {
      std::vector<double> row;
      for (size_t x = 0; x < 16; ++x) row.push_back(picture[(y * 16 + x) * 3 + c]);
      rows.push_back(halved(row));
    }
    for (size_t x = 0; x < 8; ++x) {
      std::vector<double> column;
      for (size_t y = 0; y < 16; ++y) column.push_back(rows[y][x]);
      const std::vector<double> half = halved(column);
      for (size_t y = 0; y < 8; ++y) expected[(c * 8 + y) * 8 + x] = static_cast<uint8_t>(half[y]);
    }
  }
  EXPECT_EQ(read(8, R"("resize": 8)"), expected);
}

TEST_F(ImageFolder, InterpolatesBetweenPixelsWhereAnImageGrows) {
  // A ramp stays a ramp, four times as long; its ends are constant.
  add("a/1.png", samples::png(8, 8, samples::drawn(8, 8, [](int x, int y, int c) { return 30 * (c == 0 ? x : y); })));
  const auto at = [](int i) { return std::clamp(30 * ((i + 0.5) / 4 - 0.5), 0.0, 210.0); };
  EXPECT_EQ(interleaved(read(32, R"("resize": 32)")),
            samples::drawn(32, 32, [&](int x, int y, int c) { return std::floor(at(c == 0 ? x : y) + 0.5); }));
}

TEST_F(ImageFolder, KeepsAConstantImageConstantWhateverItsSize) {
  for (const auto& [width, height] : {std::pair{1, 1}, {3, 500}, {640, 41}, {33, 32}, {257, 263}}) {
    add("a/1.png", samples::png(width, height, samples::filled(width, height, {255, 0, 131})));
    for (const bool training : {false, true}) {
      EXPECT_EQ(interleaved(read(32, "", 0, training)), samples::filled(32, 32, {255, 0, 131}))
          << width << " x " << height;
    }
  }
}

// Writes beside each image of a folder NAME.center: what Pillow makes of it.
constexpr const char* pillow = R"(
import pathlib, sys
try:
    from PIL import Image
except ImportError:
    sys.exit(print("no"))
folder, shorter, size = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for file in sorted(folder.iterdir()):
    image = Image.open(file).convert("RGB")
    short = min(image.size)
    image = image.resize([int(shorter * n / short) for n in image.size], Image.BILINEAR)
    left, top = (int(round((n - size) / 2.0)) for n in image.size)
    image = image.crop((left, top, left + size, top + size))
    file.with_name(file.name + ".center").write_bytes(b"".join(c.tobytes() for c in image.split()))
print("yes")
)";

// The same as Pillow makes of it, byte by byte; of JPEG files up to what two versions of libjpeg may differ by.
TEST_F(ImageFolder, EqualsPillow) {
  if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python";
  int number = 0;
  for (const auto& [width, height] : {std::pair{57, 43}, {32, 100}, {40, 40}, {33, 200}, {311, 170}, {20, 31}}) {
    add("a/" + std::to_string(++number) + ".png", samples::png(width, height, samples::noise(width, height)));
    const Bytes smooth = samples::drawn(width, height, [w = width, h = height](int x, int y, int c) {
      return 127 + 120 * std::sin(0.1 * (c + 1) * x + 5.0 * y / h) * std::cos(3.0 * x / w);
    });
    add("a/" + std::to_string(number) + ".jpg", samples::jpeg(width, height, smooth));
  }
  const fs::path folder = folder_ / "pictures/train/a";
  const std::string said = testkit::run_python(ESPALIER_PYTHON, pillow, {folder.string(), "40", "32"});
  if (said.starts_with("no")) GTEST_SKIP() << "this Python has no Pillow";
  std::vector<fs::path> files;
  for (const auto& e : fs::directory_iterator(folder)) {
    if (e.path().extension() != ".center") files.push_back(e.path());
  }
  std::ranges::sort(files);
  ASSERT_EQ(files.size(), 12U);
  for (size_t i = 0; i < files.size(); ++i) {
    const int difference = largest_difference(read(32, R"("resize": 40)", static_cast<int64_t>(i)),
                                              samples::read(files[i].string() + ".center"));
    EXPECT_LE(difference, files[i].extension() == ".png" ? 0 : 2) << files[i];
  }
}

// Where a random part lies, from an image whose red is x and whose green is y.
struct Part {
  double x, y, width, height;
};
Part part_of(const Bytes& planes, int size) {
  const auto red = [&](int i) { return planes[static_cast<size_t>(size / 2 * size + i)]; };
  const auto green = [&](int i) { return planes[static_cast<size_t>(size * size + i * size + size / 2)]; };
  // Away from the borders, where fewer pixels are averaged.
  const int first = size / 6, last = size - 1 - size / 6;
  const double dx = static_cast<double>(red(last) - red(first)) / (last - first);
  const double dy = static_cast<double>(green(last) - green(first)) / (last - first);
  return {red(first) - (first + 0.5) * dx + 0.5, green(first) - (first + 0.5) * dy + 0.5, dx * size, dy * size};
}

TEST_F(ImageFolder, DrawsPartsOfTheGivenAreasAndRatios) {
  add("a/1.png", samples::png(240, 240, samples::drawn(240, 240, [](int x, int y, int c) { return c == 0 ? x : y; })));
  const Split split = of_size(24, "");
  double least = 1, most = 0, wide = 1, narrow = 1;
  for (uint64_t key = 0; key < 400; ++key) {
    const Part p = part_of(read(split, 24, 0, true, key), 24);
    const double area = p.width * p.height / (240 * 240), ratio = p.width / p.height;
    // Estimates from rounded bytes: 2 pixels in 68 or more.
    ASSERT_GT(area, 0.08 * 0.94);
    ASSERT_LT(area, 1.03);
    ASSERT_GT(ratio, 0.75 * 0.95);
    ASSERT_LT(ratio, 4.0 / 3 * 1.05);
    ASSERT_TRUE(p.x > -2 && p.y > -2 && p.x + p.width < 242 && p.y + p.height < 242);
    least = std::min(least, area);
    most = std::max(most, area);
    wide = std::max(wide, ratio);
    narrow = std::min(narrow, ratio);
  }
  EXPECT_LT(least, 0.12);
  EXPECT_GT(most, 0.85);
  EXPECT_GT(wide, 1.28);
  EXPECT_LT(narrow, 0.78);
}

TEST_F(ImageFolder, PutsPartsAnywhere) {
  add("a/1.png", samples::png(240, 240, samples::drawn(240, 240, [](int x, int y, int c) { return c == 0 ? x : y; })));
  // A fourth of the area, square: 120 x 120 pixels, five become one, which is exact away from the borders.
  const Split split = of_size(24, R"("scale": [0.25, 0.25], "ratio": [1, 1])");
  int left = 240, right = 0, top = 240, bottom = 0, same = 0;
  for (uint64_t key = 0; key < 300; ++key) {
    const Part p = part_of(read(split, 24, 0, true, key), 24);
    ASSERT_DOUBLE_EQ(p.width, 120);
    ASSERT_DOUBLE_EQ(p.height, 120);
    left = std::min(left, static_cast<int>(p.x));
    right = std::max(right, static_cast<int>(p.x));
    top = std::min(top, static_cast<int>(p.y));
    bottom = std::max(bottom, static_cast<int>(p.y));
    same += std::abs(p.x - p.y) < 1;
  }
  // From 0 to 120, each as likely as the others, both ways on their own.
  EXPECT_TRUE(left >= 0 && left <= 5 && right >= 115 && right <= 120) << left << " " << right;
  EXPECT_TRUE(top >= 0 && top <= 5 && bottom >= 115 && bottom <= 120) << top << " " << bottom;
  EXPECT_LT(same, 12);
}

TEST_F(ImageFolder, TakesTheCentreWhereNoPartFits) {
  add("a/1.png", samples::png(200, 20, samples::drawn(200, 20, [](int x, int y, int c) { return c == 0 ? x : y; })));
  EXPECT_EQ(interleaved(read(20, R"("scale": [1, 1], "ratio": [1, 1])", 0, true)),
            samples::drawn(20, 20, [](int x, int y, int c) { return c == 0 ? x + 90 : y; }));
  // The whole image where that is what is asked for.
  add("a/1.png", samples::png(20, 20, samples::noise(20, 20)));
  EXPECT_EQ(interleaved(read(20, R"("scale": [1, 1], "ratio": [1, 1])", 0, true)), samples::noise(20, 20));
}

TEST_F(ImageFolder, ReadsTheSameForTheSameKeyInAnyThread) {
  add("a/1.jpg", samples::jpeg(90, 70, samples::noise(90, 70)));
  add("a/2.png", samples::png(50, 60, samples::noise(50, 60)));
  const Split split = load(R"("size": 16)");
  const auto all = [&](std::vector<Bytes>& read) {
    for (uint64_t i = 0; i < 40; ++i) {
      read.emplace_back(size_t{3} * 16 * 16);
      split.samples->read(static_cast<int64_t>(i % 3), true, RandomKey(i / 3), read.back().data());
    }
  };
  std::vector<Bytes> alone;
  all(alone);
  EXPECT_NE(alone[0], alone[3]) << "another key";
  std::vector<std::vector<Bytes>> results(4);
  std::vector<std::thread> threads;
  for (auto& r : results) threads.emplace_back([&] { all(r); });
  for (std::thread& t : threads) t.join();
  for (const auto& r : results) EXPECT_EQ(r, alone);
}

TEST_F(ImageFolder, SaysWhichFileIsDamaged) {
  const Bytes good_jpeg = samples::jpeg(40, 40, samples::noise(40, 40));
  const Bytes good_png = samples::png(40, 40, samples::noise(40, 40));
  const auto cut = [](Bytes file, size_t n) {
    file.resize(n);
    return file;
  };
  for (const size_t n : {size_t{3}, size_t{100}, good_jpeg.size() / 2, good_jpeg.size() - 2}) {
    EXPECT_THAT(read_error("1.jpg", cut(good_jpeg, n)), HasSubstr("a damaged JPEG file: ")) << n;
  }
  for (const size_t n : {size_t{8}, size_t{40}, good_png.size() / 2, good_png.size() - 13}) {
    EXPECT_THAT(read_error("1.png", cut(good_png, n)), HasSubstr("a damaged PNG file: it ends too early")) << n;
  }
  Bytes flipped = good_png;
  flipped[flipped.size() / 2] ^= 1;
  EXPECT_THAT(read_error("1.png", flipped), HasSubstr("a damaged PNG file: "));
  EXPECT_THAT(read_error("1.png", {}), HasSubstr("is empty"));
  EXPECT_THAT(read_error("1.png", {'G', 'I', 'F', '8', '9', 'a'}),
              HasSubstr("is no JPEG, PNG, WebP, BMP or TIFF file"));
  // 60,000 x 60,000 pixels: 10 GB.
  Bytes huge = samples::png(1, 1, {0}, {.color_type = PNG_COLOR_TYPE_GRAY, .depth = 8});
  huge[18] = huge[22] = 0xea;
  huge[19] = huge[23] = 0x60;
  const uLong sum = crc32(0, huge.data() + 12, 17);
  for (int i = 0; i < 4; ++i) huge[static_cast<size_t>(29 + i)] = static_cast<uint8_t>(sum >> (24 - 8 * i));
  EXPECT_THAT(read_error("1.png", huge), HasSubstr("60000 x 60000 pixels"));
  // Spare bytes before the end are common, and do no harm.
  Bytes spare = good_jpeg;
  spare.insert(spare.end() - 2, {0, 0, 0});
  add("a/1.jpg", spare);
  const Bytes with = read(40, R"("resize": 40)");
  add("a/1.jpg", good_jpeg);
  EXPECT_EQ(with, read(40, R"("resize": 40)"));
  const fs::path file = add("a/1.jpg", good_jpeg);
  const Split split = load(R"("size": 8)");
  fs::remove(file);
  Bytes out(192);
  EXPECT_THAT(samples::input_error([&] { split.samples->read(0, false, RandomKey(), out.data()); }),
              HasSubstr(file.string() + ": No such file"));
}

TEST_F(ImageFolder, SaysWhatIsWrongWithTheFolders) {
  const fs::path train = folder_ / "pictures/train";
  EXPECT_THAT(samples::input_error([&] {
                image_folder("", "elsewhere")->load("train", {folder_.path(), "/no/such"});
              }),
              AllOf(HasSubstr("the folder elsewhere was not found"), HasSubstr(folder_.path().string()),
                    HasSubstr("/no/such (no such folder)")));
  EXPECT_THAT(error(), HasSubstr(train.string() + ": holds 1 class folders (b), and `classes` is 2"));
  EXPECT_THAT(
      error(R"("train": "training")"),
      AllOf(HasSubstr((folder_ / "pictures/training").string() + ": no such folder"), HasSubstr("holds train")));
  fs::create_directories(train / "a");
  EXPECT_THAT(error(),
              AllOf(HasSubstr(train.string() + ": no images (.jpg, .jpeg, .png, .webp, .bmp, .tif, .tiff) are in a;"),
                    HasSubstr("only")));
  add("a/1.png", samples::png(1, 1, {1, 2, 3}));
  EXPECT_THAT(error("", "rest"), HasSubstr("no part 'rest'"));
  EXPECT_THAT(error("", "test"), HasSubstr((folder_ / "pictures/val").string() + ": no such folder"));
  fs::create_directories(folder_ / "pictures/val");
  EXPECT_THAT(error("", "test"), HasSubstr("holds no folders"));
  add("a/1.png", samples::png(1, 1, {1, 2, 3}), "val");
  add("c/1.png", samples::png(1, 1, {1, 2, 3}), "val");
  EXPECT_THAT(error("", "test"), HasSubstr("'c' stands where 'b' does there"));
  EXPECT_THAT(
      samples::input_error([&] { image_folder(R"("only": ["a", "c", "d"])")->load("train", {folder_.path()}); }),
      HasSubstr("has no class folders c, d, which `only` names; it has a, b"));
  // An absolute path needs no data folder.
  EXPECT_EQ(image_folder(R"("classes": 2)", (folder_ / "pictures").string())->load("train", {}).samples->size(), 2);
}

}  // namespace
}  // namespace espalier
