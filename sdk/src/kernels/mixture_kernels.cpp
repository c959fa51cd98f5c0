#include "kernels/mixture_kernels.h"

#include <algorithm>

#include "kernels/channel_loops.h"

namespace espalier {

namespace {

using namespace channel_loops;

}  // namespace

void sum_of_terms(int64_t rows, int64_t channels, const std::vector<ScaledTerm>& terms, const float* shift, float* y) {
  const ScaledTerm* const first_term = terms.data();
  const ScaledTerm* const last_term = first_term + terms.size();
  for_blocks(rows, channels, [=](int64_t, int64_t first, int64_t count) {
    for_channels(channels, [=](auto zero, int64_t c) {
      using T = decltype(zero);
      const T h = load<T>(shift + c);
      for (int64_t i = first * channels + c; i < (first + count) * channels; i += channels) {
        T v = h;
        for (const ScaledTerm* t = first_term; t != last_term; ++t) v += load<T>(t->x + i) * load<T>(t->scale + c);
        store<T>(y + i, v);
      }
    });
  });
}

void term_products(int64_t rows, int64_t channels, const float* gy, const std::vector<CenteredTerm>& terms,
                   double* sum) {
  const int64_t per_block = block_rows(channels);
  const int64_t blocks = (rows + per_block - 1) / per_block;
  const auto count_terms = static_cast<int64_t>(terms.size());
  const CenteredTerm* const term = terms.data();
  // For each block the sums of gy, then the products of each term.
  const int64_t width = (count_terms + 1) * channels;
  std::vector<float> partial(static_cast<size_t>(blocks * width), 0.0F);
  float* all = partial.data();
  for_blocks(rows, channels, [=](int64_t b, int64_t first, int64_t count) {
    for_channels(channels, [=](auto zero, int64_t c) {
      using T = decltype(zero);
      const int64_t begin = first * channels + c, end = (first + count) * channels;
      T s{};
      for (int64_t i = begin; i < end; i += channels) s += load<T>(gy + i);
      store<T>(all + b * width + c, s);
      for (int64_t t = 0; t < count_terms; ++t) {
        const float* x = term[t].x;
        const T m = load<T>(term[t].mean + c);
        T p{};
        for (int64_t i = begin; i < end; i += channels) p += load<T>(gy + i) * (load<T>(x + i) - m);
        store<T>(all + b * width + (t + 1) * channels + c, p);
      }
    });
  });
  for (int64_t t = 0; t <= count_terms; ++t) {
    double* to = t == 0 ? sum : terms[static_cast<size_t>(t - 1)].products;
    std::fill(to, to + channels, 0.0);
    for (int64_t b = 0; b < blocks; ++b) {
      const float* from = all + b * width + t * channels;
      for (int64_t c = 0; c < channels; ++c) to[c] += static_cast<double>(from[c]);
    }
  }
}

void term_gradients(int64_t rows, int64_t channels, const float* gy, const std::vector<TermGradient>& terms) {
  const TermGradient* const first_term = terms.data();
  const TermGradient* const last_term = first_term + terms.size();
  for_blocks(rows, channels, [=](int64_t, int64_t first, int64_t count) {
    for_channels(channels, [=](auto zero, int64_t c) {
      using T = decltype(zero);
      const int64_t begin = first * channels + c, end = (first + count) * channels;
      for (const TermGradient* t = first_term; t != last_term; ++t) {
        const T k = load<T>(t->scale + c);
        float* gx = t->gx;
        if (!t->slope) {
          for (int64_t i = begin; i < end; i += channels) store<T>(gx + i, load<T>(gy + i) * k);
          continue;
        }
        const float* x = t->x;
        const T m = load<T>(t->mean + c), slope = load<T>(t->slope + c), offset = load<T>(t->offset + c);
        for (int64_t i = begin; i < end; i += channels)
          store<T>(gx + i, load<T>(gy + i) * k + ((load<T>(x + i) - m) * slope + offset));
      }
    });
  });
}

}  // namespace espalier
