#pragma once

#include <cstdint>

namespace espalier {

// Attention within windows (operations/window_attention.cpp says which) of tokens that stand in maps of
// [batch, pixels, heads x head dimension], float32 or bfloat16. Products and sums are float32.
struct WindowAttentionGeometry {
  int64_t batch, windows, tokens;  // tokens: of one window
  int64_t heads, query, value;     // query, value: dimensions of a head
  int64_t pixels, out_pixels;      // of a map
  double scale;
  const int64_t* from;     // [windows, tokens]: the pixel of the inputs that is this token
  const int64_t* to;       // [windows, tokens]: its pixel of the output, -1 where the output has none
  const float* bias;       // [heads, tokens, row_of(tokens)], with `absent` behind the tokens of each row
  const float* masks;      // [kinds, tokens, row_of(tokens)]: what is added to logits
  const int64_t* mask_of;  // [windows]: the kind of mask of each window, -1 for none
};

// Rows of logits and head dimensions are filled up to whole vectors.
constexpr int64_t row_of(int64_t n) {
  return (n + 15) / 16 * 16;
}
// The bias of a token that is not there: its weight is exactly 0.
constexpr float absent = -1e30F;

// T: float, or uint16_t for the bits of bfloat16.
// y = softmax(scale q k^T + bias + mask) v. log_sum [batch, windows, heads, tokens]: the logarithm of the sum of each
// row's exponentials, for the backward pass.
template <class T>
void window_attention_forward(const WindowAttentionGeometry& g, const T* q, const T* k, const T* v, T* y,
                              float* log_sum);

// gq, gk, gv, and gbias, [heads, tokens, row_of(tokens)]: written whole.
template <class T>
void window_attention_backward(const WindowAttentionGeometry& g, const T* q, const T* k, const T* v,
                               const float* log_sum, const T* gy, T* gq, T* gk, T* gv, float* gbias);

}  // namespace espalier
