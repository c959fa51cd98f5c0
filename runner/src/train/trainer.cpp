#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/cuda.h>

#include "data/split.h"
#include "espalier/backbone.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/log.h"
#include "espalier/random_fill.h"
#include "export/export_checks.h"
#include "export/python_export.h"
#include "export/torchscript_export.h"
#include "plan/plan_checks.h"
#include "plan/warm_start.h"
#include "recipe/yaml.h"
#include "record/data_record.h"
#include "system/files.h"
#include "system/interrupt.h"
#include "system/text.h"
#include "system/threads.h"
#include "train/phase_timer.h"
#include "train/report.h"

namespace espalier {

namespace {

// Autocast to bfloat16 for a scope. The cast cache is off: weights change several times a step in some methods.
class ComputeType {
 public:
  ComputeType(const std::string& precision, at::Device device)
      : type_(device.type()), was_(at::autocast::is_autocast_enabled(type_)) {
    at::autocast::set_autocast_dtype(type_, at::kBFloat16);
    at::autocast::set_autocast_cache_enabled(false);
    at::autocast::set_autocast_enabled(type_, precision == "bf16");
  }
  ComputeType(const ComputeType&) = delete;
  ComputeType& operator=(const ComputeType&) = delete;
  ~ComputeType() { at::autocast::set_autocast_enabled(type_, was_); }

