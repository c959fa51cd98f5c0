#include "swin_body.h"

#include <algorithm>

#include <espalier/error.h>

namespace espalier {

void SwinOptions::declare(Declare<SwinOptions>& p) {
  p("patch", &SwinOptions::patch, at_least(1), unit("pixels"), "Side of the square patches.");
  p("dim", &SwinOptions::dim, at_least(1), "Channels of the first stage. Each further stage has twice as many.");
  p("depths", &SwinOptions::depths, at_least(1), at_most(1000), "Number of blocks in each stage.");
  p("heads", &SwinOptions::heads, at_least(1), "Number of heads in each stage.");
  p("window", &SwinOptions::window, at_least(1), unit("tokens"), "Side of the windows.");
  p("mlp_ratio", &SwinOptions::mlp_ratio, at_least(1), "Hidden units of each MLP for each channel.");
  p("drop_path", &SwinOptions::drop_path, at_least(0), below(1),
    "Probability of leaving out the last branch for a sample. It rises linearly from 0 at the first "
    "branch.");
  p("norm_eps", &SwinOptions::norm_eps, above(0), "Number that layer norms add to the variance.");
  p("shift_first", &SwinOptions::shift_first,
    "Whether maps are shifted before they are filled up to whole windows, as timm does. If not, they are filled up "
    "first, as all others do. Maps of whole windows are the same both ways.");
  p("fixed_window", &SwinOptions::fixed_window,
    "Whether maps that are smaller than a window are filled up to one, as torchvision does. If not, they are one "
    "smaller window.");
}

namespace {

struct Block {
  GraphBuilder& g;
  const SwinOptions& o;
  bool any_size;

  // The reference cuts its normal draws off at 100 standard deviations.
  Edge linear(const std::string& name, Edge x, int64_t features, int64_t heads = 0) const {
    return g.linear(name, x, {.features = features, .heads = heads, .init = "normal", .init_std = 0.02});
  }
  Edge attention(Edge x, int64_t heads, bool shifted) const {
    const auto s = g.scope("attn");
    const std::vector<int64_t> size = g.sizes(x);
    const int64_t window = o.fixed_window || any_size ? o.window : std::min({o.window, size[0], size[1]});
    const Edge whole = x;
    // Filled up after the norm, as the reference does: the zeros get the biases of q, k and v.
    if (any_size || size[0] % window || size[1] % window) x = g.pad_tokens(x, window);
    const Edge q = linear("q", x, size[2], heads), k = linear("k", x, size[2], heads),
               v = linear("v", x, size[2], heads);
    if (any_size) {
      x = g.window_attention("windows", q, k, v, {.window = window, .shift = shifted ? window / 2 : 0});
      return linear("proj", g.node("trim_tokens", "trimmed", {x, whole}), size[2]);
    }
    const int64_t shift = shifted && std::min(size[0], size[1]) > window ? window / 2 : 0;
    x = g.window_attention(
        "windows", q, k, v,
        {.window = window, .shift = shift, .height = size[0], .width = size[1], .shift_first = o.shift_first});
    return linear("proj", x, size[2]);
  }
  Edge mlp(Edge x) const {
    const auto s = g.scope("mlp");
    const int64_t channels = g.channels(x);
    return linear("fc2", g.activation("gelu", linear("fc1", x, o.mlp_ratio * channels)), channels);
  }
  Edge residual(Edge x, Edge branch, double p) const { return g.add(x, p > 0 ? g.drop_path(branch, p) : branch); }
};

}  // namespace

std::vector<Edge> swin_stages(GraphBuilder& g, Edge image, const SwinOptions& o, bool any_size) {
  if (o.heads.size() != o.depths.size()) throw Error("'heads' and 'depths' need one entry for each stage");
  if (any_size && o.shift_first)
    throw Error("'shift_first' is for images of one size, and this network is for images of any: leave it out");
  const Block block{g, o, any_size};
  int64_t total = 0, i = 0;
  for (const int64_t d : o.depths) total += d;
  if (total == 1 && o.drop_path > 0)
    throw Error("'drop_path' rises from 0 at the first block, and there is but one: leave it out");
  std::vector<Edge> stages;
  Edge x =
      g.layer_norm("patch_embed.norm", g.patch_embed("patch_embed.proj", image, o.dim, o.patch), {.eps = o.norm_eps});
  for (size_t stage = 0; stage < o.depths.size(); ++stage) {
    const auto s = g.scope("layers." + std::to_string(stage));
    for (int64_t b = 0; b < o.depths[stage]; ++b, ++i) {
      const auto t = g.scope("blocks." + std::to_string(b));
      const double p = total > 1 ? o.drop_path * static_cast<double>(i) / static_cast<double>(total - 1) : 0;
      x = block.residual(x, block.attention(g.layer_norm("norm1", x, {.eps = o.norm_eps}), o.heads[stage], b % 2 == 1),
                         p);
      x = block.residual(x, block.mlp(g.layer_norm("norm2", x, {.eps = o.norm_eps})), p);
    }
    stages.push_back(x);
    if (stage + 1 < o.depths.size()) {
      const auto t = g.scope("downsample");
      const int64_t channels = g.channels(x);
      x = g.linear("reduction", g.layer_norm("norm", g.patch_merging(x), {.eps = o.norm_eps}),
                   {.features = 2 * channels, .bias = false, .init = "normal", .init_std = 0.02});
    }
  }
  return stages;
}

}  // namespace espalier
