#include <charconv>
#include <fstream>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <espalier/dataset.h>
#include <espalier/plugin.h>

namespace espalier {

namespace fs = std::filesystem;

// Grey images in text files, a line each: the class, then the pixels row by row, from 0 to 255.
class PixelCsv final : public Dataset {
 public:
  struct Options {
    std::string train, test;
    int64_t size = 28;
    int64_t classes = 10;

    static void declare(Declare<Options>& p) {
      p("train", &Options::train, required(), "File of the training images, in one of the folders of data.");
      p("test", &Options::test, required(), "File of the test images.");
      p("size", &Options::size, at_least(1), unit("pixels"), "Side of an image.");
      p("classes", &Options::classes, at_least(2), "Number of classes; a line begins with 0 to one less.");
    }
  };

  explicit PixelCsv(Options options) : o_(std::move(options)) {}

  DatasetInfo info() const override {
    DatasetInfo i;
    i.input = {1, o_.size, o_.size};
    i.target.outputs = o_.classes;
    // What grey values from 0 to 1 are brought to numbers around zero by.
    i.mean = {0.5};
    i.deviation = {0.25};
    return i;
  }

  Split load(const std::string& part, const DataPaths& paths) const override {
    if (part != "train" && part != "test")
      throw InputError("", "pixel_csv has no part '" + part + "'; expected train or test");
    const fs::path file = find(part == "train" ? o_.train : o_.test, paths);
    const int64_t pixels = o_.size * o_.size;
    std::vector<uint8_t> images;
    std::vector<int64_t> classes;
    std::ifstream in(file);
    int64_t number = 0;
    for (std::string line; std::getline(in, line);) {
      ++number;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      const auto refuse = [&](const std::string& what) {
        throw InputError(file.string() + ":" + std::to_string(number), what);
      };
      const char* at = line.data();
      const char* const end = at + line.size();
      for (int64_t i = 0; i <= pixels; ++i) {
        int64_t value = -1;
        const auto [stop, error] = std::from_chars(at, end, value);
        const int64_t largest = i == 0 ? o_.classes - 1 : 255;
        if (error != std::errc() || value < 0 || value > largest) {
          refuse("field " + std::to_string(i + 1) + " is no whole number from 0 to " + std::to_string(largest));
        }
        const bool last = i == pixels;
        if (last ? stop != end : stop == end || *stop != ',') {
          refuse("a line has " + std::to_string(pixels + 1) + " numbers with commas between them: the class and " +
                 std::to_string(pixels) + " pixels");
        }
        at = stop + (last ? 0 : 1);
        if (i == 0) {
          classes.push_back(value);
        } else {
          images.push_back(static_cast<uint8_t>(value));
        }
      }
    }
    if (classes.empty()) throw InputError(file.string(), "holds no image");
    const auto n = static_cast<int64_t>(classes.size());
    const at::Tensor input = at::empty({n, 1, o_.size, o_.size}, at::kByte), target = at::empty({n}, at::kLong);
    std::ranges::copy(images, input.data_ptr<uint8_t>());
    std::ranges::copy(classes, target.data_ptr<int64_t>());
    return {.inputs = {{"input", input}}, .targets = {{"target", target}}};
  }

 private:
  static fs::path find(const std::string& name, const DataPaths& paths) {
    std::string searched;
    for (const fs::path& folder : paths) {
      if (fs::is_regular_file(folder / name)) return folder / name;
      searched += (searched.empty() ? "" : ", ") + folder.string();
    }
    throw InputError(name, "there is no such file in " + searched + "; --data DIR names another folder");
  }

  Options o_;
};

ESPALIER_PLUGIN("pixel_csv", "0.1.0", component<PixelCsv>("pixel_csv", "grey images in text, a line each"));

}  // namespace espalier
