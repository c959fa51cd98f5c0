#pragma once

#include <ATen/core/Tensor.h>

namespace espalier {

// What attention within windows needs to know about a size of map, on the CPU; kernels/window_attention_kernels.h says
// what each of them is.
struct WindowLayout {
  at::Tensor from, to;        // int64 [windows, tokens]
  at::Tensor rows;            // int64 [tokens, tokens]: the row of the table for each pair of tokens
  at::Tensor masks, mask_of;  // float32 [kinds, tokens, row_of(tokens)], int64 [windows]
};

// Whether fast_window_attention() can take these: float32 or bfloat16 on the CPU, with a form for its instruction set.
bool is_fast_window_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values);

// Attention within windows as one operation that keeps no weights of attention, but computes them again in the backward
// pass. Queries, keys and values: [batch, height, width, heads x head dimension]; table: [rows, heads].
// Result: [batch, out_height, out_width, heads x head dimension of the values]. Differentiable once.
at::Tensor fast_window_attention(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                                 const at::Tensor& table, const WindowLayout& layout, double scale, int64_t out_height,
                                 int64_t out_width);

}  // namespace espalier
