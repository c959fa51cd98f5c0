#include "coco_metric.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <espalier/error.h>
#include <espalier/metric.h>

#include "paste.h"
#include "targets.h"

namespace espalier {
namespace {

using detection::area_ranges;
using detection::FoundObject;
using detection::IouType;
using detection::Matches;
using detection::TrueObject;

// A row of a contribution: what it is, id of the image, category, score, rank, then for each range of areas the bits of
// the thresholds at which a detection is right, and those at which it is ignored; or how many objects count.
constexpr int64_t columns = 5 + 2 * area_ranges;
constexpr double is_detection = 1, is_truth = 0;

double number(int64_t x) {
  return static_cast<double>(x);
}

// The rows of one image of a batch, of tensors of floating point, as float64.
class Table {
 public:
  Table(const NamedTensors& tensors, const std::string& name, int64_t sample, int64_t width, std::string_view what)
      : rows_(detection::rows_of(tensors, name, sample, what).to(at::kDouble).contiguous()) {
    if (rows_.dim() != 2 || rows_.size(1) != width) {
      throw Error("the " + std::string(what) + " '" + name + "' must have rows of " + std::to_string(width) +
                  " numbers to be compared with COCO's annotations");
    }
  }
  int64_t size() const { return rows_.size(0); }
  const double* operator[](int64_t row) const { return rows_.const_data_ptr<double>() + row * rows_.size(1); }

 private:
  at::Tensor rows_;
};

// An image of a batch: its file's size, and how its pixels became those that the network got.
struct Place {
  int64_t id = 0, height = 0, width = 0;
  double down = 1, across = 1;  // pixels of the file for each pixel of the network's image
};

Place place_of(const Batch& batch, int64_t sample) {
  const at::Tensor image = batch.target("image")[sample].cpu().contiguous();
  const at::Tensor sizes = batch.input("sizes")[sample].cpu().to(at::kDouble).contiguous();
  const auto* size = sizes.const_data_ptr<double>();
  const auto* numbers = image.const_data_ptr<int64_t>();
  return {numbers[0], numbers[1], numbers[2], number(numbers[1]) / size[0], number(numbers[2]) / size[1]};
}

std::vector<TrueObject> truth_of(const Batch& batch, int64_t sample, const Place& place, IouType type) {
  const Table table(batch.targets, "truth", sample, 7, "target");
  std::vector<detection::Rle> masks;
  if (type == IouType::mask) masks = detection::masks_of(batch, "truth_masks", sample, place.height, place.width);
  std::vector<TrueObject> all;
  for (int64_t i = 0; i < table.size(); ++i) {
    const double* row = table[i];
    TrueObject& object = all.emplace_back();
    object.category = static_cast<int64_t>(row[0]);
    std::copy(row + 1, row + 5, object.box.begin());
    object.area = row[5];
    object.crowd = row[6] != 0;
    if (type == IouType::mask) object.mask = std::move(masks[static_cast<size_t>(i)]);
  }
  return all;
}

std::vector<FoundObject> found_in(const Prediction& p, int64_t sample, const Place& place, IouType type) {
  const Table table(p.outputs, "detections", sample, 6, "output");
  at::Tensor masks;
  if (type == IouType::mask) {
    const at::Tensor ends = p.output("detections.offsets").cpu();
    masks = p.output("masks").slice(0, ends[sample].item<int64_t>(), ends[sample + 1].item<int64_t>());
    masks = masks.to(at::kCPU, at::kFloat).contiguous();
    if (masks.dim() != 3 || masks.size(0) != table.size())
      throw Error("the output 'masks' must be [detections, height, width], one for each of 'detections'");
  }
  std::vector<FoundObject> all;
  for (int64_t i = 0; i < table.size(); ++i) {
    const double* row = table[i];
    if (!std::all_of(row, row + 6, [](double x) { return std::isfinite(x); }))
      throw Error("a detection of image " + std::to_string(place.id) +
                  " holds a number that is not finite; the network's outputs are damaged");
    const double box[4] = {row[0] * place.across, row[1] * place.down, row[2] * place.across, row[3] * place.down};
    FoundObject& object = all.emplace_back();
    object.category = static_cast<int64_t>(row[5]);
    object.score = row[4];
    object.box = {box[0], box[1], box[2] - box[0], box[3] - box[1]};
    if (type == IouType::mask) {
      object.mask = detection::paste_mask(masks[i].const_data_ptr<float>(), masks.size(1), masks.size(2), box,
                                          place.height, place.width);
    }
  }
  return all;
}

// Objects are matched on the CPU, one after the other, so it waits for the device.
class CocoMetric : public Metric {
 public:
  using Options = NoOptions;
  explicit CocoMetric(IouType type) : type_(type) {}

