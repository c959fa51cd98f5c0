#pragma once

#include <cstdint>
#include <vector>

#include <espalier/builder.h>
#include <espalier/declare.h>

namespace espalier {

// The options of a Swin.
struct SwinOptions {
  int64_t patch = 4;                            // side of the patches, pixels
  int64_t dim = 96;                             // channels of the first stage
  std::vector<int64_t> depths = {2, 2, 6, 2};   // blocks of each stage
  std::vector<int64_t> heads = {3, 6, 12, 24};  // of each stage
  int64_t window = 7;                           // side of the windows, tokens
  int64_t mlp_ratio = 4;                        // hidden units for each channel
  double drop_path = 0.2;                       // of the last branch
  double norm_eps = 1e-5;
  bool shift_first = false;
  bool fixed_window = false;

  static void declare(Declare<SwinOptions>& p);
};

// Adds the stages of a Swin to images [3, height, width] and returns the tokens that each stage ends with, before the
// patches are merged: [height / stride, width / stride, channels], with strides of patch, 2 patch, ... and channels of
// dim, 2 dim, .... (Liu et al. 2021.) any_size: the network is for images of any height and width, as the authors have
// it for detection: maps are filled up to whole windows and cut back wherever that is needed, windows are never smaller
// than `window`, and every second block shifts them, whatever the size. It needs the operation `trim_tokens`. Throws
// Error if options do not fit each other.
std::vector<Edge> swin_stages(GraphBuilder& g, Edge image, const SwinOptions& options, bool any_size);

}  // namespace espalier
