#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/operations.h"

namespace espalier {

// What a data set gives to a network: images of channels x height x width; or (nodes > 0) graphs of that many nodes, of
// `channels` features each; or vectors of `channels` features.
struct InputSpec {
  int64_t channels = 1;
  int64_t height = 0;
  int64_t width = 0;
  int64_t nodes = 0;
};

// What a network has to give.
struct TargetSpec {
  int64_t classes = 10;
};

// Builds a Graph, about as long as the same model in Python:
//   GraphBuilder g(input);
//   auto x = g.relu(g.conv("conv1", g.input(), {.filters = 20, .kernel = 5}));
//   return g.output(g.linear("fc", g.flatten(x), {.features = target.classes}));
// Activations are images [channels, height, width], vectors [features], or tokens with the channels last: [tokens,
// channels], [height, width, channels]. Every function throws Error naming the node and the shapes where inputs do not
// fit.
class ESPALIER_API GraphBuilder {
 public:
  explicit GraphBuilder(const InputSpec& input);

  // While it lives, names begin with NAME and a dot, those of scopes around it before that: blocks can be told by it.
  class Scope {
   public:
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { prefix_.resize(size_); }

   private:
    friend class GraphBuilder;
    Scope(std::string& prefix, const std::string& name) : prefix_(prefix), size_(prefix.size()) {
      prefix_ += name + ".";
    }
    std::string& prefix_;
    size_t size_;
  };
  [[nodiscard]] Scope scope(const std::string& name) { return {prefix_, name}; }

  struct Conv {
    int64_t filters = 0;  // nothing where depthwise
    int64_t kernel = 3;
    int64_t stride = 1;
    int64_t padding = 0;
    int64_t dilation = 1;
    int64_t groups = 1;
    bool depthwise = false;
    bool bias = true;
    std::string init = "default";
    // As TensorFlow pads ("SAME"), in place of `padding`: ceil(pixels / stride) outputs; where the zeros cannot be
    // equally many on both sides, there is one more at the bottom and on the right.
    bool same_padding = false;
  };
  struct Linear {
    int64_t features = 0;
    int64_t heads = 0;  // > 0: the features are heads x head dimension, two axes
    bool bias = true;
    std::string init = "default";
    double init_std = 0.01;
  };
  struct Select {
    int64_t stride = 1;
    bool drops = false;
  };
  struct Window {
    int64_t window = 7;
    int64_t shift = 0;
    double scale = 0;  // 0: head dimension ^ -1/2
    int64_t height = 0;
    int64_t width = 0;
  };

  Edge input() const { return input_; }
  // Another input of the graph, of constant sizes.
  Edge input(const std::string& name, const std::vector<int64_t>& sizes);
  std::vector<int64_t> sizes(Edge x) const { return graph_.sizes(graph_[x].shape); }
  int64_t channels(Edge x) const { return graph_.size(graph_[x].shape[channel_dim(graph_[x].shape)]); }

  // [C, H, W] -> [filters, H', W']. Grouped: the axis of the input's channels becomes groups x channels wherever it is
  // read, and the filters are groups x filters.
  Edge conv(const std::string& name, Edge x, const Conv& options);
  // [..., F] -> [..., features]
  Edge linear(const std::string& name, Edge x, const Linear& options);
  // [C, H, W] or [F], normalised per channel
  Edge batch_norm(const std::string& name, Edge x, const BatchNormOptions& options = {});
  // [..., C], normalised over C
  Edge layer_norm(const std::string& name, Edge x, const LayerNormOptions& options = {});
  Edge relu(Edge x) { return activation("relu", x); }
  // "relu", "relu6", "gelu", "silu", "sigmoid", "tanh"
  Edge activation(const std::string& type, Edge x);
  // Over the last dimension.
  Edge softmax(Edge x);
  Edge max_pool(Edge x, int64_t kernel, int64_t stride = 0, int64_t padding = 0);
  Edge avg_pool(Edge x, int64_t kernel, int64_t stride = 0, int64_t padding = 0);
  // [C, H, W] -> [C]
  Edge global_avg_pool(Edge x);
  // [..., C] -> [C]: over tokens
  Edge mean(Edge x);
  // [C, H, W] -> [C * H * W]
  Edge flatten(Edge x);
  Edge dropout(Edge x, double p = 0.5);
  Edge drop_path(Edge x, double p);

