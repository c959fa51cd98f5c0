// Stages, epochs and steps.
#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include "data/split.h"
#include "espalier/datasets/checksum.h"
#include "espalier/error.h"
#include "espalier/loss.h"
#include "plan/run_network.h"
#include "plan/warm_start.h"
#include "system/files.h"
#include "system/interrupt.h"
#include "system/memory.h"
#include "system/tensor_memory.h"
#include "system/text.h"
#include "train/phase_timer.h"
#include "train/run_events.h"
#include "train/trainer.h"

namespace espalier {

namespace {

// JSON has no infinity and no NaN: null.
Value finite(double v) {
  return std::isfinite(v) ? Value(v) : Value();
}

std::string checksum_of(const std::filesystem::path& file) {
  const std::string bytes = read_file(file);
  Checksum sum("sha256");
  sum.add(bytes.data(), bytes.size());
  return sum.hex();
}

bool is_image(const InputSpec& input) {
  return input.height > 0 && input.nodes == 0;
}

}  // namespace

std::string Trainer::place() const {
  const std::string stage = "stage '" + stage_->name + "'";
  if (!position_.epoch_begun) return stage;
  return stage + ", epoch " + std::to_string(position_.epoch + 1) + ", step " + std::to_string(position_.step + 1);
}

RandomKey Trainer::epoch_key() const {
  return seed_.with(position_.stage).with(static_cast<uint64_t>(position_.epoch));
}

RandomKey Trainer::key() const {
  return epoch_key().with(static_cast<uint64_t>(position_.step));
}

void Trainer::make_parts(size_t index) {
  stage_ = &recipe_.stages[index];
  data_.accumulate(stage_->accumulate);
  metrics_.make(recipe_.metrics, data_.info().target);
  parts_.make(
      *stage_, [&](const Value& spec) { return known(spec); }, data_.info().target);
  begin_loss();
}

void Trainer::begin_loss() {
  teachers_ = Value::map();
  parts_.loss().call([&](Loss& loss) {
    LossSetup setup{.target = data_.info().target,
                    .class_counts = data_.class_counts(),
                    .device = machine_.device,
                    .dtype = machine_.dtype,
                    .networks = {}};
    for (const std::string& name : loss.networks()) {
      const std::filesystem::path path(name);
      std::filesystem::path from = path.is_absolute() ? path : folder_.file("networks") / name;
      // A process that does not lead has what it kept since the run went on, and what there was before lies elsewhere.
      if (!std::filesystem::exists(from) && !options_.original.empty()) from = options_.original / "networks" / name;
      const RunNetwork n = read_teacher(from);
      auto network = std::make_shared<FrozenNetwork>(n.graph, machine_.dtype, machine_.device);
      set_values(network->graph, network->weights, n.tensors, n.from);
      if (path.is_absolute()) teachers_[name] = checksum_of(n.from);
      setup.networks.push_back(std::move(network));
    }
    loss.begin(setup);
  });
}

void Trainer::keep_for_later() const {
  const bool wanted = std::ranges::any_of(recipe_.stages, [&](const StageSection& later) {
    if (&later <= stage_ || later.loss.is_null() || has_reference(later.loss)) return false;
    const std::vector<std::string> names = Registry::instance().create<Loss>(later.loss)->networks();
    return std::ranges::find(names, stage_->name) != names.end();
  });
  if (!wanted) return;
  keep_network(stage_->name, *network_.weights);
}

void Trainer::keep_network(const std::string& name, const Weights& weights) const {
  const std::filesystem::path folder = folder_.file("networks") / name;
  std::filesystem::create_directories(folder);
  write_file(folder / "graph.json", to_json(network_.graph.to_value(), 1) + "\n");
  save_safetensors(folder / "model.safetensors", {model_tensors(network_.graph, weights), {}});
}

void Trainer::begin_ema() {
  ema_.reset();
  if (!stage_->ema || stage_->epochs == 0) return;
  ema_.emplace(*stage_->ema, network_.graph, *network_.weights);
  follow(Ema::name, ema_->weights(), false);
}

void Trainer::begin_stage() {
  stage_ = &recipe_.stages[position_.stage];
  position_.epoch = position_.step = 0;
  position_.epoch_begun = position_.ended = false;
  position_.ended_by.clear();
  watches_.stage = {};
  if (stage_->start_from == "best" && position_.stage > 0) restore_best();
  if (stage_->data) load_data(*stage_->data);
  if (!stage_->network.is_null()) build_network(stage_->network, stage_->warm_start, "network " + stage_->name);
  network_.weights->clear_states();
  make_parts(position_.stage);
  position_.best_selection.reset();
  position_.best_watched.reset();
  position_.waited = 0;
  for_controllers([&](Controller& c) { edit(c.begin(network_.graph)); });
  for (const OptimizerSection& o : stage_->optimizers) o.on.require_matches(network_.graph);
  attach();
  begin_ema();
  stage_before_ = size();
  watch([&] { for_controllers([&](Controller& c) { c.stage_begin(*this); }); });
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
  parts_.attach(network_.graph, *network_.weights, position_.epoch);
  for (const Follower& f : network_.followers) {
    if (const auto w = f.weights.lock(); w && f.optimized) parts_.attach_copy(network_.graph, *w);
  }
}

// ---- one step ----

void Trainer::add_regularizers(Weights& weights) {
  const PhaseTimer timer(*this, &Phases::regularizers);
  parts_.add_regularizers(network_.graph, weights, meters_.penalty_of, [&](const std::string& text) { note(text); });
  ++meters_.penalties;
}

void Trainer::update(Weights& weights, const std::vector<Role>& roles) {
  const PhaseTimer timer(*this, &Phases::update);
  for_controllers([&](Controller& c) { c.update_begin(*this, weights); });
  const at::Tensor norm = parts_.update(network_.graph, weights, roles, position_.lr_factor);
  if (stage_->gradient_norm && norm.defined()) {
    meters_.gradient_norm.add_(norm);
    ++meters_.updates;
  }
  for_controllers([&](Controller& c) { c.update_end(*this, weights); });
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

// ---- stages and epochs ----

void Trainer::begin_epoch() {
  if (network_.weights->generation() != trimmed_at_) return_free_memory();  // a smaller network needs less
  trimmed_at_ = network_.weights->generation();
  restart_peak_memory();
  watches_.epoch = {};
  position_.step = 0;
  meters_.begin(machine_.device, parts_.regularizers().size());
  if (stage_->unfreeze_at && position_.epoch == *stage_->unfreeze_at) {
    attach();
    note("the frozen parameters are trained from now on");
  }
  for_controllers([&](Controller& c) { c.epoch_begin(*this); });
  meet("the beginning of an epoch");
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
  position_.macs_sum +=
      network_.step_macs * static_cast<double>(parts_.passes() * data_.section().repeat) / static_cast<double>(steps);
  call(parts_.stepper(), [&](Controller& c) { c.step(*this, batch); });
  if (ema_) ema_->step(*network_.weights);
  for_controllers([&](Controller& c) { c.step_end(*this); });
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
  require_same_network("at the end of an epoch");
  const double images = static_cast<double>(std::max<int64_t>(1, meters_.images));
  const EpochMeters sums = meters_.summed(processes());
  const double loss = sums.loss();
  position_.train_loss = loss;
  double penalty = 0;
  for (const double p : meters_.mean_penalties()) penalty += p;
  const double seconds = watches_.epoch.seconds(), peak = static_cast<double>(peak_memory());
  const auto tensors = static_cast<double>(peak_tensor_memory());
  const bool evaluates =
      position_.ended || position_.epoch + 1 == stage_->epochs || (position_.epoch + 1) % stage_->evaluate_every == 0;
  const LeadingMetric& leading = metrics_.leading();
  const bool beside = ema_ && !stage_->ema->instead;
  Evaluation validation, averaged;
  if (evaluates) {
    try {
      around_evaluation([&] {
        evaluate_now(true);
        if (data_.validation()) validation = evaluate_part("validation", true);
        if (beside) averaged = evaluate_part("test", true, *ema_->weights());
      });
    } catch (const Interrupted&) {
      save_last();
      throw;
    }
  }
  Value line = Value::map({{"stage", stage_->name},
                           {"epoch", position_.epoch + 1},
                           {"step", position_.steps_done},
                           {"loss", loss},
                           {"penalty", penalty}});
  if (const Made<Metric>* metric = metrics_.of_steps(); metric && sums.leading.defined()) {
    metric->call([&](Metric& m) { line["train_" + leading.name] = finite(m.value(sums.leading.cpu().contiguous())); });
  }
  line["lr"] = parts_.learning_rate(position_.lr_factor);
  if (meters_.updates > 0)
    line["gradient_norm"] = meters_.gradient_norm.item<double>() / static_cast<double>(meters_.updates);
  std::string text = stage_->name + " " + std::to_string(position_.epoch + 1) + "/" + std::to_string(stage_->epochs) +
                     "  loss " + fixed(loss, 4);
  if (evaluates) {
    const auto add = [&](const std::string& part, const Evaluation& e) {
      line[part + "_loss"] = finite(e.loss);
      for (const auto& [name, value] : e.metrics) line[part + "_" + name] = finite(value);
    };
    add("test", tested_.result);
    text += "  test " + metric_text(tested_.result.metrics.front().second, leading.unit);
    if (data_.validation()) {
      add("validation", validation);
      text += "  validation " + metric_text(validation.metrics.front().second, leading.unit);
    }
    if (beside) {
      add("ema_test", averaged);
      text += "  average " + metric_text(averaged.metrics.front().second, leading.unit);
    }
    const Evaluation& selection = data_.validation() ? validation : tested_.result;
    if (!position_.best_selection || selection.score > *position_.best_selection) {
      save("best");  // as before this line: resumed, it comes by here again
      position_.best_selection = selection.score;
      // What the validation part chooses, the test part measures; where nothing is held out, it chooses, too.
      if (data_.validation()) position_.best_score = tested_.result.score;
    }
    parts_.schedule().observe(selection.score);
    count_best();
    stop_if_due(selection);
  }
  const NetworkSize now = size();
  line["params"] = now.params;
  line["macs"] = now.macs;
  line["seconds"] = seconds;
  line["images_per_second"] = images / seconds;
  if (machine_.device.is_cpu()) {
    line["peak_memory_mb"] = std::round(peak / 1e6);
    if (tensors > 0) line["tensor_memory_mb"] = std::round(tensors / 1e6);
  }
  text += "  " + count_text(now.params) + " params  " + count_text(now.macs) + " MACs  " + fixed(images / seconds, 0) +
          (is_image(data_.info().input) ? " images/s  " : " samples/s  ") + Progress::duration(seconds);
  progress_.note(text);
  watch([&] { for_controllers([&](Controller& c) { c.epoch_end(*this); }); });
  for (const Value::Entry& m : meters_.metrics.as_map()) line[m.key] = m.value;
  folder_.add_metrics(line);
  add_events();
  options_.recorded(folder_.path());
  ++position_.epochs_done;
  ++position_.epoch;
  position_.step = 0;
  position_.epoch_begun = false;
  checkpoint_if_due();
}

void Trainer::add_events() const {
  std::vector<std::pair<std::string, double>> penalties;
  for (const std::string& name : parts_.regularizers())
    penalties.emplace_back(name, meters_.mean_penalties()[penalties.size()]);
  folder_.add_events(events_of_epoch(position_.steps_done, parts_.learning_rates(position_.lr_factor), penalties));
  // Twenty times a stage: of deep networks and many epochs it would be many megabytes.
  const int64_t every = (stage_->epochs + 19) / 20;
  if (position_.ended || position_.epoch + 1 == stage_->epochs || (position_.epoch + 1) % every == 0)
    folder_.add_events(events_of_network(position_.steps_done, network_.graph, *network_.weights));
}

void Trainer::stop_if_due(const Evaluation& selection) {
  if (position_.epoch + 1 >= stage_->epochs) return;
  if (const auto& stop = stage_->early_stop) {
    const std::string& name = stop->metric.empty() ? metrics_.leading().name : stop->metric;
    const double value = metric_of(selection, name);
    const double score = metrics_.larger_is_better(name) ? value : -value;
    if (!position_.best_watched || score > *position_.best_watched + stop->min_delta) {
      position_.best_watched = score;
      position_.waited = 0;
    } else if (++position_.waited >= stop->patience) {
      position_.ended = true;
      position_.ended_by = "early_stop";
      note("early stop: '" + name + "' has not become better for " + std::to_string(position_.waited) +
           (position_.waited == 1 ? " evaluation" : " evaluations"));
    }
  }
  if (const auto& least = stage_->stop_below_lr) {
    const double next =
        parts_.learning_rate(parts_.schedule().factor(static_cast<double>(position_.epoch + 1), stage_->epochs));
    if (next < *least) {
      position_.ended = true;
      position_.ended_by = "stop_below";
      note("the learning rate would be " + to_json(Value(next)) + ", below " + to_json(Value(*least)) +
           ": the stage ends");
    }
  }
}

void Trainer::run_stage() {
  if (!position_.stage_begun) {
    const StageSection& next = recipe_.stages[position_.stage];
    folder_.add_events(events_of_stage(position_.steps_done, next.name, next.epochs));
    begin_stage();
  }
  while (position_.epoch < stage_->epochs && !(position_.ended && position_.epoch > 0 && !position_.epoch_begun)) {
    if (!position_.epoch_begun) begin_epoch();
    train_epoch();
    finish_epoch();
  }
  position_.steps_total -=
      (stage_->epochs - position_.epoch) * steps_per_epoch(data_.train().size(), data_.section(), stage_->accumulate);
  // From here on a finished run can be trained further: see go_on().
  if (position_.stage + 1 == recipe_.stages.size()) save_last();
  if (ema_ && stage_->ema->instead) {
    const c10::NoGradGuard no_grad;
    network_.weights->copy_from(*ema_->weights());
    ema_.reset();
  }
  meters_.metrics = Value::map();  // those of the last epoch are written
  watch([&] {
    parts_.end_stage(network_.graph, *network_.weights);
    for_controllers([&](Controller& c) { c.stage_end(*this); });
  });
  MetricValues measured;
  for (const Value::Entry& m : meters_.metrics.as_map()) measured.emplace_back(m.key, m.value.as_double());
  // Only now, since what the controller removes at the end goes from the average, too.
  if (ema_) keep_network(stage_->name + ".ema", *ema_->weights());
  ema_.reset();
  // What the last epochs' evaluations did not see, the stage's end included, may be the best; where the structure
  // changed after them, nothing else is.
  const bool unseen = tested_.stale || !position_.best_selection;
  evaluate_now(false);
  const double selection = unseen ? selection_score(false) : 0;
  position_.stages.push_back({.name = stage_->name,
                              .epochs = position_.epoch,
                              .metrics = tested_.result.metrics,
                              .before = stage_before_,
                              .after = size(),
                              .seconds = watches_.stage.seconds(),
                              .measured = std::move(measured)});
  keep_for_later();
  ++position_.stage;
  position_.stage_begun = false;
  if (unseen && (!position_.best_selection || selection > *position_.best_selection)) {
    position_.best_selection = selection;
    if (data_.validation()) position_.best_score = tested_.result.score;
    save("best");
  }
  save_last();
  if (const int64_t signal = processes().largest("the end of a stage", {interrupt()})[0])
    throw Interrupted(static_cast<int>(signal));
}

void Trainer::call(const Made<Controller>& controller, const std::function<void(Controller&)>& turn) {
  // A turn lies within another where a step calls the parts of it.
  const Made<Controller>* outer = std::exchange(whose_turn_, &controller);
  controller.call(turn);
  whose_turn_ = outer;
}

void Trainer::for_controllers(const std::function<void(Controller&)>& turn) {
  for (const Made<Controller>& c : parts_.controllers()) call(c, turn);
}

void Trainer::restore_best() {
  const std::filesystem::path path = folder_.checkpoint("best");
  const bool there = std::filesystem::exists(path);
  if (processes().several()) {  // one of them has it
    const std::string bytes =
        processes().from_leader("the best checkpoint", there && processes().leads() ? read_file(path) : "");
    if (bytes.empty()) return;
    if (!processes().leads()) write_file(path, bytes);
  } else if (!there) {
    return;  // the stage before had no epoch: its only state is the last
  }
  const Checkpoint c = load_checkpoint(path);
  auto weights = std::make_unique<Weights>(c.graph, machine_.dtype, machine_.device);
  c.restore(*weights, c.progress.find("averaged") ? Ema::name : "", false);
  network_.graph = c.graph;
  network_.weights = std::move(weights);
  tested_.stale = true;
}

}  // namespace espalier
