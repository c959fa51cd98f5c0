#include <ATen/ops/arange.h>
#include <espalier/dataset.h>
#include <espalier/plugin.h>
#include <espalier/random_fill.h>

namespace espalier {

// Images of noise, brighter in the half that the class names: left, right. A real data set reads files: find them in
// `paths`.
class @CLASS@ final : public Dataset {
 public:
  struct Options {
    int64_t count = 1000;
    int64_t size = 16;

    static void declare(Declare<Options>& p) {
      p("count", &Options::count, at_least(2), unit("images"),
        "Number of training images. There are a quarter as many test images.");
      p("size", &Options::size, at_least(4), unit("pixels"), "Side of an image.");
    }
  };

  explicit @CLASS@(Options options) : o_(options) {}

  DatasetInfo info() const override { return {{1, o_.size, o_.size}, {2}, {"left", "right"}, {0.5}, {0.25}, o_.count}; }

  Split load(const std::string& part, const DataPaths& /*paths*/) const override {
    if (part != "train" && part != "test")
      throw InputError("", "@NAME@ has no part '" + part + "'; expected train or test");
    const int64_t n = part == "train" ? o_.count : std::max<int64_t>(2, o_.count / 4);
    at::Tensor images = uniform({n, 1, o_.size, o_.size}, 0, 160, RandomKey(0).with(part));
    const at::Tensor classes = at::arange(n, at::kLong).remainder(2);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t begin = i % 2 == 0 ? 0 : o_.size / 2;
      images[i].slice(2, begin, begin + o_.size / 2).add_(60);
    }
    return {.inputs = {{"input", images.to(at::kByte)}}, .targets = {{"target", classes}}};
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>("@NAME@", "noise that is brighter on the left or on the right"));

}  // namespace espalier