 private:
  at::DeviceType type_;
  bool was_;
};

Augmentation augmentation_of(const std::vector<AugmentStep>& steps) {
  Augmentation a;
  for (const AugmentStep& s : steps) {
    if (s.name == "crop") a.crop = static_cast<int>(s.amount);
    if (s.name == "flip") a.flip = static_cast<float>(s.amount);
    if (s.name == "rotate") a.rotate = static_cast<float>(s.amount * std::numbers::pi / 180);
    if (s.name == "cutout") a.cutout = static_cast<int>(s.amount);
  }
  return a;
}

// How many rows of float32 logits have their largest value at the target; six small operations of LibTorch otherwise.
int64_t count_correct(const at::Tensor& logits, const at::Tensor& target) {
  const auto* row = logits.const_data_ptr<float>();
  const auto* wanted = target.const_data_ptr<int64_t>();
  const int64_t classes = logits.size(1);
  int64_t correct = 0;
  for (int64_t n = 0; n < logits.size(0); ++n, row += classes)
    correct += std::max_element(row, row + classes) - row == wanted[n];
  return correct;
}

}  // namespace

at::Device choose_device(const std::string& name) {
  const bool cuda = torch::cuda::is_available();
  if (name == "cuda" && !cuda)
    throw Error("device cuda: this machine has no usable GPU (or Espalier was built without CUDA); use --device cpu");
  return cuda && name != "cpu" ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
}

template <class T>
Trainer::Made<T> Trainer::make(const Value& spec) {
  const Registry& registry = Registry::instance();
  return {registry.create<T>(spec), &registry.at(T::kind, name_of(spec, T::kind), spec.location), spec.location};
}

std::string Trainer::place() const {
  const std::string stage = "stage '" + stage_->name + "'";
  if (!epoch_begun_) return stage;
  return stage + ", epoch " + std::to_string(epoch_ + 1) + ", step " + std::to_string(step_ + 1);
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

Trainer::Trainer(const Recipe& recipe, const TrainerOptions& options)
    : recipe_(recipe),
      options_(options),
      device_(choose_device(recipe.device)),
      dtype_(recipe.precision == "float64" ? at::kDouble : at::kFloat),
      seed_(static_cast<uint64_t>(recipe.seed)),
      folder_(options.out),
      progress_(options.quiet) {
  if (device_.is_cpu()) {
    use_threads(recipe.threads);
  } else if (recipe.threads > 0) {
    at::set_num_threads(static_cast<int>(recipe.threads));
  }
}

Trainer::~Trainer() = default;

RandomKey Trainer::epoch_key() const {
  return seed_.with(stage_index_).with(static_cast<uint64_t>(epoch_));
}

RandomKey Trainer::key() const {
  return epoch_key().with(static_cast<uint64_t>(step_));
}

void Trainer::load_data(const DataSection& data) {
  data_ = data;
  const Made<Dataset> dataset = make<Dataset>(data.dataset);
  Split train;
  Split test;
  dataset.call([&](Dataset& d) {
    info_ = d.info();
    train = labelled_split(d.load("train", options_.data), *dataset.component, dataset.where);
    test = labelled_split(d.load("test", options_.data), *dataset.component, dataset.where);
    info_.classes = d.info().classes;  // the names of folders are known only now
  });
  check_info(info_, *dataset.component, dataset.where);
  check_split(train, "train", info_, *dataset.component, dataset.where);
  check_split(test, "test", info_, *dataset.component, dataset.where);
  keep_record(data_record(data.dataset, info_, train, test));
  if (data.workers > 0 && !train.samples)
    log::warning(data.dataset.location.str() +
                 ": data: 'workers' read images ahead, and these are held in memory: it is without effect");
  const Normalization normalization = normalization_of(data.normalize, info_);
  const int64_t count = train.targets.size(0);
  std::vector<int64_t> samples = permutation(count, seed_.with("validation"));
  if (data.limit > 0 && data.limit < count) samples.resize(static_cast<size_t>(data.limit));
  const auto held_out =
      static_cast<std::ptrdiff_t>(std::llround(data.validation * static_cast<double>(samples.size())));
  std::vector<int64_t> validation(samples.begin(), samples.begin() + held_out);
  samples.erase(samples.begin(), samples.begin() + held_out);
  if (samples.empty()) throw InputError(data.dataset.location.str(), "data.validation leaves nothing to train on");
  if (data.validation > 0 && held_out == 0) refuse_empty_validation(data, static_cast<int64_t>(samples.size()));
  // In the file's order: the epoch's own permutation shuffles.
  std::ranges::sort(samples);
  std::ranges::sort(validation);
  const auto pipeline = [&](const Split& split) {
    const OnDemand on_demand{.image = info_.input, .threads = data.workers};
    return std::make_unique<DataPipeline>(split, normalization, device_, dtype_, on_demand);
  };
  validation_ = validation.empty() ? nullptr : pipeline(subset(train, std::move(validation)));
  const bool whole = static_cast<int64_t>(samples.size()) == count;
  train_ = pipeline(whole ? train : subset(train, std::move(samples)));
  test_ = pipeline(test);
  augmentation_ = augmentation_of(data.augment);
  draws_.clear();
}

void Trainer::keep_record(const Value& record) const {
  const std::filesystem::path file = folder_.file("data.json");
  Value all = std::filesystem::exists(file) ? from_json(read_file(file), file.string()) : Value::list();
  Value* before = nullptr;
  std::vector<std::string> found;
  try {
    for (Value& r : all.as_list()) {
      if (r.at("dataset") == record.at("dataset")) before = &r;
    }
    if (before) found = data_differences(*before, record);
  } catch (const InputError& e) {
    throw InputError(file.string(), std::string("is no record of what the data were: ") + e.what());
  }
  if (before) {
    if (found.empty()) return;
    std::string text = "the data are not those that the run began with";
    for (const std::string& line : found) text += "\n  " + line;
    if (!options_.changed_data) {
      throw InputError(folder_.path().string(),
                       text + "\n`espalier resume` goes on with what they are now where it is given --changed-data");
    }
    log::warning(text);
    *before = record;
  } else {
    all.push_back(record);
  }
  write_file(file, to_json(all, 1) + "\n");
}

void Trainer::build_network(const Value& spec, const WarmStart& warm, const std::string& purpose) {
  const Made<Backbone> backbone = make<Backbone>(spec);
  backbone.call([&](Backbone& b) { graph_ = b.build(info_.input, info_.target); });
  weights_ = std::make_unique<Weights>(graph_, dtype_, device_);
  weights_->initialize(graph_, seed_.with(purpose));
  if (!warm.from.empty()) {
    const Loaded loaded = warm_start(warm, graph_, weights_.get());
    progress_.note("The network begins with " + loaded.str() + " of " + warm.from.string() +
                   (warm.which == "best" ? ", its best checkpoint" : ""));
    const std::string unseen = unseen_in_file(warm, graph_, name_of(spec, "backbone"));
    if (!unseen.empty()) progress_.note("note: " + unseen);
  }
  stale_ = true;
}

Value Trainer::counts_value() const {
  const Counts c = counts();
  return Value::map({{"params", c.params}, {"macs", c.macs}});
}

void Trainer::make_parts(size_t index) {
  stage_ = &recipe_.stages[index];
  optimizers_.clear();
  for (const OptimizerSection& o : stage_->optimizers) optimizers_.push_back(make<Optimizer>(o.spec));
  regularizers_.clear();
  penalties_looked_at_ = false;
  for (const Value& r : stage_->regularizers) regularizers_.push_back(make<Regularizer>(r));
  controller_ = make<Controller>(stage_->controller);
  schedule_ = Registry::instance().create<Schedule>(stage_->schedule);
}

void Trainer::begin_stage() {
  stage_ = &recipe_.stages[stage_index_];
  epoch_ = step_ = 0;
  epoch_begun_ = ended_ = false;
  stage_watch_ = {};
  if (stage_->start_from == "best" && stage_index_ > 0) restore_best();
  if (stage_->data) load_data(*stage_->data);
  if (!stage_->network.is_null()) build_network(stage_->network, stage_->warm_start, "network " + stage_->name);
  weights_->clear_states();
  make_parts(stage_index_);
  best_selection_ = -1;
  smooth_labels();
  Edits edits;
  controller_.call([&](Controller& c) { edits = c.begin(graph_); });
  edit(edits);
  for (const OptimizerSection& o : stage_->optimizers) o.on.require_matches(graph_);
  attach();
  stage_before_ = counts_value();
  watch([&](Controller& c) { c.stage_begin(*this); });
  stage_begun_ = true;
  // Twice, so that the previous checkpoint too lies behind the beginning: from here on the best checkpoint is this
  // stage's, and what `start_from: best` takes is gone.
  save_last();
  if (stage_index_ > 0) save_last();
  std::error_code none;
  std::filesystem::remove(folder_.checkpoint("best"), none);
}

void Trainer::smooth_labels() {
  for (size_t n = 0; n < graph_.nodes().size(); ++n) {
    const Node& node = graph_.nodes()[n];
    if (node.op->type() != "cross_entropy") continue;
    const Value spec = Value::map({{"use", "cross_entropy"}, {"label_smoothing", stage_->label_smoothing}});
    graph_.replace_operation(static_cast<int32_t>(n), Registry::instance().create<Operation>(spec));
  }
}

void Trainer::attach_optimizers(Weights& weights) {
  for (size_t i = 0; i < optimizers_.size(); ++i) {
    const OptimizerSection& o = stage_->optimizers[i];
    const std::string label = name_of(o.spec, "optimizer") + (i == 0 ? "" : std::to_string(i + 1));
    optimizers_[i].call([&](Optimizer& optimizer) { optimizer.attach(graph_, weights, o.on, label); });
  }
}

void Trainer::attach() {
  step_macs_ = static_cast<double>(graph_.macs());
  optimized_.clear();
  for (const OptimizerSection& o : stage_->optimizers) {
    std::vector<Role>& roles = optimized_.emplace_back();
    for (const ParamId p : o.on.match(graph_)) {
      if (std::ranges::find(roles, graph_[p].role) == roles.end()) roles.push_back(graph_[p].role);
    }
  }
  attach_optimizers(*weights_);
  for (const Follower& f : followers_) {
    if (const auto w = f.weights.lock(); w && f.optimized) attach_optimizers(*w);
  }
  for (const auto& r : regularizers_) {
    r.call([&](Regularizer& regularizer) { regularizer.attach(graph_, *weights_); });
  }
}

// ---- one step ----

void Trainer::add_gradients(const Batch& batch, Weights& weights, std::string_view loss) {
  const PhaseTimer timer(*this, &Phases::gradients);
  const std::vector<at::Tensor> results = placed([&] {
    std::vector<at::Tensor> r;
    {
      const ComputeType compute(recipe_.precision, device_);
      r = espalier::run(graph_, weights, {{"input", batch.input}, {"target", batch.target}}, {loss, "logits"},
                        {.training = true, .key = key()});
    }
    r[0].backward();
    return r;
  });
  const c10::NoGradGuard no_grad;
  const int64_t n = batch.target.size(0);
  images_ += n;
  if (device_.is_cpu() && results[1].scalar_type() == at::kFloat && results[1].is_contiguous()) {
    *loss_sum_.mutable_data_ptr<double>() += results[0].item<double>() * static_cast<double>(n);
    *correct_.mutable_data_ptr<double>() += static_cast<double>(count_correct(results[1], batch.target));
    return;
  }
  loss_sum_.add_(results[0].detach().to(at::kDouble), n);
  correct_.add_(results[1].argmax(1).eq(batch.target).sum());
}

void Trainer::add_regularizers(Weights& weights) {
  const PhaseTimer timer(*this, &Phases::regularizers);
  for (const auto& r : regularizers_) {
    const double before = penalties_looked_at_ ? 0 : penalty_.item<double>();
    r.call([&](Regularizer& regularizer) { regularizer.add(graph_, weights, penalty_); });
    if (!penalties_looked_at_ && penalty_.item<double>() == before) {
      note("the penalty of '" + r.component->component.name +
           "' is exactly zero in the stage's first step: its weight is 0, or nothing that it names counts");
    }
  }
  penalties_looked_at_ = true;
}

void Trainer::update(Weights& weights, const std::vector<Role>& roles) {
  const PhaseTimer timer(*this, &Phases::update);
  const c10::NoGradGuard no_grad;
  if (stage_->clip_norm) {
    at::Tensor squares = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device_));
    for (const Role role : roles) {
      const Arena& g = weights.bank(role).gradients;
      if (g.numel() > 0) squares.add_(g.flat().norm().to(at::kDouble).square());
    }
    const at::Tensor factor = (*stage_->clip_norm / (squares.sqrt() + 1e-6)).clamp_max(1).to(dtype_);
    for (const Role role : roles) {
      const Arena& g = weights.bank(role).gradients;
      if (g.numel() > 0) at::Tensor(g.flat()).mul_(factor);
    }
  }
  for (size_t i = 0; i < optimizers_.size(); ++i) {
    const auto meant =
        std::ranges::count_if(optimized_[i], [&](Role r) { return std::ranges::find(roles, r) != roles.end(); });
    if (meant == 0) continue;
    if (meant != static_cast<std::ptrdiff_t>(optimized_[i].size())) {
      throw InputError(stage_->optimizers[i].spec.location.str(),
                       "this optimizer is for weights and architecture parameters, and the controller updates them one "
                       "after the other: give each an optimizer of its own (`optimizers:` with `on: weights` and `on: "
                       "architecture`)");
    }
    optimizers_[i].call([&](Optimizer& optimizer) { optimizer.step(weights, optimizer.learning_rate() * lr_factor_); });
  }
}

