#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>

#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/foresight.h>
#include <espalier/latency.h>
#include <espalier/plugin.h>
#include <espalier/pruning.h>
#include <espalier/registry.h>
#include <espalier/rewrite.h>
#include <espalier/score.h>

#include "block_ranking.h"
#include "prune_options.h"
#include "threshold.h"

namespace espalier {

// Ranks the positions of all widths by a score and removes the smallest until a target is met: "give me half of the
// multiply-accumulates".
class Prune final : public Controller, public Foresight {
 public:
  struct Options {
    Nested score{Value::map({{"use", "l2"}})};
    Target target = half_of_the_macs();
    std::string what = "widths";
    std::string scope = "global";
    std::string normalize = "none";
    double protect = 0.1;
    int64_t round_to = 1;
    Selector on;
    std::optional<Rounds> schedule;
    std::string when = "begin";
    bool soft = false;
    bool fold = false;

    static void declare(Declare<Options>& p) {
      p("score", &Options::score, of_kind("score"),
        "Score of each filter, unit, head or head dimension; the smallest go first.");
      p("target", &Options::target,
        "How much stays: one of macs, params, share, quantile, threshold, latency and latency_ms.");
      p("what", &Options::what, one_of({"widths", "blocks"}),
        "What goes; widths: positions of widths; blocks: whole residual blocks whose input and output have the same "
        "shape, those with the smallest mean score of the widths within them.");
      p("scope", &Options::scope, one_of({"global", "layer", "block"}),
        "What is ranked together; global: the positions of all widths; layer: those of each width, so that all lose "
        "the same share; block: those of each residual block, so that all blocks lose the same share.");
      p("normalize", &Options::normalize, one_of({"none", "mean", "max", "gaussian"}),
        "What the scores of each width are divided by before they are compared with those of others; gaussian: their "
        "mean is taken away, and they are divided by their standard deviation.");
      p("protect", &Options::protect, at_least(0), at_most(1),
        "Share of each width, or of the blocks, that stays in any case; at least one position does.");
      p("round_to", &Options::round_to, at_least(1), at_most(1e6),
        "Number of which the width that is left is a multiple, unless nothing of the width goes.");
      p("on", &Options::on,
        "Layers whose widths may shrink. A width that others share goes from all of them. The view through which a "
        "layer reads its input shrinks with the layer's name, too, if what it reads does not. Left out: all layers.");
      p("schedule", &Options::schedule, or_word("once"), "Removal in several steps with training between them.");
      p("when", &Options::when, one_of({"begin", "end", "epochs"}),
        "Moment of the stage at which something goes; begin: before it, and with a schedule after every few epochs, "
        "too; end: after it; epochs: after every few epochs by the schedule.");
      p("soft", &Options::soft,
        "Whether the chosen filters only become zero, after every epoch or by the schedule, and go on being trained "
        "(He et al. 2018). What has the smallest scores goes at the end of the stage.");
      p("fold", &Options::fold,
        "Whether the coefficients of gates become part of the layers beside them once all has been removed, which "
        "changes no output.");
    }
  };

  explicit Prune(Options o) : o_(std::move(o)), score_(Registry::instance().create<Score>(o_.score.value)) {
    const Target& t = o_.target;
    int given = 0;
    for (const auto& [what, value] :
         {std::pair("macs", t.macs), std::pair("params", t.params), std::pair("share", t.share),
          std::pair("quantile", t.quantile), std::pair("threshold", t.threshold), std::pair("latency", t.latency),
          std::pair("latency_ms", t.latency_ms)}) {
      if (!value) continue;
      ++given;
      target_ = {what, *value};
    }
    if (given != 1) {
      throw Error(std::string("'target' names ") + (given == 0 ? "nothing" : "more than one thing") +
                  " to reach; give one of macs, params, share, quantile, threshold, latency and latency_ms: target: "
                  "{macs: 0.5}");
    }
    if (of_latency() && t.table.empty()) {
      throw Error(
          "'target': a latency is counted by a table that was measured on the device. `espalier latency "
          "RECIPE_OR_RUN --out FILE` makes one: target: {" +
          target_.what + ": " + text(target_.value) + ", table: FILE}");
    }
    if (!of_latency() && (!t.table.empty() || t.any_device))
      throw Error("'target': 'table' and 'any_device' belong to latency and latency_ms; leave them out");
    if (of_scores()) refuse_beside_scores();
    if (o_.schedule && o_.when == "end" && !o_.soft)
      throw Error("`when: end` removes once, and there is a 'schedule'; leave it out, or write `when: epochs`");
    if (of_blocks() && o_.soft) throw Error("`what: blocks` has no soft form: a block goes or stays; leave 'soft' out");
    if (!o_.schedule && o_.when == "epochs" && !o_.soft)
      throw Error("`when: epochs` needs a 'schedule': schedule: {steps: 5, every: 1}");
  }

