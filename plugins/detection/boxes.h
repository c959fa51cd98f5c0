#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

// Boxes are tensors [..., 4] of floating point: left, upper, right and lower edge, in pixels of the image that the
// network gets. All functions work on any device, and autograd differentiates them.
namespace espalier::detection {

// How differences between boxes are scaled, as DeltaXYWHBBoxCoder of mmdetection does it.
struct BoxCoding {
  std::array<double, 4> mean = {0, 0, 0, 0};       // of the differences in x, y, width and height
  std::array<double, 4> deviation = {1, 1, 1, 1};  // their standard deviations, above 0
  // The largest ratio of widths, or of heights, that decoding gives, and one over the smallest.
  double largest_ratio = 1000.0 / 16;
};

// An image's size.
struct ImageSize {
  int64_t height = 0;  // pixels
  int64_t width = 0;   // pixels
};

// Returns how `targets` differ from `boxes`, both [n, 4] of positive sizes: [n, 4], the differences of the centres in
// x and y as shares of the box's width and height, and the logarithms of the ratios of widths and of heights, each less
// its mean and divided by its deviation (Girshick et al., Rich feature hierarchies, 2014, appendix C).
at::Tensor encode_boxes(const at::Tensor& boxes, const at::Tensor& targets, const BoxCoding& coding = {});
// Returns the boxes that differ by `deltas` from `boxes` [n, 4]. deltas: [n, 4], or [n, 4 classes] for boxes of each
// class; the result is like it. Ratios are limited by the coding, and with an image's size, no edge lies outside of the
// image.
at::Tensor decode_boxes(const at::Tensor& boxes, const at::Tensor& deltas, const BoxCoding& coding = {},
                        std::optional<ImageSize> image = std::nullopt);

// Returns the areas of boxes [..., 4]: [...].
at::Tensor box_areas(const at::Tensor& boxes);
// Returns the intersection over the union of each pair of boxes [n, 4] and [m, 4]: [n, m]. A union counts as `least`
// square pixels at least, so that two empty boxes have an IoU of 0.
at::Tensor pairwise_iou(const at::Tensor& a, const at::Tensor& b, double least = 1e-6);
// Returns the same of boxes side by side, [..., 4] and [..., 4]: [...].
at::Tensor aligned_iou(const at::Tensor& a, const at::Tensor& b, double least = 1e-6);
// Returns the generalised IoU of boxes side by side: the IoU less the share of the smallest box around both that
// neither covers, between -1 and 1 (Rezatofighi et al., 2019).
at::Tensor aligned_giou(const at::Tensor& a, const at::Tensor& b, double least = 1e-6);
// Returns the generalised IoU of each pair of boxes [n, 4] and [m, 4]: [n, m].
at::Tensor pairwise_giou(const at::Tensor& a, const at::Tensor& b, double least = 1e-6);

// Which anchors a feature level has at each place.
struct AnchorOptions {
  double scale = 8;                            // side of a square anchor, in strides
  std::array<double, 3> ratios = {0.5, 1, 2};  // height over width
};

// Returns the anchors of a feature level of height x width places that lie `stride` pixels apart: float32 [height *
// width * 3, 4], row by row, at each place in the order of the ratios. Their centres are the left upper corners of the
// places, (column * stride, row * stride), and they are not rounded, as AnchorGenerator of mmdetection has them. Some
// lie partly outside of the image.
at::Tensor make_anchors(int64_t height, int64_t width, int64_t stride, const AnchorOptions& options = {});

// Returns on which of `levels` feature levels each box [n, 4] is looked at: int64 [n], from 0. Boxes whose area is
// below that of a square of twice `finest` pixels belong to level 0, and each doubling of the side is a level more (Lin
// et al., Feature pyramid networks, 2017, equation 1; `finest` is 56 for strides from 4 on).
at::Tensor feature_levels(const at::Tensor& boxes, int64_t levels, double finest = 56);

}  // namespace espalier::detection
