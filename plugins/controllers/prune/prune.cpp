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

#include "block_removal.h"
#include "judged_widths.h"
#include "prune_goal.h"
#include "prune_options.h"
#include "threshold.h"

namespace espalier {

// Ranks the positions of all widths by a score and removes the smallest until a target is met: "give me half of the
// multiply-accumulates".
class Prune final : public Controller, public Foresight {
 public:
  using Options = PruneOptions;

  explicit Prune(Options o)
      : o_(std::move(o)), score_(Registry::instance().create<Score>(o_.score.value)), goal_(o_.target) {
    if (goal_.of_scores()) refuse_beside_scores();
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
    if (of_blocks()) return blocks().check(graph);
    const std::vector<Axis> axes = judged(graph);
    if (axes.empty()) {
      throw Error("there is nothing to prune: no width of " +
                  (o_.on.empty() ? std::string("the network") : "'" + o_.on.str() + "'") + " can go" +
                  widths().why_nothing(graph));
    }
    // The target is met or missed whatever the scores are: the cheapest network is the same.
    const RemovalOrder order = blind_order(graph, axes);
    const Begun begun = begun_with(graph);
    if (goal_.what() == "threshold") return;  // whether anything goes is a matter of the scores
    if (goal_.of_positions()) {
      const int64_t wanted = goal_.positions_to_go(order.positions(), 1);
      const int64_t most = positions_gone(order, order.left_after(order.steps()));
      if (wanted == 0)
        throw Error("'target': a share of " + number_text(goal_.value()) + " of " + std::to_string(order.positions()) +
                    " positions is none");
      if (most < wanted) {
        throw Error("'target': " + std::to_string(wanted) + " of " + std::to_string(order.positions()) +
                    " positions are to go, and at most " + std::to_string(most) + " may" + hint());
      }
      return;
    }
    goal_.refuse_nothing(begun.cost);
    const double wanted = goal_.wanted(begun.cost);
    try {
      meet_cost(order, goal_.counter(graph), goal_.what(), wanted);
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
    if (of_blocks()) return blocks().finds(graph, weights);
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
      lines.push_back(result_text(begun.cost, goal_.counter(graph).with(order, left)));
    }
    if (goal_.of_latency()) lines.push_back("counted by " + o_.target.table + ": " + goal_.latencies().str());
    for (const std::string& line : widths().left_alone(graph)) lines.push_back("cannot go: " + line);
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
    if (goal_.of_latency()) {
      saved["ms"] = begun_.cost.ms;
      saved["table"] = goal_.latencies().checksum();
    }
    return saved;
  }
  void resume(Run&, const Value& saved) override {
    begun_.cost = {saved.at("params").as_int(), saved.at("macs").as_int()};
    if (goal_.of_latency()) {
      begun_.cost.ms = saved.at("ms").as_double();
      if (saved.at("table").as_int() != goal_.latencies().checksum())
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
    Begun b{goal_.cost(graph), {}, {}, 0};
    for (const AxisInfo& a : graph.axes()) b.widths[a.name] = a.size;
    if (!of_blocks()) {
      for (const Axis a : judged(graph)) b.ranked[graph[a].name] = graph[a].size;
    }
    if (of_blocks()) b.blocks = blocks().count(graph);
    return b;
  }
  void refuse_beside_scores() const {
    const auto refuse = [&](const std::string& option, const std::string& why) {
      throw Error("'target': " + goal_.what() + " " + why + "; leave '" + option + "' out, or take share");
    };
    if (o_.what != "widths") refuse("what", "is for the positions of widths");
    if (o_.scope != "global") refuse("scope", "compares the scores of all widths with one number");
    if (o_.normalize != "none") refuse("normalize", "is a matter of the scores as they are");
    if (o_.schedule) refuse("schedule", "takes everything away at once");
    if (o_.soft) refuse("soft", "takes everything away at once");
  }
  // Without a schedule everything is one step.
  Rounds rounds() const { return o_.schedule.value_or(Rounds{.steps = 1, .every = 1, .curve = "linear"}); }
  RankOptions rank_options() const {
    return {.scope = o_.scope, .normalize = o_.scope == "layer" ? "none" : o_.normalize, .round_to = o_.round_to};
  }

  JudgedWidths widths() const {
    // Those of which only weights become zero have no views.
    return {o_.on, *score_, !o_.soft && !of_blocks()};
  }
  std::vector<Axis> judged(const Graph& graph) const { return widths().of(graph); }
  // ---- whole blocks ----
  bool of_blocks() const { return o_.what == "blocks"; }
  BlockRemoval blocks() const { return {o_.on, *score_, goal_, o_.protect}; }

  // What would go at once of these values.
  Edits chosen(const Graph& graph, const Weights& weights) const {
    const Begun begun = begun_with(graph);
    Weights values(graph, weights.dtype(), at::kCPU);
    values.copy_from(weights);
    const ScoreInput in{graph, values};
    if (of_blocks()) return blocks().smallest(in, begun.cost, begun.blocks, 1);
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
    if (goal_.what() == "threshold") return "what has a score of at most " + number_text(goal_.value()) + " is to go";
    if (goal_.of_positions()) {
      int64_t all = begun.blocks;
      for (const Axis a : of_blocks() ? std::vector<Axis>() : judged(graph)) all += graph[a].size;
      return std::to_string(goal_.positions_to_go(all, 1)) + " of " + std::to_string(all) +
             (of_blocks() ? " blocks" : " positions") + " are to go";
    }
    const double whole = goal_.cost_of(begun.cost), wanted = goal_.wanted(begun.cost);
    char share[32];
    std::snprintf(share, sizeof share, " (%.2f %%)", 100 * wanted / whole);
    return (of_blocks() ? "at most " : "about ") + cost_text(wanted, goal_.what()) + " of " +
           cost_text(whole, goal_.what()) + share + " are to stay";
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

  static int64_t positions_gone(const RemovalOrder& order, const std::vector<int64_t>& left) {
    int64_t gone = order.positions();
    for (const int64_t n : left) gone -= n;
    return gone;
  }

  // The score up to which positions go.
  double threshold_of(const RemovalOrder& order) const {
    if (goal_.what() == "threshold") return goal_.value();
    return score_at(order, goal_.positions_to_go(order.positions(), 1) - 1);
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
    if (goal_.of_scores()) return left_above(order, threshold_of(order));
    if (goal_.what() == "share") {
      int64_t first = 0;
      for (const AxisScores& s : order.scores()) {
        const auto was = begun.widths.find(graph[s.axis].name);
        first += was == begun.widths.end() ? graph[s.axis].size : was->second;
      }
      const int64_t gone = first - order.positions();
      return order.left_after(order.steps_for(std::max<int64_t>(0, goal_.positions_to_go(first, share) - gone)));
    }
    const double whole = goal_.cost_of(begun.cost);
    const double wanted = whole + share * (goal_.wanted(begun.cost) - whole);
    return meet_cost(order, goal_.counter(graph), goal_.what(), wanted).left;
  }
  std::vector<std::pair<Axis, Indices>> smallest(Run& run, double share) const {
    const Graph& graph = run.graph();
    const std::vector<Axis> axes = judged(graph);
    const RemovalOrder order(graph, score_->scores({graph, run.weights(), run.key().with("prune"), &run}, axes),
                             kept(graph, axes, begun_), rank_options());
    const std::vector<int64_t> left = choose(graph, order, begun_, share);
    if (goal_.of_scores()) note_kept(run, order, left);
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
    run.edit(of_blocks() ? blocks().smallest({run.graph(), run.weights(), run.key().with("prune"), &run}, begun_.cost,
                                             begun_.blocks, share)
                         : removal_of(run.graph(), smallest(run, share)));
    done_ = step;
    publish_widths(run);
    const NetworkCost now = goal_.cost(run.graph());
    run.note(result_text(begun_.cost, now));
    if (o_.fold && step == rounds().steps) fold(run);
    if (goal_.of_positions() || of_blocks() || step < rounds().steps) return;
    const double wanted = goal_.wanted(begun_.cost);
    const double off = (goal_.cost_of(now) - wanted) / wanted;
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

  // What may be changed where a target cannot be met.
  std::string hint() const {
    std::string text = "; what stays in any case is decided by 'protect' (" + espalier::to_json(o_.protect) + ")";
    if (o_.round_to > 1) text += ", by 'round_to'";
    if (!o_.on.empty()) text += ", by 'on'";
    return text + " and by the widths that cannot go";
  }

  Options o_;
  std::unique_ptr<Score> score_;
  PruneGoal goal_;
  Begun begun_;
  int64_t done_ = 0;  // steps of the schedule
};

ESPALIER_PLUGIN("prune", "1.0.0",
                component<Prune>("prune",
                                 "ranks filters, units and heads by a score and removes the smallest up to a target")
                    .publish("removed",
                             "how many positions the ranked widths had, how many of them are gone, and their share"));

}  // namespace espalier
