#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <espalier/dataset.h>
#include <espalier/datasets/find.h>
#include <espalier/error.h>
#include <espalier/log.h>
#include <espalier/plugin.h>

#include "annotations.h"
#include "coco_metric.h"
#include "coco_samples.h"
#include "targets.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;
using detection::Annotation;
using detection::ImageEntry;
using detection::Instances;

constexpr int64_t size_multiple = 32;  // the stride of the coarsest feature level of the networks that find objects

std::string counted(int64_t n, const std::string& thing) {
  return std::to_string(n) + " " + thing + (n == 1 ? "" : "s");
}

}  // namespace

// Images with the objects in them, in the format of COCO's object instances.
class Coco final : public Dataset {
 public:
  struct Options {
    std::string folder = "coco";
    std::string train = "train2017";
    std::string train_annotations = "annotations/instances_train2017.json";
    std::string test = "val2017";
    std::string test_annotations = "annotations/instances_val2017.json";
    int64_t classes = 80;
    bool masks = true;
    bool empty = false;
    std::vector<int64_t> sides = {480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800};
    int64_t test_side = 800;
    int64_t longest = 1333;
    double flip = 0.5;
    int64_t height = 800;
    int64_t width = 1280;
    std::vector<double> mean = {0.485, 0.456, 0.406};
    std::vector<double> deviation = {0.229, 0.224, 0.225};

    static void declare(Declare<Options>& p) {
      p("folder", &Options::folder,
        "Folder that holds images and annotations: an absolute path, or a name in one of the data folders.");
      p("train", &Options::train, "Folder of the training images in it.");
      p("train_annotations", &Options::train_annotations, "File of annotations of the training images in it.");
      p("test", &Options::test, "Folder of the test images in it.");
      p("test_annotations", &Options::test_annotations, "File of annotations of the test images in it.");
      p("classes", &Options::classes, at_least(1), at_most(1e6),
        "Number of categories in the files of annotations. The class of an object is the place of its category's id "
        "among all ids.");
      p("masks", &Options::masks, "Whether the objects have masks besides boxes.");
      p("empty", &Options::empty,
        "Whether training images without an object are used, too. Images for testing always are.");
      p("sides", &Options::sides, at_least(1), at_most(16384), unit("pixels"),
        "Lengths of the shorter side of a training image; each time, one of these is drawn.");
      p("test_side", &Options::test_side, at_least(1), at_most(16384), unit("pixels"),
        "Length of the shorter side of a test image.");
      p("longest", &Options::longest, at_least(1), at_most(16384), unit("pixels"),
        "Largest length of the longer side; the shorter one becomes less than it should be where this needs it.");
      p("flip", &Options::flip, at_least(0), at_most(1),
        "Probability that a training image is mirrored, left to right.");
      p("height", &Options::height, at_least(1), at_most(16384), unit("pixels"),
        "Height of the image that multiply-accumulates are counted for.");
      p("width", &Options::width, at_least(1), at_most(16384), unit("pixels"),
        "Width of the image that multiply-accumulates are counted for.");
      p("mean", &Options::mean, at_least(0), at_most(1),
        "Mean of each channel, of values between 0 and 1. The default is ImageNet's.");
      p("std", &Options::deviation, above(0), at_most(1),
        "Standard deviation of each channel, of values between 0 and 1. The default is ImageNet's.");
    }
  };

  explicit Coco(const Options& options) : o_(options) {
    if (o_.sides.empty()) throw Error("sides: at least one length is needed");
    if (o_.mean.size() != 3 || o_.deviation.size() != 3)
      throw Error("mean and std: three numbers each are needed, for red, green and blue");
  }

  DatasetInfo info() const override {
    DatasetInfo info;
    info.input = {.channels = 3, .height = o_.height, .width = o_.width, .others = {{"sizes", {2}}}};
    info.target = {.outputs = o_.classes, .task = detection::task};
    info.classes = found_;
    info.mean = o_.mean;
    info.deviation = o_.deviation;
    info.size_multiple = size_multiple;
    return info;
  }

