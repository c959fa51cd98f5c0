#pragma once

#include "espalier/declare.h"

// The options of the SDK's own operations, as builders use them.
namespace espalier {

// The options of a convolution ("conv2d").
struct ConvOptions {
  // Side of the square kernel.
  int64_t kernel = 3;
  // Stride.
  int64_t stride = 1;
  // Zeros added on every side.
  int64_t padding = 0;
  // Distance of the kernel's taps.
  int64_t dilation = 1;
  // The channels are groups x channels, and each group has filters of its own; the axes say how many.
  bool grouped = false;
  // Each channel has one filter of its own.
  bool depthwise = false;
  // Adds a bias.
  bool bias = true;
  // Initial weights; default: PyTorch's uniform in +-1/sqrt(fan_in).
  std::string init = "default";
  // Side of each filter's kernel, up to `kernel`; empty: all whole.
  std::vector<int64_t> sizes{};

  // Declares the options.
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

// The options of a linear layer ("linear").
struct LinearOptions {
  // Adds a bias.
  bool bias = true;
  // Initial weights; default: PyTorch's uniform in +-1/sqrt(fan_in), and the bias too, which is zero otherwise.
  std::string init = "default";
  // Standard deviation of init: normal.
  double init_std = 0.01;

  // Declares the options.
  static void declare(Declare<LinearOptions>& p) {
    p("bias", &LinearOptions::bias, "adds a bias");
    p("init", &LinearOptions::init, one_of({"default", "normal", "kaiming_normal_in", "xavier_uniform"}),
      "initial weights; default: PyTorch's uniform in +-1/sqrt(fan_in), and the bias too, which is zero otherwise");
    p("init_std", &LinearOptions::init_std, above(0), "standard deviation of init: normal");
  }
};

// The options of a batch norm ("batch_norm").
struct BatchNormOptions {
  // Added to the variance.
  double eps = 1e-5;
  // Share of a new batch in the running statistics.
  double momentum = 0.1;
  // Has a trainable scale and shift.
  bool affine = true;
  // Initial scale.
  double init_weight = 1;
  // Evaluates with the running statistics of training; otherwise with those of the batch, and keeps none.
  bool track_running_stats = true;

  // Declares the options.
  static void declare(Declare<BatchNormOptions>& p) {
    p("eps", &BatchNormOptions::eps, above(0), "added to the variance");
    p("momentum", &BatchNormOptions::momentum, above(0), at_most(1), "share of a new batch in the running statistics");
    p("affine", &BatchNormOptions::affine, "has a trainable scale and shift");
    p("init_weight", &BatchNormOptions::init_weight, "initial scale");
    p("track_running_stats", &BatchNormOptions::track_running_stats,
      "evaluates with the running statistics of training; otherwise with those of the batch, and keeps none");
  }
};

// The options of a layer norm ("layer_norm").
struct LayerNormOptions {
  // Added to the variance.
  double eps = 1e-5;
  // Has a trainable scale and shift.
  bool affine = true;

  // Declares the options.
  static void declare(Declare<LayerNormOptions>& p) {
    p("eps", &LayerNormOptions::eps, above(0), "added to the variance");
    p("affine", &LayerNormOptions::affine, "has a trainable scale and shift");
  }
};

// The options of the poolings "max_pool" and "avg_pool".
struct PoolOptions {
  // Side of the square window.
  int64_t kernel = 2;
  // Stride; 0: the kernel's side.
  int64_t stride = 0;
  // Border on every side.
  int64_t padding = 0;

  // Declares the options.
  static void declare(Declare<PoolOptions>& p) {
    p("kernel", &PoolOptions::kernel, at_least(1), unit("pixels"), "side of the square window");
    p("stride", &PoolOptions::stride, at_least(0), unit("pixels"), "stride; 0: the kernel's side");
    p("padding", &PoolOptions::padding, at_least(0), unit("pixels"), "border on every side");
  }
};

// The options of "dropout" and "drop_path".
struct DropoutOptions {
  // Probability of a zero.
  double p = 0.5;

  // Declares the options.
  static void declare(Declare<DropoutOptions>& d) {
    d("p", &DropoutOptions::p, at_least(0), below(1), "probability of a zero");
  }
};

// The options of an index view ("select").
struct SelectOptions {
  // The channel that each one of the output reads; -1: zero.
  std::vector<int64_t> index;
  // Takes every so many-th row and column.
  int64_t stride = 1;
  // Channels of the output go with those that they read; otherwise they become zero.
  bool drops = false;

  // Declares the options.
  static void declare(Declare<SelectOptions>& p) {
    p("index", &SelectOptions::index, at_least(-1), "the channel that each one of the output reads; -1: zero");
    p("stride", &SelectOptions::stride, at_least(1), unit("pixels"), "takes every so many-th row and column");
    p("drops", &SelectOptions::drops,
      "channels of the output go with those that they read; otherwise they become zero");
  }
};

// The options of an attention ("attention").
struct AttentionOptions {
  // Factor of the products of queries and keys; kept when the heads' dimension changes.
  double scale = 1;

  // Declares the options.
  static void declare(Declare<AttentionOptions>& p) {
    p("scale", &AttentionOptions::scale, above(0),
      "factor of the products of queries and keys; kept when the heads' dimension changes");
  }
};

// The options of an attention within windows ("window_attention").
struct WindowAttentionOptions {
  // Side of the square windows.
  int64_t window = 7;
  // Shift of the windows, down and right.
  int64_t shift = 0;
  // Factor of the products of queries and keys; kept when the heads' dimension changes.
  double scale = 1;
  // Rows of the output, without those that only fill a window; 0: as the input.
  int64_t height = 0;
  // Columns of the output; 0: as the input.
  int64_t width = 0;

  // Declares the options.
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

// The options of trainable positions ("position_embedding").
struct PositionOptions {
  // Puts a trainable token before the others.
  bool class_token = false;
  // Standard deviation of the initial values.
  double init_std = 0.02;

  // Declares the options.
  static void declare(Declare<PositionOptions>& p) {
    p("class_token", &PositionOptions::class_token, "puts a trainable token before the others");
    p("init_std", &PositionOptions::init_std, above(0), "standard deviation of the initial values");
  }
};

// The options of a graph convolution ("graph_conv").
struct GraphConvOptions {
  // Adds a bias.
  bool bias = true;

  // Declares the options.
  static void declare(Declare<GraphConvOptions>& p) { p("bias", &GraphConvOptions::bias, "adds a bias"); }
};

// The options of the cross-entropy ("cross_entropy").
struct CrossEntropyOptions {
  // Share of the uniform distribution in the targets (training only).
  double label_smoothing = 0;

  // Declares the options.
  static void declare(Declare<CrossEntropyOptions>& p) {
    p("label_smoothing", &CrossEntropyOptions::label_smoothing, at_least(0), below(1),
      "share of the uniform distribution in the targets (training only)");
  }
};

}  // namespace espalier
