#include "train/inference_bench.h"

#include <algorithm>
#include <chrono>

#include <c10/core/GradMode.h>
#include <torch/cuda.h>

#include "espalier/execute.h"
#include "espalier/random_fill.h"
#include "train/compute_type.h"

namespace espalier {

Value bench_inference(const Graph& graph, const Weights& weights, const std::vector<int64_t>& batches, int64_t passes,
                      const std::string& precision) {
  using Clock = std::chrono::steady_clock;
  const c10::NoGradGuard no_grad;
  const ComputeType compute(precision, weights.device());
  Value results = Value::list();
  for (const int64_t batch : batches) {
    NamedTensors inputs;
    for (const Port& port : graph.inputs()) {
      std::vector<int64_t> sizes = graph.sizes(graph[port.edge].shape);
      sizes.insert(sizes.begin(), batch);
      at::Tensor x = normal(sizes, 1, RandomKey(1).with(port.name)).to(weights.device(), weights.dtype());
      if (x.dim() == 4) x = x.contiguous(at::MemoryFormat::ChannelsLast);
      inputs.emplace_back(port.name, std::move(x));
    }
    std::vector<double> times;
    for (int64_t i = 0; i < passes + (passes + 9) / 10; ++i) {
      const Clock::time_point began = Clock::now();
      run(graph, weights, inputs, {"logits"}, {.training = false, .key = {}});
      if (weights.device().is_cuda()) torch::cuda::synchronize();
      if (i >= (passes + 9) / 10) times.push_back(std::chrono::duration<double>(Clock::now() - began).count());
    }
    std::ranges::sort(times);
    const double median = times[times.size() / 2];
    results.push_back(Value::map(
        {{"batch", batch}, {"ms", 1e3 * median}, {"samples_per_second", static_cast<double>(batch) / median}}));
  }
  return results;
}

}  // namespace espalier