  int64_t round() const override { return o_.schedule || o_.soft ? rounds().every : 0; }

  void check(const Graph& graph) const override {
    o_.on.require_matches(graph);
    if (o_.fold && graph.gates().empty())
      throw Error("'fold' is for gates, and the network has none: leave it out, or see 'gates' of the searches");
    if (of_blocks()) return check_blocks(graph);
    const std::vector<Axis> axes = judged(graph);
    if (axes.empty()) {
      throw Error("there is nothing to prune: no width of " +
                  (o_.on.empty() ? std::string("the network") : "'" + o_.on.str() + "'") + " can go" +
                  why_nothing(graph));
    }
    // The target is met or missed whatever the scores are: the cheapest network is the same.
    const RemovalOrder order = blind_order(graph, axes);
    const Begun begun = begun_with(graph);
    if (target_.what == "threshold") return;  // whether anything goes is a matter of the scores
    if (of_positions()) {
      const int64_t wanted = positions_to_go(order.positions(), 1);
      const int64_t most = positions_gone(order, order.left_after(order.steps()));
      if (wanted == 0)
        throw Error("'target': a share of " + text(target_.value) + " of " + std::to_string(order.positions()) +
                    " positions is none");
      if (most < wanted) {
        throw Error("'target': " + std::to_string(wanted) + " of " + std::to_string(order.positions()) +
                    " positions are to go, and at most " + std::to_string(most) + " may" + hint());
      }
      return;
    }
    refuse_nothing(begun);
    const double wanted = wanted_cost(target_, begun.cost);
    try {
      meet_cost(order, counter(graph), target_.what, wanted);
    } catch (const Error& e) {
      throw Error(std::string("'target' cannot be met: ") + e.what() + hint());
    }
  }

  Edits expected_edits(const Graph& graph) const override {
    // How many positions of each width go depends on the scores, unless every width loses the same share.
    if (of_blocks() || o_.scope != "layer") return {};
    const RemovalOrder order = blind_order(graph, judged(graph));
    return with_folds(graph, removal_of(graph, order.gone(choose(graph, order, begun_with(graph), 1))));
  }

  Foreseen foresees(const Graph& graph, const Weights* values) const override {
    if (!of_blocks() && o_.scope == "layer") return {};
    std::string why;
    if (o_.soft || o_.when == "end") {
      why = "of the values that the stage ends with";
    } else if (o_.schedule) {
      why = "of the values at each step of 'schedule'";
    } else if (score_->batches() > 0) {
      why = "by a score that looks at " + std::to_string(score_->batches()) + " batches of training data";
    } else if (!values) {
      why = "of values that the stages before it make";
    } else if (draws(graph, *values)) {
      why = "by a score that draws at random";
    }
    if (why.empty()) return {with_folds(graph, chosen(graph, *values)), ""};
    return {with_folds(graph, {}), expectation(graph) + "; " +
                                       (of_blocks() ? "which blocks go" : "how much of each width goes") +
                                       " is found in the run, " + why};
  }

  std::vector<std::string> idle(const Graph&, int64_t epochs) const override {
    std::vector<std::string> lines;
    if (o_.schedule && !o_.soft) {
      const int64_t last = (rounds().steps - (o_.when == "begin" ? 1 : 0)) * rounds().every;
      if (last > epochs) {
        lines.push_back("the last of the 'schedule' lies after " + std::to_string(last) +
                        " epochs, and the stage has " + std::to_string(epochs) +
                        ": what is left of the removal is done at its end");
      }
    }
    if (o_.soft && rounds().every > epochs)
      lines.push_back("nothing ever becomes zero: 'schedule' waits for " + std::to_string(rounds().every) +
                      " epochs, and the stage has " + std::to_string(epochs));
    if (of_blocks()) {
      const auto note = [&](const std::string& name, bool is_given) {
        if (is_given) lines.push_back("'" + name + "' is without effect where 'what' is blocks");
      };
      note("scope", o_.scope != "global");
      note("normalize", o_.normalize != "none");
      note("round_to", o_.round_to != 1);
    }
    if (!of_blocks() && o_.scope == "layer" && o_.normalize != "none")
      lines.emplace_back("'normalize' is without effect where 'scope' is layer");
    return lines;
  }

