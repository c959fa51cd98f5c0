#pragma once

#include "espalier/declare.h"

// The options of the SDK's own operations, as builders use them.
namespace espalier {

struct ConvOptions {
  int64_t kernel = 3;
  int64_t stride = 1;
  int64_t padding = 0;
  int64_t dilation = 1;
  bool grouped = false;
  bool depthwise = false;
  bool bias = true;
  std::string init = "default";
  std::vector<int64_t> sizes{};

  static void declare(Declare<ConvOptions>& p) {
    p("kernel", &ConvOptions::kernel, at_least(1), unit("pixels"), "side of the square kernel");
    p("stride", &ConvOptions::stride, at_least(1), unit("pixels"), "stride");
    p("padding", &ConvOptions::padding, at_least(0), unit("pixels"), "zeros added on every side");
    p("dilation", &ConvOptions::dilation, at_least(1), unit("pixels"), "distance of the kernel's taps");
    p("grouped", &ConvOptions::grouped,
      "the channels are groups x channels, and each group has filters of its own; the axes say how many");
    p("depthwise", &ConvOptions::depthwise, "each channel has one filter of its own");
    p("bias", &ConvOptions::bias, "adds a bias");
    p("init", &ConvOptions::init, one_of({"default", "kaiming_normal_in", "kaiming_normal_out"}),
      "initial weights; default: PyTorch's uniform in +-1/sqrt(fan_in)");
    p("sizes", &ConvOptions::sizes, unit("pixels"), "side of each filter's kernel, up to `kernel`; empty: all whole");
  }
};

struct LinearOptions {
  bool bias = true;
  std::string init = "default";
  double init_std = 0.01;

  static void declare(Declare<LinearOptions>& p) {
    p("bias", &LinearOptions::bias, "adds a bias");
    p("init", &LinearOptions::init, one_of({"default", "normal", "kaiming_normal_in", "xavier_uniform"}),
      "initial weights; default: PyTorch's uniform in +-1/sqrt(fan_in), and the bias too, which is zero otherwise");
    p("init_std", &LinearOptions::init_std, above(0), "standard deviation of init: normal");
  }
};

struct BatchNormOptions {
  double eps = 1e-5;
  double momentum = 0.1;
  bool affine = true;
  double init_weight = 1;
  bool track_running_stats = true;

  static void declare(Declare<BatchNormOptions>& p) {
    p("eps", &BatchNormOptions::eps, above(0), "added to the variance");
    p("momentum", &BatchNormOptions::momentum, above(0), at_most(1), "share of a new batch in the running statistics");
    p("affine", &BatchNormOptions::affine, "has a trainable scale and shift");
    p("init_weight", &BatchNormOptions::init_weight, "initial scale");
    p("track_running_stats", &BatchNormOptions::track_running_stats,
      "evaluates with the running statistics of training; otherwise with those of the batch, and keeps none");
  }
};

struct LayerNormOptions {
  double eps = 1e-5;
  bool affine = true;

  static void declare(Declare<LayerNormOptions>& p) {
    p("eps", &LayerNormOptions::eps, above(0), "added to the variance");
    p("affine", &LayerNormOptions::affine, "has a trainable scale and shift");
  }
};

struct PoolOptions {
  int64_t kernel = 2;
  int64_t stride = 0;
  int64_t padding = 0;

  static void declare(Declare<PoolOptions>& p) {
    p("kernel", &PoolOptions::kernel, at_least(1), unit("pixels"), "side of the square window");
    p("stride", &PoolOptions::stride, at_least(0), unit("pixels"), "stride; 0: the kernel's side");
    p("padding", &PoolOptions::padding, at_least(0), unit("pixels"), "border on every side");
  }
};

struct DropoutOptions {
  double p = 0.5;

  static void declare(Declare<DropoutOptions>& d) {
    d("p", &DropoutOptions::p, at_least(0), below(1), "probability of a zero");
  }
};

struct SelectOptions {
  std::vector<int64_t> index;
  int64_t stride = 1;
  bool drops = false;

  static void declare(Declare<SelectOptions>& p) {
    p("index", &SelectOptions::index, at_least(-1), "the channel that each one of the output reads; -1: zero");
    p("stride", &SelectOptions::stride, at_least(1), unit("pixels"), "takes every so many-th row and column");
    p("drops", &SelectOptions::drops,
      "channels of the output go with those that they read; otherwise they become zero");
  }
};

struct AttentionOptions {
  double scale = 1;

  static void declare(Declare<AttentionOptions>& p) {
    p("scale", &AttentionOptions::scale, above(0),
      "factor of the products of queries and keys; kept when the heads' dimension changes");
  }
};

struct WindowAttentionOptions {
  int64_t window = 7;
  int64_t shift = 0;
  double scale = 1;
  int64_t height = 0;
  int64_t width = 0;

  static void declare(Declare<WindowAttentionOptions>& p) {
    p("window", &WindowAttentionOptions::window, at_least(1), unit("tokens"), "side of the square windows");
    p("shift", &WindowAttentionOptions::shift, at_least(0), unit("tokens"), "shift of the windows, down and right");
    p("scale", &WindowAttentionOptions::scale, above(0),
      "factor of the products of queries and keys; kept when the heads' dimension changes");
    p("height", &WindowAttentionOptions::height, at_least(0), unit("tokens"),
      "rows of the output, without those that only fill a window; 0: as the input");
    p("width", &WindowAttentionOptions::width, at_least(0), unit("tokens"), "columns of the output; 0: as the input");
  }
};

struct PositionOptions {
  bool class_token = false;
  double init_std = 0.02;

  static void declare(Declare<PositionOptions>& p) {
    p("class_token", &PositionOptions::class_token, "puts a trainable token before the others");
    p("init_std", &PositionOptions::init_std, above(0), "standard deviation of the initial values");
  }
};

struct GraphConvOptions {
  bool bias = true;

  static void declare(Declare<GraphConvOptions>& p) { p("bias", &GraphConvOptions::bias, "adds a bias"); }
};

struct CrossEntropyOptions {
  double label_smoothing = 0;

  static void declare(Declare<CrossEntropyOptions>& p) {
    p("label_smoothing", &CrossEntropyOptions::label_smoothing, at_least(0), below(1),
      "share of the uniform distribution in the targets (training only)");
  }
};

}  // namespace espalier
