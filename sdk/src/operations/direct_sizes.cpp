#include "operations/direct_sizes.h"

#include <algorithm>

#include <ATen/ops/empty.h>

#include "espalier/parallel.h"
#include "kernels/channel_kernels.h"
#include "kernels/tap_sum_kernels.h"

namespace espalier {

namespace {

constexpr auto channels_last = at::MemoryFormat::ChannelsLast;

int64_t up_to_lanes(int64_t n) {
  return (n + tap_lanes - 1) / tap_lanes * tap_lanes;
}

// An image with zeros around it.
class Padded {
 public:
  // channels: of the image; width_of_pixel: at least as many, the others are zero
  Padded(int64_t height, int64_t width, int64_t channels, int64_t border, int64_t width_of_pixel)
      : height_(height),
        width_(width),
        channels_(channels),
        border_(border),
        pixel_(width_of_pixel),
        values_(static_cast<size_t>((height + 2 * border) * row() + tap_lanes), 0.0F) {}

  // Numbers from one row to the next.
  int64_t row() const { return (width_ + 2 * border_) * pixel_; }
  const float* data() const { return values_.data(); }
  // Where the first pixel of a row of the image is.
  float* at(int64_t y) { return values_.data() + (y + border_) * row() + border_ * pixel_; }

  void fill(const float* image) {
    for (int64_t y = 0; y < height_; ++y) {
      float* to = at(y);
      if (pixel_ == channels_) {
        std::copy_n(image, width_ * channels_, to);
        image += width_ * channels_;
        continue;
      }
      for (int64_t x = 0; x < width_; ++x, to += pixel_, image += channels_) std::copy_n(image, channels_, to);
    }
  }

