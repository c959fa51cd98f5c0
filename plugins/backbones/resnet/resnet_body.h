#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <espalier/builder.h>
#include <espalier/declare.h>

namespace espalier {

// The options of a ResNet.
struct ResnetOptions {
  double width = 1;
  std::vector<int64_t> inner;
  std::string stem = "imagenet";
  bool zero_init = false;
  double norm_eps = 1e-5;
  std::string stride_in = "3x3";
  int64_t dilated = 0;
  std::string activation = "relu";

  static void declare(Declare<ResnetOptions>& p);
};

// Which ResNet it is.
struct ResnetDepth {
  bool deep = true;                        // bottlenecks in place of basic blocks
  std::vector<int> counts = {3, 4, 6, 3};  // blocks of each stage
};

// Adds the stem and the stages of a ResNet to images [channels, height, width] and returns what each stage ends with:
// [channels, height / stride, width / stride], with strides of 4, 8, 16 and 32 (stem `imagenet`). (He et al. 2016, as
// in torchvision.) Throws Error if options do not fit each other.
std::vector<Edge> resnet_stages(GraphBuilder& g, Edge image, const ResnetOptions& options, const ResnetDepth& depth);

}  // namespace espalier
