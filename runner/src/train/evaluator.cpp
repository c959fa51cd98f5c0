#include "train/evaluator.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/execute.h"
#include "system/interrupt.h"
#include "train/compute_type.h"

namespace espalier {

std::vector<std::string_view> outputs_of(const std::vector<std::string>& names) {
  std::vector<std::string_view> outputs(names.begin(), names.end());
  if (std::ranges::find(outputs, "logits") == outputs.end()) outputs.emplace_back("logits");
  return outputs;
}

Evaluation evaluate(const Graph& graph, const Weights& weights, const DataPipeline& part, const Made<Loss>& loss,
                    const Metrics& metrics, const EvaluationOptions& options) {
  const c10::NoGradGuard no_grad;
  const at::Device device = weights.device();
  const ComputeType compute(options.precision, device);
  const auto zero = [&] { return at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device)); };
  at::Tensor loss_sum = zero(), loss_weight = zero();
  const std::vector<std::string> names = loss.object->outputs();
  const std::vector<std::string_view> wanted = outputs_of(names);
  std::vector<std::vector<at::Tensor>> contributions(metrics.all().size());
  const int64_t n = part.size();
  for (int64_t begin = 0; begin < n; begin += options.batch) {
    if (options.interruptible && interrupt() != 0) throw Interrupted(interrupt());
    const Batch batch = part.plain_batch(begin, std::min(n, begin + options.batch));
    const std::vector<at::Tensor> results = espalier::run(graph, weights, batch.inputs, wanted);
    NamedTensors outputs;
    for (size_t i = 0; i < wanted.size(); ++i) outputs.emplace_back(wanted[i], results[i]);
    const Prediction prediction{.outputs = outputs, .batch = batch, .training = false};
    loss.call([&](Loss& l) {
      const at::Tensor mean = l.value(prediction).to(at::kDouble);
      const at::Tensor weight = l.weight(batch);
      if (weight.defined()) {
        loss_sum.add_(mean * weight);
        loss_weight.add_(weight);
      } else {
        loss_sum.add_(mean, batch.size());
        loss_weight.add_(batch.size());
      }
    });
    for (size_t m = 0; m < metrics.all().size(); ++m) {
      metrics.all()[m].call([&](Metric& metric) {
        at::Tensor c = metric.contribution(prediction);
        std::vector<at::Tensor>& all = contributions[m];
        if (metric.concatenates() || all.empty()) {
          all.push_back(std::move(c));
        } else {
          all.front().add_(c);
        }
      });
    }
  }
  Evaluation e{.loss = loss_sum.item<double>() / loss_weight.item<double>()};
  for (size_t m = 0; m < metrics.all().size(); ++m) {
    const Made<Metric>& made = metrics.all()[m];
    made.call([&](Metric& metric) {
      const at::Tensor all = contributions[m].size() == 1 ? contributions[m].front() : at::cat(contributions[m]);
      e.metrics.emplace_back(made.component->component.name, metric.value(all.cpu().contiguous()));
    });
  }
  e.score = metrics.leading().score(e.metrics.front().second);
  return e;
}

}  // namespace espalier
