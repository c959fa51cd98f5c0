#include "randaugment.h"

#include <algorithm>
#include <array>

#include <espalier/augmentation.h>
#include <espalier/error.h>
#include <espalier/parallel.h>
#include <espalier/plugin.h>

namespace espalier {

namespace {

using randaugment::Affine;
using randaugment::Draw;
using randaugment::Settings;

// One image of bytes, pixel by pixel, and what its operations need. Most operations are a table for each channel from
// bytes to bytes.
class Bytes {
 public:
  Bytes(int64_t channels, int64_t height, int64_t width)
      : channels_(channels), height_(height), width_(width), bytes_(static_cast<size_t>(channels * height * width)) {}

  uint8_t* data() { return bytes_.data(); }

  void change(const Draw& d, const Settings& s) {
    const double value = randaugment::strength(d, s, height_, width_);
    const auto factor = static_cast<float>(value), rest = static_cast<float>(1 - value);
    switch (d.operation) {
      case randaugment::identity:
        break;
      case randaugment::brightness:
        map([=](uint8_t b) { return cut(factor * static_cast<float>(b)); });
        break;
      case randaugment::color:
        blend_with_grey(factor, rest);
        break;
      case randaugment::contrast: {
        const float other = rest * mean_grey();
        map([=](uint8_t b) { return cut(factor * static_cast<float>(b) + other); });
        break;
      }
      case randaugment::sharpness:
        blend_with_blurred(factor, rest);
        break;
      case randaugment::posterize: {
        const int kept = -(1 << (8 - static_cast<int>(value)));
        map([=](uint8_t b) { return static_cast<uint8_t>(b & kept); });
        break;
      }
      case randaugment::solarize:
        map([=](uint8_t b) { return static_cast<uint8_t>(static_cast<float>(b) >= factor ? 255 - b : b); });
        break;
      case randaugment::autocontrast:
        stretch();
        break;
      case randaugment::equalize:
        equalize();
        break;
      default:
        sample(randaugment::affine_of(d.operation, value, height_, width_), s.bilinear);
    }
  }

 private:
  static uint8_t cut(float value) { return static_cast<uint8_t>(std::min(std::max(value, 0.0F), 255.0F)); }

  uint8_t grey(const uint8_t* pixel) const {
    if (channels_ == 1) return pixel[0];
    return static_cast<uint8_t>(0.2989F * static_cast<float>(pixel[0]) + 0.587F * static_cast<float>(pixel[1]) +
                                0.114F * static_cast<float>(pixel[2]));
  }

  float mean_grey() const {
    int64_t sum = 0;
    for (size_t i = 0; i < bytes_.size(); i += static_cast<size_t>(channels_)) sum += grey(&bytes_[i]);
    return static_cast<float>(sum) / static_cast<float>(height_ * width_);
  }

  template <class F>
  void map(const F& f) {
    std::array<uint8_t, 256> table{};
    for (size_t b = 0; b < table.size(); ++b) table[b] = f(static_cast<uint8_t>(b));
    for (uint8_t& b : bytes_) b = table[b];
  }

  std::array<int64_t, 256> histogram(int64_t channel) const {
    std::array<int64_t, 256> counts{};
    for (size_t i = static_cast<size_t>(channel); i < bytes_.size(); i += static_cast<size_t>(channels_))
      ++counts[bytes_[i]];
    return counts;
  }

  void map_channel(int64_t channel, const std::array<uint8_t, 256>& table) {
    for (size_t i = static_cast<size_t>(channel); i < bytes_.size(); i += static_cast<size_t>(channels_))
      bytes_[i] = table[bytes_[i]];
  }

  void blend_with_grey(float factor, float rest) {
    if (channels_ == 1) return;
    for (size_t i = 0; i < bytes_.size(); i += 3) {
      const float other = rest * static_cast<float>(grey(&bytes_[i]));
      for (size_t c = i; c < i + 3; ++c) bytes_[c] = cut(factor * static_cast<float>(bytes_[c]) + other);
    }
  }

  void blend_with_blurred(float factor, float rest) {
    if (std::min(height_, width_) <= 2) return;
    before_ = bytes_;
    const int64_t row = width_ * channels_;
    for (int64_t y = 0; y < height_; ++y) {
      const bool inner_row = y > 0 && y < height_ - 1;
      for (int64_t j = 0; j < row; ++j) {
        const uint8_t* p = before_.data() + y * row + j;
        int blurred = *p;
        if (inner_row && j >= channels_ && j < row - channels_) {
          int sum = 4 * *p;
          for (const uint8_t* q : {p - row, p, p + row}) sum += q[-channels_] + q[0] + q[channels_];
          blurred = (2 * sum + 13) / 26;  // sum / 13 is never halfway between two bytes
        }
        bytes_[static_cast<size_t>(y * row + j)] =
            cut(factor * static_cast<float>(*p) + rest * static_cast<float>(blurred));
      }
    }
  }

