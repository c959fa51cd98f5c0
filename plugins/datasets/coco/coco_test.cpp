// The data set `coco` and the metrics of its plugin.
#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <espalier/dataset.h>
#include <espalier/metric.h>
#include <espalier/testkit.h>

#include "image_files.h"
#include "targets.h"

namespace espalier {
namespace {

using detection::Rle;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

template <class Kind>
std::unique_ptr<Kind> made(const std::string& spec) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libcoco.so");
  return Registry::instance().create<Kind>(from_json(spec));
}

// A data folder "shapes" with three images: 1 has a box of 4 x 6 pixels at (2, 3), a box without an area and a crowd; 2
// has nothing; 5 has the crowd alone.
class CocoFolder : public testing::Test {
 protected:
  CocoFolder() {
    for (const char* part : {"train", "test"}) {
      image(part, "a.png", 20, 10);
      image(part, "b.png", 8, 8);
      image(part, "c.png", 12, 16);
      folder_.write("shapes/" + std::string(part) + ".json", annotations());
    }
  }
  // Columns from 5 to 11 are dark, the rest is bright.
  void image(const std::string& part, const std::string& name, int width, int height) const {
    samples::Bytes rows;
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) rows.insert(rows.end(), 3, x >= 5 && x < 12 ? 20 : 220);
    }
    samples::write(folder_ / "shapes" / part / name, samples::png(width, height, rows));
  }
  static std::string annotations() {
    return R"({"images": [{"id": 5, "file_name": "c.png", "height": 16, "width": 12},
                          {"id": 1, "file_name": "a.png", "height": 10, "width": 20},
                          {"id": 2, "file_name": "b.png", "height": 8, "width": 8}],
               "categories": [{"id": 7, "name": "disc"}, {"id": 3, "name": "box"}],
               "annotations": [
      {"id": 11, "image_id": 1, "category_id": 7, "bbox": [2, 3, 4, 6], "area": 24,
       "segmentation": [[2, 3, 2, 9, 6, 9, 6, 3]]},
      {"id": 12, "image_id": 1, "category_id": 3, "bbox": [5, 5, 0, 2], "area": 1,
       "segmentation": [[5, 5, 5, 7, 5, 6]]},
      {"id": 13, "image_id": 1, "category_id": 3, "bbox": [10, 0, 5, 10], "area": 50, "iscrowd": 1,
       "segmentation": {"size": [10, 20], "counts": [100, 50, 50]}},
      {"id": 14, "image_id": 5, "category_id": 3, "bbox": [0, 0, 3, 16], "area": 48, "iscrowd": 1,
       "segmentation": {"size": [16, 12], "counts": [0, 48, 144]}}]})";
  }
  std::unique_ptr<Dataset> data(const std::string& options = "") const {
    return made<Dataset>(R"({"use": "coco", "folder": "shapes", "train": "train", "test": "test", "classes": 2,
                             "train_annotations": "train.json", "test_annotations": "test.json", "sides": [20],
                             "test_side": 20, "longest": 60)" +
                         (options.empty() ? "" : ", " + options) + "}");
  }
  Split load(const std::string& options = "", const std::string& part = "train") const {
    return data(options)->load(part, {folder_.path()});
  }
  std::string error(const std::string& options = "", const std::string& part = "train") const {
    return samples::input_error([&] { load(options, part); });
  }
  // Of a file of training annotations in which a text is another one.
  std::string error_with(const std::string& text, const std::string& in_place) const {
    std::string all = annotations();
    all.replace(all.find(text), text.size(), in_place);
    folder_.write("shapes/train.json", all);
    return error();
  }
  samples::Folder folder_;
};

const at::Tensor& row(const Sample& sample, const std::string& name) {
  return tensor_at(sample.rows, name, "row");
}

bool holds(const at::Tensor& x, const std::vector<double>& numbers) {
  return x.numel() == static_cast<int64_t>(numbers.size()) &&
         (x.flatten().to(at::kDouble) - at::tensor(numbers, at::kDouble)).abs().lt(1e-4).all().item<bool>();
}