Batch Trainer::draw(std::string_view part, int64_t n) {
  DataPipeline* pipeline = part == "train" ? train_.get() : part == "validation" ? validation_.get() : nullptr;
  if (part != "train" && part != "validation")
    throw Error("batches are drawn from train or validation, not '" + std::string(part) + "'");
  if (!pipeline) {
    throw InputError(data_.dataset.location.str(),
                     "the controller needs a part of the data for validation: `validation: 0.5` (a share) here");
  }
  const int64_t size = pipeline->size();
  const int64_t batch = std::min(data_.batch, size);
  const int64_t per_pass = size / batch;
  const int64_t pass = steps_done_ / per_pass;
  const RandomKey key = seed_.with("draw").with(part).with(static_cast<uint64_t>(n));
  auto& [at, order] = draws_[{std::string(part), n}];
  if (order.empty() || at != pass || static_cast<int64_t>(order.size()) != size) {
    at = pass;
    order = permutation(size, key.with(static_cast<uint64_t>(pass)));
  }
  const int64_t first = steps_done_ % per_pass * batch;
  const std::span<const int64_t> used(order.data(), static_cast<size_t>(per_pass * batch));
  return pipeline->samples(n, used, first, first + batch, augmentation_,
                           key.with("augment").with(static_cast<uint64_t>(pass)));
}

