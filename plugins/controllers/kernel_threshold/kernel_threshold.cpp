#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/foresight.h>
#include <espalier/groups.h>
#include <espalier/operation.h>
#include <espalier/plugin.h>

#include "kernel_cut.h"

namespace espalier {

namespace {

// All values as they were.
class Snapshot {
 public:
  explicit Snapshot(const Weights& w) {
    for (const Role r : {Role::weight, Role::buffer}) {
      if (w.bank(r).values.numel() > 0) kept_.emplace_back(w.bank(r).values.flat(), w.bank(r).values.flat().clone());
    }
  }
  void restore() const {
    const c10::NoGradGuard no_grad;
    for (const auto& [flat, values] : kept_) at::Tensor(flat).copy_(values);
  }

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> kept_;
};

std::string text(const char* form, double value) {
  char line[100];
  std::snprintf(line, sizeof line, form, value);
  return line;
}

std::string list_of(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& n : names) {
    if (!all.empty()) all += ", ";
    all.append("'").append(n).append("'");
  }
  return all;
}

}  // namespace

// Reads off the structure that kernel_size and kernel_number have left (paper 001, (15), (20) and (23)): at the end of
// the stage groups of kernels with a norm up to tau become zero, kernels are cropped to what is left, filters without a
// kernel go, and so do blocks of which only the shortcut is left. A list of further thresholds shows the efficient
// frontier of the same trained weights.
class KernelThreshold final : public Controller, public Foresight {
 public:
  struct Options {
    PerSelector tau = 1e-3;
    Selector on;
    std::string groups = "half_ring";
    std::string corner = "top_left";
    std::string vanished = "refuse";
    std::vector<double> frontier;
    bool remove = true;
    bool correlation = false;

    static void declare(Declare<Options>& p) {
      p("tau", &Options::tau, at_least(0), "Largest l2 norm at which a group of a kernel's weights goes.");
      p("on", &Options::on, "Layers whose kernels are judged. Left out: all layers but the last.");
      p("groups", &Options::groups, one_of({"half_ring", "ring", "filter"}),
        "What is judged; half_ring, ring: the nested groups of kernel_size, so that kernels get smaller; filter: whole "
        "filters, as after kernel_number.");
      p("corner", &Options::corner, one_of({"top_left", "bottom_right"}),
        "Side on which the first half-ring lies, as of kernel_size.");
      p("vanished", &Options::vanished, one_of({"refuse", "identity"}),
        "What becomes of a layer that has nothing left and that no shortcut bypasses; refuse: the run ends with an "
        "error; identity: each of its filters gives one channel of its input, so that the network is one without it.");
      p("frontier", &Options::frontier, at_least(0),
        "Thresholds that are tried before tau, each on the weights as they were trained: accuracy, parameters and "
        "multiply-accumulates of each are published as `frontier`.");
      p("remove", &Options::remove, "Whether what goes by tau is removed. If not, only `frontier` is measured.");
      p("correlation", &Options::correlation,
        "Whether the metric `kernel_correlation` is written after each epoch: the mean size of the correlation "
        "coefficients of all pairs of a layer's filters, over all layers.");
    }
  };

  explicit KernelThreshold(Options options) : o_(std::move(options)) {
    if (!o_.remove && o_.frontier.empty())
      throw Error(
          "with 'remove: false' only 'frontier' is measured, and it is empty: give it thresholds, or leave 'remove' "
          "out");
    settings_.nested = o_.groups != "filter";
    if (settings_.nested) settings_.shrinkage = kernel_shrinkage(o_.groups, o_.corner);
    settings_.corner = o_.corner;
    settings_.identity = o_.vanished == "identity";
  }

  void check(const Graph& graph) const override {
    require_filters(graph, o_.on, "`on`");
    require_filters(graph, o_.tau, "`tau`");
    if (filter_axes(graph, o_.on).empty()) {
      throw Error("there is nothing to judge: no layer" + (o_.on.empty() ? "" : " of '" + o_.on.str() + "'") +
                  " has filters or units that may go (the number of classes stays)");
    }
  }

