#include "annotations.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <nlohmann/json.hpp>

#include <espalier/error.h>

namespace espalier::detection {
namespace {

using Json = nlohmann::json;

// One element of a list of the file, with words for messages: "annotation 12".
class Element {
 public:
  // kind: "image", "category" or "annotation"; place: in its list, from 0.
  Element(const Json& json, const char* kind, size_t place, const std::string& file) : json_(json), file_(file) {
    name_ = std::string(kind) + " at place " + std::to_string(place) + " of its list";
    if (!json.is_object()) fail("is no object with keys and values");
    id_ = integer("id");
    name_ = std::string(kind) + " " + std::to_string(id_);
  }
  [[noreturn]] void fail(const std::string& what) const { throw InputError(file_, name_ + " " + what); }

  int64_t id() const { return id_; }
  const Json* find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() ? nullptr : &*found;
  }
  const Json& at(const char* key) const {
    const Json* found = find(key);
    if (!found) fail("has no \"" + std::string(key) + "\"");
    return *found;
  }
  int64_t integer(const char* key) const {
    const Json& value = at(key);
    if (value.is_number_integer()) return value.get<int64_t>();
    // Some writers know floating-point numbers only.
    const double number = value.is_number_float() ? value.get<double>() : NAN;
    if (!(std::abs(number) < 9e15) || number != std::floor(number))
      fail("has no integer under \"" + std::string(key) + "\"");
    return static_cast<int64_t>(number);
  }
  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) fail("has no text under \"" + std::string(key) + "\"");
    return value.get<std::string>();
  }
  double number(const Json& value, const char* key) const {
    const double x = value.is_number() ? value.get<double>() : NAN;
    if (!std::isfinite(x)) fail("has something else than a finite number under \"" + std::string(key) + "\"");
    return x;
  }

 private:
  const Json& json_;
  const std::string& file_;
  std::string name_;
  int64_t id_ = 0;
};

// An annotation as the file has it: image and category are known when all of the file is read.
struct Read {
  Annotation annotation;
  int64_t image_id = 0, category_id = 0;
};

void read_segmentation(const Element& element, Annotation& annotation) {
  const Json* segmentation = element.find("segmentation");
  if (!segmentation || segmentation->is_null()) return;
  if (segmentation->is_array()) {
    for (const Json& polygon : *segmentation) {
      if (!polygon.is_array()) element.fail("has something else than lists of numbers under \"segmentation\"");
      std::vector<double>& corners = annotation.polygons.emplace_back();
      corners.reserve(polygon.size());
      for (const Json& number : polygon) corners.push_back(element.number(number, "segmentation"));
    }
    return;
  }
  if (!segmentation->is_object() || !segmentation->contains("size") || !segmentation->contains("counts"))
    element.fail("has neither polygons nor \"size\" and \"counts\" under \"segmentation\"");
  const Json &size = segmentation->at("size"), &counts = segmentation->at("counts");
  if (!size.is_array() || size.size() != 2 || !size[0].is_number_integer() || !size[1].is_number_integer())
    element.fail("has no height and width under \"size\" of \"segmentation\"");
  const auto height = size[0].get<int64_t>(), width = size[1].get<int64_t>();
  try {
    if (counts.is_string()) {
      annotation.rle = mask_of_text(counts.get_ref<const std::string&>(), height, width);
      return;
    }
    if (!counts.is_array() || !std::ranges::all_of(counts, [](const Json& run) { return run.is_number_integer(); }))
      element.fail("has neither a text nor a list of integers under \"counts\" of \"segmentation\"");
    annotation.rle = mask_of_runs(counts.get<std::vector<int64_t>>(), height, width);
  } catch (const InputError&) {
    throw;
  } catch (const Error& e) {
    element.fail("has a damaged mask: " + std::string(e.what()));
  }
}

Read read_annotation(const Element& element) {
  Read read;
  read.image_id = element.integer("image_id");
  read.category_id = element.integer("category_id");
  Annotation& a = read.annotation;
  a.id = element.id();
  const Json& box = element.at("bbox");
  if (!box.is_array() || box.size() != 4) element.fail("has no x, y, width and height under \"bbox\"");
  for (size_t i = 0; i < 4; ++i) a.box[i] = element.number(box[i], "bbox");
  if (a.box[2] < 0 || a.box[3] < 0) element.fail("has a negative width or height under \"bbox\"");
  const Json* area = element.find("area");
  a.area = area ? element.number(*area, "area") : a.box[2] * a.box[3];
  if (const Json* crowd = element.find("iscrowd")) {
    if (crowd->is_boolean()) {
      a.crowd = crowd->get<bool>();
    } else {
      const int64_t value = element.integer("iscrowd");
      if (value != 0 && value != 1) element.fail("has " + std::to_string(value) + " under \"iscrowd\", not 0 or 1");
      a.crowd = value == 1;
    }
  }
  read_segmentation(element, a);
  return read;
}

void check_pixels(const Element& element, const ImageEntry& image) {
  if (image.height >= 1 && image.width >= 1 && image.height <= std::numeric_limits<uint32_t>::max() / image.width)
    return;
  element.fail("has " + std::to_string(image.height) + " x " + std::to_string(image.width) +
               " pixels, which no image has");
}

// Reads the file element by element, and keeps no more of it than what is asked for.
class Reader {
 public:
  explicit Reader(const std::string& file) { all_.file = file; }