void Trainer::train_step(const Batch& batch) {
  weights_->zero_gradients();
  add_gradients(batch, *weights_);
  add_regularizers(*weights_);
  update(*weights_);
}

// ---- evaluation ----

at::Tensor Trainer::logits(const Batch& batch, const std::vector<AxisChange>* without) const {
  const c10::NoGradGuard no_grad;
  const Pass pass{.training = false, .key = {}, .without = without};
  return placed([&] { return espalier::run(graph_, *weights_, {{"input", batch.input}}, {"logits"}, pass)[0]; });
}

Evaluation Trainer::evaluate_pipeline(DataPipeline& pipeline, bool interruptible) const {
  const c10::NoGradGuard no_grad;
  const ComputeType compute(recipe_.precision, device_);
  const auto zero = [&] { return at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device_)); };
  at::Tensor loss = zero();
  at::Tensor correct = zero();
  at::Tensor among5 = zero();
  const bool wide = info_.target.classes >= 20;
  const int64_t n = pipeline.size();
  for (int64_t begin = 0; begin < n; begin += data_.eval_batch) {
    if (interruptible && interrupt() != 0) throw Interrupted(interrupt());
    const int64_t end = std::min(n, begin + data_.eval_batch);
    const Batch batch = pipeline.plain_batch(begin, end);
    const auto results = placed([&] {
      return espalier::run(graph_, *weights_, {{"input", batch.input}, {"target", batch.target}}, {"loss", "logits"});
    });
    loss.add_(results[0].to(at::kDouble), end - begin);
    correct.add_(results[1].argmax(1).eq(batch.target).sum());
    if (wide) among5.add_(std::get<1>(results[1].topk(5, 1)).eq(batch.target.unsqueeze(1)).sum());
  }
  const auto total = static_cast<double>(n);
  return {loss.item<double>() / total, 100 * correct.item<double>() / total, 100 * among5.item<double>() / total};
}

