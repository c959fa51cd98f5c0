// Stages, epochs and steps.
#include <algorithm>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>

#include "data/split.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "system/interrupt.h"
#include "system/text.h"
#include "train/compute_type.h"
#include "train/evaluator.h"
#include "train/phase_timer.h"
#include "train/trainer.h"

namespace espalier {

std::string Trainer::place() const {
  const std::string stage = "stage '" + stage_->name + "'";
  if (!position_.epoch_begun) return stage;
  return stage + ", epoch " + std::to_string(position_.epoch + 1) + ", step " + std::to_string(position_.step + 1);
}

template <class Body>
auto Trainer::placed(const Body& body) const {
  const auto where = [&] { return " (" + place() + ")"; };
  try {
    return body();
  } catch (const InputError&) {
    throw;
  } catch (const LocatedError&) {
    throw;
  } catch (const EditError&) {
    throw;
  } catch (const Interrupted&) {
    throw;
  } catch (const c10::Error& e) {
    throw LocatedError(e.what_without_backtrace() + where());
  } catch (const std::exception& e) {
    throw LocatedError(e.what() + where());
  }
}

RandomKey Trainer::epoch_key() const {
  return seed_.with(position_.stage).with(static_cast<uint64_t>(position_.epoch));
}

RandomKey Trainer::key() const {
  return epoch_key().with(static_cast<uint64_t>(position_.step));
}

void Trainer::make_parts(size_t index) {
  stage_ = &recipe_.stages[index];
  parts_.make(*stage_, [&](const Value& spec) { return known(spec); });
}

void Trainer::begin_stage() {
  stage_ = &recipe_.stages[position_.stage];
  position_.epoch = position_.step = 0;
  position_.epoch_begun = position_.ended = false;
  watches_.stage = {};
  if (stage_->start_from == "best" && position_.stage > 0) restore_best();
  if (stage_->data) load_data(*stage_->data);
  if (!stage_->network.is_null()) build_network(stage_->network, stage_->warm_start, "network " + stage_->name);
  network_.weights->clear_states();
  make_parts(position_.stage);
  position_.best_selection = -1;
  smooth_labels();
  Edits edits;
  parts_.controller().call([&](Controller& c) { edits = c.begin(network_.graph); });
  edit(edits);
  for (const OptimizerSection& o : stage_->optimizers) o.on.require_matches(network_.graph);
  attach();
  stage_before_ = size();
  watch([&](Controller& c) { c.stage_begin(*this); });
  position_.stage_begun = true;
  // Twice, so that the previous checkpoint too lies behind the beginning: from here on the best checkpoint is this
  // stage's, and what `start_from: best` takes is gone.
  save_last();
  if (position_.stage > 0) save_last();
  std::error_code none;
  std::filesystem::remove(folder_.checkpoint("best"), none);
}

void Trainer::attach() {
  network_.step_macs = static_cast<double>(network_.graph.macs());
  parts_.attach(network_.graph, *network_.weights);
  for (const Follower& f : network_.followers) {
    if (const auto w = f.weights.lock(); w && f.optimized) parts_.attach_optimizers(network_.graph, *w);
  }
}

void Trainer::smooth_labels() {
  for (size_t n = 0; n < network_.graph.nodes().size(); ++n) {
    const Node& node = network_.graph.nodes()[n];
    if (node.op->type() != "cross_entropy") continue;
    const Value spec = Value::map({{"use", "cross_entropy"}, {"label_smoothing", stage_->label_smoothing}});
    network_.graph.replace_operation(static_cast<int32_t>(n), Registry::instance().create<Operation>(spec));
  }
}

// ---- one step ----

void Trainer::add_gradients(const Batch& batch, Weights& weights, std::string_view loss) {
  const PhaseTimer timer(*this, &Phases::gradients);
  placed([&] {
    std::vector<at::Tensor> r;
    {
      const ComputeType compute(recipe_.precision, machine_.device);
      r = espalier::run(network_.graph, weights, {{"input", batch.input}, {"target", batch.target}}, {loss, "logits"},
                        {.training = true, .key = key()});
    }
    r[0].backward();
    meters_.add(r[0], r[1], batch);
  });
}

void Trainer::add_regularizers(Weights& weights) {
  const PhaseTimer timer(*this, &Phases::regularizers);
  parts_.add_regularizers(network_.graph, weights, meters_.penalty, [&](const std::string& text) { note(text); });
}

void Trainer::update(Weights& weights, const std::vector<Role>& roles) {
  const PhaseTimer timer(*this, &Phases::update);
  parts_.update(network_.graph, weights, roles, position_.lr_factor);
}

void Trainer::train_step(const Batch& batch) {
  network_.weights->zero_gradients();
  add_gradients(batch, *network_.weights);
  add_regularizers(*network_.weights);
  update(*network_.weights);
}

Batch Trainer::draw(std::string_view part, int64_t n) {
  return data_.draw(part, n, position_.steps_done);
}

// ---- evaluation ----

at::Tensor Trainer::logits(const Batch& batch, const std::vector<AxisChange>* without) const {
  const c10::NoGradGuard no_grad;
  const Pass pass{.training = false, .key = {}, .without = without};
  return placed([&] {
    return espalier::run(network_.graph, *network_.weights, {{"input", batch.input}}, {"logits"}, pass)[0];
  });
}

Evaluation Trainer::evaluate_pipeline(const DataPipeline& pipeline, bool interruptible) const {
  return placed([&] {
    return espalier::evaluate(network_.graph, *network_.weights, pipeline,
                              {.precision = recipe_.precision,
                               .batch = data_.section().eval_batch,
                               .top5 = data_.info().target.outputs >= 20,
                               .interruptible = interruptible});
  });
}

Evaluation Trainer::evaluate_part(std::string_view part, bool interruptible) const {
  if (part == "test") return evaluate_pipeline(data_.test(), interruptible);
  if (part == "train") return evaluate_pipeline(data_.train(), interruptible);
  if (part == "validation") {
    if (!data_.validation()) throw Error("there is no validation set; give data.validation a fraction");
    return evaluate_pipeline(*data_.validation(), interruptible);
  }
  throw Error("no part of the data is called '" + std::string(part) + "' (test, validation, train)");
}

Evaluation Trainer::evaluate(std::string_view part) {
  return evaluate_part(part, false);  // whoever asks is in the middle of something
}

double Trainer::selection_accuracy(bool interruptible) const {
  return data_.validation() ? evaluate_part("validation", interruptible).accuracy : tested_.result.accuracy;
}

void Trainer::evaluate_now(bool interruptible) {
  if (!tested_.stale) return;
  tested_.result = evaluate_part("test", interruptible);
  tested_.stale = false;
}

// ---- stages and epochs ----

void Trainer::begin_epoch() {
  watches_.epoch = {};
  position_.step = 0;
  meters_.begin(machine_.device);
  parts_.controller().call([&](Controller& c) { c.epoch_begin(*this); });
  position_.epoch_begun = true;
}

void Trainer::train_one_step(int64_t steps) {
  position_.lr_factor = parts_.schedule().factor(
      static_cast<double>(position_.epoch) + static_cast<double>(position_.step) / static_cast<double>(steps),
      stage_->epochs);
  parts_.begin_step();
  Batch batch;
  {
    const PhaseTimer timer(*this, &Phases::data);
    batch = data_.batch(position_.step, epoch_key());
  }
  tested_.stale = true;
  position_.macs_sum += network_.step_macs / static_cast<double>(steps);
  parts_.controller().call([&](Controller& c) {
    c.step(*this, batch);
    c.step_end(*this);
  });
  ++position_.step;
  ++position_.steps_done;
}

void Trainer::train_epoch() {
  const int64_t steps = data_.order_epoch(epoch_key());
  progress_.begin(stage_->name + " " + std::to_string(position_.epoch + 1) + "/" + std::to_string(stage_->epochs),
                  steps, position_.step, position_.steps_done, position_.steps_total);
  while (position_.step < steps) {
    train_one_step(steps);
    // Costs nothing on the CPU; on a GPU it waits for the device, so only every hundredth step looks.
    if (machine_.device.is_cpu() || position_.step % 100 == 0) check_loss();
    progress_.step(position_.step, meters_.images);
    checkpoint_if_due();
  }
}

void Trainer::finish_epoch() {
  check_loss();
  check_weights();
  const double images = static_cast<double>(std::max<int64_t>(1, meters_.images));
  const double loss = meters_.loss_sum.item<double>() / images;
  const double penalty = meters_.penalty.item<double>() / static_cast<double>(std::max<int64_t>(1, position_.step));
  const double seconds = watches_.epoch.seconds();
  const bool evaluates =
      position_.ended || position_.epoch + 1 == stage_->epochs || (position_.epoch + 1) % stage_->evaluate_every == 0;
  Evaluation validation;
  if (evaluates) {
    try {
      evaluate_now(true);
      if (data_.validation()) validation = evaluate_part("validation", true);
    } catch (const Interrupted&) {
      save_last();
      throw;
    }
  }
  Value line = Value::map({{"stage", stage_->name},
                           {"epoch", position_.epoch + 1},
                           {"step", position_.steps_done},
                           {"loss", loss},
                           {"penalty", penalty},
                           {"train_accuracy", 100 * meters_.correct.item<double>() / images},
                           {"lr", parts_.learning_rate() * position_.lr_factor}});
  std::string text = stage_->name + " " + std::to_string(position_.epoch + 1) + "/" + std::to_string(stage_->epochs) +
                     "  loss " + fixed(loss, 4);
  if (evaluates) {
    line["test_loss"] = tested_.result.loss;
    line["test_accuracy"] = tested_.result.accuracy;
    if (data_.info().target.outputs >= 20) line["test_top5"] = tested_.result.top5;
    text += "  test " + fixed(tested_.result.accuracy, 2) + " %";
    double selection = tested_.result.accuracy;
    if (data_.validation()) {
      line["validation_loss"] = validation.loss;
      line["validation_accuracy"] = selection = validation.accuracy;
      text += "  validation " + fixed(validation.accuracy, 2) + " %";
    }
    if (selection > position_.best_selection) {
      save_checkpoint(folder_.checkpoint("best"), state());  // as before this line: resumed, it comes by here again
      position_.best_selection = selection;
    }
    parts_.schedule().observe(selection);
    position_.best_accuracy = std::max(position_.best_accuracy, tested_.result.accuracy);
  }
  const NetworkSize now = size();
  line["params"] = now.params;
  line["macs"] = now.macs;
  line["seconds"] = seconds;
  line["images_per_second"] = images / seconds;
  text += "  " + count_text(now.params) + " params  " + count_text(now.macs) + " MACs  " + fixed(images / seconds, 0) +
          " images/s  " + Progress::duration(seconds);
  progress_.note(text);
  watch([&](Controller& c) { c.epoch_end(*this); });
  for (const Value::Entry& m : meters_.metrics.as_map()) line[m.key] = m.value;
  folder_.add_metrics(line);
  ++position_.epochs_done;
  ++position_.epoch;
  position_.step = 0;
  position_.epoch_begun = false;
  checkpoint_if_due();
}

void Trainer::run_stage() {
  if (!position_.stage_begun) begin_stage();
  while (position_.epoch < stage_->epochs && !(position_.ended && position_.epoch > 0 && !position_.epoch_begun)) {
    if (!position_.epoch_begun) begin_epoch();
    train_epoch();
    finish_epoch();
  }
  position_.steps_total -= (stage_->epochs - position_.epoch) * steps_per_epoch(data_.train().size(), data_.section());
  // From here on a finished run can be trained further: see go_on().
  if (position_.stage + 1 == recipe_.stages.size()) save_last();
  watch([&](Controller& c) { c.stage_end(*this); });
  // What the last epochs' evaluations did not see, the stage's end included, may be the best; where the structure
  // changed after them, nothing else is.
  const bool unseen = tested_.stale || position_.best_selection < 0;
  evaluate_now(false);
  const double selection = unseen ? selection_accuracy(false) : 0;
  position_.stages.push_back({.name = stage_->name,
                              .epochs = position_.epoch,
                              .accuracy = tested_.result.accuracy,
                              .before = stage_before_,
                              .after = size(),
                              .seconds = watches_.stage.seconds()});
  ++position_.stage;
  position_.stage_begun = false;
  if (unseen && selection > position_.best_selection) {
    position_.best_selection = selection;
    save_checkpoint(folder_.checkpoint("best"), state());
  }
  save_last();
  if (interrupt() != 0) throw Interrupted(interrupt());
}

void Trainer::watch(const std::function<void(Controller&)>& turn) {
  constexpr Role roles[] = {Role::weight, Role::architecture, Role::buffer};
  std::vector<at::Tensor> before;
  if (!tested_.stale) {
    for (const Role r : roles) before.push_back(network_.weights->bank(r).values.flat().clone());
  }
  parts_.controller().call(turn);
  for (size_t i = 0; !tested_.stale && i < before.size(); ++i)
    tested_.stale = !before[i].equal(network_.weights->bank(roles[i]).values.flat());
}

void Trainer::restore_best() {
  const std::filesystem::path path = folder_.checkpoint("best");
  if (!std::filesystem::exists(path)) return;  // the stage before had no epoch: its only state is the last
  const Checkpoint c = load_checkpoint(path);
  auto weights = std::make_unique<Weights>(c.graph, machine_.dtype, machine_.device);
  c.restore(*weights, "", false);
  network_.graph = c.graph;
  network_.weights = std::move(weights);
  tested_.stale = true;
}

}  // namespace espalier
