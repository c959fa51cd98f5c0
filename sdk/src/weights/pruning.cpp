#include "espalier/pruning.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "espalier/blocks.h"
#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/per_selector.h"
#include "espalier/rewrite.h"

namespace espalier {

namespace {

bool is_summed(const Graph& graph, Axis axis) {
  return std::ranges::any_of(graph.nodes(), [&](const Node& n) {
    return n.op->type() == "add" &&
           std::ranges::any_of(graph[n.outputs[0]].shape, [&](const Dim& d) { return d.reads(axis); });
  });
}

// The positions, the smallest score first; of equal ones the first.
Indices ranked(const std::vector<double>& scores) {
  Indices order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](int64_t k) { return scores[static_cast<size_t>(k)]; });
  return order;
}

// The positions of the `count` smallest scores, ascending.
Indices positions_of_smallest(const std::vector<double>& scores, int64_t count) {
  Indices order = ranked(scores);
  order.resize(static_cast<size_t>(count));
  std::ranges::sort(order);
  return order;
}

// 0.29 of 100 is 29, whatever the last digit of the product.
int64_t whole_share(double share, int64_t of) {
  return static_cast<int64_t>(std::floor(share * static_cast<double>(of) + 1e-9));
}

std::vector<double> normalized(std::vector<double> scores, const std::string& how) {
  if (how == "none" || scores.empty()) return scores;
  const double n = static_cast<double>(scores.size());
  const double mean = std::accumulate(scores.begin(), scores.end(), 0.0) / n;
  double shift = 0, scale = how == "max" ? std::ranges::max(scores) : mean;
  if (how == "gaussian") {
    double squares = 0;
    for (const double s : scores) squares += (s - mean) * (s - mean);
    shift = mean;
    scale = std::sqrt(squares / n);
  }
  // Where all are zero (or equal), there is nothing to divide by.
  if (scale == 0) scale = 1;
  for (double& s : scores) s = (s - shift) / std::abs(scale);
  return scores;
}

// The residual block in which all that makes the width lies, or "". No layer makes a view's; what reads it counts.
std::string block_of_axis(const Graph& graph, Axis axis, const std::set<std::string>& blocks) {
  std::set<std::string> found;
  for (const ParamId p : graph.producers(axis)) found.insert(block_of(graph, p, blocks));
  for (size_t i = 0; found.empty() && i < graph.parameters().size(); ++i) {
    const Parameter& p = graph.parameters()[i];
    const ParamId id{static_cast<int32_t>(i)};
    if (std::ranges::any_of(p.shape, [&](const Dim& d) { return d.reads(axis); }))
      found.insert(block_of(graph, id, blocks));
  }
  return found.size() == 1 ? *found.begin() : "";
}

}  // namespace

