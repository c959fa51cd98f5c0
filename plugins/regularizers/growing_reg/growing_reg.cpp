#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include <espalier/foresight.h>
#include <espalier/groups.h>
#include <espalier/plugin.h>
#include <espalier/pruning.h>
#include <espalier/registry.h>
#include <espalier/regularizer.h>
#include <espalier/rewrite.h>
#include <espalier/score.h>
#include <espalier/selector.h>

namespace espalier {

namespace {

constexpr const char* chosen_state = "growing_reg.chosen";       // 1 for each row of a weight that is to go
constexpr const char* chosen_counter = "growing_reg.is_chosen";  // 1 once they are
constexpr const char* steps_counter = "growing_reg.steps";       // updates since

}  // namespace

// Growing regularization (Wang et al. 2021, GReg-1, algorithm 1): the filters and units that are to go are chosen once,
// by their scores; the factor of their l2 penalty, lambda / 2 * ||w||^2, begins with `delta` and grows by it after
// every `every` updates, up to `limit`. So they leave little behind when a controller removes them.
class GrowingReg final : public Regularizer, public Foresight {
 public:
  struct Options {
    double share = 0.5;
    Selector on;
    Nested score{Value::map({{"use", "l1"}})};
    std::string scope = "layer";
    double delta = 1e-4;
    int64_t every = 10;
    double limit = 1;

    static void declare(Declare<Options>& p) {
      p("share", &Options::share, above(0), below(1), "Share of the filters and units that is penalised.");
      p("on", &Options::on, "Layers whose filters and units are ranked. Left out: all whose width can shrink.");
      p("score", &Options::score, of_kind("score"),
        "Score that chooses them, the smallest first; one that needs no data.");
      p("scope", &Options::scope, one_of({"layer", "global", "block"}),
        "What is ranked together; layer: each width loses the same share.");
      p("delta", &Options::delta, above(0), "First factor of the penalty, and what is added to it each time.");
      p("every", &Options::every, at_least(1), unit("steps"), "Steps from one rise of the factor to the next.");
      p("limit", &Options::limit, above(0), "Largest factor of the penalty.");
    }
  };

  explicit GrowingReg(Options o) : o_(std::move(o)), score_(Registry::instance().create<Score>(o_.score.value)) {
    if (score_->batches() > 0)
      throw Error("'score' must need no data, and '" + name_of(o_.score.value, Score::kind) +
                  "' looks at batches; take one such as l1, l2 or bn_scale");
  }

  void attach(const Graph& graph, Weights& weights) override {
    weights.add_state(graph, {.name = chosen_state,
                              .shape =
                                  [](const Parameter& p) {
                                    const bool rows = p.kind == "weight" && !p.shape.empty() && !p.input.front();
                                    return rows ? Shape{p.shape.front()} : Shape{};
                                  },
                              .initial = 0});
  }

  void add(const Graph& graph, Weights& weights, at::Tensor& value) override {
    const c10::NoGradGuard no_grad;
    // Only now: a run that goes on gets its counters and states after attach().
    double& is_chosen = weights.counters()[chosen_counter];
    if (is_chosen == 0) choose(graph, weights);
    is_chosen = 1;
    const double rises = 1 + std::floor(weights.counters()[steps_counter] / static_cast<double>(o_.every));
    const double factor = std::min(o_.limit, o_.delta * rises);
    for (size_t i = 0; i < graph.parameters().size(); ++i) {
      const ParamId p{static_cast<int32_t>(i)};
      const Parameter& parameter = graph[p];
      if (parameter.role != Role::weight || parameter.kind != "weight" || parameter.input.front()) continue;
      const at::Tensor w = weights[p].detach();
      std::vector<int64_t> rows(static_cast<size_t>(w.dim()), 1);
      rows.front() = -1;
      const at::Tensor penalised = w * weights.state(chosen_state, p).view(rows);
      value.add_(penalised.square().sum(at::kDouble), 0.5 * factor);
      at::Tensor(weights.gradient(p)).add_(penalised, factor);
    }
  }

  void after_update(const Graph&, Weights& weights, const LearningRates&) override {
    ++weights.counters()[steps_counter];
  }

  std::vector<std::string> idle(const Graph& graph, int64_t) const override {
    if (!judged(graph).empty()) return {};
    return {"no width can shrink and is judged by '" + name_of(o_.score.value, Score::kind) +
            "': nothing is penalised"};
  }

 private:
  std::vector<Axis> judged(const Graph& graph) const {
    std::vector<Axis> axes = prunable_axes(graph, o_.on);
    std::erase_if(axes, [&](Axis a) { return !score_->why_not(graph, a).empty(); });
    return axes;
  }

  void choose(const Graph& graph, Weights& weights) const {
    const std::vector<Axis> axes = judged(graph);
    const RemovalOrder order(graph, score_->scores({graph, weights}, axes), std::vector<int64_t>(axes.size(), 1),
                             {.scope = o_.scope});
    const auto wanted = static_cast<int64_t>(std::floor(o_.share * static_cast<double>(order.positions()) + 1e-9));
    for (const auto& [axis, positions] : order.gone(order.left_after(order.steps_for(wanted)))) {
      for (const ParamId p : graph.producers(axis)) {
        if (graph[p].input.front() || !graph[p].shape.front().reads(axis)) continue;
        const Indices at = positions_of(graph, graph[p].shape.front(), axis, positions);
        at::Tensor chosen = weights.state(chosen_state, p);
        chosen.index_fill_(0, at::tensor(at, at::kLong).to(chosen.device()), 1);
      }
    }
  }

  Options o_;
  std::unique_ptr<Score> score_;
};

ESPALIER_PLUGIN("growing_reg", "1.0.0",
                component<GrowingReg>("growing_reg",
                                      "l2 penalty of the filters that are to go, which grows (Wang et al. 2021)"));

}  // namespace espalier