  // Inputs of one shape. Axes that differ become one: widths that are added must agree.
  Edge add(const std::vector<Edge>& xs) { return elementwise("add", xs); }
  Edge add(Edge x, Edge y) { return add({x, y}); }
  Edge multiply(const std::vector<Edge>& xs) { return elementwise("multiply", xs); }
  Edge multiply(Edge x, Edge y) { return multiply({x, y}); }
  // x times one coefficient for each of its channels (an edge of shape [channels]): the
  // same for all samples, or each sample's own (squeeze-and-excitation). The widths become one.
  Edge scale(Edge x, Edge coefficients);
  // Makes the axes of all one, pair by pair, as add() does; shapes of other sizes or made up otherwise stay as they
  // are, for the operation to refuse.
  void unify(const std::vector<Edge>& xs);
  // Along the channels; each input keeps its axes.
  Edge concat(const std::vector<Edge>& xs);
  // An index view between two axes: the channels of x at the given positions (-1: zero), with an axis of their own.
  Edge select(const std::string& name, Edge x, const Indices& index, const Select& options);
  // A shortcut between unequal widths: channels are padded with zeros or cropped, half on either side (the smaller half
  // first), and every stride-th pixel is taken.
  Edge pad_or_crop(Edge x, int64_t width, int64_t stride = 1);
  // Without the first `offset` rows and columns: [C, H - offset, W - offset].
  Edge crop(Edge x, int64_t offset);
  // With rows and columns of zeros around it: [C, before + H + after, before + W + after].
  Edge zero_pad(Edge x, int64_t before, int64_t after);
  // Zeros of the same shape.
  Edge zeros(Edge x);

  // [C, H, W] -> [H, W, C], or [H * W, C] where `flat`
  Edge to_tokens(Edge x, bool flat = false);
  // [C, H, W] -> [H / patch, W / patch, channels]: a linear layer of each patch. `flat`: one dimension of tokens.
  Edge patch_embed(const std::string& name, Edge x, int64_t channels, int64_t patch, bool flat = false);
  // [H, W, C] -> [H / 2, W / 2, 4 C] (rounded up): neighbours (0,0), (1,0), (0,1), (1,1), row first, one after the
  // other
  Edge patch_merging(Edge x);
  // [H, W, C] with rows and columns of zeros behind up to multiples of `window`
  Edge pad_tokens(Edge x, int64_t window);
  // [T, C] -> [T, C], or [T + 1, C] with a class token: adds a trainable vector to each
  Edge position_embedding(const std::string& name, Edge x, const PositionOptions& options = {});
  // [T, C] -> [C]
  Edge token(Edge x, int64_t index = 0);
  // Of queries, keys and values, each [tokens, heads x head dimension], whose axes become one (values may have a head
  // dimension of their own). scale 0: head dimension ^ -1/2.
  Edge attention(const std::string& name, Edge q, Edge k, Edge v, double scale = 0);
  // The same within windows of [H, W, heads x head dimension] (H and W are multiples of the window), with a trainable
  // bias for each relative position.
  Edge window_attention(const std::string& name, Edge q, Edge k, Edge v, const Window& options);
  // [nodes, F] and adjacency [nodes, nodes] -> [nodes, features]
  Edge graph_conv(const std::string& name, Edge x, Edge adjacency, int64_t features, bool bias = true);
  // Of an image's pixels, [H * W, H * W]: each with itself and its four neighbours, D^-1/2 A D^-1/2 (D: the degrees)
  Edge grid_adjacency(Edge image);

  // Any operation, by name and options (a plugin's too). `widths`: sizes of the axes that it makes.
  Edge node(const std::string& operation, const std::string& name, const std::vector<Edge>& inputs,
            Value options = Value::map(), const std::vector<int64_t>& widths = {});

  // Ends the network: `logits` [classes] (or [nodes, classes]: each has a target) become its output, with cross-entropy
  // against the graph's input "target" as the loss. The axis of the classes is fixed.
  Graph output(Edge logits);

 private:
  std::string auto_name(const std::string& type);
  Edge add_node(const std::string& operation, const std::string& name, const std::vector<Edge>& inputs, Value options,
                std::vector<Axis> axes);
  Edge elementwise(const std::string& type, const std::vector<Edge>& xs);
  // Makes the axes of one dimension of each one; false, and nothing is done, where they are made up differently.
  bool unify_dimension(Edge x, size_t dx, Edge y, size_t dy);
  void unify_heads(Edge q, Edge k, Edge v);

  Graph graph_;
  Edge input_;
  std::string prefix_;  // of the scopes
  std::map<std::string, int> counts_;
};

}  // namespace espalier