RemovalOrder::RemovalOrder(const Graph& graph, std::vector<AxisScores> scores, const std::vector<int64_t>& keep,
                           const RankOptions& options)
    : scores_(std::move(scores)) {
  struct Position {
    double key;
    size_t width;
  };
  std::vector<Position> all;
  std::map<std::string, std::vector<size_t>> scopes;  // places in `all`
  const std::set<std::string> blocks = residual_blocks(graph);
  for (size_t w = 0; w < scores_.size(); ++w) {
    const AxisInfo& axis = graph[scores_[w].axis];
    const std::vector<double>& s = scores_[w].scores;
    if (std::ssize(s) != axis.size) {
      throw Error("'" + axis.name + "' has " + std::to_string(axis.size) + " positions and " +
                  std::to_string(s.size()) + " scores");
    }
    if (!std::ranges::all_of(s, [](double v) { return std::isfinite(v); }))
      throw Error("a score of '" + axis.name + "' is no finite number");
    order_.push_back(ranked(s));
    const std::vector<double> compared = normalized(s, options.normalize);
    std::string scope = options.scope;
    if (options.scope == "layer") scope = axis.name;
    if (options.scope == "block") scope = block_of_axis(graph, scores_[w].axis, blocks);
    for (const int64_t k : order_.back()) {
      scopes[scope].push_back(all.size());
      all.push_back({compared[static_cast<size_t>(k)], w});
    }
    sizes_.push_back({axis.size});
    const int64_t least = std::max<int64_t>(1, keep[w]);
    for (int64_t n = axis.size - 1; n >= least; --n) {
      if (n % options.round_to == 0) sizes_.back().push_back(n);
    }
  }
  positions_ = std::ssize(all);
  if (options.scope != "global") {
    // The share of its scope that has gone with it.
    for (auto& [name, members] : scopes) {
      std::ranges::stable_sort(members, {}, [&](size_t i) { return all[i].key; });
      for (size_t r = 0; r < members.size(); ++r)
        all[members[r]].key = static_cast<double>(r + 1) / static_cast<double>(members.size());
    }
  }
  std::ranges::stable_sort(all, {}, &Position::key);
  std::vector<int64_t> seen(scores_.size(), 0);
  std::vector<size_t> reached(scores_.size(), 0);
  for (const Position& p : all) {
    const std::vector<int64_t>& sizes = sizes_[p.width];
    size_t& at = reached[p.width];
    if (at + 1 == sizes.size() || sizes.front() - ++seen[p.width] != sizes[at + 1]) continue;
    steps_.push_back({p.width, sizes[++at]});
  }
}

std::vector<int64_t> RemovalOrder::left_after(int64_t steps) const {
  std::vector<int64_t> left;
  for (const std::vector<int64_t>& sizes : sizes_) left.push_back(sizes.front());
  for (int64_t i = 0; i < steps; ++i) left[steps_[static_cast<size_t>(i)].width] = steps_[static_cast<size_t>(i)].left;
  return left;
}

int64_t RemovalOrder::steps_for(int64_t positions) const {
  std::vector<int64_t> left = left_after(0);
  int64_t gone = 0, steps = 0;
  for (const Step& s : steps_) {
    gone += left[s.width] - s.left;
    if (gone > positions) break;
    left[s.width] = s.left;
    ++steps;
  }
  return steps;
}

std::vector<std::pair<Axis, Indices>> RemovalOrder::gone(const std::vector<int64_t>& left) const {
  std::vector<std::pair<Axis, Indices>> result;
  for (size_t w = 0; w < scores_.size(); ++w) {
    if (left[w] == std::ssize(order_[w])) continue;
    Indices positions(order_[w].begin(), order_[w].end() - left[w]);
    std::ranges::sort(positions);
    result.emplace_back(scores_[w].axis, std::move(positions));
  }
  return result;
}

int64_t RemovalOrder::next_below(size_t width, int64_t left) const {
  const auto below = std::ranges::find_if(sizes_[width], [&](int64_t n) { return n < left; });
  return below == sizes_[width].end() ? left : *below;
}

int64_t RemovalOrder::next_above(size_t width, int64_t left) const {
  const std::vector<int64_t>& sizes = sizes_[width];
  const auto above = std::find_if(sizes.rbegin(), sizes.rend(), [&](int64_t n) { return n > left; });
  return above == sizes.rend() ? left : *above;
}

CostCounter::CostCounter(const Graph& graph, const LatencyTable* latencies)
    : graph_(graph), sized_(graph), now_{graph.parameter_count(), graph.macs()} {
  if (latencies) {
    time_.emplace(*latencies, graph);
    now_.ms = time_->ms(graph);
  }
  // Whether sizes alone do not tell: tried with every width that may shrink, one at a time.
  std::vector<AxisChange> changes;
  for (size_t a = 0; a < graph.axes().size(); ++a) {
    const AxisInfo& axis = graph.axes()[a];
    if (axis.fixed || axis.size < 2) continue;
    changes.push_back({{static_cast<int32_t>(a)}, Indices(static_cast<size_t>(axis.size - 1))});
    std::iota(changes.back().from.begin(), changes.back().from.end(), 0);
  }
  for (const Node& n : graph.nodes()) {
    const bool counts = graph.macs(n) > 0 || graph.parameter_count(n) > 0;
    for (size_t i = 0; i < changes.size() && !planned_; ++i) {
      planned_ = (counts && n.op->follow(graph, n, {changes[i]})) || !n.op->entail(graph, n, {changes[i]}).empty();
    }
  }
}

