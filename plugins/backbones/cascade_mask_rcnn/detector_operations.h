#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include <espalier/component.h>
#include <espalier/operation.h>
#include <espalier/rows.h>
#include <espalier/weights.h>

#include "boxes.h"

// The operations of the detector. Regions are rows [5]: the number of the image in the batch, then left, upper, right
// and lower edge in pixels of the image that the network gets; those of an image stand together, in the order of the
// images. No derivative goes through them.
namespace espalier {

std::vector<Component> map_operations();       // upsample, to_image, trim_tokens, conv_transpose
std::vector<Component> proposal_operations();  // level_conv, rpn_head, anchors, proposals, sample_regions
std::vector<Component> region_operations();    // roi_align, decode_boxes, refine_regions, mask_regions
std::vector<Component> result_operations();    // detections, mask_probabilities
Component mask_rcnn_loss();                    // the loss

// The strides of the feature levels: those that regions are read from, and one more for proposals.
inline constexpr std::array<int64_t, 5> strides = {4, 8, 16, 32, 64};
// The heights over the widths of the anchors at each place.
inline constexpr int64_t anchor_shapes = 3;

// How the differences of boxes are scaled in a stage of the cascade, from 0: as Cai & Vasconcelos 2018 have it in
// mmdetection, those of a later stage are smaller.
detection::BoxCoding stage_coding(int64_t stage);

// Returns how many rows and columns a feature level has in an image of so many rows or columns.
inline int64_t level_size(int64_t pixels, int64_t stride) {
  return (pixels + stride - 1) / stride;
}

// Throws Error that says why a detector has no form for other programs.
[[noreturn]] void refuse_form(const Node& node);

// Of each image of a batch, where its regions begin, and the end.
std::vector<int64_t> begins_of(const at::Tensor& regions, int64_t images);
// Boxes within an image; size: [2], height and width, pixels, on the CPU.
at::Tensor clipped(const at::Tensor& boxes, const at::Tensor& size);
// Regions of boxes [n, 4] of an image.
at::Tensor regions_of(const at::Tensor& boxes, int64_t image);

// The targets that operations read in training, behind their other inputs: classes, boxes, and where the boxes of each
// image begin.
class ReadsTargets : public ReadsByPass {
 public:
  // first: how many inputs come before.
  explicit ReadsTargets(size_t first) : first_(first) {}
  bool reads(size_t input, const Pass& pass) const override { return input < first_ || pass.training; }

 private:
  size_t first_;
};

}  // namespace espalier
