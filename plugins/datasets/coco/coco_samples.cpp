#include "coco_samples.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <espalier/error.h>

#include "image.h"
#include "resize.h"
#include "targets.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using detection::Annotation;
using detection::ImageEntry;
using detection::Rle;

// What happens to an image: its file's pixels become those that the network gets.
struct Change {
  int64_t height = 0, width = 0;  // afterwards, pixels
  double down = 1, across = 1;    // pixels afterwards for each pixel of the file
  bool mirrored = false;          // left and right exchanged

  double x(double before) const {
    const double after = before * across;
    return mirrored ? static_cast<double>(width) - after : after;
  }
  double y(double before) const { return before * down; }
};

// The shorter side becomes `side`, but the longer one at most `longest`. The shape is kept as far as pixels allow.
Change resized(const ImageEntry& image, int64_t side, int64_t longest, bool mirrored) {
  const auto [shorter, longer] = std::minmax(image.height, image.width);
  const double scale = std::min(static_cast<double>(side) / static_cast<double>(shorter),
                                static_cast<double>(longest) / static_cast<double>(longer));
  const auto to = [&](int64_t pixels) {
    return std::max<int64_t>(static_cast<int64_t>(static_cast<double>(pixels) * scale + 0.5), 1);
  };
  Change change{.height = to(image.height), .width = to(image.width), .mirrored = mirrored};
  change.down = static_cast<double>(change.height) / static_cast<double>(image.height);
  change.across = static_cast<double>(change.width) / static_cast<double>(image.width);
  return change;
}

// Polygons are moved and then drawn; of runs each pixel takes the one at its centre.
Rle changed_mask(const Annotation& annotation, const ImageEntry& image, const Change& change) {
  if (!annotation.rle) {
    std::vector<Rle> parts;
    for (std::vector<double> corners : annotation.polygons) {
      for (size_t i = 0; i < corners.size(); i += 2) {
        corners[i] = change.x(corners[i]);
        corners[i + 1] = change.y(corners[i + 1]);
      }
      parts.push_back(detection::mask_of_polygon(corners, change.height, change.width));
    }
    return detection::unite(parts);
  }
  std::vector<uint8_t> before(static_cast<size_t>(image.height * image.width));
  detection::decode_mask(*annotation.rle, before.data());
  std::vector<uint8_t> after(static_cast<size_t>(change.height * change.width));
  const auto nearest = [](int64_t place, double scale, int64_t count) {
    return std::min(static_cast<int64_t>((static_cast<double>(place) + 0.5) / scale), count - 1);
  };
  for (int64_t y = 0; y < change.height; ++y) {
    const uint8_t* row = before.data() + nearest(y, change.down, image.height) * image.width;
    for (int64_t x = 0; x < change.width; ++x) {
      const int64_t from = nearest(change.mirrored ? change.width - 1 - x : x, change.across, image.width);
      after[static_cast<size_t>(y * change.width + x)] = row[from];
    }
  }
  return detection::encode_mask(after.data(), change.height, change.width);
}

at::Tensor pixels_of(const Image& image, const Change& change) {
  at::Tensor bytes = at::empty({3, change.height, change.width}, at::kByte);
  const Cut whole{.width = image.width,
                  .height = image.height,
                  .to_width = static_cast<int>(change.width),
                  .to_height = static_cast<int>(change.height)};
  resize(image, whole, static_cast<int>(change.width), static_cast<int>(change.height),
         bytes.mutable_data_ptr<uint8_t>());
  return change.mirrored ? bytes.flip(2) : bytes;
}

at::Tensor table(const std::vector<double>& numbers, int64_t columns, at::ScalarType type) {
  return at::tensor(numbers, at::kDouble).reshape({-1, columns}).to(type);
}

}  // namespace

std::array<double, 4> edges_in(const Annotation& annotation, const ImageEntry& image) {
  const auto& [x, y, width, height] = annotation.box;
  return {std::max(x, 0.0), std::max(y, 0.0), std::min(x + width, static_cast<double>(image.width)),
          std::min(y + height, static_cast<double>(image.height))};
}

