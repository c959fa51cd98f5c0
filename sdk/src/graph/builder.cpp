#include "espalier/builder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/registry.h"

namespace espalier {

GraphBuilder::GraphBuilder(const InputSpec& input) {
  const Dim channels = Dim::of(graph_.add_axis("input", input.channels, /*fixed=*/true));
  Shape shape{channels};
  if (input.height > 0) shape = {channels, Dim::of(input.height), Dim::of(input.width)};
  if (input.nodes > 0) shape = {Dim::of(input.nodes), channels};
  input_ = graph_.add_input("input", std::move(shape));
}

Edge GraphBuilder::input(const std::string& name, const std::vector<int64_t>& sizes) {
  Shape shape;
  for (const int64_t n : sizes) shape.push_back(Dim::of(n));
  return graph_.add_input(name, std::move(shape));
}

std::string GraphBuilder::auto_name(const std::string& type) {
  return type + std::to_string(++counts_[prefix_ + type]);
}

Edge GraphBuilder::add_node(const std::string& operation, const std::string& name, const std::vector<Edge>& inputs,
                            Value options, std::vector<Axis> axes) {
  options["use"] = operation;
  std::shared_ptr<const Operation> op = Registry::instance().create<Operation>(options);
  const int32_t id = graph_.add_node(prefix_ + name, std::move(op), inputs, std::move(axes));
  return graph_.nodes()[static_cast<size_t>(id)].outputs.front();
}

Edge GraphBuilder::node(const std::string& operation, const std::string& name, const std::vector<Edge>& inputs,
                        Value options, const std::vector<int64_t>& widths) {
  std::vector<Axis> axes;
  for (size_t i = 0; i < widths.size(); ++i)
    axes.push_back(graph_.add_axis(prefix_ + (i == 0 ? name : name + "." + std::to_string(i)), widths[i]));
  return add_node(operation, name, inputs, std::move(options), std::move(axes));
}

void GraphBuilder::unify(const std::vector<Edge>& xs) {
  for (size_t i = 1; i < xs.size(); ++i) {
    if (sizes(xs[i]) != sizes(xs[0])) return;
    for (size_t d = 0; d < graph_[xs[0]].shape.size(); ++d) {
      if (!unify_dimension(xs[0], d, xs[i], d)) return;
    }
  }
}

bool GraphBuilder::unify_dimension(Edge x, size_t dx, Edge y, size_t dy) {
  // Read again for each factor: the numbers of axes change.
  const auto factor = [&](Edge e, size_t d, size_t s, size_t f) { return graph_[e].shape[d].segments[s].factors[f]; };
  const std::vector<Segment>& a = graph_[x].shape[dx].segments;
  const std::vector<Segment>& b = graph_[y].shape[dy].segments;
  const auto alike = [&](const Segment& p, const Segment& q) {
    return std::ranges::equal(p.factors, q.factors, [&](const Factor& m, const Factor& n) {
      return (m.axis.id < 0) == (n.axis.id < 0) && graph_.size(Segment{{m}}) == graph_.size(Segment{{n}});
    });
  };
  if (!std::ranges::equal(a, b, alike)) return false;
  for (size_t s = 0; s < a.size(); ++s) {
    for (size_t f = 0; f < a[s].factors.size(); ++f) {
      const Axis one = factor(x, dx, s, f).axis;
      if (one.id >= 0) graph_.unify(one, factor(y, dy, s, f).axis);
    }
  }
  return true;
}

Edge GraphBuilder::scale(Edge x, Edge coefficients) {
  const size_t dim = channel_dim(graph_[x].shape);
  if (graph_[coefficients].shape.size() == 1) unify_dimension(x, dim, coefficients, 0);
  return node("gate", auto_name("scale"), {x, coefficients}, Value::map({{"dim", static_cast<int64_t>(dim)}}));
}

Edge GraphBuilder::elementwise(const std::string& type, const std::vector<Edge>& xs) {
  unify(xs);
  return node(type, auto_name(type), xs);
}

Edge GraphBuilder::conv(const std::string& name, Edge x, const Conv& given) {
  Conv o = given;
  if (o.same_padding) {
    const std::vector<int64_t> image = sizes(x);
    const auto zeros = [&](int64_t pixels) {
      const int64_t outputs = (pixels + o.stride - 1) / o.stride;
      return std::max<int64_t>(0, (outputs - 1) * o.stride + (o.kernel - 1) * o.dilation + 1 - pixels);
    };
    if (image.size() != 3 || zeros(image[1]) != zeros(image[2]))
      throw Error("the convolution '" + prefix_ + name + "' pads as TensorFlow does, which needs square images here");
    const int64_t all = zeros(image[1]);
    o.padding = all / 2;
    if (all % 2 == 1) x = zero_pad(x, 0, 1);
  }
  if (o.depthwise && o.filters != 0 && o.filters != channels(x)) {
    throw Error("the depthwise convolution '" + prefix_ + name + "' has one filter for each of " +
                std::to_string(channels(x)) + " channels, not " + std::to_string(o.filters));
  }
  Value options = Declare<ConvOptions>().write({.kernel = o.kernel,
                                                .stride = o.stride,
                                                .padding = o.padding,
                                                .dilation = o.dilation,
                                                .grouped = o.groups > 1,
                                                .depthwise = o.depthwise,
                                                .bias = o.bias,
                                                .init = o.init});
  if (o.depthwise) return node("conv2d", name, {x}, std::move(options));
  if (o.groups > 1) {
    if (o.filters % o.groups != 0) {
      throw Error("the " + std::to_string(o.filters) + " filters of '" + prefix_ + name + "' cannot be split into " +
                  std::to_string(o.groups) + " groups");
    }
    const Axis whole = graph_[x].shape.front().whole();
    if (whole.id >= 0) graph_.factor(whole, o.groups, prefix_ + name + ".groups");
    // What is split already must be so into as many; the operation looks only whether it is split.
    const Segment& s = graph_[x].shape.front().segments.front();
    if (s.factors.size() == 2 && graph_.size(Segment{{s.factors[0]}}) != o.groups) {
      throw Error("the channels that '" + prefix_ + name + "' reads are in " +
                  std::to_string(graph_.size(Segment{{s.factors[0]}})) + " groups already, not in " +
                  std::to_string(o.groups));
    }
  }
  return node("conv2d", name, {x}, std::move(options), {o.filters / o.groups});
}

Edge GraphBuilder::linear(const std::string& name, Edge x, const Linear& o) {
  const LinearOptions options{o.bias, o.init, o.init_std};
  if (o.heads == 0) return node("linear", name, {x}, Declare<LinearOptions>().write(options), {o.features});
  if (o.features % o.heads != 0) {
    throw Error("the " + std::to_string(o.features) + " features of '" + prefix_ + name + "' cannot be split into " +
                std::to_string(o.heads) + " heads");
  }
  const Axis heads = graph_.add_axis(prefix_ + name + ".heads", o.heads);
  const Axis dim = graph_.add_axis(prefix_ + name, o.features / o.heads);
  return add_node("linear", name, {x}, Declare<LinearOptions>().write(options), {heads, dim});
}

Edge GraphBuilder::batch_norm(const std::string& name, Edge x, const BatchNormOptions& o) {
  return node("batch_norm", name, {x}, Declare<BatchNormOptions>().write(o));
}
Edge GraphBuilder::layer_norm(const std::string& name, Edge x, const LayerNormOptions& o) {
  return node("layer_norm", name, {x}, Declare<LayerNormOptions>().write(o));
}

Edge GraphBuilder::activation(const std::string& type, Edge x) {
  return node(type, auto_name(type), {x});
}
Edge GraphBuilder::softmax(Edge x) {
  return node("softmax", auto_name("softmax"), {x});
}

Edge GraphBuilder::max_pool(Edge x, int64_t kernel, int64_t stride, int64_t padding) {
  return node("max_pool", auto_name("max_pool"), {x}, Declare<PoolOptions>().write({kernel, stride, padding}));
}

Edge GraphBuilder::avg_pool(Edge x, int64_t kernel, int64_t stride, int64_t padding) {
  return node("avg_pool", auto_name("avg_pool"), {x}, Declare<PoolOptions>().write({kernel, stride, padding}));
}

Edge GraphBuilder::global_avg_pool(Edge x) {
  return node("global_avg_pool", auto_name("global_avg_pool"), {x});
}
Edge GraphBuilder::mean(Edge x) {
  return node("mean", auto_name("mean"), {x});
}
Edge GraphBuilder::flatten(Edge x) {
  return node("flatten", auto_name("flatten"), {x});
}
Edge GraphBuilder::dropout(Edge x, double p) {
  return node("dropout", auto_name("dropout"), {x}, Declare<DropoutOptions>().write({p}));
}
Edge GraphBuilder::drop_path(Edge x, double p, bool rises) {
  return node("drop_path", auto_name("drop_path"), {x}, Declare<DropPathOptions>().write({p, rises}));
}

Edge GraphBuilder::concat(const std::vector<Edge>& xs) {
  return node("concat", auto_name("concat"), xs);
}

Edge GraphBuilder::select(const std::string& name, Edge x, const Indices& index, const Select& o) {
  return node("select", name, {x}, Declare<SelectOptions>().write({index, o.stride, o.drops}),
              {static_cast<int64_t>(index.size())});
}

std::vector<Edge> GraphBuilder::split(Edge x, const std::vector<int64_t>& sizes) {
  const int64_t have = channels(x);
  int64_t wanted = 0;
  for (const int64_t n : sizes) {
    if (n < 1) throw Error("split() into parts of " + to_string(sizes) + " channels: a part needs at least one");
    wanted += n;
  }
  if (wanted != have) {
    throw Error("split() into parts of " + to_string(sizes) + " channels, " + std::to_string(wanted) + " in all, of '" +
                graph_[x].name + "', which has " + std::to_string(have));
  }
  std::vector<Edge> parts;
  int64_t first = 0;
  for (const int64_t n : sizes) {
    Indices index(static_cast<size_t>(n));
    std::iota(index.begin(), index.end(), first);
    parts.push_back(select(auto_name("part"), x, index, {.drops = true}));
    first += n;
  }
  return parts;
}

std::vector<Edge> GraphBuilder::chunk(Edge x, int64_t parts) {
  const int64_t have = channels(x);
  if (parts < 1 || have % parts != 0) {
    throw Error("chunk() into " + std::to_string(parts) + " equal parts of '" + graph_[x].name + "', which has " +
                std::to_string(have) + " channels");
  }
  return split(x, std::vector<int64_t>(static_cast<size_t>(parts), have / parts));
}

void GraphBuilder::factor(Edge x, int64_t groups) {
  const Axis whole = graph_[x].shape[channel_dim(graph_[x].shape)].whole();
  if (whole.id < 0) {
    throw Error("factor() of '" + graph_[x].name +
                "': its channels are not one axis, since they were put together or split before");
  }
  graph_.factor(whole, groups, graph_[whole].name + ".groups");
}

Edge GraphBuilder::pad_or_crop(Edge x, int64_t width, int64_t stride) {
  // before < 0: so many channels are cropped at the front.
  const int64_t have = channels(x);
  const int64_t before = width >= have ? (width - have) / 2 : -((have - width) / 2);
  Indices index;
  for (int64_t i = 0; i < width; ++i) index.push_back(i >= before && i - before < have ? i - before : -1);
  return select(auto_name("shortcut"), x, index, {.stride = stride});
}

Edge GraphBuilder::zero_pad(Edge x, int64_t before, int64_t after) {
  return node("zero_pad", auto_name("zero_pad"), {x}, Value::map({{"before", before}, {"after", after}}));
}

Edge GraphBuilder::crop(Edge x, int64_t offset) {
  return node("crop", auto_name("crop"), {x}, Value::map({{"offset", offset}}));
}
Edge GraphBuilder::zeros(Edge x) {
  return node("zeros", auto_name("zeros"), {x});
}

Edge GraphBuilder::to_tokens(Edge x, bool flat) {
  return node("to_tokens", auto_name("to_tokens"), {x}, Value::map({{"flat", flat}}));
}

Edge GraphBuilder::patch_embed(const std::string& name, Edge x, int64_t channels, int64_t patch, bool flat) {
  return to_tokens(conv(name, x, {.filters = channels, .kernel = patch, .stride = patch}), flat);
}

Edge GraphBuilder::patch_merging(Edge x) {
  return node("patch_merging", auto_name("patch_merging"), {x});
}

Edge GraphBuilder::pad_tokens(Edge x, int64_t window) {
  return node("pad_tokens", auto_name("pad_tokens"), {x}, Value::map({{"window", window}}));
}

Edge GraphBuilder::position_embedding(const std::string& name, Edge x, const PositionOptions& o) {
  return node("position_embedding", name, {x}, Declare<PositionOptions>().write(o));
}

Edge GraphBuilder::token(Edge x, int64_t index) {
  return node("token", auto_name("token"), {x}, Value::map({{"index", index}}));
}

namespace {

// 1 / sqrt of the head dimension of [..., heads x head dimension].
double default_scale(const Graph& g, Edge q) {
  const Segment& s = g[q].shape.back().segments.front();
  return 1 / std::sqrt(static_cast<double>(g.size(Segment{{s.factors.back()}})));
}

}  // namespace

void GraphBuilder::unify_heads(Edge q, Edge k, Edge v) {
  unify({q, k, v});
  // Values of another head dimension share the heads alone.
  const auto heads = [&](Edge e) {
    const Segment& s = graph_[e].shape.back().segments.front();
    return s.factors.size() == 2 ? s.factors[0].axis : Axis{};
  };
  const Axis a = heads(q), b = heads(v);
  if (a.id >= 0 && b.id >= 0 && graph_[a].size == graph_[b].size) graph_.unify(a, b);
}

Edge GraphBuilder::attention(const std::string& name, Edge q, Edge k, Edge v, double scale) {
  unify_heads(q, k, v);
  return node("attention", name, {q, k, v}, Value::map({{"scale", scale > 0 ? scale : default_scale(graph_, q)}}));
}

Edge GraphBuilder::window_attention(const std::string& name, Edge q, Edge k, Edge v, const Window& o) {
  unify_heads(q, k, v);
  return node(
      "window_attention", name, {q, k, v},
      Declare<WindowAttentionOptions>().write(
          {o.window, o.shift, o.scale > 0 ? o.scale : default_scale(graph_, q), o.height, o.width, o.shift_first}));
}

Edge GraphBuilder::graph_conv(const std::string& name, Edge x, Edge adjacency, int64_t features, bool bias) {
  return node("graph_conv", name, {x, adjacency}, Value::map({{"bias", bias}}), {features});
}

Edge GraphBuilder::grid_adjacency(Edge image) {
  return node("grid_adjacency", auto_name("grid_adjacency"), {image});
}

Graph GraphBuilder::output(Edge logits) {
  for (const Dim& d : graph_[logits].shape) {
    for (const Segment& s : d.segments) {
      for (const Factor& f : s.factors) {
        if (f.axis.id >= 0) graph_.fix(f.axis);
      }
    }
  }
  graph_.add_output("logits", logits);
  return graph_;
}

}  // namespace espalier
