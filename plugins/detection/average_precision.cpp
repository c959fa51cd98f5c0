#include "average_precision.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <tuple>

namespace espalier::detection {
namespace {

constexpr int thresholds = 10;
constexpr int recalls = 101;
constexpr std::array<int64_t, 3> most_detections = {1, 10, 100};
constexpr std::array<std::pair<double, double>, area_ranges> areas = {
    {{0, 1e10}, {0, 32.0 * 32}, {32.0 * 32, 96.0 * 96}, {96.0 * 96, 1e10}}};
static_assert(thresholds <= 16, "the bits of Matches::Found");

// Evenly spaced numbers as numpy.linspace gives them, to the last bit: comparisons depend on it.
double spaced(double begin, double end, int count, int i) {
  const double step = (end - begin) / (count - 1);
  return i == count - 1 ? end : i * step + begin;
}

double threshold(int t) {
  return std::min(spaced(0.5, 0.95, thresholds, t), 1 - 1e-10);
}

double recall_level(int r) {
  return spaced(0, 1, recalls, r);
}

bool out_of_range(double area, int range) {
  return area < areas[static_cast<size_t>(range)].first || area > areas[static_cast<size_t>(range)].second;
}

// The objects and the detections of one category in an image.
struct Group {
  std::vector<const TrueObject*> truth;
  std::vector<const FoundObject*> found;  // the best first
};

// Of the objects of a group, those that count first, which ones do not, and which are taken at one threshold.
class Matching {
 public:
  // overlaps: [found, truth] of the group.
  Matching(const Group& group, const std::vector<double>& overlaps, int range) : group_(group), overlaps_(overlaps) {
    for (const TrueObject* object : group.truth) ignored_.push_back(object->crowd || out_of_range(object->area, range));
    order_.resize(group.truth.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::ranges::stable_partition(order_, [&](size_t i) { return !ignored_[i]; });
  }

  int64_t counted() const { return std::ranges::count(ignored_, false); }
  bool ignored(size_t object) const { return ignored_[object]; }
  void begin() { taken_.assign(order_.size(), false); }
  // The object that a detection takes, or none.
  std::optional<size_t> take(size_t found, double least) {
    std::optional<size_t> best;
    for (const size_t i : order_) {
      if (taken_[i] && !group_.truth[i]->crowd) continue;
      if (best && !ignored_[*best] && ignored_[i]) break;
      const double overlap = overlaps_[found * order_.size() + i];
      if (overlap < least) continue;
      least = overlap;
      best = i;
    }
    if (best) taken_[*best] = true;
    return best;
  }

 private:
  const Group& group_;
  const std::vector<double>& overlaps_;
  std::vector<bool> ignored_, taken_;
  std::vector<size_t> order_;
};

void match_group(int64_t image, int64_t category, const Group& group, IouType type, Matches& matches) {
  const size_t count = group.found.size();
  std::vector<double> overlaps;
  for (const FoundObject* found : group.found) {
    for (const TrueObject* object : group.truth) {
      overlaps.push_back(type == IouType::box ? box_iou(found->box, object->box, object->crowd)
                                              : mask_iou(found->mask, object->mask, object->crowd));
    }
  }
  const size_t first = matches.found.size();
  for (size_t d = 0; d < count; ++d) {
    matches.found.push_back(
        {.image = image, .category = category, .score = group.found[d]->score, .rank = static_cast<int64_t>(d)});
  }
  Matches::Truth& truth = matches.truth.emplace_back(Matches::Truth{.category = category});
  for (int range = 0; range < area_ranges; ++range) {
    const auto r = static_cast<size_t>(range);
    Matching matching(group, overlaps, range);
    truth.objects[r] = matching.counted();
    for (int t = 0; t < thresholds; ++t) {
      const auto bit = static_cast<uint16_t>(1U << t);
      matching.begin();
      for (size_t d = 0; d < count; ++d) {
        Matches::Found& entry = matches.found[first + d];
        const std::optional<size_t> object = matching.take(d, threshold(t));
        const FoundObject& found = *group.found[d];
        const double area =
            type == IouType::box ? found.box[2] * found.box[3] : static_cast<double>(area_of(found.mask));
        if (object) entry.right[r] |= bit;
        if (object ? matching.ignored(*object) : out_of_range(area, range)) entry.ignored[r] |= bit;
      }
    }
  }
}

// The sum of precisions over the levels of recall, and the largest recall, of detections that are sorted by score.
struct Curve {
  double precision = 0, recall = 0;
};

Curve curve_of(std::span<const Matches::Found* const> found, size_t range, int t, int64_t most, int64_t objects,
               std::vector<double>& recall, std::vector<double>& precision) {
  recall.clear();
  precision.clear();
  double right = 0, wrong = 0;
  for (const Matches::Found* d : found) {
    if (d->rank >= most) continue;
    if ((d->ignored[range] >> t & 1) == 0) (d->right[range] >> t & 1) != 0 ? ++right : ++wrong;
    recall.push_back(right / static_cast<double>(objects));
    precision.push_back(right / (right + wrong + std::numeric_limits<double>::epsilon()));
  }
  if (recall.empty()) return {};
  for (size_t i = precision.size() - 1; i > 0; --i) precision[i - 1] = std::max(precision[i - 1], precision[i]);
  Curve curve{.recall = recall.back()};
  for (int r = 0; r < recalls; ++r) {
    const auto at = std::ranges::lower_bound(recall, recall_level(r));
    if (at == recall.end()) break;
    curve.precision += precision[static_cast<size_t>(at - recall.begin())];
  }
  return curve;
}

struct Mean {
  double sum = 0;
  int64_t count = 0;
  void add(double x, int64_t n = 1) {
    sum += x;
    count += n;
  }
  double value() const { return count > 0 ? sum / static_cast<double>(count) : -1; }
};

}  // namespace

void match_image(int64_t image, std::span<const TrueObject> truth, std::span<const FoundObject> found, IouType type,
                 Matches& matches) {
  std::map<int64_t, Group> groups;
  for (const TrueObject& object : truth) groups[object.category].truth.push_back(&object);
  for (const FoundObject& object : found) groups[object.category].found.push_back(&object);
  for (auto& [category, group] : groups) {
    std::ranges::stable_sort(group.found, std::ranges::greater(), &FoundObject::score);
    if (std::ssize(group.found) > most_detections.back())
      group.found.resize(static_cast<size_t>(most_detections.back()));
    match_group(image, category, group, type, matches);
  }
}

std::array<double, 12> AveragePrecision::all() const {
  return {ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large};
}

AveragePrecision average_precision(const Matches& matches) {
  struct OfCategory {
    std::vector<const Matches::Found*> found;
    std::array<int64_t, area_ranges> objects{};
  };
  std::map<int64_t, OfCategory> categories;
  for (const Matches::Found& found : matches.found) categories[found.category].found.push_back(&found);
  for (const Matches::Truth& truth : matches.truth) {
    for (size_t r = 0; r < area_ranges; ++r) categories[truth.category].objects[r] += truth.objects[r];
  }
  constexpr size_t all = 0, t75 = 5, hundred = 2;
  Mean ap50, ap75;
  std::array<Mean, area_ranges> ap;
  std::array<std::array<Mean, most_detections.size()>, area_ranges> ar;
  std::vector<double> recall, precision;
  for (auto& [category, of] : categories) {
    std::ranges::sort(of.found, [](const Matches::Found* a, const Matches::Found* b) {
      return std::tuple(-a->score, a->image, a->rank) < std::tuple(-b->score, b->image, b->rank);
    });
    for (size_t r = 0; r < area_ranges; ++r) {
      if (of.objects[r] == 0) continue;
      for (int t = 0; t < thresholds; ++t) {
        for (size_t m = 0; m < most_detections.size(); ++m) {
          if (m != hundred && r != all) continue;
          const Curve curve = curve_of(of.found, r, t, most_detections[m], of.objects[r], recall, precision);
          ar[r][m].add(curve.recall);
          if (m != hundred) continue;
          ap[r].add(curve.precision, recalls);
          if (r == all && t == 0) ap50.add(curve.precision, recalls);
          if (r == all && t == static_cast<int>(t75)) ap75.add(curve.precision, recalls);
        }
      }
    }
  }
  return {.ap = ap[0].value(),
          .ap50 = ap50.value(),
          .ap75 = ap75.value(),
          .ap_small = ap[1].value(),
          .ap_medium = ap[2].value(),
          .ap_large = ap[3].value(),
          .ar1 = ar[0][0].value(),
          .ar10 = ar[0][1].value(),
          .ar100 = ar[0][hundred].value(),
          .ar_small = ar[1][hundred].value(),
          .ar_medium = ar[2][hundred].value(),
          .ar_large = ar[3][hundred].value()};
}

}  // namespace espalier::detection