  std::vector<std::string> finds(const Graph& graph, const Weights& weights) const override {
    std::vector<std::string> lines;
    if (of_blocks()) return finds_blocks(graph, weights);
    const std::vector<Axis> axes = judged(graph);
    if (score_->batches() > 0) {
      lines.push_back("the score looks at " + std::to_string(score_->batches()) +
                      " batches of training data, so which positions of " + std::to_string(axes.size()) +
                      " widths go is found in the run");
    } else {
      Weights values(graph, weights.dtype(), at::kCPU);
      values.copy_from(weights);
      const RemovalOrder order(graph, score_->scores({graph, values}, axes), kept(graph, axes, {}), rank_options());
      const Begun begun = begun_with(graph);
      const std::vector<int64_t> left = choose(graph, order, begun, 1);
      std::vector<WidthNorms> widths;
      for (size_t w = 0; w < left.size(); ++w) {
        const AxisInfo& axis = graph[axes[w]];
        widths.push_back({axis.name, order.scores()[w].scores, axis.size - left[w]});
      }
      lines = table_of(widths, "to go", "scores of");
      lines.push_back(result_text(begun.cost, counter(graph).with(order, left)));
    }
    if (of_latency()) lines.push_back("counted by " + o_.target.table + ": " + latencies().str());
    for (const std::string& line : left_alone(graph)) lines.push_back("cannot go: " + line);
    return lines;
  }

  void stage_begin(Run& run) override {
    check(run.graph());
    begun_ = begun_with(run.graph());
    if (o_.when == "begin" && !o_.soft) remove(run, 1);
  }
  void epoch_end(Run& run) override {
    const bool due = (run.epoch() + 1) % rounds().every == 0;
    if (!due || (!o_.schedule && !o_.soft)) return;
    if (o_.soft) {
      done_ = std::min(done_ + 1, rounds().steps);
      return make_zero(run);
    }
    if (done_ < rounds().steps) remove(run, done_ + 1);
  }
  void stage_end(Run& run) override {
    if (done_ < rounds().steps || o_.soft) remove(run, rounds().steps);
  }

  Value save() const override {
    Value widths = Value::map();
    for (const auto& [name, size] : begun_.widths) widths[name] = size;
    Value ranked = Value::map();
    for (const auto& [name, size] : begun_.ranked) ranked[name] = size;
    Value saved = Value::map({{"params", begun_.cost.params},
                              {"macs", begun_.cost.macs},
                              {"widths", widths},
                              {"ranked", ranked},
                              {"blocks", begun_.blocks},
                              {"done", done_}});
    if (of_latency()) {
      saved["ms"] = begun_.cost.ms;
      saved["table"] = latencies().checksum();
    }
    return saved;
  }
  void resume(Run&, const Value& saved) override {
    begun_.cost = {saved.at("params").as_int(), saved.at("macs").as_int()};
    if (of_latency()) {
      begun_.cost.ms = saved.at("ms").as_double();
      if (saved.at("table").as_int() != latencies().checksum())
        throw Error("the table of latencies '" + o_.target.table +
                    "' is another than the one that the stage began with; put that one back");
    }
    for (const Value::Entry& e : saved.at("widths").as_map()) begun_.widths[e.key] = e.value.as_int();
    for (const Value::Entry& e : saved.at("ranked").as_map()) begun_.ranked[e.key] = e.value.as_int();
    begun_.blocks = saved.at("blocks").as_int();
    done_ = saved.at("done").as_int();
  }

