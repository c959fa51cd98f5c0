#include <ATen/ops/empty.h>

#include <espalier/dataset.h>
#include <espalier/error.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>
#include <espalier/random_fill.h>

#include "shapes.h"

namespace espalier {

// Images of shapes, made on the spot: something to train on where there is no data.
class Synthetic final : public Dataset {
 public:
  struct Options {
    int64_t size = 16;
    int64_t channels = 1;
    int64_t classes = 4;
    int64_t count = 2000;
    double noise = 0.1;
    int64_t seed = 0;

    static void declare(Declare<Options>& p) {
      p("size", &Options::size, at_least(8), at_most(1024), unit("pixels"), "Side of the images.");
      p("channels", &Options::channels, at_least(1), at_most(64),
        "Number of channels, each with a brightness of its own.");
      p("classes", &Options::classes, at_least(2), at_most(10), "Number of classes: shapes to tell apart.");
      p("count", &Options::count, at_least(10), at_most(1e7),
        "Number of training images. There are a quarter as many test images.");
      p("noise", &Options::noise, at_least(0), at_most(1),
        "Standard deviation of the noise, as a share of the range of brightness.");
      p("seed", &Options::seed, "Seed of the images.");
    }
  };

  explicit Synthetic(const Options& options) : o_(options) {}

  DatasetInfo info() const override {
    const auto channels = static_cast<size_t>(o_.channels);
    return {.input = {.channels = o_.channels, .height = o_.size, .width = o_.size},
            .target = {.outputs = o_.classes},
            .classes = {shape_names().begin(), shape_names().begin() + o_.classes},
            .mean = std::vector<double>(channels, 0.33),
            .deviation = std::vector<double>(channels, 0.27),
            .samples = o_.count};
  }

  Split load(const std::string& part, const DataPaths&) const override {
    if (part != "train" && part != "test") {
      throw InputError("", "synthetic has no part '" + part + "'; expected train or test");
    }
    const int64_t n = part == "train" ? o_.count : std::max(o_.count / 4, o_.classes);
    const int64_t bytes = o_.channels * o_.size * o_.size;
    const RandomKey key = RandomKey(static_cast<uint64_t>(o_.seed)).with("synthetic").with(part);
    const at::Tensor images = at::empty({n, o_.channels, o_.size, o_.size}, at::kByte);
    const at::Tensor shapes = at::empty({n}, at::kLong);
    auto* inputs = images.mutable_data_ptr<uint8_t>();
    auto* targets = shapes.mutable_data_ptr<int64_t>();
    // Each block of as many images as there are classes has one of each, in a random order: balanced wherever it is
    // cut, and the number of an image says nothing of its class.
    const int64_t blocks = (n + o_.classes - 1) / o_.classes;
    parallel_for(blocks, 16, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const std::vector<int64_t> order =
            permutation(o_.classes, key.with("order").with(static_cast<uint64_t>(block)));
        for (int64_t i = block * o_.classes; i < std::min(n, (block + 1) * o_.classes); ++i) {
          targets[i] = order[static_cast<size_t>(i % o_.classes)];
          draw_shape(static_cast<size_t>(targets[i]), {.size = o_.size, .channels = o_.channels, .noise = o_.noise},
                     key.with("image").with(static_cast<uint64_t>(i)),
                     {inputs + i * bytes, static_cast<size_t>(bytes)});
        }
      }
    });
    return {.inputs = {{"input", images}}, .targets = {{"target", shapes}}};
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("synthetic", "1.0.0",
                component<Synthetic>("synthetic", "generated images of shapes, which need no files"));

}  // namespace espalier
