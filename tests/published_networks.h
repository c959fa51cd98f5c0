// Networks of the literature that must be pruned well, at their published sizes and narrow.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace espalier {

struct PublishedNetwork {
  const char* plugin;
  const char* spec;
  int64_t pixels;
  int64_t classes;
  const char* narrow;  // small enough for a step of training
};
inline void PrintTo(const PublishedNetwork& p, std::ostream* out) {
  *out << p.spec;
}

// Residual, plain, dense, grouped and depthwise convolutions, two kinds of transformers, a found cell, and
// squeeze-and-excitation.
inline std::vector<PublishedNetwork> published_networks() {
  return {PublishedNetwork{"resnet_cifar", R"({"use": "resnet20"})", 32, 10,
                           R"({"use": "resnet20", "widths": [8, 12, 16]})"},
          PublishedNetwork{"resnet", R"({"use": "resnet18"})", 224, 1000, R"({"use": "resnet18", "width": 0.25})"},
          PublishedNetwork{"vgg16", R"({"use": "vgg16"})", 32, 10, R"({"use": "vgg16", "width": 0.25, "hidden": 64})"},
          PublishedNetwork{"densenet", R"({"use": "densenet40"})", 32, 10, R"({"use": "densenet40", "growth": 4})"},
          PublishedNetwork{"resnext", R"({"use": "resnext29_8x64d"})", 32, 10,
                           R"({"use": "resnext29_8x64d", "cardinality": 2, "base_width": 4})"},
          PublishedNetwork{"mobilenet_v2", R"({"use": "mobilenet_v2"})", 224, 1000,
                           R"({"use": "mobilenet_v2", "width": 0.25})"},
          PublishedNetwork{"swin", R"({"use": "swin_t"})", 224, 1000,
                           R"({"use": "swin_t", "dim": 24, "depths": [1, 1, 2, 1], "heads": [2, 2, 4, 4]})"},
          PublishedNetwork{"vit", R"({"use": "vit_tiny"})", 224, 1000, R"({"use": "vit_tiny", "dim": 48, "depth": 3})"},
          PublishedNetwork{"nasbench201",
                           R"({"use": "nasbench201", "cell": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|)"
                           R"(+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"})",
                           32, 10,
                           R"({"use": "nasbench201", "channels": 8, "cells": 1, "cell": "|nor_conv_3x3~0|)"
                           R"(+|nor_conv_3x3~0|nor_conv_3x3~1|)"
                           R"(+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"})"},
          PublishedNetwork{"resnet_cifar", R"({"use": "se_resnet20"})", 32, 10,
                           R"({"use": "se_resnet20", "widths": [8, 12, 16]})"}};
}

}  // namespace espalier