 private:
  // What the network was at the stage's beginning, to which targets and protected shares relate.
  struct Begun {
    NetworkCost cost;
    std::map<std::string, int64_t> widths;  // of all axes, by name
    std::map<std::string, int64_t> ranked;  // of those that may shrink
    int64_t blocks = 0;                     // that may go
  };

  Begun begun_with(const Graph& graph) const {
    Begun b{cost(graph), {}, {}, 0};
    for (const AxisInfo& a : graph.axes()) b.widths[a.name] = a.size;
    if (!of_blocks()) {
      for (const Axis a : judged(graph)) b.ranked[graph[a].name] = graph[a].size;
    }
    if (of_blocks()) b.blocks = std::ssize(ranking().blocks(graph));
    return b;
  }
  // ---- what counts ----
  bool of_latency() const { return target_.what.starts_with("latency"); }
  // Is read when it is needed first.
  const LatencyTable& latencies() const {
    if (table_) return *table_;
    const std::string& file = o_.target.table;
    const std::string make = "; `espalier latency RECIPE_OR_RUN --out " + file + "` measures it on this machine";
    try {
      table_ = LatencyTable::read(file);
    } catch (const InputError& e) {
      throw Error("'target': " + std::string(e.what()) + make);
    }
    if (o_.target.any_device) return *table_;
    try {
      table_->require_device();
    } catch (const Error& e) {
      table_.reset();
      throw Error("'target': " + std::string(e.what()) + make +
                  ", and `any_device: true` beside 'table' counts with it all the same");
    }
    return *table_;
  }
  CostCounter counter(const Graph& graph) const {
    try {
      return CostCounter(graph, of_latency() ? &latencies() : nullptr);
    } catch (const Error& e) {
      const std::string what = e.what();
      if (!of_latency() || what.starts_with("'target'")) throw;
      throw Error("'target': " + o_.target.table + ": " + what +
                  "; measure one for this network with `espalier latency RECIPE_OR_RUN --out FILE`");
    }
  }
  NetworkCost cost(const Graph& graph) const {
    return of_latency() ? counter(graph).now() : NetworkCost{graph.parameter_count(), graph.macs()};
  }
  // Whether the scores themselves say what goes.
  bool of_scores() const { return target_.what == "quantile" || target_.what == "threshold"; }
  // Whether positions count rather than what they cost.
  bool of_positions() const { return target_.what == "share" || of_scores(); }
  void refuse_beside_scores() const {
    const auto refuse = [&](const std::string& option, const std::string& why) {
      throw Error("'target': " + target_.what + " " + why + "; leave '" + option + "' out, or take share");
    };
    if (o_.what != "widths") refuse("what", "is for the positions of widths");
    if (o_.scope != "global") refuse("scope", "compares the scores of all widths with one number");
    if (o_.normalize != "none") refuse("normalize", "is a matter of the scores as they are");
    if (o_.schedule) refuse("schedule", "takes everything away at once");
    if (o_.soft) refuse("soft", "takes everything away at once");
  }
  void refuse_nothing(const Begun& begun) const {
    const double wanted = wanted_cost(target_, begun.cost), have = cost_of(begun.cost);
    if (wanted < have) return;
    throw Error("'target': the network has " + cost_text(have, target_.what) + ", and the target is " +
                cost_text(wanted, target_.what) + ": nothing would go");
  }
  // Without a schedule everything is one step.
  Rounds rounds() const { return o_.schedule.value_or(Rounds{.steps = 1, .every = 1, .curve = "linear"}); }
  RankOptions rank_options() const {
    return {.scope = o_.scope, .normalize = o_.scope == "layer" ? "none" : o_.normalize, .round_to = o_.round_to};
  }