Evaluation Trainer::evaluate_part(std::string_view part, bool interruptible) const {
  if (part == "test") return evaluate_pipeline(*test_, interruptible);
  if (part == "train") return evaluate_pipeline(*train_, interruptible);
  if (part == "validation") {
    if (!validation_) throw Error("there is no validation set; give data.validation a fraction");
    return evaluate_pipeline(*validation_, interruptible);
  }
  throw Error("no part of the data is called '" + std::string(part) + "' (test, validation, train)");
}

Evaluation Trainer::evaluate(std::string_view part) {
  return evaluate_part(part, false);  // whoever asks is in the middle of something
}

double Trainer::selection_accuracy(bool interruptible) const {
  return validation_ ? evaluate_part("validation", interruptible).accuracy : test_result_.accuracy;
}

void Trainer::evaluate_now(bool interruptible) {
  if (!stale_) return;
  test_result_ = evaluate_part("test", interruptible);
  stale_ = false;
}

// ---- stages and epochs ----

void Trainer::begin_epoch() {
  epoch_watch_ = {};
  step_ = 0;
  images_ = 0;
  metrics_ = Value::map();
  const auto device = at::TensorOptions().dtype(at::kDouble).device(device_);
  loss_sum_ = at::zeros({}, device);
  correct_ = at::zeros({}, device);
  penalty_ = at::zeros({}, device);
  controller_.call([&](Controller& c) { c.epoch_begin(*this); });
  epoch_begun_ = true;
}