  Instances read() {
    std::ifstream stream(all_.file, std::ios::binary);
    if (!stream) throw InputError(all_.file, std::generic_category().message(errno));
    const auto callback = [this](int depth, Json::parse_event_t event, Json& parsed) {
      return keep(depth, event, parsed);
    };
    try {
      const Json rest = Json::parse(stream, callback);
      if (!rest.is_object()) throw InputError(all_.file, "holds no object with images, annotations and categories");
    } catch (const Json::parse_error& e) {
      throw InputError(all_.file, "is not JSON from byte " + std::to_string(e.byte) +
                                      " on; it may have been cut short: fetch it again");
    } catch (const Json::exception& e) {
      throw InputError(all_.file, "holds something that cannot be read as JSON: " + std::string(e.what()));
    }
    for (const auto& [name, there] : {std::pair("images", images_there_), std::pair("annotations", annotations_there_),
                                      std::pair("categories", categories_there_)}) {
      if (!there)
        throw InputError(all_.file, "has no list \"" + std::string(name) + "\", as a file of COCO's instances has");
    }
    arrange();
    return std::move(all_);
  }

 private:
  // What is left out of the document is read and forgotten: false.
  bool keep(int depth, Json::parse_event_t event, const Json& parsed) {
    using enum Json::parse_event_t;
    if (depth == 1 && event == key) {
      list_ = parsed.get<std::string>();
      place_ = 0;
      return list_ == "images" || list_ == "annotations" || list_ == "categories";
    }
    if (depth == 1 && event == array_start) {
      images_there_ |= list_ == "images";
      annotations_there_ |= list_ == "annotations";
      categories_there_ |= list_ == "categories";
    }
    if (depth != 2 || (event != object_end && event != array_end && event != value)) return true;
    if (list_ == "images") {
      const Element element(parsed, "image", place_++, all_.file);
      all_.images.push_back(
          {element.id(), element.text("file_name"), element.integer("height"), element.integer("width")});
      check_pixels(element, all_.images.back());
    } else if (list_ == "categories") {
      const Element element(parsed, "category", place_++, all_.file);
      all_.categories.push_back({element.id(), element.text("name")});
    } else if (list_ == "annotations") {
      read_.push_back(read_annotation(Element(parsed, "annotation", place_++, all_.file)));
    }
    return false;
  }

  // Sorts by ids and returns the place of each.
  template <class Entry>
  std::unordered_map<int64_t, int64_t> places(std::vector<Entry>& entries, const char* kind) const {
    std::ranges::sort(entries, {}, &Entry::id);
    const auto twice = std::ranges::adjacent_find(entries, {}, &Entry::id);
    if (twice != entries.end())
      throw InputError(all_.file, std::string(kind) + " " + std::to_string(twice->id) + " occurs twice");
    std::unordered_map<int64_t, int64_t> found;
    for (size_t i = 0; i < entries.size(); ++i) found.emplace(entries[i].id, static_cast<int64_t>(i));
    return found;
  }

  void arrange() {
    const auto images = places(all_.images, "image"), categories = places(all_.categories, "category");
    std::vector<int64_t> ids;
    for (Read& read : read_) {
      Annotation& a = read.annotation;
      ids.push_back(a.id);
      const auto fail = [&](const std::string& what) {
        throw InputError(all_.file, "annotation " + std::to_string(a.id) + " " + what);
      };
      const auto image = images.find(read.image_id), category = categories.find(read.category_id);
      if (image == images.end())
        fail("is of image " + std::to_string(read.image_id) + ", which is not among the images of the file");
      if (category == categories.end())
        fail("is of category " + std::to_string(read.category_id) + ", which is not among the categories of the file");
      a.image = image->second;
      a.category = category->second;
      const ImageEntry& entry = all_.images[static_cast<size_t>(a.image)];
      if (a.rle && (a.rle->height != entry.height || a.rle->width != entry.width)) {
        fail("has a mask of " + std::to_string(a.rle->height) + " x " + std::to_string(a.rle->width) +
             " pixels, and its image " + std::to_string(entry.id) + " has " + std::to_string(entry.height) + " x " +
             std::to_string(entry.width));
      }
      try {
        for (const std::vector<double>& polygon : a.polygons) check_polygon(polygon);
      } catch (const Error& e) {
        fail("has a damaged mask: " + std::string(e.what()));
      }
      all_.annotations.push_back(std::move(a));
    }
    read_.clear();
    std::ranges::sort(ids);
    if (const auto twice = std::ranges::adjacent_find(ids); twice != ids.end())
      throw InputError(all_.file, "annotation " + std::to_string(*twice) + " occurs twice");
    std::ranges::stable_sort(all_.annotations, {}, &Annotation::image);
    all_.begins.assign(all_.images.size() + 1, 0);
    for (const Annotation& a : all_.annotations) ++all_.begins[static_cast<size_t>(a.image) + 1];
    for (size_t i = 1; i < all_.begins.size(); ++i) all_.begins[i] += all_.begins[i - 1];
  }

  Instances all_;
  std::vector<Read> read_;
  std::string list_;  // the key of the list that is being read
  size_t place_ = 0;  // of the next element in it
  bool images_there_ = false, annotations_there_ = false, categories_there_ = false;
};

}  // namespace

std::span<const Annotation> Instances::of_image(int64_t image) const {
  const auto begin = static_cast<size_t>(begins[static_cast<size_t>(image)]);
  const auto end = static_cast<size_t>(begins[static_cast<size_t>(image) + 1]);
  return std::span(annotations).subspan(begin, end - begin);
}

Instances read_instances(const std::string& file) {
  return Reader(file).read();
}

Rle mask_of(const Annotation& annotation, const ImageEntry& image) {
  if (annotation.rle) return *annotation.rle;
  std::vector<Rle> parts;
  for (const std::vector<double>& polygon : annotation.polygons)
    parts.push_back(mask_of_polygon(polygon, image.height, image.width));
  if (parts.empty()) return mask_of_runs(std::vector<int64_t>{image.height * image.width}, image.height, image.width);
  return unite(parts);
}

}  // namespace espalier::detection
