#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include <ATen/TensorOperators.h>

#include <espalier/blocks.h>
#include <espalier/controller.h>
#include <espalier/foresight.h>
#include <espalier/groups.h>
#include <espalier/per_selector.h>
#include <espalier/plugin.h>
#include <espalier/rewrite.h>

namespace espalier {

namespace {

// Layers that grow as one: those of a residual block, or those that make one axis.
struct Growing {
  std::string name;
  std::vector<Axis> axes;
  std::vector<ParamId> layers;  // weights whose filters are counted
  int64_t count = 0;            // new filters, on each of the axes
};

// The block that holds all that make the axis, or "".
std::string block_of(const Graph& graph, Axis axis, const std::set<std::string>& blocks) {
  std::set<std::string> found;
  for (const ParamId p : graph.producers(axis)) found.insert(block_of(graph, p, blocks));
  return found.size() == 1 ? *found.begin() : "";
}

const std::string& layer_name(const Graph& graph, ParamId p) {
  return graph.nodes()[static_cast<size_t>(graph[p].node)].name;
}

bool is_convolution(const Graph& graph, ParamId p) {
  return graph[p].shape.size() == 4;
}

Graph grown(Graph graph, const Edits& edits) {
  for (size_t next = 0; next < edits.size();) graph = plan(graph, edits, next).graph;
  return graph;
}

}  // namespace

// Growth by inverse scale space (AdeNeL, paper 000, algorithm of section 3.2): every few epochs, layers of which the
// optimizer has selected a share of at least tau get new filters. Readings of the checklist: s >= tau (X6), filters are
// counted (X6), blocks grow as one and stems and shortcuts do not (X19), nor do linear layers (X20), the optimizer and
// the statistics begin anew (X17, X18).
class AdeNeL final : public Controller, public Foresight {
 public:
  struct Options {
    int64_t every = 10;
    PerSelector tau = 0.8;
    Selector on;
    int64_t add = 4;
    double ratio = 1.1;
    std::optional<int64_t> params;
    std::optional<int64_t> macs;
    std::string init = "random";
    std::string states = "reset";
    std::string statistics = "reset";
    Selector record;

    static void declare(Declare<Options>& p) {
      p("every", &Options::every, at_least(1), unit("epochs"),
        "Length of a round: the training between two tests of the layers (J).");
      p("tau", &Options::tau, at_least(0),
        "Share of a layer's filters that must be selected for the layer to grow. Layers that no selector "
        "names do not grow.");
      p("on", &Options::on,
        "Layers that may grow. Left out: convolutions with kernels larger than 1; in residual networks only "
        "those inside a block, not the stem and not the shortcuts.");
      p("add", &Options::add, at_least(0), "New filters that a layer gets in a round, at least.");
      p("ratio", &Options::ratio, at_least(1),
        "Width after a round relative to the width before, at least. It is rounded down, and at least one "
        "filter is added.");
      p("params", &Options::params, at_least(1), "Budget: the network never has more parameters.");
      p("macs", &Options::macs, at_least(1), "Budget: the network never has more multiply-accumulates.");
      p("init", &Options::init, one_of({"random", "preserving", "orthogonal"}),
        "Initial values of new filters and of what reads them; preserving, orthogonal: what reads them is "
        "zero at first.");
      p("states", &Options::states, one_of({"reset", "keep"}),
        "What happens to the states of the optimizers (momentum, Z) after growth.");
      p("statistics", &Options::statistics, one_of({"reset", "keep"}),
        "What happens to the running statistics of batch norms after growth.");
      p("record", &Options::record, "Weights that are kept for figures at every test, with what is selected of them.");
    }
  };
  explicit AdeNeL(Options options) : o_(std::move(options)) {}

  int64_t round() const override { return o_.every; }

  std::vector<std::string> idle(const Graph&, int64_t epochs) const override {
    if (o_.every < epochs) return {};
    return {"'every' is " + std::to_string(o_.every) + " epochs, and the stage has " + std::to_string(epochs) +
            ": nothing grows, for what would be new at its end would not be trained in it"};
  }