  std::vector<std::string> idle(const Graph& graph, int64_t) const override {
    std::vector<std::string> lines;
    if (o_.groups != "half_ring" && o_.corner != Options().corner)
      lines.push_back("'corner' is without effect where 'groups' is " + o_.groups);
    if (!o_.remove && o_.tau.by_selector.empty() && o_.tau.everywhere != Options().tau.everywhere)
      lines.emplace_back("'tau' is without effect where 'remove' is false");
    const auto crops = [](const Node& n) {
      return n.op->type() == "conv2d" && n.op->options().at("kernel").as_int() > 1;
    };
    if (settings_.nested && std::ranges::none_of(graph.nodes(), crops))
      lines.emplace_back("no kernel is larger than 1, so only whole filters and units can go");
    return lines;
  }

  std::vector<std::string> finds(const Graph& graph, const Weights& weights) const override {
    const KernelCut cut(graph, weights, o_.on, o_.tau, settings_);
    std::vector<std::string> lines{"layer: kernels of each size from 0 on"};
    for (const KernelCut::Layer& l : cut.layers()) {
      std::string line = l.node + ":";
      for (const int64_t n : histogram(l)) line.append(" ").append(std::to_string(n));
      lines.push_back(line);
    }
    return lines;
  }

  void stage_begin(Run& run) override { check(run.graph()); }

  void epoch_end(Run& run) override {
    if (o_.correlation) run.metric("kernel_correlation", correlation(run.graph(), run.weights()));
  }

  void stage_end(Run& run) override {
    const Evaluation before = run.evaluate("test");
    const std::string leading = before.metrics.empty() ? "score" : before.metrics.front().first;
    const auto value = [&](const Evaluation& e) { return e.metrics.empty() ? e.score : e.metrics.front().second; };
    run.metric(leading + "_before", value(before));
    run.metric("macs_before", static_cast<double>(run.graph().macs()));
    if (!o_.frontier.empty()) try_thresholds(run, leading, value);
    if (!o_.remove) return;

    const KernelCut cut(run.graph(), run.weights(), o_.on, o_.tau, settings_);
    refuse_if_blocked(cut);
    publish_kernels(run, cut);
    cut.zero_groups(run.graph(), run.weights());
    const double zeroed = value(run.evaluate("test"));
    cut.zero_rest(run.graph(), run.weights());
    cut.remove([&]() -> const Graph& { return run.graph(); }, [&](const Edits& edits) { run.edit(edits); });
    const double removed = value(run.evaluate("test"));
    run.metric(leading + "_zeroed", zeroed);
    run.metric(leading + "_removed", removed);
    run.metric("macs_removed", static_cast<double>(run.graph().macs()));
    run.metric("kernel_size_mean", mean_size(cut));
    run.metric("kernels", static_cast<double>(kernels(cut)));
    run.metric("layers_vanished", static_cast<double>(cut.vanished().size() + cut.identities().size()));
    run.note(leading + " before " + text("%.4g", value(before)) + ", with zeros " + text("%.4g", zeroed) +
             ", without them " + text("%.4g", removed) + "; mean kernel size " + text("%.3g", mean_size(cut)));
    if (!cut.vanished().empty()) run.note("nothing is left of " + list_of(cut.vanished()));
    if (!cut.identities().empty()) run.note("identities take the place of " + list_of(cut.identities()));
  }

 private:
  void refuse_if_blocked(const KernelCut& cut) const {
    if (cut.blocked().empty()) return;
    std::string why = "no kernel of " + list_of(cut.blocked()) +
                      " has a norm above tau, and no shortcut leads past, so that removing them would cut the network: "
                      "take a smaller 'tau', penalise less";
    if (settings_.identity) {
      why += " (an identity cannot take the place: " + cut.why_no_identity() + ")";
    } else {
      why += ", or let identities take the place of layers ('vanished: identity')";
    }
    throw Error(why);
  }

