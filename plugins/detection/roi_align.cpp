#include "roi_align.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <espalier/error.h>
#include <espalier/isa.h>
#include <espalier/parallel.h>

namespace espalier::detection {
namespace {

// Points along one side of a cell beyond which a region is no part of any image.
constexpr double most_samples = 1e4;
// Channels that one thread adds gradients to: whole cache lines, so that threads do not disturb each other.
constexpr int64_t channel_block = 32;

// What one point along one direction reads: two neighbouring places and how much of each.
template <class T>
struct Taps {
  int64_t low = 0, high = 0;
  T of_low = 0, of_high = 0;
};

template <class T>
Taps<T> taps_at(T place, int64_t size) {
  if (place < -1 || place > static_cast<T>(size)) return {};
  place = std::max(place, T{0});
  const auto low = static_cast<int64_t>(place);
  if (low >= size - 1) return {size - 1, size - 1, 1, 0};
  const T share = place - static_cast<T>(low);
  return {low, low + 1, 1 - share, share};
}

// The points of one region along one direction: `each` for each cell.
template <class T>
struct Points {
  int64_t each = 1;
  std::vector<Taps<T>> taps;

  // begin, end: edges in places; cells: how many the region is divided into; size: of the map.
  Points(T begin, T end, int64_t cells, int64_t samples, bool aligned, int64_t size) {
    const T length = aligned ? end - begin : std::max(end - begin, T{1});
    const T cell = length / static_cast<T>(cells);
    each = samples;
    if (each == 0) {
      if (!(std::abs(cell) < static_cast<T>(most_samples)))
        throw Error("RoIAlign got a region of " + std::to_string(length) +
                    " places, which is no part of an image; the network's boxes are damaged");
      each = static_cast<int64_t>(std::ceil(cell));
    }
    for (int64_t c = 0; c < cells; ++c) {
      for (int64_t i = 0; i < each; ++i) {
        const T place = begin + static_cast<T>(c) * cell +
                        (static_cast<T>(i) + static_cast<T>(0.5)) * cell / static_cast<T>(std::max<int64_t>(each, 1));
        taps.push_back(taps_at(place, size));
      }
    }
  }
};

// The points of a region in both directions.
template <class T>
struct Region {
  Points<T> across, down;
  T share;  // of each point in the mean; an empty region has no points, and its mean is 0

  // region: number of the image, then four edges in pixels.
  Region(const T* region, const RoiAlign& o, int64_t h, int64_t w)
      : across(region[1] * scale(o) - offset(o), region[3] * scale(o) - offset(o), o.width, o.samples, o.aligned, w),
        down(region[2] * scale(o) - offset(o), region[4] * scale(o) - offset(o), o.height, o.samples, o.aligned, h),
        share(T{1} / static_cast<T>(std::max<int64_t>(across.each * down.each, 1))) {}

 private:
  static T scale(const RoiAlign& o) { return static_cast<T>(o.scale); }
  static T offset(const RoiAlign& o) { return o.aligned ? static_cast<T>(0.5) : T{0}; }
};

// Calls visit(cell, place, factor) for each of the four places that each point reads: place counts the rows of the map,
// w places each, one after the other, and cell the rows of the result.
template <class T, class Visit>
void visit_region(const Region<T>& region, const RoiAlign& o, int64_t w, const Visit& visit) {
  const int64_t points_down = region.down.each, points_across = region.across.each;
  for (int64_t row = 0; row < o.height; ++row) {
    for (int64_t column = 0; column < o.width; ++column) {
      const int64_t cell = row * o.width + column;
      for (int64_t i = 0; i < points_down; ++i) {
        const Taps<T>& y = region.down.taps.data()[row * points_down + i];
        for (int64_t j = 0; j < points_across; ++j) {
          const Taps<T>& x = region.across.taps.data()[column * points_across + j];
          visit(cell, y.low * w + x.low, y.of_low * x.of_low * region.share);
          visit(cell, y.low * w + x.high, y.of_low * x.of_high * region.share);
          visit(cell, y.high * w + x.low, y.of_high * x.of_low * region.share);
          visit(cell, y.high * w + x.high, y.of_high * x.of_high * region.share);
        }
      }
    }
  }
}

template <class T>
void add_scaled(int64_t count, T factor, const T* from, T* to) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) to[c] += factor * from[c];
}

void check_regions(const at::Tensor& values, const at::Tensor& regions, const RoiAlign& o, int64_t batch) {
  if (values.dim() != 4 || regions.dim() != 2 || regions.size(1) != 5)
    throw Error("RoIAlign needs features [batch, channels, height, width] and regions [n, 5]");
  if ((values.scalar_type() != at::kFloat && values.scalar_type() != at::kDouble) ||
      regions.scalar_type() != values.scalar_type())
    throw Error(std::string("RoIAlign needs features and regions of one type, float32 or float64; they are ") +
                c10::toString(values.scalar_type()) + " and " + c10::toString(regions.scalar_type()));
  if (!values.is_cpu() || !regions.is_cpu()) throw Error("RoIAlign computes on the CPU, and its inputs are elsewhere");
  if (o.height < 1 || o.width < 1 || o.samples < 0 || !(o.scale > 0))
    throw Error("RoIAlign needs at least one row and one column, a scale above 0, and no negative number of points");
  const at::Tensor all = regions.to(at::kDouble).contiguous();
  const auto* region = all.const_data_ptr<double>();
  for (int64_t n = 0; n < all.size(0); ++n, region += 5) {
    if (std::all_of(region, region + 5, [](double x) { return std::isfinite(x); }) && region[0] >= 0 &&
        region[0] < static_cast<double>(batch) && region[0] == std::floor(region[0])) {
      continue;
    }
    throw Error("RoIAlign got region " + std::to_string(n) + " of image " + std::to_string(region[0]) + " at [" +
                std::to_string(region[1]) + ", " + std::to_string(region[2]) + ", " + std::to_string(region[3]) + ", " +
                std::to_string(region[4]) + "], in a batch of " + std::to_string(batch));
  }
}

