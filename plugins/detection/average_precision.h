#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "masks.h"

namespace espalier::detection {

// What is compared: rectangles or masks.
enum class IouType { box, mask };

// An object that is in an image, or a region with a crowd of them.
struct TrueObject {
  int64_t category = 0;  // at least 0
  Xywh box{};            // pixels
  Rle mask{};            // needed where masks are compared
  double area = 0;       // pixels, as the annotation says: decides whether the object is small, medium or large
  bool crowd = false;    // detections in it count neither as right nor as wrong
};

// An object that a network found.
struct FoundObject {
  int64_t category = 0;  // at least 0
  double score = 0;      // a larger one is surer
  Xywh box{};            // pixels
  Rle mask{};            // needed where masks are compared
};

// COCO's ranges of areas: all, small (up to 32^2 pixels), medium (up to 96^2) and large.
inline constexpr int area_ranges = 4;

// What comparing images gave: enough for all of COCO's numbers, without boxes and masks. Those of several batches are
// put one behind the other.
struct Matches {
  // A detection. Bit t of `right` and of `ignored` is for threshold t of the ten, one element for each range of areas.
  struct Found {
    int64_t image = 0;     // id of the image
    int64_t category = 0;  // as in FoundObject
    double score = 0;      // as in FoundObject
    int64_t rank = 0;      // among the detections of the image in the category, the best one 0; below 100
    std::array<uint16_t, area_ranges> right{};
    std::array<uint16_t, area_ranges> ignored{};
  };
  // How many objects of an image and a category count in each range of areas.
  struct Truth {
    int64_t category = 0;  // as in TrueObject
    std::array<int64_t, area_ranges> objects{};
  };
  std::vector<Found> found;
  std::vector<Truth> truth;
};

// Compares what was found in an image with what is there, and adds the outcome to `matches`. As in pycocotools
// (COCOeval.evaluateImg), the 100 best detections of each category choose in the order of their scores, equal scores in
// the given order, at ten thresholds of the intersection over union, 0.5, 0.55, ..., 0.95: each takes the object that
// it meets best and that no other has taken, but one that counts rather than one that does not. Crowds may be taken any
// number of times. A detection that took nothing is ignored where its own area is out of range. The area of a detection
// is that of what is compared. Throws Error if masks are compared that differ in size.
void match_image(int64_t image, std::span<const TrueObject> truth, std::span<const FoundObject> found, IouType type,
                 Matches& matches);

// COCO's twelve numbers, shares of 1; -1 where no object counts.
struct AveragePrecision {
  double ap = -1;         // mean over thresholds, categories and 101 levels of recall; 100 detections an image
  double ap50 = -1;       // at the threshold 0.5
  double ap75 = -1;       // at the threshold 0.75
  double ap_small = -1;   // of small objects
  double ap_medium = -1;  // of medium ones
  double ap_large = -1;   // of large ones
  double ar1 = -1;        // largest recall with one detection of each category an image
  double ar10 = -1;       // with 10
  double ar100 = -1;      // with 100
  double ar_small = -1;   // of small objects, with 100
  double ar_medium = -1;  // of medium ones
  double ar_large = -1;   // of large ones

  // Returns them in this order, which is that of pycocotools.
  std::array<double, 12> all() const;
};
// The names of the twelve numbers in this order: "ap", "ap50", ...
inline constexpr std::array<const char*, 12> ap_names = {"ap",  "ap50", "ap75",  "ap_small", "ap_medium", "ap_large",
                                                         "ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"};

// Returns the twelve numbers of all images. Detections of one score stand in the order of the ids of their images, so
// the order in which images were compared does not matter.
AveragePrecision average_precision(const Matches& matches);

}  // namespace espalier::detection