NetworkCost CostCounter::with(const RemovalOrder& order, const std::vector<int64_t>& left) const {
  if (planned_) {
    const Edits edits = removal_of(graph_, order.gone(left));
    if (edits.empty()) return now_;
    size_t first = 0;
    Graph graph = plan(graph_, edits, first).graph;
    while (first < edits.size()) graph = plan(graph, edits, first).graph;
    return {graph.parameter_count(), graph.macs(), time_ ? time_->ms(graph) : 0};
  }
  for (size_t w = 0; w < left.size(); ++w) sized_.resize(order.scores()[w].axis, left[w]);
  return {sized_.parameter_count(), sized_.macs(), time_ ? time_->ms(sized_) : 0};
}

double wanted_cost(const PruneTarget& target, const NetworkCost& of) {
  if (target.what == "share") return 0;
  const bool is_share = target.what == "latency" || (target.what != "latency_ms" && target.value <= 1);
  return is_share ? target.value * cost_of(of, target.what) : target.value;
}

double cost_of(const NetworkCost& cost, const std::string& what) {
  if (what.starts_with("latency")) return cost.ms;
  return static_cast<double>(what == "params" ? cost.params : cost.macs);
}

std::string cost_text(double cost, const std::string& what) {
  if (what.starts_with("latency")) {
    char text[48];
    std::snprintf(text, sizeof text, "%.4g ms", cost);
    return text;
  }
  const std::string digits = std::to_string(std::llround(cost));
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text + (what == "params" ? " parameters" : " multiply-accumulates");
}

namespace {

// What counts as met: half a percent of what is wanted.
constexpr double tolerance = 0.005;

// Searches near what bisection found.
class NearTarget {
 public:
  NearTarget(const RemovalOrder& order, const CostCounter& counter, const std::string& what, double wanted)
      : order_(order), counter_(counter), what_(what), wanted_(wanted) {}

  double miss(const NetworkCost& cost) const { return std::abs(cost_of(cost, what_) - wanted_) / wanted_; }
  bool met(const Selection& s) const { return miss(s.cost) <= tolerance; }

  // Goes on along the order from a number of steps whose cost is still too large, leaving out what would take too much.
  Selection fill(int64_t steps) const {
    Selection s{order_.left_after(steps), {}};
    s.cost = counter_.with(order_, s.left);
    std::vector<bool> closed(s.left.size(), false);
    while (!met(s)) {
      const size_t w = order_.width_of_next(s.left, closed);
      if (w == s.left.size()) break;
      const int64_t before = s.left[w];
      s.left[w] = order_.next_below(w, before);
      const NetworkCost cost = counter_.with(order_, s.left);
      if (cost_of(cost, what_) < wanted_ * (1 - tolerance)) {
        s.left[w] = before;
        closed[w] = true;
      } else {
        s.cost = cost;
      }
    }
    return s;
  }

  // Gives back a step of one width and takes one of another, as long as that comes nearer.
  Selection exchange(Selection s) const {
    for (int round = 0; round < 8 && !met(s); ++round) {
      Selection best = s;
      const auto consider = [&](const std::vector<int64_t>& left) {
        const NetworkCost cost = counter_.with(order_, left);
        if (miss(cost) < miss(best.cost)) best = {left, cost};
      };
      for (size_t a = 0; a < s.left.size(); ++a) {
        std::vector<int64_t> up = s.left;
        up[a] = order_.next_above(a, s.left[a]);
        if (up[a] != s.left[a]) consider(up);
        for (size_t b = 0; b < s.left.size(); ++b) {
          std::vector<int64_t> left = up;
          if (a != b) left[b] = order_.next_below(b, s.left[b]);
          if (left != s.left && left != up) consider(left);
        }
      }
      for (size_t b = 0; b < s.left.size(); ++b) {
        std::vector<int64_t> down = s.left;
        down[b] = order_.next_below(b, s.left[b]);
        if (down[b] != s.left[b]) consider(down);
      }
      if (best.left == s.left) break;
      s = best;
    }
    return s;
  }