 private:
  int64_t height_, width_, channels_, border_, pixel_;
  std::vector<float> values_;
};

}  // namespace

DirectSizes::DirectSizes(const Indices& sizes, int64_t side, KernelCorner first, int64_t stride, int64_t padding)
    : sizes_(sizes), side_(side), first_(first), stride_(stride), padding_(padding) {
  for (size_t f = 0; f < sizes.size(); ++f) {
    if (sizes[f] > 0) filters_.push_back(static_cast<int64_t>(f));
  }
  std::ranges::stable_sort(filters_, std::ranges::greater(), [&](int64_t f) { return sizes_[static_cast<size_t>(f)]; });
}

bool DirectSizes::is_possible(int64_t side, int64_t padding) {
  return has_tap_sums() && padding < side;
}

bool DirectSizes::has_gradients(int64_t channels) const {
  return stride_ == 1 && channels >= tap_lanes;
}

bool DirectSizes::has(int64_t filter, int64_t row, int64_t column) const {
  const int64_t size = sizes_[static_cast<size_t>(filter)], begin = kernel_offset(side_, size, first_);
  return row >= begin && row < begin + size && column >= begin && column < begin + size;
}

at::Tensor DirectSizes::forward(const at::Tensor& x, const at::Tensor& weight, const std::vector<float>& shift) const {
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t out_height = (height + 2 * padding_ - side_) / stride_ + 1;
  const int64_t out_width = (width + 2 * padding_ - side_) / stride_ + 1;
  const int64_t outputs = weight.size(0), row = (width + 2 * padding_) * channels;
  at::Tensor y = at::empty({batch, outputs, out_height, out_width}, x.options().memory_format(channels_last));

  const at::Tensor w = weight.contiguous(channels_last);
  const auto* taps = w.const_data_ptr<float>();  // [filters, side, side, channels]
  const auto count = std::ssize(filters_);
  std::vector<TapSums> vectors;
  for (int64_t first = 0; first < count; first += tap_lanes) {
    const int64_t lanes = std::min(tap_lanes, count - first);
    const auto filter = [&](int64_t lane) { return filters_[static_cast<size_t>(first + lane)]; };
    TapSums sums;
    const auto add = [&](int64_t ky, int64_t kx) {
      const size_t before = sums.weights.size();
      sums.weights.resize(before + static_cast<size_t>(channels * tap_lanes), 0.0F);
      for (int64_t lane = 0; lane < lanes; ++lane) {
        if (!has(filter(lane), ky, kx)) continue;
        const float* from = taps + ((filter(lane) * side_ + ky) * side_ + kx) * channels;
        float* to = sums.weights.data() + before + lane;
        for (int64_t c = 0; c < channels; ++c) to[c * tap_lanes] = from[c];
      }
      for (int64_t c = 0; c < channels; ++c) sums.offsets.push_back(static_cast<int32_t>(ky * row + kx * channels + c));
    };
    // The first filter has all taps that the others have. Of two sixteens those of the second come first.
    const bool leads = first / tap_lanes % 2 == 0 && first + tap_lanes < count;
    const int64_t next = leads ? filters_[static_cast<size_t>(first + tap_lanes)] : -1;
    for (const bool of_both : {true, false}) {
      for (int64_t tap = 0; tap < side_ * side_; ++tap) {
        const int64_t ky = tap / side_, kx = tap % side_;
        if (has(filter(0), ky, kx) && (leads && has(next, ky, kx)) == of_both) add(ky, kx);
      }
      if (of_both) sums.shared = std::ssize(sums.offsets);
    }
    vectors.push_back(std::move(sums));
  }
  // Filters without a kernel give their shift.
  const auto sixteens = std::ssize(vectors);
  std::vector<int32_t> source(static_cast<size_t>(outputs), static_cast<int32_t>(sixteens * tap_lanes));
  for (int64_t i = 0; i < count; ++i)
    source[static_cast<size_t>(filters_[static_cast<size_t>(i)])] = static_cast<int32_t>(i);
  const ChannelJoin join(std::vector<int64_t>(static_cast<size_t>(sixteens), tap_lanes), source, shift);

  const auto* images = x.const_data_ptr<float>();
  auto* out = y.mutable_data_ptr<float>();
  parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
    Padded image(height, width, channels, padding_, channels);
    std::vector<float> of_row(static_cast<size_t>(sixteens * out_width * tap_lanes));
    std::vector<ChannelPart> parts;
    for (int64_t v = 0; v < sixteens; ++v) parts.push_back({of_row.data() + v * out_width * tap_lanes, tap_lanes, 0});
    for (int64_t n = begin; n < end; ++n) {
      image.fill(images + n * height * width * channels);
      for (int64_t i = 0; i < out_height; ++i) {
        tap_sums(image.data() + i * stride_ * row, out_width, stride_ * channels, vectors, of_row.data());
        join(parts, out_width, out + (n * out_height + i) * out_width * outputs);
      }
    }
  });
  return y;
}

