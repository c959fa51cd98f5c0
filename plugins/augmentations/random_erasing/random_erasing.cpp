#include "random_erasing.h"

#include <algorithm>
#include <string>
#include <utility>

#include <espalier/augmentation.h>
#include <espalier/error.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>

#include "../image_memory.h"

namespace espalier {

using random_erasing::Box;

// Zhong et al. 2017: a rectangle of random area and aspect ratio is erased. It works on normalised images.
class RandomErasing final : public Augmentation {
 public:
  struct Options {
    double probability = 0.25;
    std::vector<double> scale = {0.02, 0.33};
    std::vector<double> ratio = {0.3, 3.3};
    std::string value = "zero";

    static void declare(Declare<Options>& p) {
      p("probability", &Options::probability, at_least(0), at_most(1), "Probability that something is erased.");
      p("scale", &Options::scale, above(0), at_most(1),
        "Smallest and largest area of the rectangle that is erased, as a share of the image.");
      p("ratio", &Options::ratio, above(0),
        "Smallest and largest ratio of height to width of the rectangle; its logarithm is uniform.");
      p("value", &Options::value, one_of({"zero", "random", "color"}),
        "Values of the rectangle after normalisation; zero: 0, the mean color of the data set if images are "
        "normalised by it; random: normally distributed of mean 0 and deviation 1, another for each pixel and channel; "
        "color: the same, but one color for the whole rectangle.");
    }
  };

  explicit RandomErasing(const Options& o) : value_(o.value) {
    for (const auto& [name, range] : {std::pair("scale", &o.scale), std::pair("ratio", &o.ratio)}) {
      if (range->size() != 2 || (*range)[0] > (*range)[1])
        throw Error(std::string(name) + ": two numbers are needed, the least and the largest");
    }
    s_ = {o.probability, {o.scale[0], o.scale[1]}, {o.ratio[0], o.ratio[1]}};
  }

  void check(const InputSpec& image) const override {
    // The smallest area allows every ratio between these two.
    const auto height = static_cast<double>(image.height), width = static_cast<double>(image.width);
    const double area = s_.scale[0] * height * width;
    const double low = std::max(s_.ratio[0], area / ((width - 0.5) * (width - 0.5)));
    const double high = std::min(s_.ratio[1], (height - 0.5) * (height - 0.5) / area);
    if (std::min(image.height, image.width) < 2 || low > high) {
      throw Error("'random_erasing' erases nothing of images of " + std::to_string(image.height) + " x " +
                  std::to_string(image.width) + " pixels: no rectangle of this scale and ratio is lower and narrower");
    }
  }

  void apply(ImageBatch& batch) const override {
    const int64_t channels = batch.images.size(1), height = batch.images.size(2), width = batch.images.size(3);
    std::vector<Box> boxes;
    std::vector<int64_t> begins = {0};  // of the numbers of each box
    for (const RandomKey key : batch.keys) {
      const Box b = boxes.emplace_back(random_erasing::box_of(s_, key, height, width));
      begins.push_back(begins.back() + channels * pixels_drawn(b));
    }
    const at::Tensor noise = value_ == "zero" ? at::Tensor() : draw(batch, boxes, begins);
    for (size_t i = 0; i < boxes.size(); ++i) {
      const Box& b = boxes[i];
      if (b.height == 0) continue;
      at::Tensor part = batch.images[static_cast<int64_t>(i)].narrow(1, b.top, b.height).narrow(2, b.left, b.width);
      if (value_ == "zero") {
        part.zero_();
      } else {
        const at::Tensor drawn = noise.slice(0, begins[i], begins[i + 1]);
        part.copy_(value_ == "color" ? drawn.view({channels, 1, 1}).expand_as(part)
                                     : drawn.view({b.height, b.width, channels}).permute({2, 0, 1}));
      }
    }
  }

 private:
  int64_t pixels_drawn(const Box& b) const {
    return value_ == "color" ? std::min<int64_t>(b.height, 1) : b.height * b.width;
  }

  // The numbers of all boxes, drawn on the CPU, so that every device gets the same.
  at::Tensor draw(const ImageBatch& batch, const std::vector<Box>& boxes, const std::vector<int64_t>& begins) const {
    const int64_t channels = batch.images.size(1);
    at::Tensor noise = memory_for(begins.back(), batch.images, batch.images.scalar_type());
    with_numbers(noise, [&](auto* numbers) {
      parallel_for(static_cast<int64_t>(boxes.size()), 1, [&](int64_t begin, int64_t end) {
        for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
          random_erasing::fill_noise(batch.keys[i].with("noise"), pixels_drawn(boxes[i]), channels,
                                     numbers + begins[i]);
      });
    });
    return noise.to(batch.images.device(), /*non_blocking=*/true);
  }

  random_erasing::Settings s_;
  std::string value_;
};

ESPALIER_PLUGIN("random_erasing", "1.0.0",
                component<RandomErasing>("random_erasing", "a rectangle at random that is erased (Zhong et al. 2017)"));

}  // namespace espalier
