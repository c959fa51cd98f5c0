#include "check/task_samples.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>

#include "espalier/random_fill.h"

namespace espalier {

namespace {

constexpr int64_t samples = 12;

at::Tensor logits(int64_t outputs, const char* of) {
  return normal({samples, outputs}, 1, RandomKey(5).with(of));
}

}  // namespace

const std::vector<TaskSample>& task_samples() {
  static const std::vector<TaskSample> all = [] {
    std::vector<TaskSample> list;
    list.push_back({"5 classes",
                    {5, task::classification},
                    logits(5, "classes"),
                    at::arange(samples, at::kLong).mul(7).remainder(5)});
    list.push_back({"3 values", {3, task::regression}, logits(3, "values"), logits(3, "truth")});
    list.push_back(
        {"4 labels", {4, task::multilabel}, logits(4, "labels"), logits(4, "which labels").gt(0.3).to(at::kDouble)});
    return list;
  }();
  return all;
}

Batch batch_of(const TaskSample& sample, int64_t begin, int64_t end) {
  return {.inputs = {{"input", at::zeros({end - begin, 1}, at::kDouble)}},
          .targets = {{"target", sample.truth.slice(0, begin, end)}}};
}

}  // namespace espalier
