#pragma once

#include <memory>
#include <string>
#include <vector>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/operations.h"

namespace espalier {

// What a data set gives to a network: images of channels x height x width, or (height == 0) vectors of `channels`
// features.
struct InputSpec {
  int64_t channels = 1;
  int64_t height = 0;
  int64_t width = 0;
};

// What a network has to give.
struct TargetSpec {
  int64_t classes = 10;
};

// Builds a Graph, about as long as the same model in Python:
//   GraphBuilder g(input);
//   auto x = g.relu(g.conv("conv1", g.input(), {.filters = 20, .kernel = 5}));
//   return g.output(g.linear("fc", g.flatten(x), {.features = target.classes}));
// Every function throws Error naming the node and the shapes where inputs do not fit.
class ESPALIER_API GraphBuilder {
 public:
  explicit GraphBuilder(const InputSpec& input);

  struct Conv {
    int64_t filters = 0;
    int64_t kernel = 3;
    int64_t stride = 1;
    int64_t padding = 0;
    bool bias = true;
    std::string init = "default";
  };
  struct Linear {
    int64_t features = 0;
    bool bias = true;
    std::string init = "default";
    double init_std = 0.01;
  };

  Edge input() const { return input_; }
  // [C, H, W] -> [filters, H', W']
  Edge conv(const std::string& name, Edge x, const Conv& options);
  // [F] -> [features]
  Edge linear(const std::string& name, Edge x, const Linear& options);
  // [C, H, W] or [F], normalised per channel
  Edge batch_norm(const std::string& name, Edge x, const BatchNormOptions& options = {});
  Edge relu(Edge x) { return activation("relu", x); }
  // "relu", "gelu", "sigmoid", "tanh"
  Edge activation(const std::string& type, Edge x);
  Edge max_pool(Edge x, int64_t kernel, int64_t stride = 0, int64_t padding = 0);
  Edge avg_pool(Edge x, int64_t kernel, int64_t stride = 0, int64_t padding = 0);
  // [C, H, W] -> [C]
  Edge global_avg_pool(Edge x);
  // [C, H, W] -> [C * H * W]
  Edge flatten(Edge x);
  Edge dropout(Edge x, double p = 0.5);

  // Any operation, by name and options (a plugin's too). `widths`: sizes of the axes that it makes.
  Edge node(const std::string& operation, const std::string& name, const std::vector<Edge>& inputs,
            Value options = Value::map(), const std::vector<int64_t>& widths = {});

  // Ends the network: `logits` [classes] become its output, with cross-entropy against the graph's input "target" as
  // the loss. The axis of the classes is fixed.
  Graph output(Edge logits);

 private:
  std::string auto_name(const std::string& type);
  Graph graph_;
  Edge input_;
  std::vector<std::pair<std::string, int>> counts_;
};

}  // namespace espalier
