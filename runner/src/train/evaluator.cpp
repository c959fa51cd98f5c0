#include "train/evaluator.h"

#include <algorithm>

#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "espalier/execute.h"
#include "system/interrupt.h"
#include "train/compute_type.h"

namespace espalier {

Evaluation evaluate(const Graph& graph, const Weights& weights, const DataPipeline& part,
                    const EvaluationOptions& options) {
  const c10::NoGradGuard no_grad;
  const at::Device device = weights.device();
  const ComputeType compute(options.precision, device);
  const auto zero = [&] { return at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device)); };
  at::Tensor loss = zero();
  at::Tensor correct = zero();
  at::Tensor among5 = zero();
  const int64_t n = part.size();
  for (int64_t begin = 0; begin < n; begin += options.batch) {
    if (options.interruptible && interrupt() != 0) throw Interrupted(interrupt());
    const int64_t end = std::min(n, begin + options.batch);
    const Batch batch = part.plain_batch(begin, end);
    const auto results =
        espalier::run(graph, weights, {{"input", batch.input}, {"target", batch.target}}, {"loss", "logits"});
    loss.add_(results[0].to(at::kDouble), end - begin);
    correct.add_(results[1].argmax(1).eq(batch.target).sum());
    if (options.top5) among5.add_(std::get<1>(results[1].topk(5, 1)).eq(batch.target.unsqueeze(1)).sum());
  }
  const auto total = static_cast<double>(n);
  return {loss.item<double>() / total, 100 * correct.item<double>() / total, 100 * among5.item<double>() / total};
}

}  // namespace espalier
