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
  // Zeros that are added on every side.
  int64_t padding = 0;
  // Distance between the taps of the kernel.
  int64_t dilation = 1;
  // Whether the channels are groups x channels, and each group has filters of its own. The axes say how many.
  bool grouped = false;
  // Whether each channel has one filter of its own.
  bool depthwise = false;
  // Whether a bias is added.
  bool bias = true;
  // Initial weights; default: PyTorch's uniform distribution in +-1/sqrt(fan_in).
  std::string init = "default";
  // Side of each filter's kernel, at most `kernel`. Left out: all kernels are whole.
  std::vector<int64_t> sizes{};
  // Side on which smaller kernels lack the first row and column: top_left or bottom_right.
  std::string corner = "top_left";

  // Declares the options.
  static void declare(Declare<ConvOptions>& p) {
    p("kernel", &ConvOptions::kernel, at_least(1), unit("pixels"), "Side of the square kernel.");
    p("stride", &ConvOptions::stride, at_least(1), unit("pixels"), "Stride.");
    p("padding", &ConvOptions::padding, at_least(0), unit("pixels"), "Zeros that are added on every side.");
    p("dilation", &ConvOptions::dilation, at_least(1), unit("pixels"), "Distance between the taps of the kernel.");
    p("grouped", &ConvOptions::grouped,
      "Whether the channels are groups x channels, and each group has filters of its own. The axes say how "
      "many.");
    p("depthwise", &ConvOptions::depthwise, "Whether each channel has one filter of its own.");
    p("bias", &ConvOptions::bias, "Whether a bias is added.");
    p("init", &ConvOptions::init, one_of({"default", "kaiming_normal_in", "kaiming_normal_out"}),
      "Initial weights; default: PyTorch's uniform distribution in +-1/sqrt(fan_in).");
    p("sizes", &ConvOptions::sizes, unit("pixels"),
      "Side of each filter's kernel, at most `kernel`. Left out: all kernels are whole.");
    p("corner", &ConvOptions::corner, one_of({"top_left", "bottom_right"}),
      "Side on which smaller kernels lack the first row and column; from then on the sides take turns.");
  }
};

// The options of a linear layer ("linear").
struct LinearOptions {
  // Whether a bias is added.
  bool bias = true;
  // Initial weights; default: PyTorch's uniform distribution in +-1/sqrt(fan_in), for the bias too, which is zero
  // otherwise.
  std::string init = "default";
  // Standard deviation of `init: normal`.
  double init_std = 0.01;

  // Declares the options.
  static void declare(Declare<LinearOptions>& p) {
    p("bias", &LinearOptions::bias, "Whether a bias is added.");
    p("init", &LinearOptions::init, one_of({"default", "normal", "kaiming_normal_in", "xavier_uniform"}),
      "Initial weights; default: PyTorch's uniform distribution in +-1/sqrt(fan_in), for the bias too, "
      "which is zero otherwise.");
    p("init_std", &LinearOptions::init_std, above(0), "Standard deviation of `init: normal`.");
  }
};

// The options of a batch norm ("batch_norm").
struct BatchNormOptions {
  // Number that is added to the variance.
  double eps = 1e-5;
  // Share of a new batch in the running statistics.
  double momentum = 0.1;
  // Whether there is a trainable scale and shift.
  bool affine = true;
  // Initial scale.
  double init_weight = 1;
  // Whether it evaluates with running statistics of the training. If not, it uses those of the batch and keeps none.
  bool track_running_stats = true;

  // Declares the options.
  static void declare(Declare<BatchNormOptions>& p) {
    p("eps", &BatchNormOptions::eps, above(0), "Number that is added to the variance.");
    p("momentum", &BatchNormOptions::momentum, above(0), at_most(1), "Share of a new batch in the running statistics.");
    p("affine", &BatchNormOptions::affine, "Whether there is a trainable scale and shift.");
    p("init_weight", &BatchNormOptions::init_weight, "Initial scale.");
    p("track_running_stats", &BatchNormOptions::track_running_stats,
      "Whether it evaluates with running statistics of the training. If not, it uses those of the batch and "
      "keeps none.");
  }
};

// The options of a layer norm ("layer_norm").
struct LayerNormOptions {
  // Number that is added to the variance.
  double eps = 1e-5;
  // Whether there is a trainable scale and shift.
  bool affine = true;

  // Declares the options.
  static void declare(Declare<LayerNormOptions>& p) {
    p("eps", &LayerNormOptions::eps, above(0), "Number that is added to the variance.");
    p("affine", &LayerNormOptions::affine, "Whether there is a trainable scale and shift.");
  }
};

// The options of the poolings "max_pool" and "avg_pool".
struct PoolOptions {
  // Side of the square window.
  int64_t kernel = 2;
  // Stride; 0: the side of the kernel.
  int64_t stride = 0;
  // Border on every side, which does not count.
  int64_t padding = 0;

  // Declares the options.
  static void declare(Declare<PoolOptions>& p) {
    p("kernel", &PoolOptions::kernel, at_least(1), unit("pixels"), "Side of the square window.");
    p("stride", &PoolOptions::stride, at_least(0), unit("pixels"), "Stride; 0: the side of the kernel.");
    p("padding", &PoolOptions::padding, at_least(0), unit("pixels"), "Border on every side, which does not count.");
  }
};

