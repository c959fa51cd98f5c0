// Differentiable sparsification (paper 004), and what it is compared with.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/foresight.h>
#include <espalier/operation.h>
#include <espalier/plugin.h>
#include <espalier/random_fill.h>
#include <espalier/rewrite.h>

#include "competition.h"
#include "competition_nodes.h"
#include "competition_norm.h"
#include "component_lasso.h"
#include "groups.h"
#include "sparse_adjacency.h"
#include "sparsify_options.h"

namespace espalier {

namespace {

constexpr const char* suffix = ".competition";  // of the node that makes the coefficients of a group

}  // namespace

class Sparsify final : public Controller, public Foresight {
 public:
  using Options = SparsifyOptions;

  explicit Sparsify(Options o) : o_(std::move(o)), groups_{group_kind(o_.groups), o_.on, o_.first_block} {
    const auto only = [&](bool is_set, const char* option, const char* of) {
      if (is_set) throw Error("'" + std::string(option) + "' belongs to `" + of + "`; leave it out");
    };
    const bool adjacency = o_.groups == "adjacency";
    if (o_.groups == "sums" && o_.on.empty()) throw Error("`groups: sums` needs `on`, the names of the sums");
    only(o_.coefficients != "competition" && o_.null, "null_component", "coefficients: competition");
    only(o_.coefficients != "competition" && o_.beta.has_value(), "beta", "coefficients: competition");
    only(o_.coefficients != "competition" && o_.revive != "none", "revive", "coefficients: competition");
    only(o_.coefficients == "none" && o_.alpha.has_value(), "alpha", "coefficients");
    if (adjacency && (o_.coefficients == "sampled" || o_.coefficients == "none"))
      throw Error("the entries of an adjacency are made by `coefficients: competition`, softmax or free");
    if (adjacency && o_.adjacency.symmetric && o_.adjacency.normalize == "sequential" &&
        o_.coefficients == "competition") {
      throw Error(
          "`adjacency: {symmetric: true}` needs `normalize: balanced`: by turns, rows and columns are not treated "
          "alike");
    }
    if (o_.coefficients == "sampled" && o_.keep.size() != 1)
      throw Error("`coefficients: sampled` needs one number `keep`: how many components each step draws");
    if (o_.coefficients == "softmax" && o_.keep.empty() && o_.fold)
      throw Error("`coefficients: softmax` never become zero: `keep` must say how many components each group keeps");
  }

  Edits begin(const Graph& graph) const override {
    check(graph);
    Edits edits;
    if (o_.coefficients == "none") return edits;
    if (is_adjacency()) return adjacency().begin(graph);
    for (const ComponentGroup& g : component_groups(graph, groups_)) {
      if (g.places.empty() || g.components.size() < 2) continue;
      Value operation = Value::map({{"use", Competition::name},
                                    {"form", o_.coefficients == "competition" ? "sparse" : o_.coefficients},
                                    {"gamma", o_.gamma},
                                    {"revive", o_.revive},
                                    {"slope", o_.slope},
                                    {"null_component", o_.null},
                                    {"scale", o_.scale}});
      if (o_.alpha) operation["alpha"] = *o_.alpha;
      if (o_.beta) operation["beta"] = *o_.beta;
      if (o_.coefficients == "sampled") operation["keep"] = o_.keep.front();
      edits.push_back({InsertGates{.coefficients = g.name + suffix,
                                   .operation = std::move(operation),
                                   .count = static_cast<int64_t>(g.components.size()),
                                   .places = g.places}});
    }
    return edits;
  }

