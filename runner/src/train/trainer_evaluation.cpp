// What is measured, of which values, and whether it still is what the network has.
#include <algorithm>
#include <string>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/loss.h"
#include "system/interrupt.h"
#include "train/evaluator.h"
#include "train/placed.h"
#include "train/trainer.h"

namespace espalier {

at::Tensor Trainer::logits(const Batch& batch, const std::vector<AxisChange>* without) const {
  const c10::NoGradGuard no_grad;
  const Pass pass{.training = false, .key = {}, .without = without};
  return placed([&] { return espalier::run(network_.graph, *network_.weights, batch.inputs, {"logits"}, pass)[0]; });
}

const Weights& Trainer::evaluated() const {
  return ema_ && stage_->ema->instead ? *ema_->weights() : *network_.weights;
}

Evaluation Trainer::evaluate_part(std::string_view part, bool interruptible, const Weights& weights) const {
  const DataPipeline* pipeline = nullptr;
  if (part == "test") pipeline = &data_.test();
  if (part == "train") pipeline = &data_.train();
  if (part == "validation") {
    pipeline = data_.validation();
    if (!pipeline) throw Error("there is no validation set; give data.validation a fraction");
  }
  if (!pipeline) throw Error("no part of the data is called '" + std::string(part) + "' (test, validation, train)");
  return placed([&] {
    return espalier::evaluate(
        network_.graph, weights, *pipeline, parts_.loss(), metrics_,
        {.precision = recipe_.precision, .batch = data_.section().eval_batch, .interruptible = interruptible},
        processes());
  });
}

Evaluation Trainer::evaluate(std::string_view part, const Weights& weights) {
  return evaluate_part(part, false, weights);  // whoever asks is in the middle of something
}

at::Tensor Trainer::loss(const Batch& batch, const Observer& observe) {
  // In the full precision of the weights: gradients and activations are looked at, and there are few passes.
  if (batch.whole > 0) {
    throw Error("the batch of a step is divided among " + std::to_string(processes().count()) +
                " processes, and the loss of a part of it is asked for: Run::draw gives whole batches");
  }
  const Made<Loss>& made = parts_.loss();
  const std::vector<std::string> names = made.object->outputs();
  const std::vector<std::string_view> wanted = outputs_of(names);
  const std::vector<at::Tensor> r =
      placed([&] { return espalier::run(network_.graph, *network_.weights, batch.inputs, wanted, {}, observe); });
  NamedTensors outputs;
  for (size_t i = 0; i < wanted.size(); ++i) outputs.emplace_back(wanted[i], r[i]);
  at::Tensor value;
  made.call([&](Loss& l) { value = l.value({.outputs = outputs, .batch = batch, .training = false}); });
  return value;
}

void Trainer::count_best() {
  const double score = tested_.result.score;
  if (!position_.best_score || (!data_.validation() && score > *position_.best_score)) position_.best_score = score;
}

double Trainer::selection_score(bool interruptible) const {
  return data_.validation() ? evaluate_part("validation", interruptible).score : tested_.result.score;
}

void Trainer::evaluate_now(bool interruptible) {
  if (!tested_.stale) return;
  tested_.result = evaluate_part("test", interruptible);
  tested_.stale = false;
}

std::vector<at::Tensor> Trainer::copy_of_values() const {
  std::vector<at::Tensor> all;
  for (const Role r : {Role::weight, Role::architecture, Role::buffer})
    all.push_back(network_.weights->bank(r).values.flat().clone());
  return all;
}

bool Trainer::has_values(const std::vector<at::Tensor>& values) const {
  constexpr Role roles[] = {Role::weight, Role::architecture, Role::buffer};
  return std::ranges::equal(
      values, roles, [&](const at::Tensor& v, Role r) { return v.equal(network_.weights->bank(r).values.flat()); });
}

void Trainer::around_evaluation(const std::function<void()>& evaluations) {
  const std::vector<at::Tensor> before = copy_of_values();
  for_controllers([&](Controller& c) { c.evaluation_begin(*this); });
  const bool others = !has_values(before);
  const auto end = [&] {
    for_controllers([&](Controller& c) { c.evaluation_end(*this); });
    if (has_values(before)) return;
    throw Error("a controller has put other values into the network for the evaluation and left them there: " +
                std::string("evaluation_end() must put back what was there before evaluation_begin()"));
  };
  if (others) tested_.stale = true;
  try {
    evaluations();
  } catch (const Interrupted&) {  // the checkpoint that comes now holds the values of the training
    end();
    throw;
  }
  end();
  // What was measured is not what the network has.
  if (others) tested_.stale = true;
}

void Trainer::watch(const std::function<void()>& turns) {
  std::vector<at::Tensor> before;
  if (!tested_.stale) before = copy_of_values();
  turns();
  meet("a turn of the controllers");
  if (!tested_.stale) tested_.stale = !has_values(before);
}

}  // namespace espalier
