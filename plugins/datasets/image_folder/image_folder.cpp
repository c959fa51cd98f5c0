#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>

#include <espalier/dataset.h>
#include <espalier/datasets/find.h>
#include <espalier/error.h>
#include <espalier/log.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>

#include "image.h"
#include "resize.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& name) {
  return name.native().starts_with('.');
}

bool is_image(const fs::path& name) {
  std::string ending = name.extension().native();
  for (char& c : ending) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  constexpr const char* known[] = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"};
  return std::ranges::count(known, ending) > 0;
}

// The names of the folders in a folder, sorted.
std::vector<std::string> folders_in(const fs::path& folder) {
  std::vector<std::string> names;
  try {
    for (const fs::directory_entry& e : fs::directory_iterator(folder)) {
      if (e.is_directory() && !is_hidden(e.path().filename())) names.push_back(e.path().filename());
    }
  } catch (const fs::filesystem_error& e) {
    throw InputError(folder.string(), e.code().message());
  }
  std::ranges::sort(names);
  return names;
}

// What a class folder and those in it hold. What is hidden (".ipynb_checkpoints") is nobody's data.
struct Content {
  std::vector<std::string> images;          // sorted, relative to the folder that holds the classes
  std::map<std::string, int64_t> others{};  // files with other endings, how many of each
};

Content content_of(const std::string& name, const fs::path& root) {
  Content content;
  const fs::path folder = root / name;
  const size_t skipped = folder.native().size() - name.size();
  try {
    using Options = fs::directory_options;
    fs::recursive_directory_iterator e(folder, Options::follow_directory_symlink);
    for (const fs::recursive_directory_iterator end; e != end; ++e) {
      const fs::path file = e->path().filename();
      if (is_hidden(file)) {
        e.disable_recursion_pending();
      } else if (e->is_directory()) {
        continue;
      } else if (is_image(file)) {
        content.images.push_back(e->path().native().substr(skipped));
      } else {
        ++content.others[file.has_extension() ? file.extension().string() : "without an ending"];
      }
    }
  } catch (const fs::filesystem_error& e) {
    throw InputError(folder.string(), e.code().message());
  }
  std::ranges::sort(content.images);
  return content;
}

// "a, b, c and 7 more"
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t shown = 5;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), shown); ++i) text += (i ? ", " : "") + names[i];
  return text + (names.size() > shown ? " and " + std::to_string(names.size() - shown) + " more" : "");
}

// Files that are passed over are said: images may be among them.
void warn_of(const std::map<std::string, int64_t>& others, const fs::path& root) {
  int64_t count = 0;
  std::vector<std::string> endings;
  for (const auto& [ending, n] : others) {
    count += n;
    endings.push_back(std::to_string(n) + " " + ending);
  }
  if (count == 0) return;
  log::warning(root.string() + ": " + std::to_string(count) + (count == 1 ? " file is" : " files are") +
               " passed over, being no JPEG, PNG, WebP, BMP or TIFF by the name: " + some_of(endings));
}

int round_to_int(double v) {
  return static_cast<int>(std::lrint(v));  // halves to even, as Python does
}

// How images become squares.
struct Cutting {
  int size = 0;
  int resize = 0;
  bool random = false;  // in training
  std::array<double, 2> scale{}, ratio{};

  // The shorter side becomes `resize`; of that the centre.
  Cut centre(int width, int height) const {
    const int64_t side = std::min(width, height);
    const auto scaled = [&](int n) { return static_cast<int>(int64_t{resize} * n / side); };
    Cut c{.x = 0, .y = 0, .width = width, .height = height, .to_width = scaled(width), .to_height = scaled(height)};
    c.left = round_to_int((c.to_width - size) / 2.0);
    c.top = round_to_int((c.to_height - size) / 2.0);
    return c;
  }