  std::string unit() const override { return "%"; }
  std::vector<std::string> outputs() const override {
    std::vector<std::string> names = {"detections", "detections.offsets"};
    if (type_ == IouType::mask) names.emplace_back("masks");
    return names;
  }
  void check(const TargetSpec& target) const override {
    if (target.task == detection::task) return;
    throw Error("COCO's average precision is of objects that are found in images (the task " +
                std::string(detection::task) + "), and the task of the data is " + target.task);
  }
  bool concatenates() const override { return true; }
  at::Tensor contribution(const Prediction& p) const override {
    const c10::NoGradGuard no_grad;
    if (!find_tensor(p.batch.targets, "truth"))
      throw Error(
          "COCO's average precision needs the annotations of a part that is evaluated, and these are batches "
          "for training");
    Matches matches;
    for (int64_t sample = 0; sample < p.batch.size(); ++sample) {
      const Place place = place_of(p.batch, sample);
      match_image(place.id, truth_of(p.batch, sample, place, type_), found_in(p, sample, place, type_), type_, matches);
    }
    return rows_of_matches(matches).to(p.batch.input().device());
  }
  double value(const at::Tensor& all) const override {
    return std::max(0.0, 100 * average_precision(matches_of_rows(all)).ap);
  }
  std::vector<std::pair<std::string, double>> further(const at::Tensor& all) const override {
    const std::array<double, 12> numbers = average_precision(matches_of_rows(all)).all();
    std::vector<std::pair<std::string, double>> named;
    // Of sizes that no object has there is nothing to say.
    for (size_t i = 1; i < numbers.size(); ++i) {
      if (numbers[i] >= 0) named.emplace_back(detection::ap_names[i], 100 * numbers[i]);
    }
    return named;
  }

 private:
  IouType type_;
};

struct CocoBox final : CocoMetric {
  explicit CocoBox(Options) : CocoMetric(IouType::box) {}
};

struct CocoMask final : CocoMetric {
  explicit CocoMask(Options) : CocoMetric(IouType::mask) {}
};

}  // namespace

at::Tensor rows_of_matches(const Matches& matches) {
  at::Tensor rows = at::empty({std::ssize(matches.found) + std::ssize(matches.truth), columns}, at::kDouble);
  auto* to = rows.mutable_data_ptr<double>();
  for (const Matches::Found& found : matches.found) {
    for (const double x : {is_detection, number(found.image), number(found.category), found.score, number(found.rank)})
      *to++ = x;
    for (const uint16_t bits : found.right) *to++ = bits;
    for (const uint16_t bits : found.ignored) *to++ = bits;
  }
  for (const Matches::Truth& truth : matches.truth) {
    for (const double x : {is_truth, 0.0, number(truth.category), 0.0, 0.0}) *to++ = x;
    for (const int64_t objects : truth.objects) *to++ = number(objects);
    to = std::fill_n(to, area_ranges, 0.0);
  }
  return rows;
}

Matches matches_of_rows(const at::Tensor& rows) {
  Matches matches;
  const auto* row = rows.const_data_ptr<double>();
  for (int64_t i = 0; i < rows.size(0); ++i, row += columns) {
    const double* numbers = row + 5;
    if (row[0] == is_truth) {
      Matches::Truth& truth = matches.truth.emplace_back();
      truth.category = static_cast<int64_t>(row[2]);
      for (size_t r = 0; r < area_ranges; ++r) truth.objects[r] = static_cast<int64_t>(numbers[r]);
      continue;
    }
    Matches::Found& found = matches.found.emplace_back();
    found.image = static_cast<int64_t>(row[1]);
    found.category = static_cast<int64_t>(row[2]);
    found.score = row[3];
    found.rank = static_cast<int64_t>(row[4]);
    for (size_t r = 0; r < area_ranges; ++r) {
      found.right[r] = static_cast<uint16_t>(numbers[r]);
      found.ignored[r] = static_cast<uint16_t>(numbers[area_ranges + r]);
    }
  }
  return matches;
}

Component coco_metric(detection::IouType type) {
  const std::string word = "default:" + std::string(detection::task);
  if (type == IouType::box) {
    return component<CocoBox>("coco_box", "COCO's average precision of boxes, over ten thresholds of their overlap")
        .provide(word);
  }
  return component<CocoMask>("coco_mask", "COCO's average precision of masks, over ten thresholds of their overlap")
      .provide(word);
}

}  // namespace espalier