  void stage_begin(Run& run) override { check(run.graph()); }

  void check(const Graph& graph) const override {
    require_filters(graph, o_.on, "`on`");
    require_filters(graph, o_.tau, "`tau`");
    o_.record.require_matches(graph);
    if (o_.add == 0 && o_.ratio == 1) throw Error("with `add: 0` and `ratio: 1` nothing can grow");
    const auto is_never = [](const auto& t) { return t.second > 1; };
    if (o_.tau.by_selector.empty() ? o_.tau.everywhere > 1 : std::ranges::all_of(o_.tau.by_selector, is_never))
      throw Error("`tau` is a share of a layer's filters: above 1 nothing ever grows");
    if (units(graph).empty()) {
      throw Error(
          "no layer can grow: there is no convolution with kernels larger than 1 that a block or layer has for "
          "itself; name layers by `on`");
    }
    if (!fits(graph)) {
      throw Error("the network has " + std::to_string(graph.parameter_count()) + " parameters and " +
                  std::to_string(graph.macs()) + " multiply-accumulates: more than the budget before it grows");
    }
  }

  void epoch_end(Run& run) override {
    std::vector<Growing> all = units(run.graph());
    for (const Growing& u : all) {
      for (const ParamId p : u.layers) {
        const std::string name = layer_name(run.graph(), p);
        run.metric("selected." + name, selected(run, p));
        run.metric("width." + name, static_cast<double>(run.graph().size(run.graph()[p].shape[0])));
      }
    }
    const int64_t done = run.epoch() + 1;
    if (done % o_.every != 0) return;
    keep_records(run, done / o_.every);
    // What would be new at the end of a stage would not be trained in it.
    if (done == run.epochs()) return;
    const size_t asked = ask(run, all);
    trim(run.graph(), all);
    if (all.empty()) {
      run.note(asked == 0 ? "no layer has selected enough of its filters to grow"
                          : "no further filter fits the budget");
      run.end_stage();
      return;
    }
    grow_all(run, all);
  }

 private:
  std::vector<Growing> units(const Graph& graph) const {
    const std::set<std::string> blocks = residual_blocks(graph);
    const std::vector<ParamId> named = o_.on.match(graph);
    std::map<std::string, size_t> of_block;
    std::vector<Growing> all;
    for (const Axis axis : graph.axes(o_.on)) {
      const std::string block = block_of(graph, axis, blocks);
      std::vector<ParamId> layers;
      for (const ParamId p : graph.producers(axis)) {
        if (o_.on.empty() ? is_spatial(graph, p) : std::ranges::find(named, p) != named.end()) layers.push_back(p);
      }
      if (layers.empty() || (o_.on.empty() && !blocks.empty() && block.empty())) continue;
      size_t at = all.size();
      if (!block.empty()) at = of_block.try_emplace(block, at).first->second;
      if (at == all.size()) all.push_back({block.empty() ? graph[axis].name : block, {}, {}, 0});
      all[at].axes.push_back(axis);
      all[at].layers.insert(all[at].layers.end(), layers.begin(), layers.end());
    }
    return all;
  }

  // s of the paper's (9): filters in Gamma's support, of all; of a linear layer, weights.
  static double selected(Run& run, ParamId p) {
    const Weights& weights = run.weights();
    const std::string support = weights.find_state("support");
    if (support.empty()) throw Error("no optimizer keeps the support of the filters: use lbi");
    const at::Tensor share = weights.state(support, p).detach().to(at::kDouble);
    return (is_convolution(run.graph(), p) ? share.gt(0).to(at::kDouble) : share).mean().item<double>();
  }

