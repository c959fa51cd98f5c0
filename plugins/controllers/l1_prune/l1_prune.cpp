#include <espalier/controller.h>
#include <espalier/foresight.h>
#include <espalier/plugin.h>
#include <espalier/pruning.h>

namespace espalier {

// Li et al. 2017: once, in a trained network, the filters with the smallest sums of absolute weights go. All norms are
// those before (the paper's independent pruning): columns of channels that go at the same time count.
class L1Prune final : public Controller, public Foresight {
 public:
  struct Options {
    PerSelector ratio = 0.5;
    Selector on;
    int64_t min_filters = 1;
    std::string when = "begin";
    std::string of_groups = "within";

    static void declare(Declare<Options>& p) {
      p("ratio", &Options::ratio, at_least(0), below(1),
        "Share of each layer's filters that is removed, rounded down to a whole number. Layers that no "
        "selector names lose none.");
      p("on", &Options::on,
        "Layers whose filters and units are judged. Left out: convolutions with kernels larger than 1 that "
        "share their width with no other layer; in residual networks all convolutions of a block but the "
        "last.");
      p("min_filters", &Options::min_filters, at_least(1), formerly("least"),
        "Filters that each layer keeps in any case.");
      p("when", &Options::when, one_of({"begin", "end"}),
        "Moment of the stage at which filters are removed; begin: after a stage of training and before one of "
        "fine-tuning.");
      declare_of_groups(p);
    }
  };
  explicit L1Prune(const Options& o)
      : filters_(o.ratio, o.on, o.min_filters, filter_unit(o.of_groups)), at_end_(o.when == "end") {}

  void check(const Graph& graph) const override { filters_.require(graph); }
  Edits expected_edits(const Graph& graph) const override { return filters_.expected(graph); }

  std::vector<std::string> finds(const Graph& graph, const Weights& weights) const override {
    return filters_.finds(graph, weights, 1);
  }

  void stage_begin(Run& run) override {
    check(run.graph());
    if (!at_end_) prune(run);
  }
  void stage_end(Run& run) override {
    if (at_end_) prune(run);
  }

 private:
  void prune(Run& run) const { run.edit(filters_.removal(run.graph(), run.weights(), 1)); }

  FilterShare filters_;
  bool at_end_;
};

ESPALIER_PLUGIN("l1_prune", "1.0.0",
                component<L1Prune>("l1_prune",
                                   "removes the filters with the smallest l1 norms, once (Li et al. 2017)"));

}  // namespace espalier
