// What scripts/check-detection asks of Espalier's code for detection: it reads files or a JSON text on its standard
// input, and answers with JSON.
//   check_detection masks INSTANCES                      what became of each annotation's mask
//   check_detection evaluate INSTANCES RESULTS SHAPE     the twelve numbers; SHAPE: box or mask
//   check_detection compute                              the outcome of each request of the input
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include <espalier/error.h>

#include "annotations.h"
#include "average_precision.h"
#include "compute.h"

namespace espalier::detection {
namespace {

using Json = nlohmann::json;

Json masks(const std::string& file) {
  const Instances all = read_instances(file);
  Json answer = Json::array();
  for (const Annotation& a : all.annotations) {
    const Rle mask = mask_of(a, all.images[static_cast<size_t>(a.image)]);
    std::vector<uint8_t> bytes(static_cast<size_t>(mask.height * mask.width));
    decode_mask(mask, bytes.data());
    const bool same = encode_mask(bytes.data(), mask.height, mask.width).runs == mask.runs || a.rle;
    answer.push_back({{"id", a.id},
                      {"runs", mask.runs},
                      {"text", text_of(mask)},
                      {"read_back", mask_of_text(text_of(mask), mask.height, mask.width) == mask && same},
                      {"area", area_of(mask)},
                      {"box", box_of(mask)}});
  }
  // What two neighbouring annotations of an image have together, and what is common to both.
  Json pairs = Json::array();
  for (size_t i = 1; i < all.annotations.size(); ++i) {
    const Annotation &a = all.annotations[i - 1], &b = all.annotations[i];
    if (a.image != b.image) continue;
    const ImageEntry& image = all.images[static_cast<size_t>(a.image)];
    const std::vector<Rle> both = {mask_of(a, image), mask_of(b, image)};
    pairs.push_back({{"ids", {a.id, b.id}},
                     {"union", text_of(unite(both))},
                     {"intersection", text_of(intersect(both))},
                     {"iou", mask_iou(both[0], both[1], false)},
                     {"crowd_iou", mask_iou(both[0], both[1], true)}});
  }
  return {{"masks", answer}, {"pairs", pairs}};
}

Json evaluate(const std::string& file, const std::string& results, IouType type) {
  const Instances all = read_instances(file);
  std::map<int64_t, size_t> image_places, category_places;
  for (size_t i = 0; i < all.images.size(); ++i) image_places[all.images[i].id] = i;
  for (size_t i = 0; i < all.categories.size(); ++i) category_places[all.categories[i].id] = i;
  std::ifstream stream(results);
  std::vector<std::vector<FoundObject>> found(all.images.size());
  for (const Json& entry : Json::parse(stream)) {
    const size_t image = image_places.at(entry.at("image_id").get<int64_t>());
    FoundObject& object = found[image].emplace_back();
    object.category = static_cast<int64_t>(category_places.at(entry.at("category_id").get<int64_t>()));
    object.score = entry.at("score").get<double>();
    if (entry.contains("bbox")) object.box = entry.at("bbox").get<Xywh>();
    if (entry.contains("segmentation")) {
      object.mask = mask_of_text(entry.at("segmentation").at("counts").get<std::string>(), all.images[image].height,
                                 all.images[image].width);
    }
  }
  // In the order from the last image to the first: it must not matter.
  Matches matches;
  for (size_t i = all.images.size(); i-- > 0;) {
    std::vector<TrueObject> truth;
    for (const Annotation& a : all.of_image(static_cast<int64_t>(i)))
      truth.push_back({a.category, a.box, type == IouType::mask ? mask_of(a, all.images[i]) : Rle{}, a.area, a.crowd});
    match_image(all.images[i].id, truth, found[i], type, matches);
  }
  const std::array<double, 12> numbers = average_precision(matches).all();
  Json answer;
  for (size_t i = 0; i < numbers.size(); ++i) answer[ap_names[i]] = numbers[i];
  return answer;
}

}  // namespace
}  // namespace espalier::detection

int main(int count, char** arguments) {
  using namespace espalier::detection;
  const std::vector<std::string> words(arguments + 1, arguments + count);
  try {
    nlohmann::json answer;
    if (words.size() == 2 && words[0] == "masks") {
      answer = masks(words[1]);
    } else if (words.size() == 4 && words[0] == "evaluate") {
      answer = evaluate(words[1], words[2], words[3] == "mask" ? IouType::mask : IouType::box);
    } else if (words.size() == 1 && words[0] == "compute") {
      answer = nlohmann::json::array();
      for (const nlohmann::json& request : nlohmann::json::parse(std::cin)) answer.push_back(compute(request));
    } else {
      std::cerr << "usage: check_detection masks INSTANCES | evaluate INSTANCES RESULTS box|mask | compute\n";
      return 2;
    }
    std::cout << answer.dump() << '\n';
  } catch (const std::exception& e) {
    std::cerr << "check_detection: " << e.what() << '\n';
    return 1;
  }
}