bool is_object(const Annotation& annotation, const ImageEntry& image) {
  const std::array<double, 4> edges = edges_in(annotation, image);
  return !annotation.crowd && edges[2] > edges[0] && edges[3] > edges[1];
}

CocoSamples::CocoSamples(std::shared_ptr<const detection::Instances> all, std::vector<int64_t> images, fs::path folder,
                         CocoReading reading)
    : all_(std::move(all)), images_(std::move(images)), folder_(std::move(folder)), reading_(std::move(reading)) {}

Sample CocoSamples::sample(int64_t number, bool training, RandomKey key) const {
  const int64_t place = images_[static_cast<size_t>(number)];
  const ImageEntry& entry = all_->images[static_cast<size_t>(place)];
  const std::string file = (folder_ / entry.file_name).string();
  const Image image = read_image(file);
  if (image.width != entry.width || image.height != entry.height) {
    throw InputError(file, "has " + std::to_string(image.height) + " x " + std::to_string(image.width) +
                               " pixels, and image " + std::to_string(entry.id) + " in " + all_->file + " has " +
                               std::to_string(entry.height) + " x " + std::to_string(entry.width) +
                               "; one of the two files is not of this data set");
  }
  int64_t side = reading_.test_side;
  bool mirrored = false;
  if (training) {
    const Random4 draw = philox(key.value(), 0);
    side = reading_.sides[below(draw.v[0], static_cast<uint32_t>(reading_.sides.size()))];
    mirrored = unit_float(draw.v[1]) < static_cast<float>(reading_.flip);
  }
  const Change change = resized(entry, side, reading_.longest, mirrored);

  std::vector<int64_t> classes;
  std::vector<double> boxes, ignored, truth;
  std::vector<Rle> masks, truth_masks;
  for (const Annotation& a : all_->of_image(place)) {
    const std::array<double, 4> edges = edges_in(a, entry);
    double left = change.x(edges[0]), right = change.x(edges[2]);
    if (mirrored) std::swap(left, right);
    const std::array<double, 4> box = {left, change.y(edges[1]), right, change.y(edges[3])};
    if (is_object(a, entry)) {
      classes.push_back(a.category);
      boxes.insert(boxes.end(), box.begin(), box.end());
      if (reading_.masks) masks.push_back(changed_mask(a, entry, change));
    } else if (a.crowd) {
      ignored.insert(ignored.end(), box.begin(), box.end());
    }
    if (training) continue;
    for (const double x : {static_cast<double>(a.category), a.box[0], a.box[1], a.box[2], a.box[3], a.area})
      truth.push_back(x);
    truth.push_back(a.crowd ? 1 : 0);
    if (reading_.masks) truth_masks.push_back(detection::mask_of(a, entry));
  }
  Sample sample;
  sample.inputs = {{"input", pixels_of(image, change)},
                   {"sizes", at::tensor({static_cast<float>(change.height), static_cast<float>(change.width)})}};
  sample.targets = {{"image", at::tensor({entry.id, entry.height, entry.width}, at::kLong)}};
  sample.rows = {{"target", at::tensor(classes, at::kLong)},
                 {"boxes", table(boxes, 4, at::kFloat)},
                 {"ignored", table(ignored, 4, at::kFloat)}};
  if (reading_.masks) detection::add_masks(sample.rows, "masks", masks);
  if (training) return sample;
  sample.rows.emplace_back("truth", table(truth, 7, at::kDouble));
  if (reading_.masks) detection::add_masks(sample.rows, "truth_masks", truth_masks);
  return sample;
}

void CocoSamples::identify(const std::function<void(std::string_view)>& add) const {
  std::ifstream annotations(all_->file, std::ios::binary);
  std::vector<char> piece(size_t{1} << 20);
  while (annotations.read(piece.data(), static_cast<std::streamsize>(piece.size())) || annotations.gcount() > 0)
    add({piece.data(), static_cast<size_t>(annotations.gcount())});
  for (const int64_t place : images_) {
    const std::string& name = all_->images[static_cast<size_t>(place)].file_name;
    std::error_code unreadable;  // sample() says so
    add(name + '\0' + std::to_string(fs::file_size(folder_ / name, unreadable)) + '\n');
  }
}

}  // namespace espalier
