#include "kernels/window_attention_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "espalier/error.h"
#include "kernels/channel_loops.h"
#include "kernels/number_lanes.h"

namespace espalier {

namespace {

using channel_loops::load;
using channel_loops::store;

// One factor of a product: its number at (row, k).
struct Factor {
  const float* numbers;
  int64_t row, step;
};

// What one thread works in.
class Scratch {
 public:
  explicit Scratch(const WindowAttentionGeometry& g)
      : tokens(row_of(g.tokens)),
        wide(row_of(std::max(g.query, g.value))),
        memory_(static_cast<size_t>(6 * tokens * wide + 2 * g.tokens * tokens)) {}
  float* take(int64_t n) { return memory_.data() + std::exchange(taken_, taken_ + n); }

  const int64_t tokens, wide;  // filled up

 private:
  std::vector<float> memory_;
  int64_t taken_ = 0;
};

// The tokens of one window, of one head, of one tensor.
template <class T>
struct Tokens {
  T* map;            // of this image
  int64_t channels;  // of all heads
  int64_t first, count;
  const int64_t* pixel;

  T* at(int64_t t) const { return map + pixel[t] * channels + first; }
  bool is_there(int64_t t) const { return pixel[t] >= 0; }
};

template <class T>
inline Tokens<T> tokens_of(T* map, int64_t image, int64_t pixels, int64_t heads, int64_t head, int64_t count,
                           const int64_t* pixel) {
  return {map + image * pixels * heads * count, heads * count, head * count, count, pixel};
}

// What is added to the logits of a window, [tokens, row_of(tokens)]; null: nothing.
inline const float* mask_of(const WindowAttentionGeometry& g, int64_t window) {
  const int64_t kind = g.mask_of[window];
  return kind < 0 ? nullptr : g.masks + kind * g.tokens * row_of(g.tokens);
}

// In vectors of so many numbers: AVX-512's or AVX2's.
template <int lanes>
struct Windows {
  using V = channel_loops::Lanes<lanes>;
  // A product makes so many sums at a time, rows by vectors: what registers hold. This decides nothing but the time.
  static constexpr int rows = 6, columns = 2;

  using Numbers = NumberLanes<lanes>;
  static inline V exponential(V x) { return Numbers::exponential(x); }
  static inline float sum_of(V v) { return Numbers::sum_of(v); }
  static inline float largest_of(V v) {
    float m = v[0];
    for (int64_t i = 1; i < lanes; ++i) m = v[i] > m ? v[i] : m;
    return m;
  }

  template <int height, int across, class Done>
  static inline void tile(const Factor& a, const float* b, int64_t b_row, int64_t depth, int64_t i, int64_t j,
                          const Done& done) {
    V sum[height][across] = {};
    const float* x = a.numbers + i * a.row;
    const float* y = b + j;
    for (int64_t k = 0; k < depth; ++k, x += a.step, y += b_row) {
      V right[across];
#pragma GCC unroll 4
      for (int c = 0; c < across; ++c) right[c] = load<V>(y + c * lanes);
#pragma GCC unroll 8
      for (int r = 0; r < height; ++r) {
#pragma GCC unroll 4
        for (int c = 0; c < across; ++c) sum[r][c] += x[r * a.row] * right[c];
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < height; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < across; ++c) done(i + r, j + c * lanes, sum[r][c]);
    }
  }

  // done(i, j, sixteen sums from column j on) of each row i of the product of a [height, depth] and b [depth, width];
  // width is of whole vectors. How many sums are made at a time decides nothing but the time.
  template <class Done>
  static inline void product(int64_t height, int64_t width, int64_t depth, const Factor& a, const float* b,
                             int64_t b_row, const Done& done) {
    const auto down = [&]<int across>(int64_t j) {
      int64_t i = 0;
      for (; i + rows <= height; i += rows) tile<rows, across>(a, b, b_row, depth, i, j, done);
      for (; i < height; ++i) tile<1, across>(a, b, b_row, depth, i, j, done);
    };
    int64_t j = 0;
    for (; j + columns * lanes <= width; j += columns * lanes) down.template operator()<columns>(j);
    for (; j < width; j += lanes) down.template operator()<1>(j);
  }

  // to [tokens, row] = factor * the tokens
  template <class T>
  static inline void gather(const Tokens<const T>& from, int64_t tokens, float factor, float* to, int64_t row) {
    for (int64_t t = 0; t < tokens; ++t, to += row) {
      if (!from.is_there(t)) {
        for (int64_t c = 0; c < from.count; c += lanes) store(to + c, V{});
        continue;
      }
      const T* x = from.at(t);
      int64_t c = 0;
      for (; c + lanes <= from.count; c += lanes) store(to + c, Numbers::read(x + c) * factor);
      if (c < from.count) store(to + c, Numbers::read_some(x + c, from.count - c) * factor);
    }
  }

  static inline void transpose(const float* from, int64_t tokens, int64_t channels, int64_t from_row, float* to,
                               int64_t to_row) {
    for (int64_t c = 0; c < channels; c += lanes) {
      for (int64_t t = 0; t < tokens; t += lanes)
        channel_loops::transpose_block<lanes>(from + t * from_row + c, from_row, to + c * to_row + t, to_row);
    }
  }

