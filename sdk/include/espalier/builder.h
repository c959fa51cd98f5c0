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

// What a data set gives to a network: images of channels x height x width; or, if `nodes` is above 0, graphs of that
// many nodes with `channels` features each; or, if the height is 0, vectors of `channels` features.
struct InputSpec {
  // An input beside the first.
  struct Other {
    std::string name;            // "adjacency"
    std::vector<int64_t> sizes;  // of one sample
    bool operator==(const Other&) const = default;
  };
  int64_t channels = 1;         // channels of an image, or features
  int64_t height = 0;           // pixels
  int64_t width = 0;            // pixels
  int64_t nodes = 0;            // nodes of a graph
  std::vector<Other> others{};  // further inputs, by their names
  bool operator==(const InputSpec&) const = default;
};

// The tasks that losses and metrics know. The word is open: plugins may bring others.
namespace task {
inline constexpr char classification[] = "classification";  // one class of each sample, or of each node of a graph
inline constexpr char regression[] = "regression";          // real numbers
inline constexpr char multilabel[] = "multilabel";          // any number of labels of each sample
}  // namespace task

// What a network has to give.
struct TargetSpec {
  int64_t outputs = 10;                     // how many logits: one for each class, value or label
  std::string task = task::classification;  // what they are
  bool operator==(const TargetSpec&) const = default;
};

// Builds a Graph, about as long as the same model in Python:
//
//   GraphBuilder g(input);
//   auto x = g.relu(g.conv("conv1", g.input(), {.filters = 20, .kernel = 5}));
//   return g.output(g.linear("fc", g.flatten(x), {.features = target.outputs}));
//
// Activations are images [channels, height, width], vectors [features], or tokens with the channels last: [tokens,
// channels] or [height, width, channels]; the batch is left out. Every function returns the edge of the node's output,
// and throws Error with the name of the node and the shapes if inputs do not fit. Operations without a name of their
// own are numbered: relu1, relu2.
class ESPALIER_API GraphBuilder {
 public:
  // Begins a network with the input "input".
  explicit GraphBuilder(const InputSpec& input);

  // While it lives, names of nodes begin with its name and a dot, after those of the scopes around it. Such names tell
  // which nodes are a block.
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
  // Opens a scope: `const auto block = g.scope("layer1.0");`.
  [[nodiscard]] Scope scope(const std::string& name) { return {prefix_, name}; }

  // The options of conv().
  struct Conv {
    int64_t filters = 0;           // how many filters; left out if depthwise
    int64_t kernel = 3;            // side of the square kernel, pixels
    int64_t stride = 1;            // pixels
    int64_t padding = 0;           // zeros on every side, pixels
    int64_t dilation = 1;          // distance of the kernel's taps, pixels
    int64_t groups = 1;            // groups of channels, each with filters of its own
    bool depthwise = false;        // each channel has one filter of its own
    bool bias = true;              // adds a bias
    std::string init = "default";  // initial weights, as ConvOptions::init
    // Pads as TensorFlow does ("SAME"), in place of `padding`: there are ceil(pixels / stride) outputs, and if the
    // zeros cannot be equally many on both sides, there is one more at the bottom and on the right.
    bool same_padding = false;
  };
  // The options of linear().
  struct Linear {
    int64_t features = 0;          // how many units
    int64_t heads = 0;             // above 0: the features are heads x head dimension, two axes
    bool bias = true;              // adds a bias
    std::string init = "default";  // initial weights, as LinearOptions::init
    double init_std = 0.01;        // standard deviation of init "normal"
  };

  // The options of select().
  struct Select {
    int64_t stride = 1;  // takes every so many-th row and column
    bool drops = false;  // channels go with those that they read; otherwise they become zero
  };

  // The options of window_attention().
  struct Window {
    int64_t window = 7;  // side of the square windows, tokens
    int64_t shift = 0;   // shift of the windows, down and right, tokens
    double scale = 0;    // factor of the products; 0: head dimension ^ -1/2
    int64_t height = 0;  // rows of the output without those that only fill a window; 0: as the input
    int64_t width = 0;   // columns of the output; 0: as the input
    // Whether the output is shifted before it is filled up to whole windows.
    bool shift_first = false;
  };