Batch batch_of(const Sample& sample) {
  Batch batch;
  for (const auto& [name, x] : sample.inputs) batch.inputs.emplace_back(name, x.unsqueeze(0));
  for (const auto& [name, x] : sample.targets) batch.targets.emplace_back(name, x.unsqueeze(0));
  for (const auto& [name, x] : sample.rows) {
    batch.targets.emplace_back(name, x);
    batch.targets.emplace_back(name + offsets_suffix, at::tensor({int64_t{0}, x.size(0)}, at::kLong));
  }
  return batch;
}

TEST_F(CocoFolder, SaysWhatItHoldsWithoutData) {
  const DatasetInfo info = made<Dataset>(R"({"use": "coco"})")->info();
  EXPECT_EQ(info.target, (TargetSpec{.outputs = 80, .task = "detection"}));
  EXPECT_EQ(info.input, (InputSpec{.channels = 3, .height = 800, .width = 1280, .others = {{"sizes", {2}}}}));
  EXPECT_EQ(info.size_multiple, 32);
}

TEST_F(CocoFolder, HasImagesWithObjects) {
  const auto dataset = data();
  const Split train = dataset->load("train", {folder_.path()});
  EXPECT_EQ(train.size(), 1);
  EXPECT_THAT(dataset->info().classes, ElementsAre("box", "disc"));
  EXPECT_EQ(load(R"("empty": true)").size(), 3);
  EXPECT_EQ(load("", "test").size(), 3);
  // 20 x 10 pixels become 40 x 20.
  const Sample sample = train.samples->sample(0, false, RandomKey());
  EXPECT_EQ(sample.inputs[0].second.sizes(), (std::vector<int64_t>{3, 20, 40}));
  EXPECT_TRUE(holds(sample.inputs[1].second, {20, 40}));
  EXPECT_TRUE(holds(sample.targets[0].second, {1, 10, 20}));
  EXPECT_TRUE(holds(row(sample, "target"), {1}));
  EXPECT_TRUE(holds(row(sample, "boxes"), {4, 6, 12, 18}));
  EXPECT_TRUE(holds(row(sample, "ignored"), {20, 0, 30, 20}));
  const std::vector<Rle> masks = detection::masks_of(batch_of(sample), "masks", 0, 20, 40);
  ASSERT_EQ(masks.size(), 1U);
  EXPECT_EQ(detection::box_of(masks[0]), (detection::Xywh{4, 6, 8, 12}));
  EXPECT_EQ(detection::area_of(masks[0]), 8 * 12);
  // What an evaluation compares with is as the file has it, with nothing left out.
  EXPECT_TRUE(holds(row(sample, "truth"), {1, 2, 3, 4, 6, 24, 0, 0, 5, 5, 0, 2, 1, 0, 0, 10, 0, 5, 10, 50, 1}));
  const std::vector<Rle> truth = detection::masks_of(batch_of(sample), "truth_masks", 0, 10, 20);
  ASSERT_EQ(truth.size(), 3U);
  EXPECT_EQ(detection::area_of(truth[0]), 24);
  EXPECT_EQ(detection::box_of(truth[2]), (detection::Xywh{10, 0, 5, 10}));
  EXPECT_FALSE(find_tensor(train.samples->sample(0, true, RandomKey()).rows, "truth"));
  EXPECT_FALSE(find_tensor(load(R"("masks": false)").samples->sample(0, false, RandomKey()).rows, "masks"));
}