int64_t Trainer::order_epoch() {
  const int64_t n = train_->size();
  std::vector<int64_t> order(static_cast<size_t>(n));
  if (data_.shuffle) {
    order = permutation(n, epoch_key().with("order"));
  } else {
    std::iota(order.begin(), order.end(), 0);
  }
  train_->set_order(order);
  return steps_per_epoch(n, data_);
}

void Trainer::train_one_step(int64_t steps) {
  lr_factor_ = schedule_->factor(static_cast<double>(epoch_) + static_cast<double>(step_) / static_cast<double>(steps),
                                 stage_->epochs);
  Batch batch;
  {
    const PhaseTimer timer(*this, &Phases::data);
    batch = train_->batch(step_ * data_.batch, std::min(train_->size(), (step_ + 1) * data_.batch), augmentation_,
                          epoch_key().with("augment"));
  }
  stale_ = true;
  macs_sum_ += step_macs_ / static_cast<double>(steps);
  controller_.call([&](Controller& c) {
    c.step(*this, batch);
    c.step_end(*this);
  });
  ++step_;
  ++steps_done_;
}

void Trainer::train_epoch() {
  const int64_t steps = order_epoch();
  progress_.begin(stage_->name + " " + std::to_string(epoch_ + 1) + "/" + std::to_string(stage_->epochs), steps, step_,
                  steps_done_, steps_total_);
  while (step_ < steps) {
    train_one_step(steps);
    // Free on the CPU; a GPU is waited for now and then only.
    if (device_.is_cpu() || step_ % 100 == 0) check_loss();
    progress_.step(step_, images_);
    checkpoint_if_due();
  }
}

void Trainer::finish_epoch() {
  check_loss();
  check_weights();
  const double images = static_cast<double>(std::max<int64_t>(1, images_));
  const double loss = loss_sum_.item<double>() / images;
  const double penalty = penalty_.item<double>() / static_cast<double>(std::max<int64_t>(1, step_));
  const double seconds = epoch_watch_.seconds();
  const bool evaluates = ended_ || epoch_ + 1 == stage_->epochs || (epoch_ + 1) % stage_->evaluate_every == 0;
  Evaluation validation;
  if (evaluates) {
    try {
      evaluate_now(true);
      if (validation_) validation = evaluate_part("validation", true);
    } catch (const Interrupted&) {
      save_last();
      throw;
    }
  }
  Value line =
      Value::map({{"stage", stage_->name},
                  {"epoch", epoch_ + 1},
                  {"step", steps_done_},
                  {"loss", loss},
                  {"penalty", penalty},
                  {"train_accuracy", 100 * correct_.item<double>() / images},
                  {"lr", stage_->optimizers.empty() ? 0 : optimizers_.front().object->learning_rate() * lr_factor_}});
  std::string text = stage_->name + " " + std::to_string(epoch_ + 1) + "/" + std::to_string(stage_->epochs) +
                     "  loss " + fixed(loss, 4);
  if (evaluates) {
    line["test_loss"] = test_result_.loss;
    line["test_accuracy"] = test_result_.accuracy;
    if (info_.target.classes >= 20) line["test_top5"] = test_result_.top5;
    text += "  test " + fixed(test_result_.accuracy, 2) + " %";
    double selection = test_result_.accuracy;
    if (validation_) {
      line["validation_loss"] = validation.loss;
      line["validation_accuracy"] = selection = validation.accuracy;
      text += "  validation " + fixed(validation.accuracy, 2) + " %";
    }
    if (selection > best_selection_) {
      save_checkpoint(folder_.checkpoint("best"), state());  // as before this line: resumed, it comes by here again
      best_selection_ = selection;
    }
    schedule_->observe(selection);
    best_accuracy_ = std::max(best_accuracy_, test_result_.accuracy);
  }
  const Counts size = counts();
  line["params"] = size.params;
  line["macs"] = size.macs;
  line["seconds"] = seconds;
  line["images_per_second"] = images / seconds;
  text += "  " + count_text(size.params) + " params  " + count_text(size.macs) + " MACs  " +
          fixed(images / seconds, 0) + " images/s  " + Progress::duration(seconds);
  progress_.note(text);
  watch([&](Controller& c) { c.epoch_end(*this); });
  for (const Value::Entry& m : metrics_.as_map()) line[m.key] = m.value;
  folder_.add_metrics(line);
  ++epochs_done_;
  ++epoch_;
  step_ = 0;
  epoch_begun_ = false;
  checkpoint_if_due();
}

