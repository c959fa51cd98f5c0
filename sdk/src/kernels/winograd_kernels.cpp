#include "kernels/winograd_kernels.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "espalier/error.h"
#include "kernels/channel_loops.h"
#include "kernels/winograd_tiles.h"

namespace espalier {

namespace {

using channel_loops::load;
using channel_loops::store;
using namespace winograd;

// A task of the weight's gradient has at most so many channels and filters: its sums then stay in the second cache.
constexpr int64_t channels_at_once = 64, filters_at_once = 128;
constexpr int64_t gradient_tasks = 16;  // at least, where there are enough tiles

// The first n of `count` numbers, n less: half of them, a quarter, and so on.
template <int count>
struct FirstOf {
  using V = channel_loops::Lanes<count>;
  using Half = channel_loops::Lanes<count / 2>;

  static inline void write(float* p, V v, int64_t n) {
    constexpr int half = count / 2;
    Half halves[2];
    std::memcpy(halves, &v, sizeof v);
    if ((n & half) == 0) return FirstOf<half>::write(p, halves[0], n);
    store(p, halves[0]);
    FirstOf<half>::write(p + half, halves[1], n - half);
  }
};
template <>
struct FirstOf<2> {
  static inline void write(float* p, channel_loops::Lanes<2> v, int64_t n) {
    if (n > 0) *p = v[0];
  }
};

// In vectors of so many numbers: AVX-512's or AVX2's.
template <int lanes>
struct Winograd {
  using V = channel_loops::Lanes<lanes>;
  // A product makes so many sums at a time, rows by vectors: what registers hold.
  static constexpr int rows = lanes == 16 ? 8 : 6, columns = 2;

  static inline V read_some(const float* p, int64_t n) {
    float some[lanes] = {};
    std::memcpy(some, p, static_cast<size_t>(n) * sizeof(float));
    return load<V>(some);
  }
  static inline void write_some(float* p, V v, int64_t n) { FirstOf<lanes>::write(p, v, n); }
  static inline V read_up_to(const float* p, int64_t n) { return n >= lanes ? load<V>(p) : read_some(p, n); }
  static inline void write_up_to(float* p, V v, int64_t n) { n >= lanes ? store(p, v) : write_some(p, v, n); }

