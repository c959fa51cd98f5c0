#include "train/evaluator.h"

#include <algorithm>
#include <numeric>

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

namespace {

// The sum of what the batches of all processes contributed. mine: undefined where this process had no batch.
at::Tensor summed(const at::Tensor& mine, at::Device device, const Processes& processes) {
  if (!processes.several()) return mine;
  const int64_t numbers = processes.largest("the numbers of a metric", {mine.defined() ? mine.numel() : 0})[0];
  const at::Tensor all =
      mine.defined() ? mine.contiguous() : at::zeros({numbers}, at::TensorOptions().dtype(at::kDouble).device(device));
  processes.sum(all);
  return all;
}

// The rows of all batches one below the other, in the order of the batches, of which each process had every count-th.
at::Tensor put_together(const std::vector<at::Tensor>& mine, int64_t batches, at::Device device,
                        const Processes& processes) {
  if (!processes.several()) return mine.size() == 1 ? mine.front() : at::cat(mine);
  const int64_t columns = processes.largest("the columns of a metric", {mine.empty() ? 0 : mine.front().size(1)})[0];
  const at::Tensor counts = at::zeros({batches}, at::kLong);
  auto* rows = counts.mutable_data_ptr<int64_t>();
  for (size_t i = 0; i < mine.size(); ++i)
    rows[processes.rank() + static_cast<int64_t>(i) * processes.count()] = mine[i].size(0);
  processes.sum(counts);
  // Zeros and the rows of one process add up to these rows.
  const at::Tensor all = at::zeros({std::accumulate(rows, rows + batches, int64_t{0}), columns},
                                   at::TensorOptions().dtype(at::kDouble).device(device));
  for (int64_t b = 0, begin = 0; b < batches; begin += rows[b++]) {
    if (b % processes.count() == processes.rank())
      all.slice(0, begin, begin + rows[b]).copy_(mine[static_cast<size_t>(b / processes.count())]);
  }
  processes.sum(all);
  return all;
}

}  // namespace

Evaluation evaluate(const Graph& graph, const Weights& weights, const DataPipeline& part, const Made<Loss>& loss,
                    const Metrics& metrics, const EvaluationOptions& options, const Processes& processes) {
  const c10::NoGradGuard no_grad;
  const at::Device device = weights.device();
  const ComputeType compute(options.precision, device);
  const auto zero = [&] { return at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device)); };
  at::Tensor loss_sum = zero(), loss_weight = zero();
  std::vector<std::string> names = loss.object->outputs();
  for (const Made<Metric>& metric : metrics.all()) {
    for (std::string& name : metric.object->outputs()) {
      if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
    }
  }
  const std::vector<std::string_view> wanted(names.begin(), names.end());
  std::vector<std::vector<at::Tensor>> contributions(metrics.all().size());
  const int64_t n = part.size();
  const int64_t batches = (n + options.batch - 1) / options.batch;
  // Whole batches, so that what depends on the batch, too, is as with one process. All processes look for signals
  // together, also those that have no batch left.
  for (int64_t turn = 0; turn < batches; turn += processes.count()) {
    const auto signal = static_cast<int>(processes.largest("a batch of an evaluation", {interrupt()})[0]);
    if (options.interruptible && signal != 0) throw Interrupted(signal);
    const int64_t begin = (turn + processes.rank()) * options.batch;
    if (begin >= n) continue;
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
  processes.sum(loss_sum);
  processes.sum(loss_weight);
  Evaluation e{.loss = loss_sum.item<double>() / loss_weight.item<double>()};
  for (size_t m = 0; m < metrics.all().size(); ++m) {
    const Made<Metric>& made = metrics.all()[m];
    made.call([&](Metric& metric) {
      const std::vector<at::Tensor>& mine = contributions[m];
      const at::Tensor all = metric.concatenates()
                                 ? put_together(mine, batches, device, processes)
                                 : summed(mine.empty() ? at::Tensor() : mine.front(), device, processes);
      const at::Tensor together = all.cpu().contiguous();
      const std::string& name = made.component->component.name;
      e.metrics.emplace_back(name, metric.value(together));
      for (const auto& [further, number] : metric.further(together))
        e.metrics.emplace_back(name + "." + further, number);
    });
  }
  e.score = metrics.leading().score(e.metrics.front().second);
  return e;
}

}  // namespace espalier