void Trainer::run_stage() {
  if (!stage_begun_) begin_stage();
  while (epoch_ < stage_->epochs && !(ended_ && epoch_ > 0 && !epoch_begun_)) {
    if (!epoch_begun_) begin_epoch();
    train_epoch();
    finish_epoch();
  }
  steps_total_ -= (stage_->epochs - epoch_) * steps_per_epoch(train_->size(), data_);
  // From here on a finished run can be trained further: see go_on().
  if (stage_index_ + 1 == recipe_.stages.size()) save_last();
  watch([&](Controller& c) { c.stage_end(*this); });
  // What the last epochs' evaluations did not see, the stage's end included, may be the best; where the structure
  // changed after them, nothing else is.
  const bool unseen = stale_ || best_selection_ < 0;
  evaluate_now(false);
  const double selection = unseen ? selection_accuracy(false) : 0;
  stages_.push_back(Value::map({{"name", stage_->name},
                                {"epochs", epoch_},
                                {"accuracy", test_result_.accuracy},
                                {"before", stage_before_},
                                {"after", counts_value()},
                                {"seconds", stage_watch_.seconds()}}));
  ++stage_index_;
  stage_begun_ = false;
  if (unseen && selection > best_selection_) {
    best_selection_ = selection;
    save_checkpoint(folder_.checkpoint("best"), state());
  }
  save_last();
  if (interrupt() != 0) throw Interrupted(interrupt());
}

void Trainer::watch(const std::function<void(Controller&)>& turn) {
  constexpr Role roles[] = {Role::weight, Role::architecture, Role::buffer};
  std::vector<at::Tensor> before;
  if (!stale_) {
    for (const Role r : roles) before.push_back(weights_->bank(r).values.flat().clone());
  }
  controller_.call(turn);
  for (size_t i = 0; !stale_ && i < before.size(); ++i)
    stale_ = !before[i].equal(weights_->bank(roles[i]).values.flat());
}

void Trainer::restore_best() {
  const std::filesystem::path path = folder_.checkpoint("best");
  if (!std::filesystem::exists(path)) return;  // the stage before had no epoch: its only state is the last
  const Checkpoint c = load_checkpoint(path);
  auto weights = std::make_unique<Weights>(c.graph, dtype_, device_);
  c.restore(*weights, "", false);
  graph_ = c.graph;
  weights_ = std::move(weights);
  stale_ = true;
}

void Trainer::start() {
  at_work_ = true;
  folder_.cut_to({});
  std::error_code none;
  std::filesystem::remove(folder_.file("data.json"), none);
  // The recipe last: what has one can be resumed, with the plugins that the environment names.
  write_environment({});
  write_file(folder_.file("recipe.yaml"), to_yaml(recipe_.resolved));
  load_data(recipe_.data);
  build_network(recipe_.network, recipe_.warm_start, "network");
  first_ = graph_;
  base_macs_ = base_macs(recipe_, info_, first_);
  for (const StageSection& s : recipe_.stages)
    steps_total_ += s.epochs * steps_per_epoch(train_->size(), s.data ? *s.data : recipe_.data);
}