at::Tensor forward(const at::Tensor& given, const at::Tensor& given_regions, const RoiAlign& o) {
  check_regions(given, given_regions, o, given.size(0));
  const at::Tensor features = given.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor regions = given_regions.contiguous();
  const int64_t channels = features.size(1), h = features.size(2), w = features.size(3), n = regions.size(0);
  const at::Tensor result =
      at::zeros({n, o.height, o.width, channels}, features.options().memory_format(c10::nullopt)).permute({0, 3, 1, 2});
  AT_DISPATCH_FLOATING_TYPES(features.scalar_type(), "roi_align", [&] {
    // channels_last of one channel may have any strides: the loops take the images as [h, w, channels].
    const auto* from = features.const_data_ptr<scalar_t>();
    const auto* region = regions.const_data_ptr<scalar_t>();
    auto* to = result.mutable_data_ptr<scalar_t>();
    parallel_for(n, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const scalar_t* image = from + static_cast<int64_t>(region[5 * r]) * h * w * channels;
        scalar_t* out = to + r * o.height * o.width * channels;
        const Region<scalar_t> points(region + 5 * r, o, h, w);
        with_isa([&] {
          visit_region(points, o, w, [&](int64_t cell, int64_t place, scalar_t factor) {
            add_scaled(channels, factor, image + place * channels, out + cell * channels);
          });
        });
      }
    });
  });
  return result;
}

// The function of autograd.
struct Differentiable : torch::autograd::Function<Differentiable> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& features,
                            const at::Tensor& regions, const RoiAlign& options) {
    context->save_for_backward({regions});
    context->saved_data["options"] =
        std::vector<int64_t>{options.height, options.width, options.samples, options.aligned ? 1 : 0};
    context->saved_data["scale"] = options.scale;
    context->saved_data["sizes"] = std::vector<int64_t>{features.size(0), features.size(2), features.size(3)};
    return detection::forward(features, regions, options);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto options = context->saved_data["options"].toIntVector(),
               sizes = context->saved_data["sizes"].toIntVector();
    const RoiAlign o{.height = options[0],
                     .width = options[1],
                     .scale = context->saved_data["scale"].toDouble(),
                     .samples = options[2],
                     .aligned = options[3] != 0};
    return {
        roi_align_backward(gradients[0], context->get_saved_variables()[0], o, sizes[0], sizes[1], sizes[2]), {}, {}};
  }
};

}  // namespace

at::Tensor roi_align(const at::Tensor& features, const at::Tensor& regions, const RoiAlign& options) {
  return Differentiable::apply(features, regions.detach(), options);
}

at::Tensor roi_align_backward(const at::Tensor& given, const at::Tensor& given_regions, const RoiAlign& o,
                              int64_t batch, int64_t h, int64_t w) {
  check_regions(given, given_regions, o, batch);
  if (given.size(0) != given_regions.size(0) || given.size(2) != o.height || given.size(3) != o.width)
    throw Error("RoIAlign got a gradient of another size than its result");
  const at::Tensor gradient = given.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor regions = given_regions.contiguous();
  const int64_t channels = gradient.size(1), n = regions.size(0);
  const at::Tensor result =
      at::zeros({batch, h, w, channels}, gradient.options().memory_format(c10::nullopt)).permute({0, 3, 1, 2});
  AT_DISPATCH_FLOATING_TYPES(gradient.scalar_type(), "roi_align_backward", [&] {
    const auto* from = gradient.const_data_ptr<scalar_t>();
    const auto* region = regions.const_data_ptr<scalar_t>();
    auto* to = result.mutable_data_ptr<scalar_t>();
    // Regions overlap, so a thread has channels of its own, and adds up all regions in their order.
    const int64_t blocks = (channels + channel_block - 1) / channel_block;
    parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * channel_block, count = std::min(end * channel_block, channels) - first;
      for (int64_t r = 0; r < n; ++r) {
        scalar_t* image = to + static_cast<int64_t>(region[5 * r]) * h * w * channels + first;
        const scalar_t* in = from + r * o.height * o.width * channels + first;
        const Region<scalar_t> points(region + 5 * r, o, h, w);
        with_isa([&] {
          visit_region(points, o, w, [&](int64_t cell, int64_t place, scalar_t factor) {
            add_scaled(count, factor, in + cell * channels, image + place * channels);
          });
        });
      }
    });
  });
  return result;
}

}  // namespace espalier::detection
