#include "masks.h"

#include <cmath>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/error.h>

namespace espalier::detection {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Bytes = std::vector<uint8_t>;

Bytes random_bytes(int64_t height, int64_t width, double share, unsigned seed) {
  std::mt19937 random(seed);
  std::bernoulli_distribution set(share);
  Bytes bytes(static_cast<size_t>(height * width));
  for (uint8_t& byte : bytes) byte = set(random) ? 1 : 0;
  return bytes;
}

Bytes decoded(const Rle& mask) {
  Bytes bytes(static_cast<size_t>(mask.height * mask.width), 7);
  decode_mask(mask, bytes.data());
  return bytes;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(Masks, AreRunsOfColumns) {
  // 0 1 1
  // 0 0 1
  const Bytes bytes = {0, 1, 1, 0, 0, 1};
  const Rle mask = encode_mask(bytes.data(), 2, 3);
  EXPECT_THAT(mask.runs, ElementsAre(2, 1, 1, 2));
  EXPECT_EQ(decoded(mask), bytes);
  EXPECT_EQ(area_of(mask), 3);
  EXPECT_EQ(box_of(mask), (Xywh{1, 0, 2, 2}));
  // A run from the last pixel of one column to the first one of the next touches both edges.
  EXPECT_EQ(box_of(mask_of_runs(std::vector<int64_t>{2, 2, 5}, 3, 3)), (Xywh{0, 0, 2, 3}));
  const Bytes full(6, 9);
  EXPECT_THAT(encode_mask(full.data(), 2, 3).runs, ElementsAre(0, 6));
  const Rle empty = encode_mask(Bytes(6, 0).data(), 2, 3);
  EXPECT_THAT(empty.runs, ElementsAre(6));
  EXPECT_EQ(box_of(empty), (Xywh{0, 0, 0, 0}));
}

// By the definition of the text: five bits to a character from '0' on, 0x20 where more follow, the last one's 0x10 is
// the sign; from the fourth run on the difference from the run before the last.
TEST(Masks, HaveCompressedTexts) {
  const auto text = [](std::vector<int64_t> runs, int64_t width) { return text_of(mask_of_runs(runs, 1, width)); };
  EXPECT_EQ(text({4, 3, 5}, 12), "435");
  EXPECT_EQ(text({4, 3, 5, 3}, 15), "4350");
  EXPECT_EQ(text({4, 3, 5, 1}, 13), "435N");  // -2
  EXPECT_EQ(text({40, 16}, 56), "X1`0");      // 8 and more, 1; 16 and more, as its 0x10 would be a sign, 0
  EXPECT_THAT(mask_of_text("435N", 1, 13).runs, ElementsAre(4, 3, 5, 1));
  for (unsigned seed = 0; seed < 20; ++seed) {
    const Bytes bytes = random_bytes(37, 53, seed % 2 == 0 ? 0.5 : 0.01, seed);
    const Rle mask = encode_mask(bytes.data(), 37, 53);
    EXPECT_EQ(mask_of_text(text_of(mask), 37, 53), mask);
    EXPECT_EQ(decoded(mask), bytes);
  }
}

TEST(Masks, AreCombinedPixelByPixel) {
  constexpr int64_t height = 23, width = 17;
  for (unsigned seed = 0; seed < 10; ++seed) {
    const Bytes a = random_bytes(height, width, 0.3, seed), b = random_bytes(height, width, 0.6, seed + 100);
    const std::vector<Rle> both = {encode_mask(a.data(), height, width), encode_mask(b.data(), height, width)};
    Bytes any(a.size()), all(a.size());
    int64_t of_a = 0, in_any = 0, in_all = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      any[i] = a[i] | b[i];
      all[i] = a[i] & b[i];
      of_a += a[i];
      in_any += any[i];
      in_all += all[i];
    }
    EXPECT_EQ(unite(both), encode_mask(any.data(), height, width));
    EXPECT_EQ(intersect(both), encode_mask(all.data(), height, width));
    EXPECT_EQ(area_of(both[0]), of_a);
    EXPECT_EQ(mask_iou(both[0], both[1], false), static_cast<double>(in_all) / static_cast<double>(in_any));
    EXPECT_EQ(mask_iou(both[0], both[1], true), static_cast<double>(in_all) / static_cast<double>(of_a));
  }
  // Runs of no pixels, which other writers leave, change nothing.
  const Rle odd = mask_of_runs(std::vector<int64_t>{2, 0, 0, 3, 1}, 2, 3),
            plain = mask_of_runs(std::vector<int64_t>{2, 3, 1}, 2, 3);
  EXPECT_EQ(unite(std::vector<Rle>{odd, plain}), plain);
  EXPECT_EQ(box_of(odd), box_of(plain));
  const Rle other = mask_of_runs(std::vector<int64_t>{6}, 3, 2);
  EXPECT_THAT(error_of([&] { mask_iou(odd, other, false); }),
              HasSubstr("2 x 3 pixels cannot be combined with one of 3 x 2"));
}

TEST(Masks, OfRectanglesHoldTheCentresOfTheirPixels) {
  // Columns 1 to 4 and rows 1 to 3: their centres, half a pixel further, lie inside.
  const Rle mask = mask_of_polygon(std::vector<double>{1, 1, 1, 4, 5, 4, 5, 1}, 6, 8);
  EXPECT_EQ(area_of(mask), 12);
  EXPECT_EQ(box_of(mask), (Xywh{1, 1, 4, 3}));
  // What is beyond the image is left out.
  EXPECT_EQ(area_of(mask_of_polygon(std::vector<double>{-9, -9, -9, 20, 30, 20, 30, -9}, 6, 8)), 48);
  EXPECT_EQ(area_of(mask_of_polygon(std::vector<double>{20, 1, 20, 4, 25, 4}, 6, 8)), 0);
  // Corners may be given twice.
  EXPECT_EQ(mask_of_polygon(std::vector<double>{1, 1, 1, 1, 1, 4, 5, 4, 5, 4, 5, 1, 1, 1}, 6, 8), mask);
}

// A pixel is inside where a ray from its centre meets the outline an odd number of times. The outline is rounded to a
// fifth of a pixel, so only pixels that are further away from it are compared.
TEST(Masks, OfPolygonsHoldWhatIsInside) {
  constexpr int64_t height = 40, width = 50;
  constexpr double near = 0.3;
  std::mt19937 random(1);
  std::uniform_real_distribution<double> coordinate(-5, 55);
  for (int n = 0; n < 30; ++n) {
    std::vector<double> corners(static_cast<size_t>(6 + 2 * (n % 6)));
    for (double& c : corners) c = coordinate(random);
    const Bytes bytes = decoded(mask_of_polygon(corners, height, width));
    int compared = 0;
    for (int64_t row = 0; row < height; ++row) {
      for (int64_t column = 0; column < width; ++column) {
        const double px = static_cast<double>(column) + 0.5, py = static_cast<double>(row) + 0.5;
        bool inside = false;
        double distance = 1e9;
        for (size_t i = 0; i < corners.size(); i += 2) {
          const double ax = corners[i], ay = corners[i + 1];
          const double bx = corners[(i + 2) % corners.size()], by = corners[(i + 3) % corners.size()];
          if ((ay > py) != (by > py) && px < (bx - ax) * (py - ay) / (by - ay) + ax) inside = !inside;
          const double length = (bx - ax) * (bx - ax) + (by - ay) * (by - ay);
          const double t = std::clamp(((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / length, 0.0, 1.0);
          distance = std::min(distance, std::hypot(px - ax - t * (bx - ax), py - ay - t * (by - ay)));
        }
        if (distance < near) continue;
        ++compared;
        ASSERT_EQ(bytes[static_cast<size_t>(row * width + column)], inside) << n << ": " << row << ", " << column;
      }
    }
    EXPECT_GT(compared, 1000);
  }
}

TEST(Masks, OverlapOfBoxes) {
  EXPECT_DOUBLE_EQ(box_iou({0, 0, 10, 10}, {5, 0, 10, 10}, false), 50.0 / 150);
  EXPECT_DOUBLE_EQ(box_iou({0, 0, 10, 10}, {5, 0, 10, 10}, true), 0.5);
  EXPECT_EQ(box_iou({0, 0, 10, 10}, {10, 0, 10, 10}, false), 0);
  EXPECT_EQ(box_iou({2, 2, 0, 0}, {0, 0, 10, 10}, true), 0);
}

TEST(Masks, RefuseWhatIsDamaged) {
  EXPECT_THAT(error_of([] {
                mask_of_runs(std::vector<int64_t>{3, 2}, 2, 3);
              }),
              HasSubstr("come to 5 pixels, and 2 x 3 are 6"));
  EXPECT_THAT(error_of([] { mask_of_runs(std::vector<int64_t>{7, -1}, 2, 3); }), HasSubstr("the run 7 does not fit"));
  EXPECT_THAT(error_of([] { mask_of_text("43 ", 1, 12); }), HasSubstr("damaged at character 3"));
  EXPECT_THAT(error_of([] { mask_of_text("4X", 1, 12); }), HasSubstr("ends within a run"));
  EXPECT_THAT(error_of([] { mask_of_text("XXXXXXXXXXXX", 1, 12); }), HasSubstr("damaged at character 8"));
  EXPECT_THAT(error_of([] {
                mask_of_polygon(std::vector<double>{1, 2, 3, 4, 5, 6, 7}, 9, 9);
              }),
              HasSubstr("has 7 numbers"));
  EXPECT_THAT(error_of([] { mask_of_polygon(std::vector<double>{1, 2, 3, 4}, 9, 9); }), HasSubstr("has 2 corners"));
  EXPECT_THAT(error_of([] {
                mask_of_polygon(std::vector<double>{1, 2, 3, 4, NAN, 6}, 9, 9);
              }),
              HasSubstr("no place in an image"));
  EXPECT_THAT(error_of([] {
                mask_of_polygon(std::vector<double>{1, 2, 3, 4, 1e7, 6}, 9, 9);
              }),
              HasSubstr("no place in an image"));
  EXPECT_THAT(error_of([] { encode_mask(nullptr, 1 << 16, 1 << 16); }), HasSubstr("fewer than 2^32"));
  EXPECT_THAT(error_of([] { unite({}); }), HasSubstr("no masks"));
}

}  // namespace
}  // namespace espalier::detection