Value Trainer::run() {
  try {
    return carry_out();
  } catch (const Interrupted& i) {
    write_unfinished("interrupted", "signal " + std::to_string(i.signal()));
    progress_.note("Stopped. To go on: espalier resume " + folder_.path().string());
    throw;
  } catch (const InputError& e) {
    write_unfinished("failed", e.what());
    throw;
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    fail("out of memory");
  } catch (const std::exception& e) {
    fail(e.what());
  }
}

Value Trainer::carry_out() {
  if (!options_.resume || !go_on()) start();
  const Counts c = counts();
  progress_.note(recipe_.name + ": " + name_of(recipe_.network, "backbone") + " on " +
                 name_of(recipe_.data.dataset, "dataset") + " (" + count_text(train_->size()) + " images), " +
                 count_text(c.params) + " params, " + count_text(c.macs) + " MACs, " + device_.str() +
                 (device_.is_cpu() ? " with " + std::to_string(at::get_num_threads()) + " threads" : "") + ", seed " +
                 std::to_string(recipe_.seed));
  while (stage_index_ < recipe_.stages.size()) run_stage();
  finish();
  return summary();
}

void Trainer::export_model(const std::filesystem::path& folder) const {
  save_safetensors(folder / "model.safetensors", {model_tensors(graph_, *weights_), {}});
  const Normalization normalization = normalization_of(data_.normalize, info_);
  std::string program;
  try {
    program = python_model({recipe_.name, graph_, *weights_, info_, normalization, data_.eval_batch});
    // What it computes is written in the same expressions as the TorchScript form, which can be tried here.
    const std::vector<std::string> logits{"logits"};
    compare_torchscript(graph_, *weights_, logits, export_inputs(graph_, *weights_, logits),
                        torchscript_of(graph_, *weights_, logits));
  } catch (const Error& e) {  // operations need no Python form
    log::warning(std::string("model.py is not written: ") + e.what());
    return;
  }
  write_file(folder / "model.py", program);
}

void Trainer::record(const std::string& name, const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  const std::filesystem::path folder = folder_.file("records");
  std::filesystem::create_directories(folder);
  save_safetensors(folder / (name + ".safetensors"), {tensors, {}});
}

void Trainer::finish() {
  best_accuracy_ = std::max(best_accuracy_, test_result_.accuracy);
  write_file(folder_.file("graph.json"), to_json(graph_.to_value(), 1) + "\n");
  export_model(folder_.path());
  write_file(folder_.file("summary.json"), to_json(summary(), 1) + "\n");
  if (!options_.quiet) print_table();
}

Value Trainer::summary() const {
  Value s = Value::map({{"name", recipe_.name},
                        {"seed", recipe_.seed},
                        {"status", "finished"},
                        {"accuracy", test_result_.accuracy},
                        {"accuracy_best", best_accuracy_}});
  if (info_.target.classes >= 20) s["top5"] = test_result_.top5;
  s["loss"] = test_result_.loss;
  s["base"] = Value::map({{"params", first_.parameter_count()}, {"macs", first_.macs()}});
  s["final"] = counts_value();
  const auto base_epochs = static_cast<double>(recipe_.base_epochs.value_or(std::max<int64_t>(1, epochs_done_)));
  s["train_cost"] = macs_sum_ / (base_epochs * base_macs_);
  s["seconds"] = run_watch_.seconds();
  s["device"] = device_.str();
  s["precision"] = recipe_.precision;
  s["threads"] = static_cast<int64_t>(at::get_num_threads());
  s["stages"] = stages_;
  if (!recipe_.expect.is_null()) s["expect"] = compared(recipe_.expect, s);
  return s;
}

void Trainer::print_table() const {
  std::printf("\n%s\n%s", before_and_after(first_, graph_).c_str(), stage_table(stages_).c_str());
  if (!recipe_.expect.is_null()) std::printf("\n%s", expectation_table(summary().at("expect")).c_str());
  std::printf("\nRun folder: %s\n", folder_.path().c_str());
}

}  // namespace espalier
