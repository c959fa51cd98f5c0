// The gradients of a step: of a batch whole, in pieces (`accumulate`), or in parts of several processes.
#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/scalar_tensor.h>
#include <c10/core/GradMode.h>

#include "data/share.h"
#include "data/split.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/loss.h"
#include "train/compute_type.h"
#include "train/evaluator.h"
#include "train/phase_timer.h"
#include "train/placed.h"
#include "train/trainer.h"

namespace espalier {

namespace {

// Samples [begin, end) of a batch.
Batch part_of(const Batch& batch, int64_t begin, int64_t end) {
  if (begin == 0 && end == batch.size()) return {batch.inputs, batch.targets};
  const at::Tensor numbers = at::arange(begin, end, batch.inputs.front().second.options().dtype(at::kLong));
  Batch part{{}, rows_of(batch.targets, numbers)};
  for (const auto& [name, x] : batch.inputs) part.inputs.emplace_back(name, x.slice(0, begin, end));
  return part;
}

// What a training pass may read: the inputs, and the targets for operations that choose by them (ReadsByPass).
NamedTensors fed(const Batch& batch) {
  NamedTensors all = batch.inputs;
  for (const auto& [name, x] : batch.targets) all.emplace_back(name == "target" ? name : "target." + name, x);
  return all;
}

constexpr Role trained[] = {Role::weight, Role::architecture};

}  // namespace

struct Trainer::Piece {
  Batch batch;  // of this process
  RandomKey key;
  BatchPart part{};
  // How much it counts in the mean of the whole batch: what the loss says, float64 []; undefined: its samples.
  at::Tensor weight{};
  double times = 1;  // what that is multiplied by: all processes compute the same where they do not divide the piece
};

std::vector<Trainer::Piece> Trainer::pieces_of(const Batch& batch, const Made<Loss>* weighted) const {
  const Share share{processes().rank(), processes().count()};
  // What is whole in each process stays so: nobody knows which part another one would take.
  const bool divided = batch.whole > 0;
  const int64_t samples = divided ? batch.whole : batch.size();
  const int64_t at_once = stage_->accumulate == 1 ? samples : data_.section().batch;
  std::vector<Piece> pieces;
  for (int64_t begin = 0, mine = 0; begin < samples; begin += at_once) {
    const int64_t size = std::min(at_once, samples - begin);
    const int64_t own = divided ? share.own(size) : size;
    const auto i = static_cast<uint64_t>(pieces.size());
    Piece& piece = pieces.emplace_back(
        Piece{.batch = part_of(batch, mine, mine + own), .key = i == 0 ? key() : key().with("part").with(i)});
    mine += own;
    if (divided && share.divides(size)) {
      piece.batch.whole = size;
      piece.part = {.first = share.before(size),
                    .samples = own,
                    .sum = recipe_.synchronised_norms ? &processes().summing() : nullptr};
    } else {
      piece.times = 1 / static_cast<double>(processes().count());
    }
    if (weighted) weighted->call([&](Loss& l) { piece.weight = l.weight(piece.batch); });
  }
  return pieces;
}

void Trainer::add_piece(const Piece& piece, Weights& weights, const GradientPass& of, const at::Tensor& share) {
  const std::string_view loss = of.loss;
  const Made<Loss>& made = parts_.loss();
  const bool own = loss == "loss";
  const std::vector<std::string> names = own ? made.object->outputs() : std::vector{std::string(loss)};
  const std::vector<std::string_view> wanted = outputs_of(names);
  at::Tensor value, weight;
  NamedTensors outputs;
  {
    const ComputeType compute(recipe_.precision, machine_.device);
    const std::vector<at::Tensor> r = placed([&] {
      const Pass pass{
          .training = true, .key = piece.key, .progress = progress(), .part = piece.part, .statistics = of.statistics};
      return espalier::run(network_.graph, weights, fed(piece.batch), wanted, pass);
    });
    for (size_t i = 0; i < wanted.size(); ++i) outputs.emplace_back(wanted[i], r[i]);
    if (own) {
      const Prediction prediction{.outputs = outputs, .batch = piece.batch, .training = true};
      made.call([&](Loss& l) {
        value = l.value(prediction);
        weight = l.weight(piece.batch);
      });
    } else {
      value = r[0];
    }
  }
  // A part in which nothing counts has no mean. It goes backward all the same, with zeros: batch norms of the other
  // processes wait for it.
  if (processes().several() && weight.defined() && weight.item<double>() == 0) value = outputs.front().second.sum() * 0;
  placed([&] {
    if (share.defined()) {
      (value * share.to(value.scalar_type())).backward();
    } else {
      value.backward();
    }
  });
  if (!of.metrics) return;
  meters_.add(value, weight, {.outputs = outputs, .batch = piece.batch, .training = true}, metrics_,
              piece.part.samples > 0 || processes().leads());
}

void Trainer::add_gradients(const Batch& batch, Weights& weights, const GradientPass& pass) {
  {
    const PhaseTimer timer(*this, &Phases::gradients);
    add_pieces(batch, weights, pass);
  }
  for_controllers([&](Controller& c) { c.backward_end(*this, weights); });
}

void Trainer::add_pieces(const Batch& batch, Weights& weights, const GradientPass& pass) {
  const bool several = processes().several();
  const bool own = pass.loss == "loss";
  if (!several && (stage_->accumulate == 1 || batch.size() <= data_.section().batch))
    return add_piece({.batch = {batch.inputs, batch.targets}, .key = key()}, weights, pass, {});
  const std::vector<Piece> pieces = pieces_of(batch, own ? &parts_.loss() : nullptr);
  // How much all of it counts.
  at::Tensor total;
  if (!several && own) {
    parts_.loss().call([&](Loss& l) { total = l.weight(batch); });
  } else {
    for (const Piece& piece : pieces) {
      if (!piece.weight.defined()) continue;
      const at::Tensor counts = piece.weight.to(at::kDouble) * piece.times;
      total = total.defined() ? total + counts : counts;
    }
    if (total.defined()) processes().sum(total);
  }
  if (several) keep_once(weights);
  const auto samples = static_cast<double>(batch.whole > 0 ? batch.whole : batch.size());
  for (const Piece& piece : pieces) {
    const auto part = static_cast<double>(piece.batch.size());
    add_piece(piece, weights, pass,
              piece.weight.defined() ? piece.weight.to(at::kDouble) * piece.times / total
                                     : at::scalar_tensor(part * piece.times / samples, at::kDouble));
  }
  if (several) sum_gradients(weights);
}

void Trainer::keep_once(Weights& weights) const {
  if (processes().leads()) return;
  const c10::NoGradGuard no_grad;
  weights.zero_gradients();
}

void Trainer::sum_gradients(Weights& weights) const {
  const c10::NoGradGuard no_grad;
  for (const Role role : trained) {
    Arena& gradients = weights.bank(role).gradients;
    if (gradients.numel() == 0) continue;
    processes().sum(gradients.flat());
    gradients.touch();
  }
  if (recipe_.synchronised_norms) return;
  // The running statistics are what the processes have seen between them. In float64, so that what is the same in all
  // processes stays as it is.
  Arena& buffers = weights.bank(Role::buffer).values;
  if (buffers.numel() == 0) return;
  const at::Tensor mean = buffers.flat().to(at::kDouble);
  processes().sum(mean);
  at::Tensor(buffers.flat()).copy_(mean / static_cast<double>(processes().count()));
}

}  // namespace espalier