  void check(const Graph& graph) const override {
    if (is_adjacency()) return adjacency().check(graph);
    for (const std::string& pattern : o_.on) {
      std::vector<std::string> names;
      for (const ComponentGroup& g : component_groups(graph, {groups_.kind, {}, true})) names.push_back(g.name);
      if (std::ranges::none_of(names, [&](const std::string& name) { return matches(pattern, name); }))
        throw Error("'on' names '" + pattern + "', and there is no such group" + suggestion(pattern, names));
    }
    const std::vector<ComponentGroup> groups = component_groups(graph, groups_);
    if (groups.empty()) {
      static const std::map<std::string, std::string> what{
          {"blocks", "residual blocks: scopes with a sum of a shortcut and of layers"},
          {"branches", "grouped convolutions that one layer reads"},
          {"connections", "densely connected layers: scopes that concatenate several inputs and are concatenated"},
          {"sums", "sums of these names"}};
      throw Error("the network has no " + what.at(o_.groups) + (o_.on.empty() ? "" : ", among those that `on` names"));
    }
    if (o_.keep.size() > 1 && o_.keep.size() != groups.size()) {
      throw Error("'keep' has " + std::to_string(o_.keep.size()) + " numbers, and the network has " +
                  std::to_string(groups.size()) + " groups");
    }
  }

  std::vector<std::string> idle(const Graph&, int64_t) const override {
    std::vector<std::string> lines;
    if (o_.coefficients != "none" && o_.rank != Options().rank)
      lines.emplace_back("'rank' is without effect where components have coefficients");
    if (o_.remove != "training" && o_.patience != Options().patience)
      lines.push_back("'patience' is without effect with `remove: " + o_.remove + "`");
    if (o_.groups != "blocks" && !o_.first_block)
      lines.push_back("'first_block' is without effect with `groups: " + o_.groups + "`");
    return lines;
  }

  Edits expected_edits(const Graph& graph) const override {
    // How many go is known where `keep` says it.
    return o_.keep.empty() ? Edits() : edits_at_end(graph);
  }
  Foreseen foresees(const Graph& graph, const Weights*) const override {
    if (!o_.keep.empty()) return {};
    if (o_.remove == "never") return {edits_at_end(graph), ""};
    return {edits_at_end(graph), "how many components become zero is found in the run; none are counted as gone"};
  }

  void stage_begin(Run& run) override {
    check(run.graph());
    if (is_adjacency()) adjacency().stage_begin(run);
    for (const ComponentGroup& g : component_groups(run.graph(), groups_)) names_.push_back(g.name);
    record(run);
  }
  Value save() const override {
    Value zero = Value::map();
    for (const auto& [name, steps] : zero_for_) {
      Value list = Value::list();
      for (const int64_t s : steps) list.push_back(s);
      zero[name] = std::move(list);
    }
    return Value::map({{"zero_for", std::move(zero)}, {"names", names_}});
  }
  void resume(Run&, const Value& saved) override {
    for (const Value& name : saved.at("names").as_list()) names_.push_back(name.as_string());
    for (const Value::Entry& e : saved.at("zero_for").as_map()) {
      for (const Value& s : e.value.as_list()) zero_for_[e.key].push_back(s.as_int());
    }
  }

  void step_end(Run& run) override {
    const c10::NoGradGuard no_grad;
    if (o_.coefficients == "sampled") clip(run);
    if ((run.step() + 1) % o_.every != 0 || o_.remove == "never") return;
    // The entries of an adjacency become constants when the stage ends, all at once.
    if (!is_adjacency()) remove_zeros(run, /*at_end=*/false);
  }

  void epoch_end(Run& run) override { record(run); }

  void stage_end(Run& run) override {
    const c10::NoGradGuard no_grad;
    if (is_adjacency()) return adjacency().stage_end(run);
    end_groups(run);
    record(run);
  }

 private:
  bool is_adjacency() const { return o_.groups == "adjacency"; }
  SparseAdjacency adjacency() const { return SparseAdjacency(o_); }
  // ---- groups of components ----