 private:
  const RemovalOrder& order_;
  const CostCounter& counter_;
  const std::string& what_;
  double wanted_;
};

}  // namespace

size_t RemovalOrder::width_of_next(const std::vector<int64_t>& left, const std::vector<bool>& closed) const {
  for (const Step& s : steps_) {
    if (!closed[s.width] && s.left < left[s.width]) return s.width;
  }
  return left.size();
}

Selection meet_cost(const RemovalOrder& order, const CostCounter& counter, const std::string& what, double wanted) {
  const auto after = [&](int64_t steps) { return counter.with(order, order.left_after(steps)); };
  if (cost_of(counter.now(), what) <= wanted) return {order.left_after(0), counter.now()};
  int64_t enough = order.steps(), too_few = 0;
  const double smallest = cost_of(after(enough), what);
  if (smallest > wanted * (1 + tolerance)) {
    char share[64];
    std::snprintf(share, sizeof share, "%.1f %%", 100 * smallest / cost_of(counter.now(), what));
    throw Error("the target is " + cost_text(wanted, what) + ", and at least " + cost_text(smallest, what) + " (" +
                share + " of the present " + cost_text(cost_of(counter.now(), what), what) +
                ") stay when everything has gone that may go");
  }
  while (enough - too_few > 1) {
    const int64_t middle = too_few + (enough - too_few) / 2;
    (cost_of(after(middle), what) <= wanted ? enough : too_few) = middle;
  }
  Selection found{order.left_after(enough), after(enough)};
  const NearTarget near(order, counter, what, wanted);
  if (near.met(found)) return found;
  const Selection filled = near.fill(too_few);
  if (near.miss(filled.cost) < near.miss(found.cost)) found = filled;
  return near.exchange(std::move(found));
}

std::vector<std::pair<Axis, Indices>> smallest_overall(const Graph& graph, const std::vector<AxisScores>& scores,
                                                       double share, int64_t least) {
  const RemovalOrder order(graph, scores, std::vector<int64_t>(scores.size(), least), {});
  return order.gone(order.left_after(order.steps_for(whole_share(share, order.positions()))));
}

Edits removal_of(const Graph& graph, const std::vector<std::pair<Axis, Indices>>& gone) {
  Edits edits;
  for (const auto& [axis, positions] : gone)
    edits.push_back(shrink(graph, axis, complement(positions, graph[axis].size)));
  return edits;
}

void require_groups(const Graph& graph, const Selector& on, FilterUnit unit) {
  if (unit == FilterUnit::whole_groups && filter_axes(graph, on, unit) == filter_axes(graph, on)) {
    throw Error("`of_groups: whole` is for layers with groups or heads, and " +
                (on.empty() ? "the network has none" : "none of '" + on.str() + "' has any") + "; leave it out");
  }
}

void require_among(const Graph& graph, const PerSelector& values, FilterUnit unit, const std::vector<Axis>& all,
                   const std::string& what) {
  for (const auto& [selector, value] : values.by_selector) {
    const std::vector<Axis> named = filter_axes(graph, selector, unit);
    if (std::ranges::find_first_of(named, all) == named.end()) {
      throw Error(what + " names '" + selector.str() +
                  "', and no width of it is to be pruned; name its layers by `on`");
    }
  }
}

