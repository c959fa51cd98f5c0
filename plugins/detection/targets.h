#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include <espalier/batch.h>

#include "masks.h"

// What a batch holds where objects are to be found in images: the task "detection" (TargetSpec::task). Boxes are left,
// upper, right and lower edge in pixels of the image that the network gets; the images of a batch stand in the left
// upper corner of its input. The inputs and targets are:
//   sizes         an input, [batch, 2], of the weights' dtype: height and width of each image without its padding
//   image         int64 [batch, 3]: id of the image, height and width of its file
//   target        a row for each object that is to be found: its class, int64
//   boxes         its box, float32 [rows, 4]
//   masks         its mask in the image that the network gets, if the data have masks: see masks_of
//   ignored       the boxes of crowds and of what else is neither object nor background, float32 [rows, 4]
// Batches of an evaluation hold besides, in pixels of the image's file and with nothing left out:
//   truth         float64 [rows, 7]: class, left and upper edge, width, height, area, and 1 for a crowd, else 0
//   truth_masks   its mask
// A network that finds objects has these outputs, which metrics look at:
//   detections    floating point [rows, 6]: box, score, class; those of an image stand together
//   detections.offsets   int64 [batch + 1]: where those of each image begin
//   masks         floating point [rows, height, width]: how probably each part of the box belongs to the object
namespace espalier::detection {

// The word of the task.
inline constexpr char task[] = "detection";

// Masks are kept under two names, since each has a number of runs of its own: NAME, int64, has the runs of all masks
// (Rle), and NAME_runs, int64, how many each mask has. Adds those of one sample.
void add_masks(NamedTensors& rows, const std::string& name, std::span<const Rle> masks);
// Returns the masks of one sample of a batch, of images of this size. Throws Error if there are none under this name,
// or if they are of another size.
std::vector<Rle> masks_of(const Batch& batch, const std::string& name, int64_t sample, int64_t height, int64_t width);

// Returns the rows of one sample (Batch::targets) of tensors by name, on the CPU. `what` says what they are, for
// errors: "target".
at::Tensor rows_of(const NamedTensors& tensors, const std::string& name, int64_t sample, std::string_view what);
// The same of rows and their offsets, int64 [batch + 1].
at::Tensor rows_of(const at::Tensor& rows, const at::Tensor& offsets, int64_t sample);

}  // namespace espalier::detection
