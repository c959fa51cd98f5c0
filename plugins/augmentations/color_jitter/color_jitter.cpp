#include "color_jitter.h"

#include <cmath>

#include <espalier/augmentation.h>
#include <espalier/error.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>

namespace espalier {

namespace {

using color_jitter::Draw;
using color_jitter::Strengths;

template <class T>
T grey_of(const T* pixel, int64_t channels) {
  if (channels == 1) return pixel[0];
  return static_cast<T>(color_jitter::grey_of[0]) * pixel[0] + static_cast<T>(color_jitter::grey_of[1]) * pixel[1] +
         static_cast<T>(color_jitter::grey_of[2]) * pixel[2];
}

template <class T>
T limited(T value) {
  return std::min(std::max(value, T(0)), T(1));
}

// A number in [0, 6) for one in [-6, 12).
template <class T>
T around(T sixths) {
  return sixths < 0 ? sixths + 6 : sixths >= 6 ? sixths - 6 : sixths;
}

// As color_jitter::turn.
template <class T>
void turn(T* pixel, T sixths) {
  const T r = pixel[0], g = pixel[1], b = pixel[2];
  const T most = std::max({r, g, b}), range = most - std::min({r, g, b});
  if (range == 0) return;  // grey
  sixths += most == r ? (g - b) / range : most == g ? (b - r) / range + 2 : (r - g) / range + 4;
  sixths = around(sixths);
  for (int c = 0; c < 3; ++c) {
    const T k = around(sixths + static_cast<T>(5 - 2 * c));
    pixel[c] = most - range * limited(std::min(k, 4 - k));
  }
}

// One image, where black is 0 and white is 1, pixel by pixel. The loops are the processor's baseline, and the sum for
// the mean goes in the order of the pixels, so every machine gets the same bytes.
template <class T>
void jitter(T* image, int64_t pixels, int64_t channels, const Strengths& strengths, const Draw& draw) {
  const int64_t count = pixels * channels;
  for (const int k : draw.order) {
    const auto operation = static_cast<size_t>(k);
    if (strengths[operation] == 0 || (k >= color_jitter::saturation && channels == 1)) continue;
    const T factor = static_cast<T>(draw.factor[operation]), rest = static_cast<T>(1 - draw.factor[operation]);
    if (k == color_jitter::brightness) {
      for (int64_t i = 0; i < count; ++i) image[i] = limited(image[i] * factor);
    } else if (k == color_jitter::contrast) {
      double sum = 0;
      for (int64_t i = 0; i < pixels; ++i) sum += static_cast<double>(grey_of(image + i * channels, channels));
      const T other = rest * static_cast<T>(sum / static_cast<double>(pixels));
      for (int64_t i = 0; i < count; ++i) image[i] = limited(image[i] * factor + other);
    } else if (k == color_jitter::saturation) {
      for (T* pixel = image; pixel < image + count; pixel += 3) {
        const T other = rest * grey_of(pixel, 3);
        for (int c = 0; c < 3; ++c) pixel[c] = limited(pixel[c] * factor + other);
      }
    } else {
      for (T* pixel = image; pixel < image + count; pixel += 3) turn(pixel, factor * 6);
    }
  }
}

}  // namespace

// Brightness, contrast, saturation and hue at random, in an order at random: torchvision's ColorJitter on images of
// numbers from 0 (black) to 1 (white). It sees what the earlier augmentations made of an image, limited to this range.
class ColorJitter final : public Augmentation {
 public:
  struct Options {
    double brightness = 0.4;
    double contrast = 0.4;
    double saturation = 0.4;
    double hue = 0;

    static void declare(Declare<Options>& p) {
      p("brightness", &Options::brightness, at_least(0),
        "Largest change of the brightness. Its factor is uniform between 1 - brightness, but not below 0, and "
        "1 + brightness; 0: the brightness stays.");
      p("contrast", &Options::contrast, at_least(0),
        "Largest change of the contrast, the distance from the mean grey of the image. Its factor is drawn as that of "
        "the brightness; 0: the contrast stays.");
      p("saturation", &Options::saturation, at_least(0),
        "Largest change of the saturation, the distance of a pixel from its grey. Its factor is drawn as that of the "
        "brightness; 0: the saturation stays. Images of one channel have none.");
      p("hue", &Options::hue, at_least(0), at_most(0.5), unit("turns"),
        "Largest turn of the hue to either side; 0: the hue stays. Images of one channel have none.");
    }
  };

  explicit ColorJitter(const Options& o) : strengths_{o.brightness, o.contrast, o.saturation, o.hue} {
    if (std::ranges::all_of(strengths_, [](double s) { return s == 0; }))
      throw Error("'color_jitter' changes nothing: brightness, contrast, saturation and hue are all 0");
  }

  void check(const InputSpec& image) const override {
    if (image.channels != 1 && image.channels != 3) {
      throw Error("'color_jitter' is for images of 1 or 3 channels, these have " + std::to_string(image.channels));
    }
    if (image.channels == 1 && strengths_[color_jitter::brightness] == 0 && strengths_[color_jitter::contrast] == 0)
      throw Error("'color_jitter' changes nothing: images of 1 channel have no saturation and no hue");
  }

  void apply(ImageBatch& batch) const override {
    std::vector<Draw> draws;
    for (const RandomKey key : batch.keys) draws.push_back(color_jitter::draw_of(strengths_, key));
    make_dense(batch);
    if (!batch.images.is_cpu()) return with_tensors(batch, draws);
    const int64_t channels = batch.images.size(1), pixels = batch.images.size(2) * batch.images.size(3);
    with_numbers(batch.images, [&]<class T>(T* images) {
      parallel_for(static_cast<int64_t>(draws.size()), 1, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          T* image = images + n * pixels * channels;
          for (int64_t c = 0; c < channels; ++c) {
            const auto channel = static_cast<size_t>(c);
            const T black = static_cast<T>(batch.black[channel]);
            const T scale = static_cast<T>(1 / (batch.white[channel] - batch.black[channel]));
            for (int64_t i = c; i < pixels * channels; i += channels) image[i] = limited((image[i] - black) * scale);
          }
          jitter(image, pixels, channels, strengths_, draws[static_cast<size_t>(n)]);
          for (int64_t c = 0; c < channels; ++c) {
            const auto channel = static_cast<size_t>(c);
            const T black = static_cast<T>(batch.black[channel]);
            const T scale = static_cast<T>(batch.white[channel] - batch.black[channel]);
            for (int64_t i = c; i < pixels * channels; i += channels) image[i] = image[i] * scale + black;
          }
        }
      });
    });
  }

 private:
  void with_tensors(ImageBatch& batch, const std::vector<Draw>& draws) const {
    const at::Tensor black = of_channels(batch.black, batch.images);
    const at::Tensor range = of_channels(batch.white, batch.images) - black;
    at::Tensor images = ((batch.images - black) / range).clamp(0, 1);
    color_jitter::jitter(images, strengths_, draws);
    batch.images.copy_(images * range + black);
  }

  Strengths strengths_;
};

ESPALIER_PLUGIN("color_jitter", "1.0.0",
                component<ColorJitter>("color_jitter", "brightness, contrast, saturation and hue at random"));

}  // namespace espalier