  void stretch() {
    for (int64_t c = 0; c < channels_; ++c) {
      const std::array<int64_t, 256> counts = histogram(c);
      int least = 0, most = 255;
      while (counts[static_cast<size_t>(least)] == 0) ++least;
      while (counts[static_cast<size_t>(most)] == 0) --most;
      if (least == most) continue;
      const float scale = 1 / static_cast<float>(most - least) * 255;  // two roundings, as in the published code
      std::array<uint8_t, 256> table{};
      for (int b = least; b <= most; ++b) table[static_cast<size_t>(b)] = cut(static_cast<float>(b - least) * scale);
      map_channel(c, table);
    }
  }

  void equalize() {
    for (int64_t c = 0; c < channels_; ++c) {
      const std::array<int64_t, 256> counts = histogram(c);
      size_t most = 255;
      while (counts[most] == 0) --most;
      const int64_t step = (height_ * width_ - counts[most]) / 255;
      if (step == 0) continue;
      std::array<uint8_t, 256> table{};
      int64_t smaller = 0;
      for (size_t b = 0; b <= most; ++b) {
        table[b] = static_cast<uint8_t>(std::min<int64_t>((smaller + step / 2) / step, 255));
        smaller += counts[b];
      }
      map_channel(c, table);
    }
  }

  // What comes from outside is black.
  void sample(const Affine& a, bool bilinear) {
    before_ = bytes_;
    uint8_t* to = bytes_.data();
    for (int64_t row = 0; row < height_; ++row) {
      const double from_x = static_cast<double>(row) * a.xy, from_y = static_cast<double>(row) * a.yy;
      for (int64_t column = 0; column < width_; ++column, to += channels_) {
        const double x = static_cast<double>(column) * a.xx + from_x + a.x;
        const double y = static_cast<double>(column) * a.yx + from_y + a.y;
        if (bilinear) {
          interpolate(y, x, to);
          continue;
        }
        const uint8_t* from = pixel(whole(y), whole(x));
        for (int64_t c = 0; c < channels_; ++c) to[c] = from ? from[c] : 0;
      }
    }
  }

  // The nearest whole number, of two the even one, as rint, which the baseline of the processor has as a function only.
  static int64_t whole(double value) {
    constexpr double shift = 0x1.8p52;  // numbers of this size have no fraction
    return static_cast<int64_t>((value + shift) - shift);
  }

  const uint8_t* pixel(int64_t y, int64_t x) const {
    return x < 0 || x >= width_ || y < 0 || y >= height_ ? nullptr : before_.data() + (y * width_ + x) * channels_;
  }

  void interpolate(double y, double x, uint8_t* to) const {
    const double top = std::floor(y), left = std::floor(x), below = y - top, right = x - left;
    const auto row = static_cast<int64_t>(top), column = static_cast<int64_t>(left);
    const uint8_t* corners[4] = {pixel(row, column), pixel(row, column + 1), pixel(row + 1, column),
                                 pixel(row + 1, column + 1)};
    for (int64_t c = 0; c < channels_; ++c) {
      const auto at = [&](int corner) { return corners[corner] ? static_cast<double>(corners[corner][c]) : 0.0; };
      const double upper = at(0) * (1 - right) + at(1) * right, lower = at(2) * (1 - right) + at(3) * right;
      to[c] = static_cast<uint8_t>(whole(upper * (1 - below) + lower * below));
    }
  }

  int64_t channels_, height_, width_;
  std::vector<uint8_t> bytes_, before_;
};

// From normalised numbers to bytes and back.
template <class T>
void augment(T* image, const ImageBatch& batch, const std::vector<Draw>& draws, const Settings& s, Bytes& bytes) {
  const int64_t channels = batch.images.size(1), count = channels * batch.images.size(2) * batch.images.size(3);
  uint8_t* b = bytes.data();
  for (int64_t c = 0; c < channels; ++c) {
    const auto channel = static_cast<size_t>(c);
    const T black = static_cast<T>(batch.black[channel]);
    const T scale = static_cast<T>(255 / (batch.white[channel] - batch.black[channel]));
    for (int64_t i = c; i < count; i += channels) {
      const T value = (image[i] - black) * scale;
      b[i] = static_cast<uint8_t>(std::min(std::max(value, T(0)), T(255)) + T(0.5));
    }
  }
  for (const Draw& d : draws) bytes.change(d, s);
  for (int64_t c = 0; c < channels; ++c) {
    const auto channel = static_cast<size_t>(c);
    const T black = static_cast<T>(batch.black[channel]);
    const T scale = static_cast<T>((batch.white[channel] - batch.black[channel]) / 255);
    std::array<T, 256> table{};
    for (size_t byte = 0; byte < table.size(); ++byte) table[byte] = static_cast<T>(byte) * scale + black;
    for (int64_t i = c; i < count; i += channels) image[i] = table[b[i]];
  }
}

bool changes(const std::vector<Draw>& draws) {
  return std::ranges::any_of(draws, [](const Draw& d) { return d.operation != randaugment::identity; });
}

}  // namespace

// Cubuk et al. 2020: operations drawn from fourteen, all of one magnitude, on the bytes of an image, as in
// torchvision's RandAugment. What earlier augmentations made of an image is rounded to bytes; an image that draws
// nothing but the identity stays as it is.
//
// Places between pixels are float64 here and float32 in torchvision. So a place exactly halfway between two pixels
// (every fifth row of a shear by 0.2) may take the other one, and an interpolated value may be one byte more or less.
class RandAugment final : public Augmentation {
 public:
  struct Options {
    int64_t operations = 2;
    int64_t magnitude = 9;
    int64_t bins = 31;
    std::string interpolation = "nearest";