TEST_F(CocoFolder, MirrorsImagesWithTheirObjects) {
  const Sample plain = load(R"("flip": 0)").samples->sample(0, true, RandomKey(1));
  const Sample mirrored = load(R"("flip": 1)").samples->sample(0, true, RandomKey(1));
  EXPECT_TRUE(mirrored.inputs[0].second.equal(plain.inputs[0].second.flip(2)));
  EXPECT_TRUE(holds(row(mirrored, "boxes"), {28, 6, 36, 18}));
  EXPECT_TRUE(holds(row(mirrored, "ignored"), {10, 0, 20, 20}));
  const Rle mask = detection::masks_of(batch_of(mirrored), "masks", 0, 20, 40).at(0);
  EXPECT_EQ(detection::box_of(mask), (detection::Xywh{28, 6, 8, 12}));
  // About half of the images, whatever batch they are in.
  const Split half = load();
  int count = 0;
  for (uint64_t key = 0; key < 200; ++key) {
    const at::Tensor image = half.samples->sample(0, true, RandomKey(key)).inputs[0].second;
    EXPECT_TRUE(image.equal(half.samples->sample(0, true, RandomKey(key)).inputs[0].second));
    count += image.equal(mirrored.inputs[0].second) ? 1 : 0;
  }
  EXPECT_NEAR(count, 100, 30);  // four standard deviations
}

TEST_F(CocoFolder, ResizesTheShorterSide) {
  const Split some = load(R"("sides": [10, 20, 40], "flip": 0)");
  std::vector<int64_t> heights;
  for (uint64_t key = 0; key < 60; ++key) {
    const at::Tensor image = some.samples->sample(0, true, RandomKey(key)).inputs[0].second;
    heights.push_back(image.size(1));
    EXPECT_EQ(image.size(2), std::min<int64_t>(2 * image.size(1), 60));
  }
  std::ranges::sort(heights);
  heights.erase(std::ranges::unique(heights).begin(), heights.end());
  // A shorter side of 40 would make the longer one 80.
  EXPECT_THAT(heights, ElementsAre(10, 20, 30));
  // Runs are resized pixel by pixel: image 5 is 12 x 16, then 15 x 20.
  const Sample crowd = load("", "test").samples->sample(2, false, RandomKey());
  EXPECT_EQ(crowd.inputs[0].second.sizes(), (std::vector<int64_t>{3, 27, 20}));
  EXPECT_TRUE(holds(row(crowd, "boxes"), {}));
  EXPECT_EQ(row(crowd, "boxes").size(1), 4);
}

TEST_F(CocoFolder, NamesWhatDoesNotFit) {
  EXPECT_THAT(error(R"("classes": 3)"), AllOf(HasSubstr("train.json: has 2 categories"), HasSubstr("is 3")));
  EXPECT_THAT(error_with("\"file_name\": \"a.png\"", "\"file_name\": \"z.png\""),
              AllOf(HasSubstr("z.png: is not there"), HasSubstr("image 1 in"), HasSubstr("annotation 11")));
  EXPECT_THAT(error_with("\"image_id\": 5", "\"image_id\": 6"), HasSubstr("annotation 14 is of image 6"));
  EXPECT_THAT(error_with(R"([[2, 3, 2, 9, 6, 9, 6, 3]])", "[]"),
              AllOf(HasSubstr("annotation 11 has no mask"), HasSubstr("masks: false")));
  folder_.write("shapes/train.json", annotations());
  std::string other = annotations();
  other.replace(other.find("\"disc\""), 6, "\"dish\"");
  folder_.write("shapes/test.json", other);
  const auto dataset = data();
  dataset->load("train", {folder_.path()});
  EXPECT_THAT(samples::input_error([&] { dataset->load("test", {folder_.path()}); }),
              HasSubstr("its categories are not those of the other file"));
  image("train", "a.png", 19, 10);
  EXPECT_THAT(samples::input_error([&] { load().samples->sample(0, false, RandomKey()); }),
              AllOf(HasSubstr("a.png: has 10 x 19 pixels"), HasSubstr("image 1 in"), HasSubstr("has 10 x 20")));
}