  // The widths that may shrink and that the score can judge.
  std::vector<Axis> judged(const Graph& graph) const {
    std::vector<Axis> axes = prunable_axes(graph, o_.on);
    std::erase_if(axes, [&](Axis a) { return !score_->why_not(graph, a).empty(); });
    const std::vector<Axis> by_themselves = judged_views(graph, axes);
    axes.insert(axes.end(), by_themselves.begin(), by_themselves.end());
    std::ranges::sort(axes);
    return axes;
  }
  // The views that shrink by themselves, because what they read does not. Those of which only weights become zero have
  // none.
  std::vector<Axis> judged_views(const Graph& graph, const std::vector<Axis>& others) const {
    if (!score_->judges_views() || o_.soft || of_blocks()) return {};
    std::vector<Axis> axes = view_axes(graph, o_.on);
    std::erase_if(axes, [&](Axis a) { return !score_->why_not(graph, a).empty(); });
    for (const ViewInfo& v : views(graph)) {
      if (std::ranges::find(others, v.source) != others.end()) std::erase(axes, v.axis);
    }
    return axes;
  }
  // The others, each with the reason.
  std::vector<std::string> left_alone(const Graph& graph) const {
    std::vector<std::string> lines = unprunable_axes(graph);
    const std::vector<Axis> all = judged(graph);
    std::erase_if(lines, [&](const std::string& line) {
      return std::ranges::any_of(all, [&](Axis a) { return line.starts_with("'" + graph[a].name + "' ("); });
    });
    const std::vector<Axis> named = prunable_axes(graph, o_.on);
    for (const Axis a : prunable_axes(graph, {})) {
      std::string why = score_->why_not(graph, a);
      if (std::ranges::find(named, a) == named.end()) why = "`on` does not name it";
      if (!why.empty()) lines.push_back("'" + graph[a].name + "' (" + std::to_string(graph[a].size) + "): " + why);
    }
    return lines;
  }
  // Where nothing can go: what stands in the way of the first width that is named.
  std::string why_nothing(const Graph& graph) const {
    for (const Axis a : prunable_axes(graph, o_.on))
      return ": of '" + graph[a].name + "' the score says: " + score_->why_not(graph, a);
    const std::vector<std::string> lines = unprunable_axes(graph);
    for (const ParamId p : o_.on.match(graph)) {
      for (const std::string& line : lines) {
        for (size_t a = 0; a < graph.axes().size(); ++a) {
          const std::vector<bool> made = makes(graph, p, {static_cast<int32_t>(a)});
          const bool is_it = line.starts_with("'" + graph.axes()[a].name + "' (");
          if (is_it && std::ranges::find(made, true) != made.end()) return ": " + line;
        }
      }
    }
    return "";
  }
  // ---- whole blocks ----
  bool of_blocks() const { return o_.what == "blocks"; }
  BlockRanking ranking() const { return {o_.on, *score_}; }
  static std::vector<std::string> names_of(const std::vector<BlockRanking::Block>& blocks) {
    std::vector<std::string> names;
    for (const BlockRanking::Block& b : blocks) names.push_back(b.name);
    return names;
  }
  NetworkCost cost_without(Graph graph, const std::vector<std::string>& names) const {
    apply(graph, {}, BlockRanking::drops(names));
    return cost(graph);
  }
  int64_t most_blocks(int64_t of) const {
    return std::max<int64_t>(0, of - std::llround(std::ceil(o_.protect * static_cast<double>(of) - 1e-9)));
  }
  // The first of `order` that have to go for this share of the removal. first: how many there were at the beginning.
  std::vector<std::string> enough_blocks(const Graph& graph, const std::vector<std::string>& order, const Begun& begun,
                                         int64_t first, double share) const {
    const int64_t here = std::ssize(order), gone = first - here;
    const int64_t most = std::max<int64_t>(0, most_blocks(first) - gone);
    const double whole = cost_of(begun.cost);
    const double wanted = whole + share * (wanted_cost(target_, begun.cost) - whole);
    const int64_t count = positions_to_go(first, share) - gone;
    std::vector<std::string> names;
    while (std::ssize(names) < most) {
      const bool done =
          target_.what == "share" ? std::ssize(names) >= count : cost_of(cost_without(graph, names)) <= wanted;
      if (done) break;
      names.push_back(order[names.size()]);
    }
    return names;
  }
  void check_blocks(const Graph& graph) const {
    std::vector<std::string> others;
    std::vector<std::string> names = names_of(ranking().blocks(graph, &others));
    if (names.empty())
      throw Error("there is nothing to prune: no whole block can go" + (others.empty() ? "" : ": " + others.front()));
    const Begun begun = begun_with(graph);
    const int64_t all = std::ssize(names);
    if (target_.what == "share") {
      const int64_t count = positions_to_go(all, 1);
      if (count == 0 || count > most_blocks(all)) {
        throw Error("'target': a share of " + text(target_.value) + " of " + std::to_string(all) + " blocks is " +
                    std::to_string(count) + "; from 1 to " + std::to_string(most_blocks(all)) + " may go");
      }
      return;
    }
    const double wanted = wanted_cost(target_, begun.cost);
    refuse_nothing(begun);
    names.resize(static_cast<size_t>(most_blocks(all)));
    const double least = cost_of(cost_without(graph, names));
    if (least > wanted) {
      throw Error("'target' cannot be met: without " + std::to_string(names.size()) + " of " + std::to_string(all) +
                  " blocks there are " + cost_text(least, target_.what) + ", and the target is " +
                  cost_text(wanted, target_.what) + "; 'protect' decides how many blocks stay");
    }
  }
  Edits smallest_blocks(Run& run, double share) const {
    const std::vector<std::string> order =
        ranking().ranked({run.graph(), run.weights(), run.key().with("prune"), &run});
    return BlockRanking::drops(enough_blocks(run.graph(), order, begun_, begun_.blocks, share));
  }
  std::vector<std::string> finds_blocks(const Graph& graph, const Weights& weights) const {
    std::vector<std::string> lines, others;
    const int64_t count = std::ssize(ranking().blocks(graph, &others));
    if (score_->batches() == 0) {
      Weights values(graph, weights.dtype(), at::kCPU);
      values.copy_from(weights);
      const Begun begun = begun_with(graph);
      const std::vector<std::string> gone = enough_blocks(graph, ranking().ranked({graph, values}), begun, count, 1);
      for (const std::string& name : gone) lines.push_back("to go: '" + name + "'");
      lines.push_back(result_text(begun.cost, cost_without(graph, gone)));
    }
    for (const std::string& line : others) lines.push_back("cannot go: " + line);
    return lines;
  }