  // A part of random area and aspect ratio, which becomes the square. Where ten draws do not fit into the image, its
  // centre, as large as the ratios allow.
  Cut draw(int width, int height, RandomKey key) const {
    Cut c{.x = 0, .y = 0, .width = width, .height = height, .to_width = size, .to_height = size};
    const double area = static_cast<double>(width) * height;
    for (uint64_t attempt = 0; attempt < 10; ++attempt) {
      const Random4 r = philox(key.value(), attempt);
      const double part = area * (scale[0] + (scale[1] - scale[0]) * unit_float(r.v[0]));
      const double low = std::log(ratio[0]), high = std::log(ratio[1]);
      const double aspect = std::exp(low + (high - low) * unit_float(r.v[1]));
      const double w = std::rint(std::sqrt(part * aspect)), h = std::rint(std::sqrt(part / aspect));
      if (w < 1 || h < 1 || w > width || h > height) continue;
      c.width = static_cast<int>(w);
      c.height = static_cast<int>(h);
      c.x = static_cast<int>(below(r.v[2], static_cast<uint32_t>(width - c.width + 1)));
      c.y = static_cast<int>(below(r.v[3], static_cast<uint32_t>(height - c.height + 1)));
      return c;
    }
    const double aspect = static_cast<double>(width) / height;
    if (aspect < ratio[0]) c.height = std::clamp(round_to_int(width / ratio[0]), 1, height);
    if (aspect > ratio[1]) c.width = std::clamp(round_to_int(height * ratio[1]), 1, width);
    c.x = (width - c.width) / 2;
    c.y = (height - c.height) / 2;
    return c;
  }
};

class Files final : public Samples {
 public:
  // names: for each class its files, relative to the folder.
  Files(const fs::path& folder, const std::vector<std::vector<std::string>>& names, const Cutting& cutting)
      : folder_(folder.string() + "/"), cutting_(cutting) {
    for (const auto& of_class : names) {
      for (const std::string& name : of_class) {
        begins_.push_back(names_.size());
        names_.append(name).push_back('\0');
      }
    }
  }

  int64_t size() const override { return static_cast<int64_t>(begins_.size()); }

  void read(int64_t sample, bool training, RandomKey key, uint8_t* out) const override {
    const Image image = read_image(folder_ + (names_.c_str() + begins_[static_cast<size_t>(sample)]));
    const bool random = training && cutting_.random;
    resize(image, random ? cutting_.draw(image.width, image.height, key) : cutting_.centre(image.width, image.height),
           cutting_.size, cutting_.size, out);
  }

  void identify(const std::function<void(std::string_view)>& add) const override {
    for (const size_t begin : begins_) {
      const std::string name = names_.c_str() + begin;
      std::error_code unreadable;  // read() says so
      add(name + '\0' + std::to_string(fs::file_size(folder_ + name, unreadable)) + '\n');
    }
  }

 private:
  std::string folder_;
  // One string for all names: a million of their own would take twice the memory.
  std::string names_;
  std::vector<size_t> begins_;
  Cutting cutting_;
};

}  // namespace

// A folder for each class, which holds its images: ImageNet's layout. Images are read when they are needed.
class ImageFolder final : public Dataset {
 public:
  struct Options {
    std::string folder;
    std::string train = "train";
    std::string test = "val";
    std::optional<int64_t> classes;
    std::vector<std::string> only;
    int64_t size = 224;
    int64_t resize = 0;
    std::string crop = "random_resized";
    std::vector<double> scale = {0.08, 1};
    std::vector<double> ratio = {3.0 / 4, 4.0 / 3};
    std::vector<double> mean = {0.485, 0.456, 0.406};
    std::vector<double> deviation = {0.229, 0.224, 0.225};