    static void declare(Declare<Options>& p) {
      p("operations", &Options::operations, at_least(1), at_most(100),
        "Number of operations, one after the other, that each image draws from identity, shear_x, shear_y, "
        "translate_x, translate_y, rotate, brightness, color, contrast, sharpness, posterize, solarize, autocontrast "
        "and equalize. Images of one channel are left as they are by color.");
      p("magnitude", &Options::magnitude, at_least(0),
        "Strength of every operation, less than bins; 0: the weakest. Identity, autocontrast and equalize have none.");
      p("bins", &Options::bins, at_least(2), at_most(1000),
        "Number of magnitudes. The last one shears by 0.3, translates by 150 / 331 of the image, rotates by 30 "
        "degrees, changes brightness, color, contrast and sharpness by 0.9, keeps 4 bits and inverts every byte.");
      p("interpolation", &Options::interpolation, one_of({"nearest", "bilinear"}),
        "Value of a pixel of a sheared, translated or rotated image between those of the original. What comes from "
        "outside is black.");
    }
  };

  explicit RandAugment(const Options& o) : s_{o.operations, o.magnitude, o.bins, o.interpolation == "bilinear"} {
    if (o.magnitude >= o.bins) {
      throw Error("magnitude: " + std::to_string(o.magnitude) + " is not less than bins: " + std::to_string(o.bins));
    }
  }

  void check(const InputSpec& image) const override {
    if (image.channels != 1 && image.channels != 3) {
      throw Error("'randaugment' is for images of 1 or 3 channels, these have " + std::to_string(image.channels));
    }
  }

  void apply(ImageBatch& batch) const override {
    std::vector<std::vector<Draw>> draws;
    for (const RandomKey key : batch.keys) draws.push_back(randaugment::draws_of(s_, key));
    make_dense(batch);
    if (!batch.images.is_cpu()) return with_tensors(batch, draws);
    const int64_t channels = batch.images.size(1), height = batch.images.size(2), width = batch.images.size(3);
    with_numbers(batch.images, [&](auto* images) {
      parallel_for(static_cast<int64_t>(draws.size()), 1, [&](int64_t begin, int64_t end) {
        Bytes bytes(channels, height, width);
        for (int64_t n = begin; n < end; ++n) {
          const std::vector<Draw>& drawn = draws[static_cast<size_t>(n)];
          if (changes(drawn)) augment(images + n * channels * height * width, batch, drawn, s_, bytes);
        }
      });
    });
  }

 private:
  void with_tensors(ImageBatch& batch, const std::vector<std::vector<Draw>>& draws) const {
    std::vector<int64_t> which;
    std::vector<std::vector<Draw>> drawn;
    for (size_t i = 0; i < draws.size(); ++i) {
      if (!changes(draws[i])) continue;
      which.push_back(static_cast<int64_t>(i));
      drawn.push_back(draws[i]);
    }
    if (which.empty()) return;
    const at::Tensor index = on_device(which, batch.images), part = batch.images.index_select(0, index);
    std::vector<double> to_bytes, from_bytes;
    for (size_t c = 0; c < batch.black.size(); ++c) {
      to_bytes.push_back(255 / (batch.white[c] - batch.black[c]));
      from_bytes.push_back((batch.white[c] - batch.black[c]) / 255);
    }
    const at::Tensor black = of_channels(batch.black, part);
    at::Tensor bytes = ((part - black) * of_channels(to_bytes, part)).clamp(0, 255).add(0.5).floor().to(at::kFloat);
    randaugment::augment(bytes, drawn, s_);
    batch.images.index_copy_(0, index, bytes.to(part.scalar_type()) * of_channels(from_bytes, part) + black);
  }

  Settings s_;
};

ESPALIER_PLUGIN("randaugment", "1.0.0",
                component<RandAugment>("randaugment",
                                       "operations at random of one strength (RandAugment, Cubuk et al. 2020)"));

}  // namespace espalier