  // The coefficients of a group, on the CPU; empty if it has none.
  static std::vector<double> values_of(Run& run, const std::string& group) {
    const Node* n = find_competition(run.graph(), group + suffix);
    const auto* competing = n ? operation_of<Competing>(*n) : nullptr;
    if (!competing) return {};
    const at::Tensor a = competing->values(*n, run.weights()).to(at::kCPU, at::kDouble).contiguous();
    return {a.const_data_ptr<double>(), a.const_data_ptr<double>() + a.numel()};
  }

  // Whether each component is exactly zero.
  std::vector<bool> zeros_of(Run& run, const ComponentGroup& g) const {
    std::vector<bool> zero;
    const std::vector<double> a = o_.coefficients == "none" ? std::vector<double>() : values_of(run, g.name);
    for (const GroupComponent& c : g.components) {
      if (a.empty() || c.coefficient < 0) {
        zero.push_back(o_.coefficients == "none" && !c.parts.empty() &&
                       square_of(c, run.weights()).item<double>() == 0);
      } else {
        zero.push_back(a[static_cast<size_t>(c.coefficient)] == 0);
      }
    }
    return zero;
  }

  void remove_zeros(Run& run, bool at_end) {
    // Looked for only if there is something to find, since most steps find nothing.
    bool any = false;
    for (const Node& n : run.graph().nodes()) {
      const auto* competing = operation_of<Competition>(n);
      if (!competing || !n.name.ends_with(suffix)) continue;
      const at::Tensor a = competing->values(n, run.weights()),
                       alive = run.weights()[n.parameters[Competition::alive_at]];
      any = any || a.eq(0).logical_and(alive.gt(0)).any().item<bool>() || !zero_for_[n.name].empty();
    }
    if (!any && o_.coefficients != "none") return;
    std::vector<std::pair<ComponentGroup, std::vector<size_t>>> all;
    for (ComponentGroup& g : component_groups(run.graph(), groups_)) {
      const std::vector<bool> zero = zeros_of(run, g);
      std::vector<int64_t>& since = zero_for_[g.name + suffix];
      std::vector<size_t> gone;
      for (size_t i = 0; i < zero.size(); ++i) {
        const size_t key = g.components[i].coefficient < 0 ? i : static_cast<size_t>(g.components[i].coefficient);
        if (since.size() <= key) since.resize(key + 1, 0);
        since[key] = zero[i] ? since[key] + (at_end ? 0 : o_.every) : 0;
        if (zero[i] && (at_end || (o_.remove == "training" && since[key] >= o_.patience))) gone.push_back(i);
      }
      if (std::ranges::all_of(since, [](int64_t s) { return s == 0; })) since.clear();
      all.emplace_back(std::move(g), std::move(gone));
    }
    take_out(run, all, /*exact=*/true);
  }

  void take_out(Run& run, std::vector<std::pair<ComponentGroup, std::vector<size_t>>>& all, bool exact) {
    Edits edits;
    for (auto& [g, gone] : all) {
      if (gone.size() == g.components.size() && g.needs_one) gone.erase(gone.begin());
      for (const size_t i : gone) mark_dead(run, g, i);
      const Edits of_group = g.remove(run.graph(), gone, exact);
      edits.insert(edits.end(), of_group.begin(), of_group.end());
    }
    if (!edits.empty()) run.edit(edits);
    if (o_.coefficients != "none") return;
    // Without coefficients they are counted by their places, and those that are left have others now.
    for (const auto& [g, gone] : all) {
      if (!gone.empty()) zero_for_.erase(g.name + suffix);
    }
  }

  static void mark_dead(Run& run, const ComponentGroup& g, size_t component) {
    const Node* n = find_competition(run.graph(), g.name + suffix);
    const int64_t at = g.components[component].coefficient;
    if (!n || at < 0) return;
    at::Tensor alive = run.weights()[n->parameters[Competition::alive_at]];
    alive[at].fill_(0);
  }