  // B^T d B: 4x4 numbers of an image, as they are multiplied.
  static inline void of_image(V* d) {
    const auto line = [](V & a, V & b, V & c, V & e) __attribute__((always_inline)) {
      const V first = a - c, second = b + c, third = c - b, fourth = b - e;
      a = first, b = second, c = third, e = fourth;
    };
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) line(d[i], d[4 + i], d[8 + i], d[12 + i]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) line(d[4 * i], d[4 * i + 1], d[4 * i + 2], d[4 * i + 3]);
  }
  // G g G^T: a kernel of 3x3, as it is multiplied.
  static inline void of_kernel(const V* g, V* u) {
    const auto line = [](V a, V b, V c, V * to, int step) __attribute__((always_inline)) {
      const V sum = a + c;
      to[0] = a, to[step] = 0.5F * (sum + b), to[2 * step] = 0.5F * (sum - b), to[3 * step] = c;
    };
    V half[12];
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) line(g[i], g[3 + i], g[6 + i], half + i, 3);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) line(half[3 * i], half[3 * i + 1], half[3 * i + 2], u + 4 * i, 1);
  }
  // A^T m A: 2x2 outputs of 4x4 products.
  static inline void of_products(const V* m, V* y) {
    V half[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      half[i] = m[i] + m[4 + i] + m[8 + i];
      half[4 + i] = m[4 + i] - m[8 + i] - m[12 + i];
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const V* h = half + 4 * i;
      y[2 * i] = h[0] + h[1] + h[2];
      y[2 * i + 1] = h[1] - h[2] - h[3];
    }
  }
  // A g A^T: the gradients of the products, from those of 2x2 outputs.
  static inline void of_gradient(const V* g, V* m) {
    const auto line = [](V a, V b, V * to, int step) __attribute__((always_inline)) {
      to[0] = a, to[step] = a + b, to[2 * step] = a - b, to[3 * step] = -b;
    };
    V half[8];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) line(g[i], g[2 + i], half + i, 2);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) line(half[2 * i], half[2 * i + 1], m + 4 * i, 1);
  }
  // G^T u G: the gradient of a kernel, from that of what is multiplied.
  static inline void of_kernel_gradient(const V* u, V* g) {
    const auto line = [](V a, V b, V c, V e, V * to, int step) __attribute__((always_inline)) {
      to[0] = a + 0.5F * (b + c), to[step] = 0.5F * (b - c), to[2 * step] = 0.5F * (b + c) + e;
    };
    V half[12];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) line(u[i], u[4 + i], u[8 + i], u[12 + i], half + i, 4);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) line(half[4 * i], half[4 * i + 1], half[4 * i + 2], half[4 * i + 3], g + 3 * i, 1);
  }

  // Calls body(tile, pixel, whole) for each of some tiles: pixel(i) is where the channels of its i-th pixel are, those
  // of side x side pixels that begin `before` the first output; zeros where there is none. whole: all vectors that
  // begin there, also those that end behind a pixel's channels, lie within the images.
  template <int side, class Body>
  static inline void for_tiles(const Pixels& of, const Tiles& tiles, int64_t before, int64_t first, int64_t count,
                               const float* zeros, const Body& body) {
    const int64_t safe = of.numbers() - up_to(of.channels, lanes), row = of.width * of.channels;
    Tiles::Walk at(tiles, first);
    for (int64_t t = 0; t < count; ++t, ++at) {
      const int64_t top = 2 * at.y - before, left = 2 * at.x - before;
      const int64_t corner = ((at.image * of.height + top) * of.width + left) * of.channels;
      const int64_t last = corner + (side - 1) * (row + of.channels);
      if (top >= 0 && left >= 0 && top + side <= of.height && left + side <= of.width) {
        const float* begin = of.data + corner;
        body(
            t, [=, step = of.channels](int i) { return begin + i / side * row + i % side * step; }, last <= safe);
        continue;
      }
      const float* pixel[side * side];
      for (int y = 0; y < side; ++y) {
        for (int x = 0; x < side; ++x) {
          const bool there = top + y >= 0 && top + y < of.height && left + x >= 0 && left + x < of.width;
          pixel[side * y + x] = there ? of.data + corner + y * row + x * of.channels : zeros;
        }
      }
      body(
          t, [&](int i) { return pixel[i]; }, last <= safe);
    }
  }

  // to [16, tiles_at_once, row]: some channels of some tiles, as they are multiplied.
  template <int side, class Transform>
  static inline void transform(const Pixels& of, const Tiles& tiles, int64_t before, int64_t first, int64_t count,
                               int64_t channel, int64_t channels, const float* zeros, float* to, int64_t row,
                               const Transform& transform) {
    const int64_t left = of.channels - channel;  // up to the end of the pixel
    for_tiles<side>(
        of, tiles, before, first, count,
        zeros, [=](int64_t t, const auto& pixel, bool whole) __attribute__((always_inline)) {
          float* out = to + t * row;
          for (int64_t c = 0; c < channels; c += lanes) {
            V d[side * side], m[places];
            if (whole || left - c >= lanes) {
#pragma GCC unroll 16
              for (int i = 0; i < side * side; ++i) d[i] = load<V>(pixel(i) + channel + c);
            } else {
              for (int i = 0; i < side * side; ++i) d[i] = read_some(pixel(i) + channel + c, left - c);
            }
            transform(d, m);
#pragma GCC unroll 16
            for (int64_t i = 0; i < places; ++i) store(out + i * tiles_at_once * row + c, m[i]);
          }
        });
  }
  static inline void image_transform(V* d, V* m) {
    of_image(d);
#pragma GCC unroll 16
    for (int i = 0; i < places; ++i) m[i] = d[i];
  }

  // done(i, j, sums of row i from column j on) of a [height, depth] times b [depth, across vectors]. height: whole rows
  // of products.
  template <int across, class Begin, class Done>
  static inline void product(int64_t height, int64_t depth, const float* a, int64_t a_row, int64_t a_step,
                             const float* b, int64_t b_row, const Begin& begin, const Done& done) {
    for (int64_t i = 0; i < height; i += rows) {
      V sum[rows][across];
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int c = 0; c < across; ++c) sum[r][c] = begin(i + r, c * lanes);
      }
      const float *x = a + i * a_row, *y = b;
      for (int64_t k = 0; k < depth; ++k, x += a_step, y += b_row) {
        V right[across];
#pragma GCC unroll 2
        for (int c = 0; c < across; ++c) right[c] = load<V>(y + c * lanes);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
          for (int c = 0; c < across; ++c) sum[r][c] += x[r * a_row] * right[c];
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
        for (int c = 0; c < across; ++c) done(i + r, c * lanes, sum[r][c]);
      }
    }
  }

  // What is multiplied with a patch of `depth` channels, for outputs of `width` channels: for each of the 16 places
  // stretches of columns, [depth, vectors of the stretch] one after the other.
  static inline float* stretch(float* u, int64_t place, int64_t depth, int64_t width, int64_t column) {
    return u + (place * up_to(width, lanes) + column) * depth;
  }
  static inline int64_t stretch_width(int64_t width, int64_t column) {
    return std::min<int64_t>(columns * lanes, up_to(width, lanes) - column);
  }
  // Where the vector of some columns is, in the row of a channel.
  static inline float* columns_at(float* u, int64_t place, int64_t depth, int64_t width, int64_t column, int64_t k) {
    const int64_t begin = column / (columns * lanes) * (columns * lanes);
    return stretch(u, place, depth, width, begin) + k * stretch_width(width, begin) + column - begin;
  }

  // Filters [begin, end), whole vectors but for the last ones, as columns.
  static inline void filters_as_columns(const WinogradGeometry& g, int64_t begin, int64_t end, const float* weight,
                                        float* u) {
    float block[places][lanes][lanes];
    for (int64_t f = begin; f < end; f += lanes) {
      for (int64_t c = 0; c < g.channels; c += lanes) {
        for (int64_t i = 0; i < lanes; ++i) {
          V k[9] = {}, m[places];
          for (int64_t tap = 0; tap < 9 && f + i < g.filters; ++tap)
            k[tap] = read_up_to(weight + ((f + i) * 9 + tap) * g.channels + c, g.channels - c);
          of_kernel(k, m);
          for (int64_t p = 0; p < places; ++p) store(block[p][i], m[p]);
        }
        for (int64_t p = 0; p < places; ++p) {
          channel_loops::transpose_block<lanes>(block[p][0], lanes, block[p][0], lanes);
          for (int64_t i = 0; i < std::min<int64_t>(lanes, g.channels - c); ++i)
            store(columns_at(u, p, g.channels, g.filters, f, c + i), load<V>(block[p][i]));
        }
      }
    }
  }
  // Filters [begin, end) as rows, their kernels turned round: the gradients of the channels are the columns.
  static inline void filters_as_rows(const WinogradGeometry& g, int64_t begin, int64_t end, const float* weight,
                                     float* u) {
    for (int64_t f = begin; f < end; ++f) {
      for (int64_t c = 0; c < g.channels; c += lanes) {
        V k[9], m[places];
        for (int64_t tap = 0; tap < 9; ++tap)
          k[8 - tap] = read_up_to(weight + (f * 9 + tap) * g.channels + c, g.channels - c);
        of_kernel(k, m);
        for (int64_t p = 0; p < places; ++p) store(columns_at(u, p, g.filters, g.channels, c, f), m[p]);
      }
    }
  }

  // The outputs of some tiles, [..., width] of `of`.
  static inline void convolve(const Pixels& of, const Tiles& tiles, int64_t padding, int64_t first, int64_t count,
                              const float* zeros, float* u, int64_t width, const AfterSum& after, float* v, float* m,
                              float* y) {
    const int64_t depth = of.channels, v_row = up_to(depth, lanes), m_row = up_to(width, lanes);
    transform<4>(of, tiles, padding, first, count, 0, depth, zeros, v, v_row, image_transform);
    const int64_t height = up_to(count, rows);
    const Ahead next(of, tiles, first + count), own({y, tiles.height, tiles.width, width, of.batch}, tiles, first);
    for (int64_t p = 0; p < places; ++p) {
      next.touch<0>(p);
      own.touch<1>(p);
      const float* a = v + p * tiles_at_once * v_row;
      for (int64_t j = 0; j < m_row; j += columns * lanes) {
        float* to = m + p * tiles_at_once * m_row + j;
        const float* b = stretch(u, p, depth, width, j);
        const auto zero = [](int64_t, int64_t) __attribute__((always_inline)) {
          return V{};
        };
        const auto put = [=](int64_t i, int64_t c, V sum) __attribute__((always_inline)) {
          store(to + i * m_row + c, sum);
        };
        if (m_row - j >= columns * lanes) {
          product<columns>(height, depth, a, v_row, 1, b, columns * lanes, zero, put);
        } else {
          product<1>(height, depth, a, v_row, 1, b, lanes, zero, put);
        }
      }
    }
    Tiles::Walk tile(tiles, first);
    for (int64_t t = 0; t < count; ++t, ++tile) {
      const int64_t top = 2 * tile.y, left = 2 * tile.x;
      const int64_t begin = ((tile.image * tiles.height + top) * tiles.width + left) * width;
      const bool below = top + 1 < tiles.height, beside = left + 1 < tiles.width;
      const int64_t at[4] = {begin, begin + width, begin + tiles.width * width, begin + (tiles.width + 1) * width};
      const bool there[4] = {true, beside, below, below && beside};
      for (int64_t j = 0; j < width; j += lanes) {
        V from[places], out[4];
#pragma GCC unroll 16
        for (int64_t p = 0; p < places; ++p) from[p] = load<V>(m + (p * tiles_at_once + t) * m_row + j);
        of_products(from, out);
        const int64_t n = width - j;
        const V scale = after.scale ? read_up_to(after.scale + j, n) : V{} + 1.0F;
        const V shift = after.shift ? read_up_to(after.shift + j, n) : V{};
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          if (!there[i]) continue;
          V sum = out[i] * scale + shift;
          if (after.added) sum += read_up_to(after.added + at[i] + j, n);
          if (after.relu) sum = channel_loops::relu_of<V>(sum, sum);
          write_up_to(y + at[i] + j, sum, n);
        }
      }
    }
  }

  // sums [16, filters, row of channels] += the products of some tiles' gradients and inputs, of some filters and
  // channels each.
  static inline void add_products(const Ahead& images, const Ahead& gradients, int64_t count, const float* v,
                                  int64_t v_row, int64_t channels, const float* d, int64_t d_row, int64_t filters,
                                  float* sums) {
    const int64_t height = up_to(filters, rows), width = up_to(channels, lanes);
    for (int64_t p = 0; p < places; ++p) {
      images.touch<0>(p);
      gradients.touch<0>(p);
      const float* a = d + p * tiles_at_once * d_row;
      for (int64_t j = 0; j < width; j += columns * lanes) {
        float* to = sums + p * height * v_row + j;
        const float* b = v + p * tiles_at_once * v_row + j;
        const auto begin = [=](int64_t i, int64_t c) __attribute__((always_inline)) {
          return load<V>(to + i * v_row + c);
        };
        const auto put = [=](int64_t i, int64_t c, V sum) __attribute__((always_inline)) {
          store(to + i * v_row + c, sum);
        };
        if (width - j >= columns * lanes) {
          product<columns>(height, count, a, 1, d_row, b, v_row, begin, put);
        } else {
          product<1>(height, count, a, 1, d_row, b, v_row, begin, put);
        }
      }
    }
  }
};