  Split load(const std::string& part, const DataPaths& paths) const override {
    if (part != "train" && part != "test")
      throw InputError("", "coco has no part '" + part + "'; expected train or test");
    const bool training = part == "train";
    const fs::path root = find_folder(
        paths, o_.folder, "  put it there, or give `folder` an absolute path or --data the folder it is in");
    const auto all =
        std::make_shared<const Instances>(detection::read_instances((root / annotations(training)).string()));
    take_names(*all);
    const fs::path images = root / (training ? o_.train : o_.test);
    std::vector<int64_t> used;
    int64_t without_object = 0, without_area = 0;
    for (int64_t i = 0; i < std::ssize(all->images); ++i) {
      const ImageEntry& image = all->images[static_cast<size_t>(i)];
      int64_t objects = 0;
      for (const Annotation& a : all->of_image(i)) {
        if (o_.masks && !a.has_mask())
          throw InputError(all->file, "annotation " + std::to_string(a.id) +
                                          " has no mask; set `masks: false` if boxes are all that is learned");
        if (is_object(a, image)) {
          ++objects;
        } else if (!a.crowd) {
          ++without_area;
        }
      }
      if (objects == 0) ++without_object;
      if (objects == 0 && training && !o_.empty) continue;
      expect_image(images, image, *all, i);
      used.push_back(i);
    }
    if (without_area > 0) {
      log::warning(all->file + ": " + counted(without_area, "object") +
                   (without_area == 1 ? " has a box without an area in the image; it is"
                                      : " have boxes without an area in the image; they are") +
                   " left out of training, and an evaluation counts " + (without_area == 1 ? "it" : "them"));
    }
    if (without_object > 0 && training && !o_.empty)
      log::info(all->file + ": " + counted(without_object, "image") + " without an object " +
                (without_object == 1 ? "is" : "are") + " left out; `empty: true` uses them");
    if (used.empty()) throw InputError(all->file, "has no images with an object in them");
    return {.inputs = {},
            .targets = {},
            .samples = std::make_shared<CocoSamples>(all, std::move(used), images,
                                                     CocoReading{.sides = o_.sides,
                                                                 .test_side = o_.test_side,
                                                                 .longest = o_.longest,
                                                                 .flip = o_.flip,
                                                                 .masks = o_.masks})};
  }

 private:
  const std::string& annotations(bool training) const { return training ? o_.train_annotations : o_.test_annotations; }

  // The number of a class is the place of its category among the ids: it must be the same in both parts.
  void take_names(const Instances& all) const {
    if (std::ssize(all.categories) != o_.classes) {
      throw InputError(all.file, "has " + std::to_string(all.categories.size()) + " categories" +
                                     ", and `classes` is " + std::to_string(o_.classes) + "; change it");
    }
    std::vector<int64_t> ids;
    std::vector<std::string> names;
    for (const detection::Category& category : all.categories) {
      ids.push_back(category.id);
      names.push_back(category.name);
    }
    if (!ids_.empty() && (ids != ids_ || names != found_))
      throw InputError(all.file, "its categories are not those of the other file of annotations (" +
                                     o_.train_annotations + " and " + o_.test_annotations + ")");
    ids_ = std::move(ids);
    found_ = std::move(names);
  }

  static void expect_image(const fs::path& folder, const ImageEntry& image, const Instances& all, int64_t place) {
    std::error_code error;
    if (fs::exists(folder / image.file_name, error)) return;
    const auto annotations = all.of_image(place);
    throw InputError((folder / image.file_name).string(),
                     "is not there, and image " + std::to_string(image.id) + " in " + all.file + " needs it" +
                         (annotations.empty() ? "" : " (annotation " + std::to_string(annotations[0].id) + ")") +
                         "; fetch it, or check `train` and `test`, the folders of images");
  }

  Options o_;
  mutable std::vector<int64_t> ids_;        // of the categories, once a part was loaded
  mutable std::vector<std::string> found_;  // and their names
};

ESPALIER_PLUGIN("coco", "1.0.0",
                component<Coco>("coco", "images with the objects in them, in the format of COCO's object instances"),
                coco_metric(detection::IouType::box), coco_metric(detection::IouType::mask));

}  // namespace espalier