// The options of "dropout".
struct DropoutOptions {
  // Probability of a zero.
  double p = 0.5;

  // Declares the options.
  static void declare(Declare<DropoutOptions>& d) {
    d("p", &DropoutOptions::p, at_least(0), below(1), "Probability of a zero.");
  }
};

// The options of "drop_path".
struct DropPathOptions {
  // Probability of a zero.
  double p = 0.5;
  // Whether the probability rises with the epochs, linearly from 0.
  bool rises = false;

  // Declares the options.
  static void declare(Declare<DropPathOptions>& d) {
    d("p", &DropPathOptions::p, at_least(0), below(1), "Probability of a zero.");
    d("rises", &DropPathOptions::rises,
      "Whether the probability rises linearly: 0 in the first epoch of a stage, and p when all epochs are over.");
  }
};

// The options of an index view ("select").
struct SelectOptions {
  // Channel that each channel of the output reads; -1: zero.
  std::vector<int64_t> index;
  // Distance between the rows and columns that are taken.
  int64_t stride = 1;
  // Whether channels of the output are removed together with those that they read. If not, they become zero.
  bool drops = false;

  // Declares the options.
  static void declare(Declare<SelectOptions>& p) {
    p("index", &SelectOptions::index, at_least(-1), "Channel that each channel of the output reads; -1: zero.");
    p("stride", &SelectOptions::stride, at_least(1), unit("pixels"),
      "Distance between the rows and columns that are taken.");
    p("drops", &SelectOptions::drops,
      "Whether channels of the output are removed together with those that they read. If not, they become "
      "zero.");
  }
};

// The options of an attention ("attention").
struct AttentionOptions {
  // Factor of the products of queries and keys. It stays when the dimension of the heads changes.
  double scale = 1;

  // Declares the options.
  static void declare(Declare<AttentionOptions>& p) {
    p("scale", &AttentionOptions::scale, above(0),
      "Factor of the products of queries and keys. It stays when the dimension of the heads changes.");
  }
};

// The options of an attention within windows ("window_attention").
struct WindowAttentionOptions {
  // Side of the square windows.
  int64_t window = 7;
  // Shift of the windows, down and to the right.
  int64_t shift = 0;
  // Factor of the products of queries and keys. It stays when the dimension of the heads changes.
  double scale = 1;
  // Rows of the output, without those that only fill a window; 0: as many as the input has.
  int64_t height = 0;
  // Columns of the output; 0: as many as the input has.
  int64_t width = 0;
  // Whether the output is shifted before it is filled up to whole windows: then what fills it stays behind it, instead
  // of going around with it.
  bool shift_first = false;

  // Declares the options.
  static void declare(Declare<WindowAttentionOptions>& p) {
    p("window", &WindowAttentionOptions::window, at_least(1), unit("tokens"), "Side of the square windows.");
    p("shift", &WindowAttentionOptions::shift, at_least(0), unit("tokens"),
      "Shift of the windows, down and to the right.");
    p("scale", &WindowAttentionOptions::scale, above(0),
      "Factor of the products of queries and keys. It stays when the dimension of the heads changes.");
    p("height", &WindowAttentionOptions::height, at_least(0), unit("tokens"),
      "Rows of the output, without those that only fill a window; 0: as many as the input has.");
    p("width", &WindowAttentionOptions::width, at_least(0), unit("tokens"),
      "Columns of the output; 0: as many as the input has.");
    p("shift_first", &WindowAttentionOptions::shift_first,
      "Whether the output is shifted before it is filled up to whole windows: then what fills it stays behind it, "
      "instead of going around with it.");
  }
};

// The options of trainable positions ("position_embedding").
struct PositionOptions {
  // Whether a trainable token is put before the others.
  bool class_token = false;
  // Whether a second trainable token is put behind it (Touvron et al. 2021). Needs the first.
  bool distillation_token = false;
  // Standard deviation of the initial values.
  double init_std = 0.02;

  // Declares the options.
  static void declare(Declare<PositionOptions>& p) {
    p("class_token", &PositionOptions::class_token, "Whether a trainable token is put before the others.");
    p("distillation_token", &PositionOptions::distillation_token,
      "Whether a second trainable token is put behind it. Needs `class_token: true`.");
    p("init_std", &PositionOptions::init_std, above(0), "Standard deviation of the initial values.");
  }
};

// The options of a graph convolution ("graph_conv").
struct GraphConvOptions {
  // Whether a bias is added.
  bool bias = true;

  // Declares the options.
  static void declare(Declare<GraphConvOptions>& p) { p("bias", &GraphConvOptions::bias, "Whether a bias is added."); }
};

// The options of the cross-entropy ("cross_entropy").
struct CrossEntropyOptions {
  // Share of the uniform distribution in the targets, in training only.
  double label_smoothing = 0;

  // Declares the options.
  static void declare(Declare<CrossEntropyOptions>& p) {
    p("label_smoothing", &CrossEntropyOptions::label_smoothing, at_least(0), below(1),
      "Share of the uniform distribution in the targets, in training only.");
  }
};

}  // namespace espalier