// Convolves with filters that `prepare` has written as they are multiplied.
template <class Prepare>
void convolve(const Pixels& of, const Tiles& tiles, int64_t padding, int64_t width, int64_t prepared,
              const AfterSum& after, float* y, const Prepare& prepare) {
  if (!has_winograd()) throw Error("this processor has neither AVX2 nor AVX-512, or ESPALIER_ISA excludes them");
  channel_loops::with_lanes([&]<int lanes>() {
    const Floats u(places * of.channels * up_to(width, lanes));
    parallel_for((prepared + lanes - 1) / lanes, 1, [&](int64_t begin, int64_t end) {
      channel_loops::at_lanes<lanes>(
          [&] { prepare.template operator()<lanes>(begin * lanes, std::min(end * lanes, prepared), u.data()); });
    });
    const int64_t all = of.batch * tiles.of_image();
    parallel_for((all + tiles_at_once - 1) / tiles_at_once, 1, [&](int64_t begin, int64_t end) {
      const Floats v(places * tiles_at_once * up_to(of.channels, lanes));
      const Floats m(places * tiles_at_once * up_to(width, lanes));
      const std::vector<float> zeros(static_cast<size_t>(up_to(of.channels, lanes)), 0.0F);
      channel_loops::at_lanes<lanes>([&] {
        for (int64_t b = begin; b < end; ++b) {
          const int64_t first = b * tiles_at_once;
          Winograd<lanes>::convolve(of, tiles, padding, first, std::min(tiles_at_once, all - first), zeros.data(),
                                    u.data(), width, after, v.data(), m.data(), y);
        }
      });
    });
  });
}

}  // namespace