void DirectSizes::backward(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& gy, const at::Tensor& gx,
                           const at::Tensor& gw) const {
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t out_height = gy.size(2), out_width = gy.size(3), outputs = gy.size(1);
  const auto count = std::ssize(filters_);
  if (count == 0) {
    if (gx.defined()) at::Tensor(gx).zero_();
    return;
  }
  const at::Tensor w = weight.contiguous(channels_last);
  const auto* taps = w.const_data_ptr<float>();
  const int64_t wide = up_to_lanes(channels);
  // An image's pixel gets a gradient from pixels of the result that lie up to side - 1 - padding beyond it.
  const int64_t border = side_ - 1 - padding_, row = (out_width + 2 * border) * count;

  // Of each tap how many filters have it: the first ones, since the largest come first.
  std::vector<int64_t> having;
  for (int64_t tap = 0; tap < side_ * side_; ++tap)
    having.push_back(std::ranges::count_if(filters_, [&](int64_t f) { return has(f, tap / side_, tap % side_); }));

  std::vector<TapSums> vectors;  // of sixteen channels of x
  if (gx.defined()) {
    for (int64_t first = 0; first < channels; first += tap_lanes) {
      const int64_t lanes = std::min(tap_lanes, channels - first);
      TapSums sums;
      for (int64_t tap = 0; tap < side_ * side_; ++tap) {
        const int64_t ky = tap / side_, kx = tap % side_;
        for (int64_t i = 0; i < having[static_cast<size_t>(tap)]; ++i) {
          sums.offsets.push_back(static_cast<int32_t>((side_ - 1 - ky) * row + (side_ - 1 - kx) * count + i));
          const float* from = taps + (filters_[static_cast<size_t>(i)] * side_ * side_ + tap) * channels + first;
          const size_t before = sums.weights.size();
          sums.weights.resize(before + static_cast<size_t>(tap_lanes), 0.0F);
          std::copy_n(from, lanes, sums.weights.begin() + static_cast<int64_t>(before));
        }
      }
      if (first / tap_lanes % 2 == 0 && first + tap_lanes < channels) sums.shared = std::ssize(sums.offsets);
      vectors.push_back(std::move(sums));
    }
  }

  // Sums over the images in parts, the same for any number of threads; fewer of large weights, so that the sums take no
  // more than 32 MB, or twice the weight.
  constexpr int64_t most = int64_t{1} << 23;
  const int64_t products = side_ * side_ * count * wide;
  const int64_t parts = std::min(batch, std::clamp<int64_t>(most / products, 2, 8));
  std::vector<std::vector<float>> sums_of_parts(static_cast<size_t>(parts));
  const ChannelTake take(outputs, {filters_.begin(), filters_.end()});
  const auto* images = x.const_data_ptr<float>();
  const auto* gradients = gy.const_data_ptr<float>();
  parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
    Padded image(height, width, channels, padding_, wide), gradient(out_height, out_width, count, border, count);
    std::vector<float> of_row(vectors.size() * static_cast<size_t>(width * tap_lanes));
    for (int64_t part = begin; part < end; ++part) {
      std::vector<float>& sums = sums_of_parts[static_cast<size_t>(part)];
      if (gw.defined()) sums.assign(static_cast<size_t>(products), 0.0F);
      for (int64_t n = part * batch / parts; n < (part + 1) * batch / parts; ++n) {
        for (int64_t i = 0; i < out_height; ++i)
          take(gradients + (n * out_height + i) * out_width * outputs, out_width, gradient.at(i));
        if (gx.defined()) {
          auto* to = gx.mutable_data_ptr<float>() + n * height * width * channels;
          for (int64_t i = 0; i < height; ++i) {
            tap_sums(gradient.data() + i * row, width, count, vectors, of_row.data());
            for (size_t v = 0; v < vectors.size(); ++v) {
              const auto first = static_cast<int64_t>(v) * tap_lanes;
              const int64_t lanes = std::min(tap_lanes, channels - first);
              const float* from = of_row.data() + static_cast<int64_t>(v) * width * tap_lanes;
              for (int64_t p = 0; p < width; ++p)
                std::copy_n(from + p * tap_lanes, lanes, to + (i * width + p) * channels + first);
            }
          }
        }
        if (!gw.defined()) continue;
        image.fill(images + n * height * width * channels);
        for (int64_t tap = 0; tap < side_ * side_; ++tap) {
          const float* from = image.data() + tap / side_ * image.row() + tap % side_ * wide;
          add_tap_products(out_height, out_width, {gradient.at(0), row, count}, having[static_cast<size_t>(tap)],
                           {from, image.row(), wide}, wide, sums.data() + tap * count * wide);
        }
      }
    }
  });
  if (!gw.defined()) return;
  auto* to = gw.mutable_data_ptr<float>();
  for (int64_t tap = 0; tap < side_ * side_; ++tap) {
    for (int64_t i = 0; i < having[static_cast<size_t>(tap)]; ++i) {
      float* weights = to + (filters_[static_cast<size_t>(i)] * side_ * side_ + tap) * channels;
      for (const std::vector<float>& sums : sums_of_parts) {
        const float* from = sums.data() + (tap * count + i) * wide;
        for (int64_t c = 0; c < channels; ++c) weights[c] += from[c];
      }
    }
  }
}

}  // namespace espalier
