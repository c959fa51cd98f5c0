#pragma once

#include <ATen/core/Tensor.h>

#include <espalier/component.h>

#include "average_precision.h"

namespace espalier {

// Returns the metric `coco_box`, COCO's average precision of boxes, or `coco_mask`, that of masks.
Component coco_metric(detection::IouType type);

// Returns matches as rows of a contribution, float64 [rows, 13], and the matches of such rows.
at::Tensor rows_of_matches(const detection::Matches& matches);
detection::Matches matches_of_rows(const at::Tensor& rows);

}  // namespace espalier