bool has_winograd() {
  return channel_loops::has_lanes();
}

void winograd_forward(const WinogradGeometry& g, const float* x, const float* weight, const AfterSum& after, float* y) {
  convolve({x, g.height, g.width, g.channels, g.batch}, {g.out_height(), g.out_width()}, g.padding, g.filters,
           g.filters, after, y, [&]<int lanes>(int64_t begin, int64_t end, float* u) {
             Winograd<lanes>::filters_as_columns(g, begin, end, weight, u);
           });
}

void winograd_input_gradient(const WinogradGeometry& g, const float* gy, const float* weight, float* gx) {
  convolve({gy, g.out_height(), g.out_width(), g.filters, g.batch}, {g.height, g.width}, 2 - g.padding, g.channels,
           g.filters, {}, gx, [&]<int lanes>(int64_t begin, int64_t end, float* u) {
             Winograd<lanes>::filters_as_rows(g, begin, end, weight, u);
           });
}

void winograd_weight_gradient(const WinogradGeometry& g, const float* x, const float* gy, bool add, float* gw) {
  if (!has_winograd()) throw Error("this processor has neither AVX2 nor AVX-512, or ESPALIER_ISA excludes them");
  const Tiles tiles{g.out_height(), g.out_width()};
  const Pixels images{x, g.height, g.width, g.channels, g.batch};
  const Pixels gradients{gy, tiles.height, tiles.width, g.filters, g.batch};
  const int64_t all = g.batch * tiles.of_image(), chunks = (all + tiles_at_once - 1) / tiles_at_once;
  // Tasks: some channels and some filters, of a stretch of the tiles. None of this depends on the number of threads.
  const int64_t by_channels = (g.channels + channels_at_once - 1) / channels_at_once;
  const int64_t by_filters = (g.filters + filters_at_once - 1) / filters_at_once;
  const int64_t stretches =
      std::clamp<int64_t>((gradient_tasks + by_channels * by_filters - 1) / (by_channels * by_filters), 1, chunks);
  channel_loops::with_lanes([&]<int lanes>() {
    const int64_t row = std::min(channels_at_once, up_to(g.channels, lanes));
    const int64_t d_row = std::min(filters_at_once, up_to(g.filters, lanes));
    const int64_t height = up_to(std::min(filters_at_once, g.filters), Winograd<lanes>::rows);
    const int64_t numbers = places * height * row;  // of a task
    const Floats sums(by_channels * by_filters * stretches * numbers);
    parallel_for(by_channels * by_filters * stretches, 1, [&](int64_t begin, int64_t end) {
      const Floats v(places * tiles_at_once * row), d(places * tiles_at_once * d_row + lanes);
      const std::vector<float> zeros(static_cast<size_t>(up_to(std::max(g.channels, g.filters), lanes)), 0.0F);
      channel_loops::at_lanes<lanes>([&] {
        using W = Winograd<lanes>;
        for (int64_t task = begin; task < end; ++task) {
          const int64_t stretch = task % stretches, block = task / stretches;
          const int64_t c = block % by_channels * channels_at_once, f = block / by_channels * filters_at_once;
          const int64_t some_channels = std::min(channels_at_once, g.channels - c);
          const int64_t some_filters = std::min(filters_at_once, g.filters - f);
          float* to = sums.data() + task * numbers;
          std::fill(to, to + numbers, 0.0F);
          for (int64_t k = stretch * chunks / stretches; k < (stretch + 1) * chunks / stretches; ++k) {
            const int64_t first = k * tiles_at_once, count = std::min(tiles_at_once, all - first);
            W::template transform<4>(images, tiles, g.padding, first, count, c, some_channels, zeros.data(), v.data(),
                                     row, W::image_transform);
            W::template transform<2>(gradients, tiles, 0, first, count, f, some_filters, zeros.data(), d.data(), d_row,
                                     W::of_gradient);
            W::add_products(Ahead(images, tiles, first + count), Ahead(gradients, tiles, first + count), count,
                            v.data(), row, some_channels, d.data(), d_row, some_filters, to);
          }
        }
      });
    });
    parallel_for(g.filters, 8, [&](int64_t begin, int64_t end) {
      channel_loops::at_lanes<lanes>([&] {
        using W = Winograd<lanes>;
        using V = typename W::V;
        for (int64_t f = begin; f < end; ++f) {
          const int64_t first = f / filters_at_once * filters_at_once;
          const int64_t rows = up_to(std::min(filters_at_once, g.filters - first), W::rows);
          for (int64_t c = 0; c < g.channels; c += lanes) {
            const int64_t block = f / filters_at_once * by_channels + c / channels_at_once;
            V sum[places] = {}, k[9];
            for (int64_t s = 0; s < stretches; ++s) {
              const float* from =
                  sums.data() + (block * stretches + s) * numbers + (f - first) * row + c % channels_at_once;
              for (int64_t p = 0; p < places; ++p) sum[p] += load<V>(from + p * rows * row);
            }
            W::of_kernel_gradient(sum, k);
            for (int64_t tap = 0; tap < 9; ++tap) {
              float* to = gw + (f * 9 + tap) * g.channels + c;
              const int64_t some = g.channels - c;
              W::write_up_to(to, add ? W::read_up_to(to, some) + k[tap] : k[tap], some);
            }
          }
        }
      });
    });
  });
}

}  // namespace espalier
