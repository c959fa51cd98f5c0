#include <algorithm>
#include <cmath>
#include <cstdio>

#include <espalier/controller.h>
#include <espalier/foresight.h>
#include <espalier/groups.h>
#include <espalier/per_selector.h>
#include <espalier/plugin.h>
#include <espalier/pruning.h>

namespace espalier {

// Removes the filters and units whose l2 norm is at most tau (paper 001, eq. (15)), at the end of the stage or every
// few epochs.
class Threshold final : public Controller, public Foresight {
 public:
  struct Options {
    PerSelector tau = 1e-3;
    Selector on;
    int64_t every = 0;
    int64_t min_filters = 1;
    std::string of_groups = "within";

    static void declare(Declare<Options>& p) {
      p("tau", &Options::tau, at_least(0), "Largest norm at which a filter or unit is removed.");
      p("on", &Options::on, "Layers whose filters and units are judged. Left out: all layers but the last.");
      p("every", &Options::every, at_least(0), unit("epochs"),
        "Epochs after which filters are removed during the stage, too; 0: only at its end.");
      p("min_filters", &Options::min_filters, at_least(1), formerly("least"),
        "Filters that each layer keeps in any case: those of the largest norms.");
      declare_of_groups(p);
    }
  };

  explicit Threshold(Options options) : o_(std::move(options)) {}

  void check(const Graph& graph) const override {
    require_filters(graph, o_.on, "`on`");
    require_filters(graph, o_.tau, "`tau`");
    const FilterUnit unit = filter_unit(o_.of_groups);
    const std::vector<Axis> all = filter_axes(graph, o_.on, unit);
    if (all.empty())
      throw Error("there is nothing to prune: no layer" + (o_.on.empty() ? "" : " of '" + o_.on.str() + "'") +
                  " has filters or units that may go (the number of classes stays)");
    require_groups(graph, o_.on, unit);
    require_among(graph, o_.tau, unit, all, "`tau`");
    if (std::ranges::all_of(all, [&](Axis a) { return graph[a].size <= o_.min_filters; })) {
      throw Error("there is nothing to prune: no layer has more than the " + std::to_string(o_.min_filters) +
                  " filters or units that stay by `min_filters`");
    }
  }
  std::vector<std::string> idle(const Graph&, int64_t epochs) const override {
    if (o_.every == 0 || o_.every < epochs) return {};
    return {"'every' is " + std::to_string(o_.every) + " epochs, and the stage has " + std::to_string(epochs) +
            ": it removes at the end alone"};
  }
  std::vector<std::string> finds(const Graph& graph, const Weights& weights) const override {
    std::vector<WidthNorms> widths;
    for (const Axis axis : filter_axes(graph, o_.on, filter_unit(o_.of_groups))) {
      const double tau = value_for(o_.tau, graph, axis).value_or(-1);
      WidthNorms w{graph[axis].name, filter_norms(graph, weights, axis), 0};
      w.gone = std::ranges::count_if(w.norms, [&](double n) { return n <= tau; });
      widths.push_back(std::move(w));
    }
    return table_of(widths, "up to tau");
  }

  void stage_begin(Run& run) override { check(run.graph()); }
  void epoch_end(Run& run) override {
    const bool last = run.epoch() + 1 == run.epochs();
    if (o_.every > 0 && !last && (run.epoch() + 1) % o_.every == 0) remove(run);
  }
  void stage_end(Run& run) override {
    remove(run);
    if (!met_ && !norms_.empty()) {
      std::ranges::sort(norms_);
      char text[200];
      std::snprintf(text, sizeof text,
                    "no filter or unit has a norm up to tau: the smallest of them is %.3g, the median "
                    "%.3g, the largest %.3g",
                    norms_.front(), norms_[norms_.size() / 2], norms_.back());
      run.note(text);
    }
    if (met_ && !above_)
      run.note("every filter and unit has a norm up to tau: of each layer only what `min_filters` keeps is left");
  }

 private:
  void remove(Run& run) {
    norms_.clear();
    // All norms are those before anything is removed, so that the order of the layers does not matter: paper 001, eq.
    // (15), thresholds the trained network.
    Edits edits;
    for (const Axis axis : filter_axes(run.graph(), o_.on, filter_unit(o_.of_groups))) {
      const std::vector<double> norms = filter_norms(run.graph(), run.weights(), axis);
      const double given = value_for(o_.tau, run.graph(), axis).value_or(-1);
      const double tau = std::min(given, largest_but(o_.min_filters, norms));
      met_ = met_ || std::ranges::any_of(norms, [&](double n) { return n <= given; });
      above_ = above_ || std::ranges::any_of(norms, [&](double n) { return n > given; });
      norms_.insert(norms_.end(), norms.begin(), norms.end());
      std::vector<bool> keep;
      for (const double n : norms) keep.push_back(n > tau);
      const Indices kept = indices_of(keep);
      if (kept.size() == norms.size()) continue;
      edits.push_back(shrink(run.graph(), axis, kept));
    }
    run.edit(edits);
  }

  // A threshold that leaves at least `min_filters` of the norms (more where norms are equal).
  static double largest_but(int64_t least, std::vector<double> norms) {
    if (least >= static_cast<int64_t>(norms.size())) return -1;
    std::ranges::sort(norms, std::greater());
    const double norms_kept = norms[static_cast<size_t>(least) - 1];
    return std::nextafter(norms_kept, -1);
  }

  Options o_;
  bool met_ = false;           // a norm was up to tau, whether its filter went or not
  bool above_ = false;         // one was not
  std::vector<double> norms_;  // of all filters, when it last looked
};

ESPALIER_PLUGIN(
    "threshold", "1.0.0",
    component<Threshold>("threshold",
                         "removes filters and units with a norm up to tau (paper 001, kernel-number regularization)"));

}  // namespace espalier