  template <class T>
  static inline void put(const Tokens<T>& to, int64_t t, int64_t c, V v) {
    if (!to.is_there(t) || c >= to.count) return;
    if (c + lanes <= to.count) {
      Numbers::write(to.at(t) + c, v);
    } else {
      Numbers::write_some(to.at(t) + c, v, to.count - c);
    }
  }

  template <class T>
  static inline void forward(const WindowAttentionGeometry& g, int64_t begin, int64_t end, const T* q, const T* k,
                             const T* v, T* y, float* log_sum, Scratch& s) {
    const int64_t tokens = s.tokens, wide = s.wide;
    float *queries = s.take(tokens * wide), *keys = s.take(tokens * wide), *across = s.take(tokens * wide);
    float *values = s.take(tokens * wide), *weights = s.take(g.tokens * tokens);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / g.windows, window = task % g.windows;
      const int64_t *from = g.from + window * g.tokens, *to = g.to + window * g.tokens;
      const float* mask = mask_of(g, window);
      for (int64_t h = 0; h < g.heads; ++h) {
        gather(tokens_of(q, image, g.pixels, g.heads, h, g.query, from), g.tokens, static_cast<float>(g.scale), queries,
               wide);
        gather(tokens_of(k, image, g.pixels, g.heads, h, g.query, from), g.tokens, 1.0F, keys, wide);
        gather(tokens_of(v, image, g.pixels, g.heads, h, g.value, from), g.tokens, 1.0F, values, wide);
        transpose(keys, tokens, g.query, wide, across, tokens);
        const float* bias = g.bias + h * g.tokens * tokens;
        product(
            g.tokens, tokens, g.query, {queries, wide, 1}, across,
            tokens, [=](int64_t i, int64_t j, V sum) __attribute__((always_inline)) {
              sum += load<V>(bias + i * tokens + j);
              if (mask) sum += load<V>(mask + i * tokens + j);
              store(weights + i * tokens + j, sum);
            });
        float* sums = log_sum + (task * g.heads + h) * g.tokens;
        for (int64_t i = 0; i < g.tokens; ++i) {
          float* row = weights + i * tokens;
          V most = load<V>(row);
          for (int64_t j = lanes; j < tokens; j += lanes) {
            const V x = load<V>(row + j);
            most = x > most ? x : most;
          }
          const float largest = largest_of(most);
          V all{};
          for (int64_t j = 0; j < tokens; j += lanes) {
            const V e = exponential(load<V>(row + j) - largest);
            store(row + j, e);
            all += e;
          }
          const float sum = sum_of(all), share = 1 / sum;
          for (int64_t j = 0; j < tokens; j += lanes) store(row + j, load<V>(row + j) * share);
          sums[i] = largest + std::log(sum);
        }
        const Tokens<T> out = tokens_of(y, image, g.out_pixels, g.heads, h, g.value, to);
        product(
            g.tokens, row_of(g.value), g.tokens, {weights, tokens, 1}, values,
            wide, [&](int64_t i, int64_t j, V sum) __attribute__((always_inline)) { put(out, i, j, sum); });
      }
    }
  }

