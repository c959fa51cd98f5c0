#pragma once

#include <optional>
#include <span>

#include <ATen/core/Tensor.h>

#include "espalier/operation.h"
#include "espalier/operations.h"
#include "espalier/parts.h"

// CPU forms of operations that LibTorch has slower or in several passes. Differentiable once.
namespace espalier {

// Whether these can take a tensor: float32 on the CPU, [batch, channels, height, width] in channels_last order or
// [batch, features].
bool is_fast_cpu(const at::Tensor& x);

// The same, or bfloat16, as autocast makes activations.
bool is_fast_activation(const at::Tensor& x);

// As LibTorch's functions take what may be missing.
inline std::optional<at::Tensor> given(const at::Tensor& t) {
  return t.defined() ? std::optional(t) : std::nullopt;
}

// Throws Error if a backward pass is itself to be differentiated; what comes next cannot be.
void refuse_second_derivative();

// Whether a backward pass adds the gradient of a weight to the one there is. Where gradients are asked for as values
// (autograd::grad), they are values.
bool adds_into(const at::Tensor& weight);

// Max pooling, after or before ReLU where `relu` (the same). Undefined where the window is neither 2 nor 3 wide.
at::Tensor fast_max_pool(const at::Tensor& x, int64_t kernel, int64_t stride, int64_t padding, bool relu);

// What follows a batch normalisation at once: y = relu(gate * norm(x) + added).
struct AfterNorm {
  at::Tensor gate;   // [1, channels], or undefined
  at::Tensor added;  // like x, or undefined
  bool relu = false;
};
// A batch norm: what it multiplies and adds, what it keeps, and by which statistics it normalises.
struct NormTerm {
  at::Tensor weight, bias;               // undefined: 1 and 0
  at::Tensor running_mean, running_var;  // undefined where none are kept
  bool by_batch = true;                  // by the batch's own statistics; if not, by the running ones
  double momentum = 0.1;
  double eps = 1e-5;
  const SumOverParts* sum = nullptr;  // by the batch: that of all processes which compute it together; null: by x alone
};
// Batch normalisation together with that. x: is_fast_activation; y has its type, and so has what is added. Everything
// else is float32, and y is rounded once. By the batch, the running statistics follow. Undefined by running statistics
// where gradients are recorded.
at::Tensor fast_batch_norm(const at::Tensor& x, const NormTerm& norm, const AfterNorm& after);

// In evaluation, a batch norm and as many of the nodes behind it as are computed with it:
// y = relu(x * scale + shift + added).
struct FoldedNorm {
  at::Tensor scale, shift;  // float32 [channels]
  at::Tensor added;         // like y, or undefined
  bool relu = false;
  size_t links = 0;  // how many nodes these are, beside the norm
};
// An operation that may be computed by the one in front of it.
class FoldableNorm {
 public:
  virtual ~FoldableNorm() = default;
  // f: of the norm, whose input need not be there; chain: what follows it; sizes: of its output. Nothing where it
  // normalises by the batch.
  virtual std::optional<FoldedNorm> fold(const Forward& f, std::span<const Operation::Link> chain,
                                         at::IntArrayRef sizes) const = 0;
};
FoldedNorm fold_norm(const NormTerm& norm, const AfterNorm& after, size_t links);

// Mean and 1 / sqrt(variance + eps) of the channels of x, is_fast_activation, by a norm, [channels] each. By the batch,
// the running statistics follow; autograd is not told, as LibTorch's own batch norm does not: it keeps the running
// statistics for a backward pass that does not read them in training, and those of all layers have one version. Returns
// of how many rows mean and variance are, over all processes.
double normalising(const at::Tensor& x, const NormTerm& norm, double* mean, double* deviation);

// Convolution with stride 1 of images so small that most of a window lies in the padding (3x3 on 2x2 pixels: 20 of 36
// taps are zeros): products of matrices, one for each pair of an input and an output pixel, and none with zeros.
// weight: [filters, channels, k, k] in channels_last order. Undefined where there is little to gain.
at::Tensor fast_small_conv(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, int64_t padding);

// Every stride-th pixel of images, those that a 1x1 convolution with this stride and without padding reads. On the CPU
// such a convolution is computed as one of stride 1 of these: oneDNN's weight gradient of the strided form writes
// beyond its memory where there are few channels (as of LibTorch 2.11).
at::Tensor every_pixel(const at::Tensor& images, int64_t stride);

}  // namespace espalier
