#pragma once

#include "espalier/declare.h"

// The options of the SDK's own operations, as builders use them.
namespace espalier {

struct ConvOptions {
  int64_t kernel = 3;
  int64_t stride = 1;
  int64_t padding = 0;
  bool bias = true;
  std::string init = "default";

  static void declare(Declare<ConvOptions>& p) {
    p("kernel", &ConvOptions::kernel, at_least(1), unit("pixels"), "side of the square kernel");
    p("stride", &ConvOptions::stride, at_least(1), unit("pixels"), "stride");
    p("padding", &ConvOptions::padding, at_least(0), unit("pixels"), "zeros added on every side");
    p("bias", &ConvOptions::bias, "adds a bias");
    p("init", &ConvOptions::init, one_of({"default", "kaiming_normal_in", "kaiming_normal_out"}),
      "initial weights; default: PyTorch's uniform in +-1/sqrt(fan_in)");
  }
};

struct LinearOptions {
  bool bias = true;
  std::string init = "default";
  double init_std = 0.01;

  static void declare(Declare<LinearOptions>& p) {
    p("bias", &LinearOptions::bias, "adds a bias");
    p("init", &LinearOptions::init, one_of({"default", "normal"}),
      "initial weights; default: PyTorch's uniform in +-1/sqrt(fan_in)");
    p("init_std", &LinearOptions::init_std, above(0), "standard deviation of init: normal");
  }
};

struct BatchNormOptions {
  double eps = 1e-5;
  double momentum = 0.1;
  bool affine = true;
  double init_weight = 1;

  static void declare(Declare<BatchNormOptions>& p) {
    p("eps", &BatchNormOptions::eps, above(0), "added to the variance");
    p("momentum", &BatchNormOptions::momentum, above(0), at_most(1), "share of a new batch in the running statistics");
    p("affine", &BatchNormOptions::affine, "has a trainable scale and shift");
    p("init_weight", &BatchNormOptions::init_weight, "initial scale");
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

struct CrossEntropyOptions {
  double label_smoothing = 0;

  static void declare(Declare<CrossEntropyOptions>& p) {
    p("label_smoothing", &CrossEntropyOptions::label_smoothing, at_least(0), below(1),
      "share of the uniform distribution in the targets (training only)");
  }
};

}  // namespace espalier