    static void declare(Declare<Options>& p) {
      p("folder", &Options::folder, required(),
        "Folder that holds the folders of the two parts: an absolute path, or a name in one of the data "
        "folders.");
      p("train", &Options::train, "Name of the folder for training in it, with a folder for each class.");
      p("test", &Options::test, "Name of the folder for testing in it, with the same classes.");
      p("classes", &Options::classes, at_least(2), at_most(1e6),
        "Number of class folders. Left out: as many as `only` names, or else 1000.");
      p("only", &Options::only, "Names of the class folders that are used. Left out: all.");
      p("size", &Options::size, at_least(1), at_most(4096), unit("pixels"),
        "Side of the images that the network gets.");
      p("resize", &Options::resize, at_least(0), at_most(16384), unit("pixels"),
        "Shorter side to which an image is resized before its centre is taken; 0: 8/7 of `size`, which is 256 "
        "for 224.");
      p("crop", &Options::crop, one_of({"random_resized", "center"}),
        "Part of a training image that is used; random_resized: a random part, resized; center: the centre, "
        "as for testing.");
      p("scale", &Options::scale, above(0), at_most(1),
        "Smallest and largest share of the image's area that a random part has.");
      p("ratio", &Options::ratio, above(0), "Smallest and largest ratio of width to height that a random part has.");
      p("mean", &Options::mean, at_least(0), at_most(1),
        "Mean of each channel, of values between 0 and 1. The default is ImageNet's.");
      p("std", &Options::deviation, above(0), at_most(1),
        "Standard deviation of each channel, of values between 0 and 1. The default is ImageNet's.");
    }
  };

  explicit ImageFolder(const Options& options) : o_(options) {
    if (o_.resize == 0) o_.resize = o_.size * 8 / 7;
    if (o_.resize < o_.size) {
      throw Error("resize: " + std::to_string(o_.resize) + " is less than size: " + std::to_string(o_.size) +
                  ", which is cut out of it");
    }
    for (const auto& [name, range] : {std::pair("scale", &o_.scale), std::pair("ratio", &o_.ratio)}) {
      if (range->size() != 2 || (*range)[0] > (*range)[1])
        throw Error(std::string(name) + ": two numbers are needed, the least and the largest");
    }
    if (o_.crop == "center" && (o_.scale != Options().scale || o_.ratio != Options().ratio))
      throw Error("scale and ratio are of random parts, and crop is center: leave them out");
    if (o_.mean.size() != 3 || o_.deviation.size() != 3)
      throw Error("mean and std: three numbers each are needed, for red, green and blue");
    std::ranges::sort(o_.only);
    if (const auto twice = std::ranges::adjacent_find(o_.only); twice != o_.only.end())
      throw Error("only: '" + *twice + "' is named twice");
    const auto named = static_cast<int64_t>(o_.only.size());
    if (named == 1) throw Error("only: two classes are the least");
    if (named > 0 && o_.classes.value_or(named) != named) {
      throw Error("classes: " + std::to_string(*o_.classes) + ", but `only` names " + std::to_string(named) +
                  "; leave `classes` out");
    }
    classes_ = o_.classes.value_or(named > 0 ? named : 1000);
  }

  DatasetInfo info() const override {
    return {.input = {.channels = 3, .height = o_.size, .width = o_.size},
            .target = {.outputs = classes_},
            .classes = o_.only.empty() ? found_ : o_.only,
            .mean = o_.mean,
            .deviation = o_.deviation,
            .preparation = Value::map({{"resize", o_.resize}, {"center_crop", o_.size}})};
  }