// Detections [n, 6] and masks of one image, as a network gives them.
NamedTensors outputs_of(const std::vector<double>& detections, const at::Tensor& masks = {}) {
  const at::Tensor rows = at::tensor(detections, at::kDouble).reshape({-1, 6}).to(at::kFloat);
  NamedTensors outputs = {{"detections", rows},
                          {"detections.offsets", at::tensor({int64_t{0}, rows.size(0)}, at::kLong)}};
  if (masks.defined()) outputs.emplace_back("masks", masks);
  return outputs;
}

TEST_F(CocoFolder, MeasuresWhatIsFound) {
  const Split test = load("", "test");
  const Batch first = batch_of(test.samples->sample(0, false, RandomKey()));
  const Batch second = batch_of(test.samples->sample(1, false, RandomKey()));
  const auto boxes = made<Metric>(R"({"use": "coco_box"})"), masks = made<Metric>(R"({"use": "coco_mask"})");
  EXPECT_THAT(boxes->outputs(), ElementsAre("detections", "detections.offsets"));
  // The disc, in pixels of the image of twice the size; something in the crowd; and a box without an area, which is an
  // object, too, for COCO, that nobody can find.
  const NamedTensors found = outputs_of({4, 6, 12, 18, 0.5, 1, 20, 0, 25, 9, 0.9, 0}, at::full({2, 7, 7}, 0.9));
  const auto contribution = [&](const Metric& metric, const NamedTensors& outputs, const Batch& batch) {
    return metric.contribution({.outputs = outputs, .batch = batch, .training = false});
  };
  const at::Tensor one = contribution(*boxes, found, first);
  EXPECT_EQ(one.scalar_type(), at::kDouble);
  // 100 % of the discs and nothing of the boxes.
  EXPECT_NEAR(boxes->value(one), 50, 1e-9);
  EXPECT_NEAR(masks->value(contribution(*masks, found, first)), 50, 1e-9);
  std::map<std::string, double> further;
  for (const auto& [name, value] : boxes->further(one)) further[name] = value;
  EXPECT_NEAR(further.at("ap50"), 50, 1e-9);
  EXPECT_NEAR(further.at("ar_small"), 50, 1e-9);
  EXPECT_FALSE(further.contains("ap_large"));
  // A surer detection where there is nothing, in another image: half of the discs that are found are discs.
  const at::Tensor two = contribution(*boxes, outputs_of({0, 0, 9, 9, 0.8, 1}), second);
  EXPECT_NEAR(boxes->value(at::cat({one, two})), 25, 1e-9);
  EXPECT_NEAR(boxes->value(at::cat({two, one})), 25, 1e-9);
  EXPECT_EQ(boxes->value(contribution(*boxes, outputs_of({}), second)), 0);
  // The upper half of the mask alone: 0.5 of the object's pixels.
  const at::Tensor half = at::zeros({1, 12, 8});
  half.slice(1, 0, 6).fill_(1);
  const at::Tensor third = contribution(*masks, outputs_of({4, 6, 12, 18, 0.5, 1}, half), first);
  EXPECT_NEAR(masks->value(third), 50.0 / 10, 1e-9);
}

TEST_F(CocoFolder, RefusesWhatItCannotMeasure) {
  const auto boxes = made<Metric>(R"({"use": "coco_box"})");
  EXPECT_THROW(boxes->check({.outputs = 10}), Error);
  boxes->check({.outputs = 2, .task = "detection"});
  const auto error = [&](const std::vector<double>& detections, bool training) {
    const Batch batch = batch_of(load().samples->sample(0, training, RandomKey()));
    const NamedTensors outputs = outputs_of(detections);
    try {
      boxes->contribution({.outputs = outputs, .batch = batch, .training = false});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(error({0, 0, 1, 1, 0.5, 0}, true), HasSubstr("batches for training"));
  EXPECT_THAT(error({0, 0, NAN, 1, 0.5, 0}, false),
              HasSubstr("a detection of image 1 holds a number that is not finite"));
}

}  // namespace
}  // namespace espalier
