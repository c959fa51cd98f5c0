#include <espalier/plugin.h>
#include <espalier/score.h>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

namespace espalier {

// The mean of the powers of the absolute weights that make a position: of each layer of the width, added up.
class @CLASS@ final : public Score {
 public:
  struct Options {
    double power = 1;

    static void declare(Declare<Options>& p) {
      p("power", &Options::power, above(0), "Power that the absolute weights are raised to.");
    }
  };

  explicit @CLASS@(Options options) : o_(options) {}

  std::vector<AxisScores> scores(const ScoreInput& in, const std::vector<Axis>& axes) const override {
    const c10::NoGradGuard no_grad;
    std::vector<AxisScores> all;
    for (const Axis axis : axes) {
      at::Tensor sum = at::zeros({in.graph[axis].size}, at::kDouble);
      for (const ParamId p : in.graph.producers(axis)) {
        const at::Tensor rows = rows_of(in.graph, in.weights[p], in.graph[p].shape, axis, makes(in.graph, p, axis));
        sum += rows.abs().pow(o_.power).mean(1);
      }
      all.push_back(scores_of(axis, sum));
    }
    return all;
  }

 private:
  Options o_;
};

ESPALIER_PLUGIN("@NAME@", "0.1.0", component<@CLASS@>("@NAME@", "mean absolute weight of a filter or unit"));

}  // namespace espalier