  void end_groups(Run& run) {
    if (!o_.keep.empty()) {
      keep_largest(run);
    } else if (o_.remove != "never") {
      remove_zeros(run, /*at_end=*/true);
    }
    publish(run);
    const Edits folds = folds_of(run.graph(), component_groups(run.graph(), groups_), &run);
    if (!folds.empty()) run.edit(folds);
  }

  // Of all gates that can be folded, once each; `run` is told of the others.
  Edits folds_of(const Graph& graph, const std::vector<ComponentGroup>& groups, Run* run) const {
    Edits edits;
    std::set<std::string> seen;
    for (const ComponentGroup& g : groups) {
      for (const GroupComponent& c : g.components) {
        if (!o_.fold || c.gate.empty() || !seen.insert(c.gate).second) continue;
        try {
          plan(graph, Edit{FoldGate{c.gate}});
          edits.push_back({FoldGate{c.gate}});
        } catch (const EditError& e) {
          if (run) run->note(e.what());  // such as a term that a nonlinearity makes; what was trained is worth keeping
        }
      }
    }
    return edits;
  }

  // How many components the i-th group keeps by `keep`.
  int64_t kept(size_t i, const ComponentGroup& g) const {
    const int64_t given = o_.keep.size() == 1 ? o_.keep.front() : i < o_.keep.size() ? o_.keep[i] : 1;
    return std::clamp<int64_t>(given, g.needs_one ? 1 : 0, static_cast<int64_t>(g.components.size()));
  }

  // What the stage will do at its end to any values: the number that goes by `keep` counts, not which.
  Edits edits_at_end(const Graph& graph) const {
    Edits edits;
    if (is_adjacency()) return adjacency().edits_at_end(graph);
    std::vector<ComponentGroup> groups = component_groups(graph, groups_);
    for (size_t i = 0; i < groups.size() && !o_.keep.empty(); ++i) {
      ComponentGroup& g = groups[i];
      std::vector<size_t> gone;
      for (auto k = static_cast<size_t>(kept(i, g)); k < g.components.size(); ++k) gone.push_back(k);
      const Edits of_group = g.remove(graph, gone, /*exact=*/false);
      edits.insert(edits.end(), of_group.begin(), of_group.end());
      g.components.resize(g.components.size() - gone.size());
    }
    const Edits folds = folds_of(graph, groups, nullptr);
    edits.insert(edits.end(), folds.begin(), folds.end());
    return edits;
  }

  void keep_largest(Run& run) {
    std::vector<std::pair<ComponentGroup, std::vector<size_t>>> all;
    std::vector<ComponentGroup> groups = component_groups(run.graph(), groups_);
    for (size_t i = 0; i < groups.size(); ++i) {
      ComponentGroup& g = groups[i];
      const std::vector<double> scores = scores_of(run, g);
      std::vector<size_t> order(scores.size());
      for (size_t k = 0; k < order.size(); ++k) order[k] = k;
      std::ranges::stable_sort(order, [&](size_t a, size_t b) { return scores[a] > scores[b]; });
      std::vector<size_t> gone(order.begin() + kept(i, g), order.end());
      std::ranges::sort(gone);
      all.emplace_back(std::move(g), std::move(gone));
    }
    take_out(run, all, /*exact=*/false);
  }

  std::vector<double> scores_of(Run& run, const ComponentGroup& g) const {
    std::vector<double> scores;
    const Node* n = find_competition(run.graph(), g.name + suffix);
    if (n) {
      // Of `sampled` the coefficients themselves are zeros and ones.
      const at::Tensor a = (o_.coefficients == "sampled" ? run.weights()[n->parameters.front()].detach()
                                                         : operation_of<Competing>(*n)->values(*n, run.weights()).abs())
                               .to(at::kCPU, at::kDouble)
                               .contiguous();
      for (const GroupComponent& c : g.components)
        scores.push_back(c.coefficient < 0 ? 0 : a.const_data_ptr<double>()[c.coefficient]);
      return scores;
    }
    if (o_.rank == "random") {
      const RandomKey key = run.key().with("sparsify.rank").with(g.name);
      const at::Tensor u = uniform({static_cast<int64_t>(g.components.size())}, 0, 1, key);
      return {u.const_data_ptr<double>(), u.const_data_ptr<double>() + u.numel()};
    }
    for (const GroupComponent& c : g.components) {
      // Inputs of a layer have different numbers of channels: what counts is the mean square.
      scores.push_back(c.weights == 0 ? 0
                                      : square_of(c, run.weights()).item<double>() / static_cast<double>(c.weights));
    }
    return scores;
  }