  // What would go at once of these values.
  Edits chosen(const Graph& graph, const Weights& weights) const {
    const Begun begun = begun_with(graph);
    Weights values(graph, weights.dtype(), at::kCPU);
    values.copy_from(weights);
    const ScoreInput in{graph, values};
    if (of_blocks()) return BlockRanking::drops(enough_blocks(graph, ranking().ranked(in), begun, begun.blocks, 1));
    const std::vector<Axis> axes = judged(graph);
    const RemovalOrder order(graph, score_->scores(in, axes), kept(graph, axes, {}), rank_options());
    return removal_of(graph, order.gone(choose(graph, order, begun, 1)));
  }
  // Whether the score depends on the random key of the run.
  bool draws(const Graph& graph, const Weights& weights) const {
    Weights values(graph, weights.dtype(), at::kCPU);
    values.copy_from(weights);
    const std::vector<Axis> axes = judged(graph);
    const auto first = score_->scores({graph, values, RandomKey(1)}, axes);
    const auto second = score_->scores({graph, values, RandomKey(2)}, axes);
    return !std::ranges::equal(first, second, {}, &AxisScores::scores, &AxisScores::scores);
  }
  // What is left, as far as the target says it.
  std::string expectation(const Graph& graph) const {
    const Begun begun = begun_with(graph);
    if (target_.what == "threshold") return "what has a score of at most " + text(target_.value) + " is to go";
    if (of_positions()) {
      int64_t all = begun.blocks;
      for (const Axis a : of_blocks() ? std::vector<Axis>() : judged(graph)) all += graph[a].size;
      return std::to_string(positions_to_go(all, 1)) + " of " + std::to_string(all) +
             (of_blocks() ? " blocks" : " positions") + " are to go";
    }
    const double whole = cost_of(begun.cost), wanted = wanted_cost(target_, begun.cost);
    char share[32];
    std::snprintf(share, sizeof share, " (%.2f %%)", 100 * wanted / whole);
    return (of_blocks() ? "at most " : "about ") + cost_text(wanted, target_.what) + " of " +
           cost_text(whole, target_.what) + share + " are to stay";
  }

