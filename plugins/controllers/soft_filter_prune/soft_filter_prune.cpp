#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/foresight.h>
#include <espalier/plugin.h>
#include <espalier/pruning.h>
#include <espalier/rewrite.h>

namespace espalier {

// He et al. 2018: between epochs the filters with the smallest l2 norms become zero and go on being trained; those that
// are zero in the end go. The paper zeroes filters of every convolution; here, unless `on` says otherwise, of those
// whose channels can go in the end: of a block's last convolution they cannot, a sum wants them all.
class SoftFilterPrune final : public Controller, public Foresight {
 public:
  struct Options {
    PerSelector ratio = 0.3;
    Selector on;
    int64_t every = 1;
    int64_t min_filters = 1;
    std::string of_groups = "within";

    static void declare(Declare<Options>& p) {
      p("ratio", &Options::ratio, at_least(0), below(1),
        "Share of each layer's filters that becomes zero, rounded down to a whole number. Layers that no "
        "selector names lose none.");
      p("on", &Options::on,
        "Layers whose filters and units are judged. Left out: convolutions with kernels larger than 1 that "
        "share their width with no other layer; in residual networks all convolutions of a block but the "
        "last.");
      p("every", &Options::every, at_least(1), unit("epochs"), "Epochs between one choice of filters and the next.");
      p("min_filters", &Options::min_filters, at_least(1), formerly("least"),
        "Filters that each layer keeps in any case.");
      declare_of_groups(p);
    }
  };
  explicit SoftFilterPrune(const Options& o)
      : filters_(o.ratio, o.on, o.min_filters, filter_unit(o.of_groups)), every_(o.every) {}

  int64_t round() const override { return every_; }

  void check(const Graph& graph) const override { filters_.require(graph); }
  Edits expected_edits(const Graph& graph) const override { return filters_.expected(graph); }

  std::vector<std::string> idle(const Graph&, int64_t epochs) const override {
    if (every_ <= epochs) return {};
    return {"'every' is " + std::to_string(every_) + " epochs, and the stage has " + std::to_string(epochs) +
            ": filters never become zero, they go at the end"};
  }
  std::vector<std::string> finds(const Graph& graph, const Weights& weights) const override {
    return filters_.finds(graph, weights, 2);
  }

  void stage_begin(Run& run) override { check(run.graph()); }
  void epoch_end(Run& run) override {
    if ((run.epoch() + 1) % every_ != 0) return;
    const c10::NoGradGuard no_grad;
    const Graph& graph = run.graph();
    for (const auto& [axis, positions] : filters_.smallest(graph, run.weights(), 2)) {
      for (const ParamId p : graph.producers(axis)) {
        // The weights alone: biases, batch norm and the optimizer's states stay, as in the paper.
        at::Tensor w = run.weights()[p].detach();
        const Indices filters = positions_of(graph, graph[p].shape[0], axis, positions);
        w.index_fill_(0, at::tensor(filters, at::TensorOptions(at::kLong).device(w.device())), 0);
      }
    }
  }
  // Those that are zero have the smallest norms.
  void stage_end(Run& run) override { run.edit(filters_.removal(run.graph(), run.weights(), 2)); }

 private:
  FilterShare filters_;
  int64_t every_;
};

ESPALIER_PLUGIN("soft_filter_prune", "1.0.0",
                component<SoftFilterPrune>("soft_filter_prune",
                                           "zeroes the filters with the smallest l2 norms after every epoch, removes "
                                           "them in the end (He et al. 2018)"));

}  // namespace espalier