  void clip(Run& run) {
    Weights& w = run.weights();
    for (const Node& n : run.graph().nodes()) {
      const auto* op = operation_of<Competition>(n);
      if (!op || !op->is_sampled()) continue;
      at::Tensor alpha = w[n.parameters.front()].detach();
      alpha.clamp_(0, 1);
    }
    w.bank(Role::architecture).values.touch();
  }

  void publish(Run& run) const {
    // Also of a group of which nothing is left.
    const std::vector<ComponentGroup> groups = component_groups(run.graph(), groups_);
    Value counts = Value::list(), names = Value::map();
    for (const std::string& name : names_) {
      Value list = Value::list();
      const auto g = std::ranges::find(groups, name, &ComponentGroup::name);
      if (g != groups.end()) {
        for (const GroupComponent& c : g->components) list.push_back(c.name);
      }
      counts.push_back(static_cast<int64_t>(list.size()));
      names[name] = std::move(list);
    }
    run.publish("left", {std::move(counts)});
    run.publish("components", {std::move(names)});
  }

  void record(Run& run) {
    const c10::NoGradGuard no_grad;
    int64_t left = 0, zeros = 0;
    NamedTensors coefficients;
    for (const Node& n : run.graph().nodes()) {
      const auto* competing = operation_of<Competing>(n);
      if (!competing) continue;
      const at::Tensor a = competing->values(n, run.weights());
      if (operation_of<AdjacencyCompetition>(n)) {
        left = a.ne(0).sum().item<int64_t>();
        zeros = run.weights()[n.parameters[AdjacencyCompetition::mask_at]].sum().item<int64_t>() - left;
        run.metric("components", static_cast<double>(left));
        run.metric("zeros", static_cast<double>(zeros));
        return;
      }
      coefficients.emplace_back(n.name, a.to(at::kCPU));
    }
    if (is_adjacency()) return;
    for (const ComponentGroup& g : component_groups(run.graph(), groups_)) {
      const std::vector<bool> zero = zeros_of(run, g);
      zeros += std::ranges::count(zero, true);
      left += static_cast<int64_t>(zero.size());
    }
    run.metric("components", static_cast<double>(left));
    run.metric("zeros", static_cast<double>(zeros));
    if (!coefficients.empty()) run.record("coefficients", coefficients);
  }

  Options o_;
  GroupOptions groups_;
  std::vector<std::string> names_;                        // of the groups at the stage's beginning
  std::map<std::string, std::vector<int64_t>> zero_for_;  // of each coefficient, the steps since it became zero
};

ESPALIER_PLUGIN("sparsify", "1.0.0",
                component<Sparsify>("sparsify", "components that compete, and leave once they are exactly zero")
                    .publish("left", "how many components each group has left, in the order of the groups")
                    .publish("components", "the components that are left, by group"),
                component<CompetitionNorm>("competition_norm", "p-norm of coefficients that compete"),
                component<GroupLasso>("component_lasso", "norms of the weights of whole components, by proximal steps"),
                component<ExclusiveLasso>("exclusive_lasso",
                                          "squared sums of coefficients that compete, by proximal steps"),
                component<Competition>(Competition::name, "coefficients that compete and can become exactly zero"),
                component<AdjacencyCompetition>(AdjacencyCompetition::name,
                                                "an adjacency whose entries compete along rows and columns"));

}  // namespace espalier