  // Returns the input of the network.
  Edge input() const { return input_; }
  // Adds another input to the graph, of constant sizes without the batch.
  Edge input(const std::string& name, const std::vector<int64_t>& sizes);
  // Returns the sizes of an edge, without the batch.
  std::vector<int64_t> sizes(Edge x) const { return graph_.sizes(graph_[x].shape); }
  // Returns how many channels or features an edge has.
  int64_t channels(Edge x) const { return graph_.size(graph_[x].shape[channel_dim(graph_[x].shape)]); }

  // Convolves: [C, H, W] -> [filters, H', W']. With groups, the axis of the input's channels becomes groups x channels
  // wherever it is read, and the filters are groups x filters.
  Edge conv(const std::string& name, Edge x, const Conv& options);
  // Multiplies by a matrix: [..., F] -> [..., features].
  Edge linear(const std::string& name, Edge x, const Linear& options);
  // Normalises each channel of [C, H, W] or [F] over the batch and the pixels.
  Edge batch_norm(const std::string& name, Edge x, const BatchNormOptions& options = {});
  // Normalises [..., C] over C.
  Edge layer_norm(const std::string& name, Edge x, const LayerNormOptions& options = {});
  // Applies max(x, 0).
  Edge relu(Edge x) { return activation("relu", x); }
  // Applies "relu", "relu6", "gelu", "silu", "sigmoid" or "tanh", element by element.
  Edge activation(const std::string& type, Edge x);
  // Applies softmax over the last dimension.
  Edge softmax(Edge x);
  // Takes the largest value of each window: [C, H, W] -> [C, H', W'] with H' = floor((H + 2 padding - kernel) / stride)
  // + 1. The window is a square of `kernel` pixels (at least 1). A stride of 0 means the kernel's side. The padding is
  // at most half of the kernel, and it never is the largest value.
  Edge max_pool(Edge x, int64_t kernel, int64_t stride = 0, int64_t padding = 0);
  // Takes the mean of each window, with the sizes of max_pool(). The padding does not count in the mean.
  Edge avg_pool(Edge x, int64_t kernel, int64_t stride = 0, int64_t padding = 0);
  // Takes the mean of each channel: [C, H, W] -> [C].
  Edge global_avg_pool(Edge x);
  // Takes the mean over tokens: [..., C] -> [C].
  Edge mean(Edge x);
  // Makes one dimension of all, channels first: [C, H, W] -> [C * H * W].
  Edge flatten(Edge x);
  // Sets each element to zero with probability p, 0 <= p < 1, and multiplies the others by 1 / (1 - p), in training
  // only.
  Edge dropout(Edge x, double p = 0.5);
  // Sets whole samples to zero with probability p, 0 <= p < 1, and multiplies the others by 1 / (1 - p), in training
  // only: before a residual sum it drops the branch. `rises`: the probability rises linearly with the epochs of a
  // stage, from 0 in the first one.
  Edge drop_path(Edge x, double p, bool rises = false);