  // Filters without a spread (of zeros) take part in no pair.
  double correlation(const Graph& graph, const Weights& weights) const {
    const c10::NoGradGuard no_grad;
    double sum = 0, layers = 0;
    for (const ParamId id : (o_.on.empty() ? Selector("weights") : o_.on).match(graph)) {
      if (graph[id].kind != "weight" || filter_axes(graph, Selector(graph[id].name.c_str())).empty()) continue;
      const at::Tensor w = weights[id].detach().to(at::kCPU, at::kDouble).flatten(1);
      const at::Tensor centred = w - w.mean(1, true), norms = centred.norm(2, {1}, true);
      const at::Tensor live = norms.flatten().gt(0).nonzero().flatten();
      const auto n = static_cast<double>(live.numel());
      if (n < 2) continue;
      const at::Tensor rows = centred.index_select(0, live) / norms.index_select(0, live);
      sum += (rows.matmul(rows.t()).abs().sum().item<double>() - n) / (n * (n - 1));
      ++layers;
    }
    return layers > 0 ? sum / layers : 0;
  }

  // Of the kernels of a layer how many have each size, from 0 on.
  static Indices histogram(const KernelCut::Layer& l) {
    Indices counts(static_cast<size_t>(std::ranges::max(l.had)) + 1, 0);
    for (const int64_t s : l.sizes) ++counts[static_cast<size_t>(s)];
    return counts;
  }

  // Over all kernels of convolutions that were judged; those that are gone count as 0.
  static double mean_size(const KernelCut& cut) {
    double sum = 0, count = 0;
    for (const KernelCut::Layer& l : cut.layers()) {
      if (!l.crops) continue;
      for (const int64_t s : l.sizes) sum += static_cast<double>(s), ++count;
    }
    return count > 0 ? sum / count : 0;
  }

  static int64_t kernels(const KernelCut& cut) {
    int64_t count = 0;
    for (const KernelCut::Layer& l : cut.layers())
      count += std::ranges::count_if(l.sizes, [](int64_t s) { return s > 0; });
    return count;
  }

  // The sizes of each layer's kernels, for figures of widths and sizes by layer.
  static void publish_kernels(Run& run, const KernelCut& cut) {
    Value layers = Value::map();
    for (const KernelCut::Layer& l : cut.layers()) layers[l.node] = histogram(l);
    run.publish("kernels", {.value = layers, .tensors = {}});
  }

  template <class ValueOf>
  void try_thresholds(Run& run, const std::string& leading, const ValueOf& value) const {
    Value points = Value::list();
    for (const double tau : o_.frontier) {
      const KernelCut cut(run.graph(), run.weights(), o_.on, tau, settings_);
      const Snapshot as_trained(run.weights());
      Value point = Value::map({{"tau", tau}});
      cut.zero_groups(run.graph(), run.weights());
      point[leading + "_zeroed"] = value(run.evaluate("test"));
      point["kernel_size_mean"] = mean_size(cut);
      point["kernels"] = kernels(cut);
      std::string line = "tau " + text("%g", tau) + ": ";
      if (cut.blocked().empty()) {
        cut.zero_rest(run.graph(), run.weights());
        point[leading] = value(run.evaluate("test"));
        // Counting needs no values.
        Graph graph = run.graph();
        cut.remove([&]() -> const Graph& { return graph; }, [&](const Edits& edits) { apply(graph, {}, edits); });
        point["params"] = graph.parameter_count();
        point["macs"] = graph.macs();
        point["layers_vanished"] = static_cast<int64_t>(cut.vanished().size() + cut.identities().size());
        line += leading + " " + text("%.4g", point[leading].as_double()) + ", " +
                text("%.4g", static_cast<double>(graph.macs())) + " multiply-accumulates";
      } else {
        Value& names = point["blocked"] = Value::list();
        for (const std::string& n : cut.blocked()) names.push_back(n);
        line += "nothing of " + list_of(cut.blocked()) + " would be left";
      }
      as_trained.restore();
      run.note(line);
      points.push_back(std::move(point));
    }
    run.publish("frontier", {.value = points, .tensors = {}});
  }

  Options o_;
  KernelCut::Settings settings_;
};

ESPALIER_PLUGIN("kernel_threshold", "1.0.0",
                component<KernelThreshold>("kernel_threshold",
                                           "crops kernels and removes filters and blocks by the norms of nested groups "
                                           "(paper 001, kernel-size regularization)")
                    .publish("kernels", "how many kernels of each layer have each size, from 0 on")
                    .publish("frontier", "for each threshold tried: the metric, parameters and multiply-accumulates"));

}  // namespace espalier