  // The positions of each width that stay in any case: a share of what the width was at the stage's beginning.
  std::vector<int64_t> kept(const Graph& graph, const std::vector<Axis>& axes, const Begun& begun) const {
    std::vector<int64_t> keep;
    for (const Axis a : axes) {
      const auto first = begun.widths.find(graph[a].name);
      const int64_t of = first == begun.widths.end() ? graph[a].size : first->second;
      keep.push_back(std::max<int64_t>(1, std::llround(std::ceil(o_.protect * static_cast<double>(of) - 1e-9))));
    }
    return keep;
  }
  // An order in which all positions are worth the same.
  RemovalOrder blind_order(const Graph& graph, const std::vector<Axis>& axes) const {
    std::vector<AxisScores> scores;
    for (const Axis a : axes) scores.push_back({a, std::vector<double>(static_cast<size_t>(graph[a].size), 0)});
    return {graph, std::move(scores), kept(graph, axes, {}), rank_options()};
  }

  int64_t positions_to_go(int64_t of, double share) const {
    const auto count = static_cast<int64_t>(std::floor(share * target_.value * static_cast<double>(of) + 1e-9));
    return target_.what == "quantile" ? count + 1 : count;  // the quantile itself goes, too
  }
  static int64_t positions_gone(const RemovalOrder& order, const std::vector<int64_t>& left) {
    int64_t gone = order.positions();
    for (const int64_t n : left) gone -= n;
    return gone;
  }

  // The score up to which positions go.
  double threshold_of(const RemovalOrder& order) const {
    if (target_.what == "threshold") return target_.value;
    return score_at(order, positions_to_go(order.positions(), 1) - 1);
  }
  // A removal of everything, followed by the folding of gates where that is wanted.
  Edits with_folds(const Graph& graph, Edits edits) const {
    if (!o_.fold) return edits;
    for (const std::string& name : foldable_gates(graph)) edits.push_back({FoldGate{name}});
    return edits;
  }
  void fold(Run& run) const {
    const size_t all = run.graph().gates().size();
    const std::vector<std::string> names = foldable_gates(run.graph());
    run.edit(with_folds(run.graph(), {}));
    if (names.size() < all) {
      run.note(std::to_string(all - names.size()) + " of " + std::to_string(all) +
               " gates stay: no layer or batch norm beside them can take their coefficients up");
    }
  }

  // What is left of each width once this share of the removal is done.
  std::vector<int64_t> choose(const Graph& graph, const RemovalOrder& order, const Begun& begun, double share) const {
    if (of_scores()) return left_above(order, threshold_of(order));
    if (target_.what == "share") {
      int64_t first = 0;
      for (const AxisScores& s : order.scores()) {
        const auto was = begun.widths.find(graph[s.axis].name);
        first += was == begun.widths.end() ? graph[s.axis].size : was->second;
      }
      const int64_t gone = first - order.positions();
      return order.left_after(order.steps_for(std::max<int64_t>(0, positions_to_go(first, share) - gone)));
    }
    const double whole = cost_of(begun.cost);
    const double wanted = whole + share * (wanted_cost(target_, begun.cost) - whole);
    return meet_cost(order, counter(graph), target_.what, wanted).left;
  }
  std::vector<std::pair<Axis, Indices>> smallest(Run& run, double share) const {
    const Graph& graph = run.graph();
    const std::vector<Axis> axes = judged(graph);
    const RemovalOrder order(graph, score_->scores({graph, run.weights(), run.key().with("prune"), &run}, axes),
                             kept(graph, axes, begun_), rank_options());
    const std::vector<int64_t> left = choose(graph, order, begun_, share);
    if (of_scores()) note_kept(run, order, left);
    return order.gone(left);
  }
  // How many are at or below the threshold, and how many of these stay because their width may lose no more.
  void note_kept(Run& run, const RemovalOrder& order, const std::vector<int64_t>& left) const {
    const double threshold = threshold_of(order);
    int64_t wanted = 0;
    for (const AxisScores& s : order.scores()) wanted += std::ssize(s.scores) - count_above(s.scores, threshold);
    const int64_t gone = positions_gone(order, left);
    char of[32];
    std::snprintf(of, sizeof of, "%.6g", threshold);
    std::string line =
        std::to_string(wanted) + " of " + std::to_string(order.positions()) + " scores are at most " + of;
    if (const int64_t stay = wanted - gone; stay > 0) {
      line += "; " + std::to_string(stay) + " of these positions " + (stay == 1 ? "stays" : "stay") +
              ", because each width keeps at least one, and what 'protect' and 'round_to' say";
    }
    run.note(line);
  }