  // Adds inputs of one shape. Axes that differ become one, because widths that are added must agree.
  Edge add(const std::vector<Edge>& xs) { return elementwise("add", xs); }
  // Adds two inputs.
  Edge add(Edge x, Edge y) { return add({x, y}); }
  // Multiplies inputs of one shape element by element. Axes that differ become one.
  Edge multiply(const std::vector<Edge>& xs) { return elementwise("multiply", xs); }
  // Multiplies two inputs.
  Edge multiply(Edge x, Edge y) { return multiply({x, y}); }
  // Takes the mean of inputs of one shape, element by element. Axes that differ become one.
  Edge average(const std::vector<Edge>& xs) { return elementwise("average", xs); }
  // Multiplies x by one coefficient for each of its channels (an edge of shape [channels]): the same for all samples,
  // or each sample's own (squeeze-and-excitation). The two widths become one.
  Edge scale(Edge x, Edge coefficients);
  // Makes the axes of all inputs one, pair by pair, as add() does. Shapes of other sizes, or made up of other factors,
  // stay as they are, for the operation to refuse.
  void unify(const std::vector<Edge>& xs);
  // Puts inputs side by side along the channels. Each input keeps its axes.
  Edge concat(const std::vector<Edge>& xs);
  // Reads the channels of x at the given positions (-1 gives zero), and gives them an axis of their own: an index view.
  Edge select(const std::string& name, Edge x, const Indices& index, const Select& options);
  // Cuts the channels into neighbouring parts of these sizes, which must add up to all of them. Each part is an index
  // view with an axis of its own, and its channels are removed together with those that they read.
  std::vector<Edge> split(Edge x, const std::vector<int64_t>& sizes);
  // Cuts the channels into so many equal parts: `const auto parts = g.chunk(x, 2)` for a gated linear unit.
  std::vector<Edge> chunk(Edge x, int64_t parts);
  // Makes the axis of the channels two, groups x channels, wherever it is read, as a grouped convolution does: edits
  // then act on whole groups, or on a channel of every group. Throws Error if the channels are not one axis (they were
  // put together or split before) or if the groups do not divide them.
  void factor(Edge x, int64_t groups);
  // Makes a shortcut between unequal widths: pads the channels with zeros or crops them, half on either side (the
  // smaller half first), and takes every stride-th pixel.
  Edge pad_or_crop(Edge x, int64_t width, int64_t stride = 1);
  // Leaves out the first `offset` rows and columns: [C, H, W] -> [C, H - offset, W - offset].
  Edge crop(Edge x, int64_t offset);
  // Puts rows and columns of zeros around it: [C, H, W] -> [C, before + H + after, before + W + after].
  Edge zero_pad(Edge x, int64_t before, int64_t after);
  // Gives zeros of the same shape.
  Edge zeros(Edge x);

  // Puts the channels last: [C, H, W] -> [H, W, C], or [H * W, C] if `flat`.
  Edge to_tokens(Edge x, bool flat = false);
  // Applies a linear layer to each patch: [C, H, W] -> [H / patch, W / patch, channels], or [tokens, channels] if
  // `flat`.
  Edge patch_embed(const std::string& name, Edge x, int64_t channels, int64_t patch, bool flat = false);
  // Puts four neighbours into one token, (0,0), (1,0), (0,1), (1,1), row first: [H, W, C] -> [H / 2, W / 2, 4 C],
  // rounded up.
  Edge patch_merging(Edge x);
  // Puts rows and columns of zeros behind [H, W, C], up to multiples of `window`.
  Edge pad_tokens(Edge x, int64_t window);
  // Adds a trainable vector to each token: [T, C] -> [T, C], or [T + 1, C] with a class token, or [T + 2, C] with a
  // distillation token, too.
  Edge position_embedding(const std::string& name, Edge x, const PositionOptions& options = {});
  // Takes one token: [T, C] -> [C].
  Edge token(Edge x, int64_t index = 0);
  // Applies attention to queries, keys and values, each [tokens, heads x head dimension], whose axes become one (values
  // may have a head dimension of their own). A scale of 0 means head dimension ^ -1/2.
  Edge attention(const std::string& name, Edge q, Edge k, Edge v, double scale = 0);
  // Applies attention within windows of [H, W, heads x head dimension] (H and W are multiples of the window), with a
  // trainable bias for each relative position.
  Edge window_attention(const std::string& name, Edge q, Edge k, Edge v, const Window& options);
  // Applies a graph convolution: [nodes, F] and adjacency [nodes, nodes] -> [nodes, features].
  Edge graph_conv(const std::string& name, Edge x, Edge adjacency, int64_t features, bool bias = true);
  // Gives the adjacency of an image's pixels, [H * W, H * W], each with itself and its four neighbours: D^-1/2 A D^-1/2
  // with the degrees D.
  Edge grid_adjacency(Edge image);

  // Adds any operation, also one of a plugin, by name and options. `widths` are the sizes of the axes that it makes.
  Edge node(const std::string& operation, const std::string& name, const std::vector<Edge>& inputs,
            Value options = Value::map(), const std::vector<int64_t>& widths = {});

  // Ends the network and returns it. `logits`, [outputs] or, if each node has a target, [nodes, outputs], become the
  // output "logits", whose axis is fixed. What they are compared with is a matter of the recipe's loss.
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
