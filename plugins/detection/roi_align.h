#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace espalier::detection {

// How a region of a feature map is brought to a fixed size.
struct RoiAlign {
  int64_t height = 7;   // rows of the result
  int64_t width = 7;    // columns of the result
  double scale = 1;     // places of the feature map for each pixel of the image: 1 / stride
  int64_t samples = 0;  // points along each side of a cell; 0: one for each place of the map that the cell covers
  // Whether the centre of the upper left place is half a place away from the corner of the map, so that nothing is
  // shifted. Otherwise it is the corner, and regions are one place wide and high at least, as the first version had it.
  bool aligned = true;
};

// Returns the features of each region: the mean over points of each cell, interpolated between the four places around
// (He et al., Mask R-CNN, 2017). Places outside of the map are 0 from one place beyond its border on.
//
// features: [batch, channels, h, w], float32 or float64, contiguous in any order of dimensions. regions: [n, 5] of the
// same type: number of the image in the batch, then left, upper, right and lower edge in pixels of the image. The
// result is [n, channels, height, width], in channels_last memory format. Autograd differentiates it in the features
// and not in the regions. It computes on the CPU, on the threads of LibTorch, with the same bytes for every number of
// them. Throws Error if sizes or types do not fit, or if a region is of an image that is not there or not a number.
at::Tensor roi_align(const at::Tensor& features, const at::Tensor& regions, const RoiAlign& options);

// Returns the gradient of the features, [batch, channels, h, w] in channels_last memory format, from that of the
// result. batch, h and w are those of the features.
at::Tensor roi_align_backward(const at::Tensor& gradient, const at::Tensor& regions, const RoiAlign& options,
                              int64_t batch, int64_t h, int64_t w);

}  // namespace espalier::detection