  // Leaves the units that are to grow, with by how much; returns how many.
  size_t ask(Run& run, std::vector<Growing>& all) const {
    const Graph& graph = run.graph();
    std::erase_if(all, [&](Growing& u) {
      const bool trips = std::ranges::any_of(u.layers, [&](ParamId p) {
        const std::optional<double> tau = value_for(o_.tau, graph, p);
        return tau && selected(run, p) >= *tau;
      });
      for (const Axis axis : u.axes) {
        const int64_t n = graph[axis].size;
        const auto larger = static_cast<int64_t>(std::floor(o_.ratio * static_cast<double>(n)));
        u.count = std::max({u.count, o_.add, larger - n, int64_t{1}});
      }
      return !trips;
    });
    return all.size();
  }

  static Edits edits_of(const Graph& graph, const std::vector<Growing>& all, const std::string& init, RandomKey key) {
    Edits edits;
    for (const Growing& u : all) {
      for (const Axis axis : u.axes) {
        if (u.count > 0) edits.push_back(grow(graph, axis, u.count, init, key.with(graph[axis].name)));
      }
    }
    return edits;
  }

  bool fits(const Graph& graph) const {
    return (!o_.params || graph.parameter_count() <= *o_.params) && (!o_.macs || graph.macs() <= *o_.macs);
  }

  // To what the budget allows: every unit gets the same share of what it asks for, and then one more, in order, as long
  // as there is room.
  void trim(const Graph& graph, std::vector<Growing>& all) const {
    const auto fit = [&] { return fits(grown(graph, edits_of(graph, all, o_.init, RandomKey(0)))); };
    if (!fit()) {
      std::vector<int64_t> asked;
      for (const Growing& u : all) asked.push_back(u.count);
      const auto give = [&](double share) {
        for (size_t i = 0; i < all.size(); ++i)
          all[i].count = static_cast<int64_t>(std::floor(share * static_cast<double>(asked[i])));
        return fit();
      };
      double low = 0, high = 1;
      for (int i = 0; i < 8; ++i) {
        const double middle = (low + high) / 2;
        (give(middle) ? low : high) = middle;
      }
      give(low);
      for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < all.size(); ++i) {
          if (all[i].count == asked[i]) continue;
          ++all[i].count;
          if (fit()) {
            more = true;
          } else {
            --all[i].count;
          }
        }
      }
    }
    std::erase_if(all, [](const Growing& u) { return u.count == 0; });
  }

  void grow_all(Run& run, const std::vector<Growing>& all) {
    constexpr size_t shown = 4;
    std::string text = "grows";
    int64_t filters = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      const int64_t n = run.graph()[all[i].axes.front()].size;
      filters += all[i].count * static_cast<int64_t>(all[i].axes.size());
      if (i < shown || all.size() == shown + 1) {
        text += (i ? ", " : " ") + all[i].name + " " + std::to_string(n) + " → " + std::to_string(n + all[i].count);
      }
    }
    if (all.size() > shown + 1) text += " and " + std::to_string(all.size() - shown) + " more";
    run.note(text);
    run.edit(edits_of(run.graph(), all, o_.init, run.key().with("adenel")));
    run.metric("grown", static_cast<double>(filters));
    if (o_.states == "reset") run.weights().reset_states(run.graph());
    if (o_.statistics == "reset") run.weights().reset_statistics(run.graph());
  }

  void keep_records(Run& run, int64_t round) const {
    if (o_.record.empty()) return;
    std::vector<std::pair<std::string, at::Tensor>> tensors;
    for (const ParamId p : o_.record.match(run.graph())) {
      const std::string& name = run.graph()[p].name;
      tensors.emplace_back(name, run.weights()[p].detach());
      if (const std::string support = run.weights().find_state("support"); !support.empty())
        tensors.emplace_back(name + ".support", run.weights().state(support, p));
    }
    const std::string number = std::to_string(round);
    run.record(run.stage() + "-" + std::string(number.size() < 3 ? 3 - number.size() : 0, '0') + number, tensors);
  }

  Options o_;
};

ESPALIER_PLUGIN("adenel", "1.0.0",
                component<AdeNeL>("adenel",
                                  "adds filters to layers that have selected most of theirs (AdeNeL, paper 000)")
                    .need("state:support", "layers grow by the share of their filters that the optimizer selected"));

}  // namespace espalier
