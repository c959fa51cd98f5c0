#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/batch.h"
#include "espalier/builder.h"
#include "espalier/component.h"

namespace espalier {

// A number that tells how good a network is on a part of the data. It is declared once: metrics.jsonl, summary.json,
// TensorBoard, the progress line, `expect` and the choice of the best epoch take it from here. What batches contribute
// is kept on the device, so that no step waits for it. Example, the share of samples whose values are all close:
//
//   at::Tensor contribution(const Prediction& p) const override {
//     const at::Tensor close = (p.output() - p.batch.target()).abs().amax(-1) < o_.tolerance;
//     return at::stack({close.sum(), at::full_like(close.sum(), close.numel())}).to(at::kDouble);
//   }
//   double value(const at::Tensor& all) const override {
//     return 100 * all[0].item<double>() / all[1].item<double>();
//   }
class ESPALIER_API Metric : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "metric";
  // Returns whether a larger value is better.
  virtual bool larger_is_better() const { return true; }
  // Returns the unit, for tables: "%" or nothing.
  virtual std::string unit() const { return ""; }
  // Returns the outputs of the network that it looks at. In training steps it finds those of the loss and "logits".
  virtual std::vector<std::string> outputs() const { return {"logits"}; }
  // Throws Error if it means nothing for such a task.
  virtual void check(const TargetSpec& /*target*/) const {}
  // Returns what a batch adds, float64 on the batch's device, without gradients: [k] numbers, which are summed over the
  // batches; or [n, k] rows, which are put one below the other, if concatenates().
  virtual at::Tensor contribution(const Prediction& prediction) const = 0;
  // Returns whether contributions are put together instead of summed, as for metrics that rank all samples. Such a
  // metric is not computed over training steps.
  virtual bool concatenates() const { return false; }
  // Returns the number, from the contributions of all batches, on the CPU.
  virtual double value(const at::Tensor& all) const = 0;
  // Returns further numbers that come from the same contributions, each with its name. The run records them as
  // METRIC.NAME beside the number above. Larger ones are better, as far as anybody asks.
  virtual std::vector<std::pair<std::string, double>> further(const at::Tensor& /*all*/) const { return {}; }
};

// Returns the specs of the metrics that a task has where the recipe names none, the leading one first: accuracy (and
// top5 from 20 classes on); mse, mae and r2; mean_average_precision. Throws Error for a task that has none.
ESPALIER_API std::vector<Value> default_metrics(const TargetSpec& target);

}  // namespace espalier
