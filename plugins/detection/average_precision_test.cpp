#include "average_precision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace espalier::detection {
namespace {

using testing::Each;

TrueObject object(int64_t category, Xywh box, bool crowd = false) {
  return {.category = category, .box = box, .area = box[2] * box[3], .crowd = crowd};
}

FoundObject found(int64_t category, double score, Xywh box) {
  return {.category = category, .score = score, .box = box};
}

AveragePrecision of_one(const std::vector<TrueObject>& truth, const std::vector<FoundObject>& detections) {
  Matches matches;
  match_image(1, truth, detections, IouType::box, matches);
  return average_precision(matches);
}

constexpr Xywh here = {10, 10, 50, 50}, there = {200, 10, 50, 50}, nowhere = {10, 300, 50, 50};

TEST(AveragePrecision, IsOneWhereAllIsFound) {
  // A small, a medium and a large object, each of a category of its own.
  const std::vector<TrueObject> truth = {object(0, {0, 0, 20, 20}), object(3, here), object(7, {300, 300, 100, 100})};
  std::vector<FoundObject> all;
  for (const TrueObject& t : truth)
    all.push_back(found(t.category, 0.1 + 0.1 * static_cast<double>(t.category), t.box));
  // Rounding: right / (right + wrong + 2^-52), as pycocotools has it.
  EXPECT_THAT(of_one(truth, all).all(), Each(testing::DoubleNear(1, 1e-15)));
  EXPECT_THAT(of_one(truth, {}).all(), Each(0));
  EXPECT_THAT(of_one({}, all).all(), Each(-1));
}

TEST(AveragePrecision, InterpolatesPrecision) {
  // A wrong detection before the right one: half of what is found is right at every recall.
  EXPECT_NEAR(of_one({object(0, here)}, {found(0, 0.9, nowhere), found(0, 0.8, here)}).ap, 0.5, 1e-12);
  // After it, a wrong one changes nothing.
  EXPECT_NEAR(of_one({object(0, here)}, {found(0, 0.9, here), found(0, 0.8, nowhere)}).ap, 1, 1e-12);
  // Right, wrong, right: precision 1 up to the recall 1/2, which 51 of the 101 levels do not exceed, then 2/3.
  const AveragePrecision ap =
      of_one({object(0, here), object(0, there)}, {found(0, 0.9, here), found(0, 0.8, nowhere), found(0, 0.7, there)});
  EXPECT_NEAR(ap.ap, (51 + 50 * 2.0 / 3) / 101, 1e-12);
  EXPECT_NEAR(ap.ar100, 1, 1e-12);
  EXPECT_NEAR(ap.ar1, 0.5, 1e-12);
}

TEST(AveragePrecision, AveragesOverThresholds) {
  // 62 % of the object: right at the thresholds 0.5, 0.55 and 0.6.
  const AveragePrecision ap = of_one({object(0, {0, 0, 100, 100})}, {found(0, 0.9, {0, 0, 62, 100})});
  EXPECT_NEAR(ap.ap, 0.3, 1e-12);
  EXPECT_NEAR(ap.ap50, 1, 1e-12);
  EXPECT_NEAR(ap.ap75, 0, 1e-12);
  EXPECT_NEAR(ap.ar100, 0.3, 1e-12);
  EXPECT_EQ(ap.ap_small, -1);
  EXPECT_NEAR(ap.ap_large, 0.3, 1e-12);
  // 93 %: wrong at the last threshold alone, 0.95.
  EXPECT_NEAR(of_one({object(0, {0, 0, 100, 100})}, {found(0, 0.9, {0, 0, 93, 100})}).ap, 0.9, 1e-12);
}

TEST(AveragePrecision, GivesAnObjectToOneDetection) {
  // The surer detection takes the object although the other one meets it better; the other one is wrong.
  const AveragePrecision ap = of_one({object(0, here), object(0, there)},
                                     {found(0, 0.9, {10, 10, 45, 50}), found(0, 0.8, here), found(0, 0.7, there)});
  EXPECT_NEAR(ap.ap50, (51 + 50 * 2.0 / 3) / 101, 1e-12);
  // Of two objects, a detection takes the one that it meets better.
  EXPECT_NEAR(of_one({object(0, {0, 0, 60, 50}), object(0, {5, 0, 60, 50})},
                     {found(0, 0.9, {5, 0, 60, 50}), found(0, 0.8, {0, 0, 60, 50})})
                  .ap,
              1, 1e-12);
}

TEST(AveragePrecision, GivesADetectionTheObjectThatItMeetsBest) {
  // The second detection meets the second object alone (0.56 of the union, and 0.46 with the first), so nothing is left
  // for it if the first detection does not take the first object.
  const AveragePrecision ap = of_one({object(0, {0, 0, 60, 50}), object(0, {5, 0, 60, 50})},
                                     {found(0, 0.9, {0, 0, 60, 50}), found(0, 0.8, {22, 0, 60, 50})});
  EXPECT_NEAR(ap.ap50, 1, 1e-12);
}

TEST(AveragePrecision, LeavesCrowdsOut) {
  const TrueObject crowd = object(0, {100, 0, 300, 300}, true);
  // Any number of detections in a crowd, also better ones than the right one.
  const std::vector<FoundObject> in_crowd = {found(0, 0.99, {150, 20, 30, 30}), found(0, 0.98, {150, 100, 30, 30}),
                                             found(0, 0.5, here)};
  EXPECT_NEAR(of_one({crowd, object(0, here)}, in_crowd).ap, 1, 1e-12);
  EXPECT_NEAR(of_one({object(0, here)}, in_crowd).ap, 1.0 / 3, 1e-12);
  EXPECT_EQ(of_one({crowd}, in_crowd).ap, -1);
  // An object that counts goes before a crowd around it.
  EXPECT_NEAR(of_one({crowd, object(0, there)}, {found(0, 0.9, {200, 10, 45, 50})}).ap50, 1, 1e-12);
}

TEST(AveragePrecision, IgnoresOtherSizes) {
  // Large in truth; a small detection that takes nothing counts among all and among the small, and not among the large.
  const AveragePrecision ap = of_one({object(0, {0, 0, 100, 100}), object(0, {200, 200, 20, 20})},
                                     {found(0, 0.9, {300, 0, 10, 10}), found(0, 0.8, {0, 0, 100, 100})});
  EXPECT_NEAR(ap.ap_large, 1, 1e-12);
  EXPECT_NEAR(ap.ap_small, 0, 1e-12);
  EXPECT_NEAR(ap.ap50, 51 * 0.5 / 101, 1e-12);
  EXPECT_EQ(ap.ap_medium, -1);
}

TEST(AveragePrecision, CountsAHundredDetections) {
  std::vector<FoundObject> all(150, found(0, 0.9, nowhere));
  all.push_back(found(0, 0.8, here));
  EXPECT_EQ(of_one({object(0, here)}, all).ar100, 0);
  // Of one category: those of others take no places.
  for (size_t i = 0; i < 150; ++i) all[i].category = 1;
  EXPECT_NEAR(of_one({object(0, here)}, all).ar1, 1, 1e-12);
}

TEST(AveragePrecision, DoesNotDependOnTheOrderOfImages) {
  // Equal scores: those of the image with the smaller id stand first, so the right detection comes second or first.
  const auto two = [](bool swapped, int64_t right, int64_t wrong) {
    Matches matches;
    const auto add_right = [&] {
      match_image(right, std::vector{object(0, here)}, std::vector{found(0, 0.5, here)}, IouType::box, matches);
    };
    if (!swapped) add_right();
    match_image(wrong, {}, std::vector{found(0, 0.5, here)}, IouType::box, matches);
    if (swapped) add_right();
    return average_precision(matches).ap;
  };
  for (const bool swapped : {false, true}) {
    EXPECT_NEAR(two(swapped, 1, 2), 1, 1e-12);
    EXPECT_NEAR(two(swapped, 2, 1), 0.5, 1e-12);
  }
}

TEST(AveragePrecision, ComparesMasks) {
  // Two halves of one box: their boxes are equal, and their masks have nothing in common.
  const auto half = [](bool upper) {
    return mask_of_polygon(upper ? std::vector<double>{0, 0, 40, 0, 40, 40} : std::vector<double>{0, 0, 0, 40, 40, 40},
                           50, 50);
  };
  Matches matches;
  const std::vector<TrueObject> truth = {{.category = 0, .box = box_of(half(true)), .mask = half(true), .area = 800}};
  for (const bool right : {true, false}) {
    matches = {};
    match_image(1, truth,
                std::vector<FoundObject>{{.category = 0, .score = 1, .box = truth[0].box, .mask = half(right)}},
                IouType::mask, matches);
    EXPECT_NEAR(average_precision(matches).ap, right ? 1 : 0, 1e-12);
    EXPECT_NEAR(average_precision(matches).ap_small, right ? 1 : 0, 1e-12);
  }
}

}  // namespace
}  // namespace espalier::detection