  template <class T>
  static inline void backward(const WindowAttentionGeometry& g, int64_t begin, int64_t end, const T* q, const T* k,
                              const T* v, const float* log_sum, const T* gy, T* gq, T* gk, T* gv, float* gbias,
                              Scratch& s) {
    const int64_t tokens = s.tokens, wide = s.wide;
    float *queries = s.take(tokens * wide), *keys = s.take(tokens * wide), *across = s.take(tokens * wide);
    float *values = s.take(tokens * wide), *values_across = s.take(tokens * wide), *given = s.take(tokens * wide);
    float *weights = s.take(g.tokens * tokens), *slopes = s.take(g.tokens * tokens);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / g.windows, window = task % g.windows;
      const int64_t *from = g.from + window * g.tokens, *to = g.to + window * g.tokens;
      const float* mask = mask_of(g, window);
      for (int64_t h = 0; h < g.heads; ++h) {
        const auto scale = static_cast<float>(g.scale);
        gather(tokens_of(q, image, g.pixels, g.heads, h, g.query, from), g.tokens, scale, queries, wide);
        gather(tokens_of(k, image, g.pixels, g.heads, h, g.query, from), g.tokens, 1.0F, keys, wide);
        gather(tokens_of(v, image, g.pixels, g.heads, h, g.value, from), g.tokens, 1.0F, values, wide);
        gather(tokens_of(gy, image, g.out_pixels, g.heads, h, g.value, to), g.tokens, 1.0F, given, wide);
        transpose(keys, tokens, g.query, wide, across, tokens);
        transpose(values, tokens, g.value, wide, values_across, tokens);
        const float* bias = g.bias + h * g.tokens * tokens;
        const float* sums = log_sum + (task * g.heads + h) * g.tokens;
        product(
            g.tokens, tokens, g.query, {queries, wide, 1}, across,
            tokens, [=](int64_t i, int64_t j, V sum) __attribute__((always_inline)) {
              sum += load<V>(bias + i * tokens + j);
              if (mask) sum += load<V>(mask + i * tokens + j);
              store(weights + i * tokens + j, exponential(sum - sums[i]));
            });
        // The gradient of the weights, and from it that of the logits: P * (dP - sum of P * dP).
        product(
            g.tokens, tokens, g.value, {given, wide, 1}, values_across,
            tokens, [=](int64_t i, int64_t j, V sum) __attribute__((always_inline)) {
              store(slopes + i * tokens + j, sum);
            });
        float* gb = gbias + h * g.tokens * tokens;
        for (int64_t i = 0; i < g.tokens; ++i) {
          const float* p = weights + i * tokens;
          float *d = slopes + i * tokens, *b = gb + i * tokens;
          V all{};
          for (int64_t j = 0; j < tokens; j += lanes) all += load<V>(p + j) * load<V>(d + j);
          const float mean = sum_of(all);
          for (int64_t j = 0; j < tokens; j += lanes) {
            const V x = load<V>(p + j) * (load<V>(d + j) - mean);
            store(d + j, x);
            store(b + j, load<V>(b + j) + x);
          }
        }
        const Tokens<T> to_q = tokens_of(gq, image, g.pixels, g.heads, h, g.query, from);
        const Tokens<T> to_k = tokens_of(gk, image, g.pixels, g.heads, h, g.query, from);
        const Tokens<T> to_v = tokens_of(gv, image, g.pixels, g.heads, h, g.value, from);
        product(
            g.tokens, row_of(g.value), g.tokens, {weights, 1, tokens}, given,
            wide, [&](int64_t i, int64_t j, V sum) __attribute__((always_inline)) { put(to_v, i, j, sum); });
        product(
            g.tokens, row_of(g.query), g.tokens, {slopes, tokens, 1}, keys,
            wide, [&](int64_t i, int64_t j, V sum) __attribute__((always_inline)) { put(to_q, i, j, sum * scale); });
        product(
            g.tokens, row_of(g.query), g.tokens, {slopes, 1, tokens}, queries,
            wide, [&](int64_t i, int64_t j, V sum) __attribute__((always_inline)) { put(to_k, i, j, sum); });
      }
    }
  }
};

// body<lanes>(), compiled for this machine's instruction set.
template <class Body>
void with_windows(const Body& body) {
  if (!channel_loops::has_lanes()) throw Error("attention within windows has no form of its own on this processor");
  channel_loops::with_lanes(
      [&]<int lanes>() { channel_loops::at_lanes<lanes>([&] { body.template operator()<lanes>(); }); });
}

}  // namespace

template <class T>
void window_attention_forward(const WindowAttentionGeometry& g, const T* q, const T* k, const T* v, T* y,
                              float* log_sum) {
  parallel_for(g.batch * g.windows, 1, [&](int64_t begin, int64_t end) {
    Scratch scratch(g);
    with_windows([&]<int lanes>() { Windows<lanes>::forward(g, begin, end, q, k, v, y, log_sum, scratch); });
  });
}

template <class T>
void window_attention_backward(const WindowAttentionGeometry& g, const T* q, const T* k, const T* v,
                               const float* log_sum, const T* gy, T* gq, T* gk, T* gv, float* gbias) {
  // The gradients of the bias are summed apart in stretches of the tasks (one for each image and window): the same ones
  // whatever the number of threads, so that the sum is.
  const int64_t tasks = g.batch * g.windows, parts = std::min<int64_t>(tasks, 32);
  const int64_t numbers = g.heads * g.tokens * row_of(g.tokens);
  std::vector<float> apart(static_cast<size_t>(parts * numbers), 0.0F);
  float* sums = apart.data();
  parallel_for(parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      Scratch scratch(g);
      with_windows([&]<int lanes>() {
        Windows<lanes>::backward(g, p * tasks / parts, (p + 1) * tasks / parts, q, k, v, log_sum, gy, gq, gk, gv,
                                 sums + p * numbers, scratch);
      });
    }
  });
  parallel_for(numbers, 4096, [=](int64_t begin, int64_t end) {
    vector_loop(begin, end, [=](int64_t i) {
      double sum = 0;
      for (int64_t p = 0; p < parts; ++p) sum += static_cast<double>(sums[p * numbers + i]);
      gbias[i] = static_cast<float>(sum);
    });
  });
}

template void window_attention_forward(const WindowAttentionGeometry&, const float*, const float*, const float*, float*,
                                       float*);
template void window_attention_forward(const WindowAttentionGeometry&, const uint16_t*, const uint16_t*,
                                       const uint16_t*, uint16_t*, float*);
template void window_attention_backward(const WindowAttentionGeometry&, const float*, const float*, const float*,
                                        const float*, const float*, float*, float*, float*, float*);
template void window_attention_backward(const WindowAttentionGeometry&, const uint16_t*, const uint16_t*,
                                        const uint16_t*, const float*, const uint16_t*, uint16_t*, uint16_t*, uint16_t*,
                                        float*);

}  // namespace espalier