std::vector<std::string> table_of(const std::vector<WidthNorms>& widths, const std::string& gone,
                                  const std::string& what) {
  constexpr size_t most_rows = 24;
  char line[200];
  std::snprintf(line, sizeof line, "%-28s %8s %10s %10s %10s  %s", what.c_str(), "filters", "smallest", "median",
                "largest", gone.c_str());
  std::vector<std::string> lines{line};
  const auto add = [&](const WidthNorms& w) {
    std::vector<double> sorted = w.norms;
    std::ranges::sort(sorted);
    std::snprintf(line, sizeof line, "%-28s %8zu %10.3g %10.3g %10.3g  %lld", w.name.c_str(), sorted.size(),
                  sorted.front(), sorted[sorted.size() / 2], sorted.back(), static_cast<long long>(w.gone));
    lines.emplace_back(line);
  };
  WidthNorms all{"all", {}, 0};
  for (const WidthNorms& w : widths) {
    if (w.norms.empty()) continue;
    if (widths.size() <= most_rows) add(w);
    all.norms.insert(all.norms.end(), w.norms.begin(), w.norms.end());
    all.gone += w.gone;
  }
  if (all.norms.empty()) return {};
  if (widths.size() > 1) add(all);
  return lines;
}

void FilterShare::require(const Graph& graph) const {
  require_filters(graph, on_, "`on`");
  require_filters(graph, ratio_, "`ratio`");
  const std::vector<Axis> all = axes(graph);
  if (all.empty()) {
    throw Error(on_.empty() ? "there is nothing to prune: no convolution with kernels larger than 1 has a width for "
                              "itself, outside of sums and stems; name layers by `on`"
                            : "there is nothing to prune: no layer of '" + on_.str() +
                                  "' has filters or units that may go (the number of classes stays)");
  }
  require_groups(graph, on_, unit_);
  require_among(graph, ratio_, unit_, all, "`ratio`");
  if (std::ranges::all_of(all, [&](Axis a) { return count(graph, a) == 0; }))
    throw Error("there is nothing to prune: `ratio` and `min_filters` leave every filter in its place");
}

std::vector<std::pair<Axis, Indices>> FilterShare::smallest(const Graph& graph, const Weights& weights,
                                                            int norm) const {
  std::vector<std::pair<Axis, Indices>> result;
  for (const Axis axis : axes(graph)) {
    const int64_t n = count(graph, axis);
    if (n > 0) result.emplace_back(axis, positions_of_smallest(filter_norms(graph, weights, axis, norm), n));
  }
  return result;
}

std::vector<std::string> FilterShare::finds(const Graph& graph, const Weights& weights, int norm) const {
  std::vector<WidthNorms> widths;
  for (const Axis axis : axes(graph))
    widths.push_back({graph[axis].name, filter_norms(graph, weights, axis, norm), count(graph, axis)});
  return table_of(widths, "to go");
}

Edits FilterShare::expected(const Graph& graph) const {
  Edits edits;
  for (const Axis axis : axes(graph)) {
    Indices keep(static_cast<size_t>(graph[axis].size - count(graph, axis)));
    std::iota(keep.begin(), keep.end(), 0);
    if (static_cast<int64_t>(keep.size()) < graph[axis].size) edits.push_back(shrink(graph, axis, std::move(keep)));
  }
  return edits;
}

Edits FilterShare::removal(const Graph& graph, const Weights& weights, int norm) const {
  return removal_of(graph, smallest(graph, weights, norm));
}

std::vector<Axis> FilterShare::axes(const Graph& graph) const {
  std::vector<Axis> result;
  const std::set<std::string> blocks = residual_blocks(graph);
  for (const Axis axis : filter_axes(graph, on_.empty() ? Selector("convolutions") : on_, unit_)) {
    const std::vector<ParamId> makers = graph.producers(axis);
    if (!on_.empty() || (makers.size() == 1 && is_spatial(graph, makers[0]) && !is_summed(graph, axis) &&
                         (blocks.empty() || !block_of(graph, makers[0], blocks).empty())))
      result.push_back(axis);
  }
  return result;
}

int64_t FilterShare::count(const Graph& graph, Axis axis) const {
  const int64_t n = graph[axis].size;
  const int64_t share = whole_share(value_for(ratio_, graph, axis).value_or(0), n);
  return std::max<int64_t>(0, std::min(share, n - min_filters_));
}

}  // namespace espalier