  void remove(Run& run, int64_t step) {
    const double share = share_done(rounds().curve, step, rounds().steps);
    run.edit(of_blocks() ? smallest_blocks(run, share) : removal_of(run.graph(), smallest(run, share)));
    done_ = step;
    publish_widths(run);
    const NetworkCost now = cost(run.graph());
    run.note(result_text(begun_.cost, now));
    if (o_.fold && step == rounds().steps) fold(run);
    if (of_positions() || of_blocks() || step < rounds().steps) return;
    const double wanted = wanted_cost(target_, begun_.cost);
    const double off = (cost_of(now) - wanted) / wanted;
    if (std::abs(off) > 0.005) {
      char line[160];
      std::snprintf(line, sizeof line, "that is %.1f %% %s the target: no choice of whole positions%s comes nearer",
                    100 * std::abs(off), off > 0 ? "above" : "below",
                    o_.round_to > 1 ? " and multiples of 'round_to'" : "");
      run.note(line);
    }
  }

  // Of the positions that the widths had at the stage's beginning, how many are gone.
  void publish_widths(Run& run) const {
    int64_t first = 0, gone = 0;
    for (const auto& [name, size] : begun_.ranked) {
      first += size;
      gone += size;
      for (const AxisInfo& a : run.graph().axes()) gone -= a.name == name ? a.size : 0;
    }
    if (first == 0) return;
    run.publish("removed", {Value::map({{"positions", first},
                                        {"gone", gone},
                                        {"share", static_cast<double>(gone) / static_cast<double>(first)}})});
  }
  // The weights alone: biases, batch norm and the optimizer's states stay, as in He et al. 2018.
  void make_zero(Run& run) const {
    const auto gone = smallest(run, share_done(rounds().curve, done_, rounds().steps));
    const c10::NoGradGuard no_grad;
    const Graph& graph = run.graph();
    for (const auto& [axis, positions] : gone) {
      for (const ParamId p : graph.producers(axis)) {
        at::Tensor w = run.weights()[p].detach();
        const std::vector<bool> dimensions = makes(graph, p, axis);
        for (size_t d = 0; d < dimensions.size(); ++d) {
          if (!dimensions[d]) continue;
          const Indices at = positions_of(graph, graph[p].shape[d], axis, positions);
          w.index_fill_(static_cast<int64_t>(d), at::tensor(at, at::TensorOptions(at::kLong).device(w.device())), 0);
        }
      }
    }
  }

  double cost_of(const NetworkCost& cost) const { return espalier::cost_of(cost, target_.what); }
  // What may be changed where a target cannot be met.
  std::string hint() const {
    std::string text = "; what stays in any case is decided by 'protect' (" + espalier::to_json(o_.protect) + ")";
    if (o_.round_to > 1) text += ", by 'round_to'";
    if (!o_.on.empty()) text += ", by 'on'";
    return text + " and by the widths that cannot go";
  }
  static std::string text(double v) { return espalier::to_json(Value(v)); }
  // "1,108,910 of 2,236,300 multiply-accumulates (49.59 %)"
  static std::string share_text(const NetworkCost& before, const NetworkCost& after, const std::string& what) {
    const double was = espalier::cost_of(before, what), is = espalier::cost_of(after, what);
    const std::string part = cost_text(is, what);
    char share[32];
    std::snprintf(share, sizeof share, " (%.2f %%)", 100 * is / was);
    return part.substr(0, part.find(' ')) + " of " + cost_text(was, what) + share;
  }
  static std::string result_text(const NetworkCost& before, const NetworkCost& after) {
    return share_text(before, after, "macs") +
           (before.ms > 0 ? ", " + share_text(before, after, "latency") : std::string()) + " and " +
           share_text(before, after, "params") + " stay";
  }

  Options o_;
  PruneTarget target_;
  std::unique_ptr<Score> score_;
  Begun begun_;
  int64_t done_ = 0;  // steps of the schedule
  mutable std::optional<LatencyTable> table_{};
};

ESPALIER_PLUGIN("prune", "1.0.0",
                component<Prune>("prune",
                                 "ranks filters, units and heads by a score and removes the smallest up to a target")
                    .publish("removed",
                             "how many positions the ranked widths had, how many of them are gone, and their share"));

}  // namespace espalier
