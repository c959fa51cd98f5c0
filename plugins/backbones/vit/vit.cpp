#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct VitOptions {
  int64_t patch = 16;
  int64_t dim = 192;
  int64_t depth = 12;
  int64_t heads = 3;
  int64_t mlp_ratio = 4;
  double dropout = 0;
  double drop_path = 0;
  double norm_eps = 1e-6;

  static void declare(Declare<VitOptions>& p) {
    p("patch", &VitOptions::patch, at_least(1), unit("pixels"), "Side of the square patches.");
    p("dim", &VitOptions::dim, at_least(1), "Number of channels.");
    p("depth", &VitOptions::depth, at_least(1), at_most(1000), "Number of blocks.");
    p("heads", &VitOptions::heads, at_least(1), "Number of heads in each block.");
    p("mlp_ratio", &VitOptions::mlp_ratio, at_least(1), "Hidden units of each MLP for each channel.");
    p("dropout", &VitOptions::dropout, at_least(0), below(1),
      "Probability of a zero after the embedding and after the linear layers of each block.");
    p("drop_path", &VitOptions::drop_path, at_least(0), below(1),
      "Probability of leaving out the last branch for a sample. It rises linearly from 0 at the first "
      "branch.");
    p("norm_eps", &VitOptions::norm_eps, above(0), "Number that layer norms add to the variance.");
  }
};

namespace {

struct Block {
  GraphBuilder& g;
  const VitOptions& o;

  Edge norm(const std::string& name, Edge x) const { return g.layer_norm(name, x, {.eps = o.norm_eps}); }
  Edge linear(const std::string& name, Edge x, int64_t features, int64_t heads = 0) const {
    return g.linear(name, x, {.features = features, .heads = heads, .init = "normal", .init_std = 0.02});
  }
  Edge dropout(Edge x) const { return o.dropout > 0 ? g.dropout(x, o.dropout) : x; }
  Edge attention(Edge x) const {
    const auto s = g.scope("attn");
    const Edge q = linear("q", x, o.dim, o.heads), k = linear("k", x, o.dim, o.heads),
               v = linear("v", x, o.dim, o.heads);
    return dropout(linear("proj", g.attention("heads", q, k, v), o.dim));
  }
  Edge mlp(Edge x) const {
    const auto s = g.scope("mlp");
    x = dropout(g.activation("gelu", linear("fc1", x, o.mlp_ratio * o.dim)));
    return dropout(linear("fc2", x, o.dim));
  }
  Edge residual(Edge x, Edge branch, double p) const { return g.add(x, p > 0 ? g.drop_path(branch, p) : branch); }
};

// Dosovitskiy et al. 2021 in the sizes of DeiT (Touvron et al. 2021), with a class token.
Graph vit(const VitOptions& o, const InputSpec& input, const TargetSpec& target) {
  if (o.depth == 1 && o.drop_path > 0)
    throw Error("'drop_path' rises from 0 at the first block, and there is but one: leave it out");
  GraphBuilder g(input);
  const Block block{g, o};
  Edge x = g.patch_embed("patch_embed.proj", g.input(), o.dim, o.patch, /*flat=*/true);
  x = block.dropout(g.position_embedding("embed", x, {.class_token = true}));
  for (int64_t i = 0; i < o.depth; ++i) {
    const auto s = g.scope("blocks." + std::to_string(i));
    const double p = o.depth > 1 ? o.drop_path * static_cast<double>(i) / static_cast<double>(o.depth - 1) : 0;
    x = block.residual(x, block.attention(block.norm("norm1", x)), p);
    x = block.residual(x, block.mlp(block.norm("norm2", x)), p);
  }
  return g.output(block.linear("head", g.token(block.norm("norm", x)), target.outputs));
}

}  // namespace

ESPALIER_PLUGIN("vit", "1.0.0", backbone<VitOptions>("vit_tiny", "ViT-Tiny (DeiT-Ti)", vit));

}  // namespace espalier
