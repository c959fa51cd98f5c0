#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

// Of a size, and of DeiT or not: DeiT trains with a drop path of .1 (Touvron et al. 2021, table 9).
template <int64_t usual_dim, bool deit>
struct VitOptions {
  int64_t patch = 16;
  int64_t dim = usual_dim;
  int64_t depth = 12;
  int64_t heads = usual_dim / 64;
  int64_t mlp_ratio = 4;
  double dropout = 0;
  double drop_path = deit ? 0.1 : 0;
  double norm_eps = 1e-6;
  bool distillation = false;

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
    p("distillation", &VitOptions::distillation,
      "Whether there is a distillation token with a head of its own, as in distilled DeiT. The logits are the mean of "
      "both heads, whose own are the outputs class and distillation.");
  }
};

namespace {

template <class Options>
struct Block {
  GraphBuilder& g;
  const Options& o;

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

// Dosovitskiy et al. 2021 in the sizes of DeiT (Touvron et al. 2021), with a class token, and with DeiT's second token
// where asked for.
template <class Options>
Graph vit(const Options& o, const InputSpec& input, const TargetSpec& target) {
  if (o.depth == 1 && o.drop_path > 0)
    throw Error("'drop_path' rises from 0 at the first block, and there is but one: leave it out");
  GraphBuilder g(input);
  const Block<Options> block{g, o};
  Edge x = g.patch_embed("patch_embed.proj", g.input(), o.dim, o.patch, /*flat=*/true);
  x = block.dropout(g.position_embedding("embed", x, {.class_token = true, .distillation_token = o.distillation}));
  for (int64_t i = 0; i < o.depth; ++i) {
    const auto s = g.scope("blocks." + std::to_string(i));
    const double p = o.depth > 1 ? o.drop_path * static_cast<double>(i) / static_cast<double>(o.depth - 1) : 0;
    x = block.residual(x, block.attention(block.norm("norm1", x)), p);
    x = block.residual(x, block.mlp(block.norm("norm2", x)), p);
  }
  x = block.norm("norm", x);
  const Edge head = block.linear("head", g.token(x), target.outputs);
  if (!o.distillation) return g.output(head);
  const Edge other = block.linear("head_dist", g.token(x, 1), target.outputs);
  Graph graph = g.output(g.average({head, other}));
  graph.add_output("class", head);
  graph.add_output("distillation", other);
  return graph;
}

template <int64_t dim, bool deit>
Component sized(std::string name, std::string doc) {
  using Options = VitOptions<dim, deit>;
  return backbone<Options>(std::move(name), std::move(doc), vit<Options>);
}

}  // namespace

ESPALIER_PLUGIN("vit", "1.0.0", sized<192, false>("vit_tiny", "ViT-Tiny, a vision transformer"),
                sized<384, false>("vit_small", "ViT-Small, a vision transformer"),
                sized<768, false>("vit_base", "ViT-Base, a vision transformer"),
                sized<192, true>("deit_tiny", "DeiT-Ti: ViT-Tiny as DeiT trains it"),
                sized<384, true>("deit_small", "DeiT-S: ViT-Small as DeiT trains it"),
                sized<768, true>("deit_base", "DeiT-B: ViT-Base as DeiT trains it"));

}  // namespace espalier