  Split load(const std::string& part, const DataPaths& paths) const override {
    if (part != "train" && part != "test")
      throw InputError("", "image_folder has no part '" + part + "'; expected train or test");
    const fs::path folder = find_folder(
        paths, o_.folder, "  put it there, or give `folder` an absolute path or --data the folder it is in");
    const fs::path root = part_folder(folder, part);
    const std::vector<std::string> classes = classes_in(root);
    if (part == "test") expect_same_classes(classes_in(part_folder(folder, "train")), classes, root);
    found_ = classes;

    std::vector<Content> contents(classes.size());
    parallel_for(static_cast<int64_t>(classes.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto c = static_cast<size_t>(i);
        contents[c] = content_of(classes[c], root);
      }
    });
    std::vector<std::string> without;
    std::vector<std::vector<std::string>> names(classes.size());
    std::map<std::string, int64_t> others;
    int64_t count = 0;
    for (size_t c = 0; c < classes.size(); ++c) {
      names[c] = std::move(contents[c].images);
      for (const auto& [ending, n] : contents[c].others) others[ending] += n;
      if (names[c].empty()) without.push_back(classes[c]);
      count += static_cast<int64_t>(names[c].size());
    }
    if (!without.empty()) {
      throw InputError(root.string(), "no images (.jpg, .jpeg, .png, .webp, .bmp, .tif, .tiff) are in " +
                                          some_of(without) + "; fill these folders, or name the others in `only`");
    }
    warn_of(others, root);
    const at::Tensor targets = at::empty({count}, at::kLong);
    auto* target = targets.mutable_data_ptr<int64_t>();
    for (size_t c = 0; c < classes.size(); ++c) target = std::fill_n(target, names[c].size(), static_cast<int64_t>(c));
    const Cutting cutting{.size = static_cast<int>(o_.size),
                          .resize = static_cast<int>(o_.resize),
                          .random = o_.crop == "random_resized",
                          .scale = {o_.scale[0], o_.scale[1]},
                          .ratio = {o_.ratio[0], o_.ratio[1]}};
    return {.inputs = {}, .targets = {{"target", targets}}, .samples = std::make_shared<Files>(root, names, cutting)};
  }

 private:
  fs::path part_folder(const fs::path& folder, const std::string& part) const {
    const fs::path root = folder / (part == "train" ? o_.train : o_.test);
    std::error_code error;
    if (fs::is_directory(root, error)) return root;
    throw InputError(root.string(), "no such folder; it should hold a folder for each class (`" + part +
                                        "` gives its name), and " + folder.string() + " holds " +
                                        (folders_in(folder).empty() ? "no folders" : some_of(folders_in(folder))));
  }

  // The class folders that are used.
  std::vector<std::string> classes_in(const fs::path& root) const {
    const std::vector<std::string> all = folders_in(root);
    if (all.empty()) throw InputError(root.string(), "holds no folders; it should hold one for each class");
    if (o_.only.empty()) {
      if (static_cast<int64_t>(all.size()) == classes_) return all;
      throw InputError(root.string(), "holds " + std::to_string(all.size()) + " class folders (" + some_of(all) +
                                          "), and `classes` is " + std::to_string(classes_) +
                                          "; change it, or name those to use in `only`");
    }
    std::vector<std::string> missing;
    std::ranges::set_difference(o_.only, all, std::back_inserter(missing));
    if (missing.empty()) return o_.only;
    throw InputError(root.string(),
                     "has no class folders " + some_of(missing) + ", which `only` names; it has " + some_of(all));
  }

  // The number of a class is its place among the folders: it must be the same in both parts.
  static void expect_same_classes(const std::vector<std::string>& train, const std::vector<std::string>& test,
                                  const fs::path& root) {
    const auto [a, b] = std::ranges::mismatch(train, test);
    if (a == train.end() && b == test.end()) return;
    const std::string why = a == train.end()  ? "'" + *b + "' is not there"
                            : b == test.end() ? "'" + *a + "' is missing"
                                              : "'" + *b + "' stands where '" + *a + "' does there";
    throw InputError(root.string(), "its classes are not those of training: " + why);
  }

  Options o_;
  int64_t classes_ = 0;
  mutable std::vector<std::string> found_;  // the class folders, once a part was loaded
};

ESPALIER_PLUGIN("image_folder", "1.0.0",
                component<ImageFolder>("image_folder",
                                       "a folder of images for each class, as ImageNet's: JPEG, PNG, WebP, BMP, TIFF"));

}  // namespace espalier
