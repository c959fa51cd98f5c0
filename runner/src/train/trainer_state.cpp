// How a run saves its state, fails in order, and goes on.
#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/log.h"
#include "recipe/yaml.h"
#include "record/environment.h"
#include "record/libraries.h"
#include "system/files.h"
#include "system/interrupt.h"
#include "train/trainer.h"

namespace espalier {

namespace {

std::string not_finite(const std::string& what, double value) {
  return what + (std::isnan(value) ? "NaN" : "infinite") + "; a smaller learning rate, or clip_norm, usually helps";
}

}  // namespace

State Trainer::state() const {
  State s{network_.graph, {{"", network_.weights.get()}}, {}, {}};
  for (const Follower& f : network_.followers) {
    if (const auto w = f.weights.lock()) s.weights.emplace_back(f.name, w.get());
  }
  Value& p = s.progress;
  position_.write(p = Value::map());
  p["batch"] = data_.step_samples();
  p["first"] = network_.first.to_value();
  p["files"] = folder_.sizes();
  p["seconds"] = Value::map(
      {{"run", watches_.run.seconds()}, {"stage", watches_.stage.seconds()}, {"epoch", watches_.epoch.seconds()}});
  if (!tested_.stale) p["test"] = to_value(tested_.result);
  // The values that count are those of the average.
  if (ema_ && stage_->ema->instead) p["averaged"] = true;
  if (position_.stage_begun) {
    p["name"] = stage_->name;
    p["before"] = Value::map({{"params", stage_before_.params}, {"macs", stage_before_.macs}});
    Value saved = Value::list();
    for (const Made<Controller>& made : parts_.controllers()) {
      made.call([&](Controller& c) {
        saved.push_back(Value::map({{"name", made.component->component.name}, {"saved", c.save()}}));
      });
    }
    p["controllers"] = std::move(saved);
    p["schedule"] = parts_.schedule().save();
    p["teachers"] = teachers_;
  }
  if (position_.epoch_begun) {
    p["images"] = meters_.images;
    p["metrics"] = meters_.metrics;
    p["updates"] = meters_.updates;
    p["penalties"] = meters_.penalties;
    const EpochMeters sums = meters_.summed(processes());
    s.tensors = {{"loss_sum", sums.loss_sum},
                 {"loss_weight", sums.loss_weight},
                 {"penalty", sums.penalty_of.empty() ? at::zeros({0}, at::kDouble) : at::stack(sums.penalty_of)},
                 {"gradient_norm", sums.gradient_norm}};
    if (sums.leading.defined()) s.tensors.emplace_back("leading", sums.leading);
  }
  save_artefacts(s);
  return s;
}

void Trainer::save(const std::string& name, const std::string& previous) const {
  const State s = state();
  if (!processes().leads()) return;
  save_checkpoint(folder_.checkpoint(name), s, previous.empty() ? "" : folder_.checkpoint(previous));
}

void Trainer::save_last() {
  check_weights();
  const Clock::time_point began = Clock::now();
  save("last", "previous");
  saving_.at = Clock::now();
  saving_.seconds = std::chrono::duration<double>(saving_.at - began).count();
}

void Trainer::checkpoint_if_due() {
  int signal = interrupt();
  const double passed = std::chrono::duration<double>(Clock::now() - saving_.at).count();
  // At most a twentieth of the time goes into checkpoints, unless one is asked for after every step.
  bool due = passed >= options_.save_every && (options_.save_every == 0 || passed >= 20 * saving_.seconds);
  if (processes().several()) {
    // A signal to any of them stops all, and the one that leads saves when its clock says so.
    const std::vector<int64_t> all = processes().largest("the end of a step", {signal, processes().leads() && due});
    signal = static_cast<int>(all[0]);
    due = all[1] != 0;
  }
  if (signal == 0 && !due) return;
  if (position_.epoch_begun) check_loss();
  save_last();
  if (signal != 0) throw Interrupted(signal);
}

void Trainer::check_loss() const {
  const double loss = meters_.loss_sum.item<double>();
  if (std::isfinite(loss)) return;
  throw Error(not_finite("stage '" + stage_->name + "', epoch " + std::to_string(position_.epoch + 1) + ", step " +
                             std::to_string(position_.step) + ": the loss is ",
                         loss));
}

void Trainer::check_weights() const {
  for (const Role role : {Role::weight, Role::architecture, Role::buffer}) {
    const at::Tensor& values = network_.weights->bank(role).values.flat();
    if (values.numel() == 0 || values.isfinite().all().item<bool>()) continue;
    throw Error(not_finite("stage '" + stage_->name + "', epoch " + std::to_string(position_.epoch + 1) + ", step " +
                               std::to_string(position_.step) + ": some weights are ",
                           values.sum().item<double>()));
  }
}

void Trainer::require_same_teachers(const Value& progress) const {
  const Value* before = progress.find("teachers");
  if (!before || *before == teachers_) return;
  for (const Value::Entry& e : before->as_map()) {
    const Value* now = teachers_.find(e.key);
    if (!now || *now == e.value) continue;
    const std::string text = "the network that teaches, " + e.key + ", is not the one that the run began with";
    if (!options_.changed_data) {
      throw InputError(folder_.path().string(),
                       text + "\n`espalier resume` goes on with what it is now where it is given --changed-data");
    }
    log::warning(text);
  }
}

bool Trainer::follow_on() {
  const std::string bytes = processes().from_leader("the checkpoint to go on from", "");
  if (bytes.empty()) return false;
  const std::filesystem::path path = folder_.checkpoint("last");
  write_file(path, bytes);
  restore(load_checkpoint(path));
  std::error_code none;
  std::filesystem::remove(path, none);
  at_work_ = true;
  rewrite_artefacts();
  return true;
}

bool Trainer::go_on() {
  if (!processes().leads()) return follow_on();
  std::vector<std::string> damaged;
  // The last checkpoint of a finished run lies behind the end of its last stage, the one before it just before that.
  const std::string from = options_.finished && options_.resume_from == "last" ? "previous" : options_.resume_from;
  if (from != "last" && !std::filesystem::exists(folder_.checkpoint(from)))
    throw InputError(folder_.checkpoint(from).string(), "there is no such checkpoint");
  for (const std::string& name : from == "last" ? std::vector<std::string>{"last", "previous"} : std::vector{from}) {
    const std::filesystem::path path = folder_.checkpoint(name);
    if (!std::filesystem::exists(path)) continue;
    Checkpoint checkpoint;
    try {
      checkpoint = load_checkpoint(path);
    } catch (const InputError& e) {
      if (from != "last") throw;
      damaged.emplace_back(e.what());
      log::warning(damaged.back());
      continue;
    }
    if (options_.finished) require_something_to_do(checkpoint);
    if (processes().several()) processes().from_leader("the checkpoint to go on from", read_file(path));
    // What is refused until here leaves the folder as it was.
    restore(checkpoint);
    if (options_.finished) folder_.put_results_away();
    // What is damaged must not take the good one's place when the next is saved.
    std::error_code none;
    if (!damaged.empty()) std::filesystem::rename(folder_.checkpoint("last"), folder_.checkpoint("damaged"), none);
    if (from != "last") {
      // From now on this is where the run stands, also if it is stopped at once.
      write_file(folder_.checkpoint("last"), read_file(path));
      std::filesystem::remove(folder_.checkpoint("previous"), none);
    }
    take_up(checkpoint);
    return true;
  }
  if (damaged.empty()) {
    processes().from_leader("the checkpoint to go on from", "");
    return false;
  }
  std::string all;
  for (const std::string& d : damaged) all += "\n  " + d;
  throw InputError(folder_.path().string(), "no checkpoint is good; begin anew from its recipe.yaml:" + all);
}

namespace {

// Whether what ended the stage lets it go on, with the recipe as it is now.
bool ended_by_itself(const Value& progress, const StageSection& stage) {
  const std::string& by = progress.at("ended_by").as_string();
  if (by == "early_stop") return !stage.early_stop || progress.at("waited").as_int() < stage.early_stop->patience;
  return by == "stop_below" && !stage.stop_below_lr;
}

}  // namespace

void Trainer::require_something_to_do(const Checkpoint& checkpoint) const {
  const Value& p = checkpoint.progress;
  const auto index = static_cast<size_t>(p.at("stage").as_int());
  const bool begun = p.at("stage_begun").as_bool();
  if (index + 1 < recipe_.stages.size() || (index < recipe_.stages.size() && !begun)) return;
  const StageSection& last = recipe_.stages.back();
  const std::string run = folder_.path().string(), file = checkpoint.path.filename().string();
  const auto refuse = [&](const std::string& what) { throw InputError(run, "this run is finished" + what); };
  if (!begun) {
    refuse(", and " + file + " holds the network as its last stage left it, after all training: `network: {from: " +
           run + (options_.resume_from == "best" ? ", which: best" : "") + "}` in another recipe begins with it");
  }
  if (p.at("ended").as_bool() && !ended_by_itself(p, last)) {
    const std::string& by = p.at("ended_by").as_string();
    if (!by.empty()) {
      refuse(": '" + by + "' of stage '" + last.name + "' ended it. To train on: espalier resume " + run +
             " --set stages." + last.name + "." + by + "=" +
             (by == "early_stop" ? " (leaves it out), or =" + std::string("'{patience: N}' with a larger number")
                                 : " (leaves it out)"));
    }
    refuse(": a controller of stage '" + last.name +
           "' ended it, so that more epochs change nothing; `network: {from: " + run +
           "}` in another recipe trains the network on");
  }
  const int64_t done = p.at("epoch").as_int() + (p.at("epoch_begun").as_bool() ? 1 : 0);
  if (last.epochs > done) return;
  const std::string flag = options_.resume_from == "last" ? "" : " --from " + options_.resume_from;
  refuse(": " + file + " has " + std::to_string(done) + " epochs of its last stage '" + last.name +
         "' behind it, and the recipe asks for no more than " + std::to_string(last.epochs) +
         "; nothing is left to do. To train on: espalier resume " + run + flag + " --set stages." + last.name +
         ".epochs=" + std::to_string(2 * std::max<int64_t>(1, done)));
}

void Trainer::resume_controllers(const Checkpoint& checkpoint) {
  const Value* saved = checkpoint.progress.find("controllers");
  if (!saved) {  // an older checkpoint, of a stage with one
    for_controllers([&](Controller& c) { c.resume(*this, checkpoint.progress.at("controller")); });
    return;
  }
  const auto& made = parts_.controllers();
  for (size_t i = 0; i < std::max(made.size(), saved->size()); ++i) {
    const std::string now = i < made.size() ? made[i].component->component.name : "none";
    const std::string then = i < saved->size() ? saved->as_list()[i].at("name").as_string() : "none";
    if (now != then) {
      throw InputError(checkpoint.path.string(), "controller " + std::to_string(i + 1) + " of the stage was '" + then +
                                                     "' and is '" + now +
                                                     "' now: the controllers of a stage that has begun can get other "
                                                     "numbers, but not be replaced");
    }
    call(made[i], [&](Controller& c) { c.resume(*this, saved->as_list()[i].at("saved")); });
  }
}

void Trainer::restore(const Checkpoint& checkpoint) {
  const Value& p = checkpoint.progress;
  position_.read(p);
  if (options_.finished && position_.ended && position_.stage < recipe_.stages.size() &&
      ended_by_itself(p, recipe_.stages[position_.stage])) {
    position_.ended = false;
  }
  network_.first = Graph::from_value(p.at("first"));
  restore_artefacts(checkpoint);
  if (const Value* test = p.find("test")) {
    tested_.result = evaluation_from(*test);
    tested_.stale = false;
  }
  if (position_.stage_begun &&
      (position_.stage >= recipe_.stages.size() || recipe_.stages[position_.stage].name != p.at("name").as_string())) {
    throw InputError(checkpoint.path.string(), "it stands in the stage '" + p.at("name").as_string() +
                                                   "', which is not the recipe's stage number " +
                                                   std::to_string(position_.stage + 1));
  }

  // The data of this stage: the last that was named.
  const DataSection* data = &recipe_.data;
  for (size_t i = 0; i < recipe_.stages.size() && i < position_.stage + (position_.stage_begun ? 1 : 0); ++i) {
    if (recipe_.stages[i].data) data = &*recipe_.stages[i].data;
  }
  load_data(*data);
  network_.graph = checkpoint.graph;
  network_.weights = std::make_unique<Weights>(network_.graph, machine_.dtype, machine_.device);
  if (position_.stage_begun) {
    stage_before_ = {p.at("before").at("params").as_int(), p.at("before").at("macs").as_int()};
    make_parts(position_.stage);
    require_same_teachers(p);
    attach();
    begin_ema();
    resume_controllers(checkpoint);
    parts_.schedule().load(p.at("schedule"));
  }
  checkpoint.restore(*network_.weights, "", position_.stage_begun);
  size_t followed = 1;
  for (const Follower& f : network_.followers) {
    const auto w = f.weights.lock();
    if (!w) continue;
    checkpoint.restore(*w, f.name, true);
    ++followed;
  }
  if (position_.stage_begun && followed < checkpoint.counters.size())
    throw InputError(checkpoint.path.string(),
                     "it holds Weights that nothing follows: a controller's resume() must "
                     "follow what its stage_begin() does");
  if (position_.epoch_begun) {
    // With another batch size the epoch goes on behind the images that it has had, at the next whole batch.
    const int64_t batch = p.at("batch").as_int();
    const int64_t now = data_.step_samples();
    if (batch != now)
      position_.step =
          (std::min(data_.train().size() * data_.section().repeat, position_.step * batch) + now - 1) / now;
    meters_.begin(machine_.device, parts_.regularizers().size());
    meters_.images = p.at("images").as_int();
    meters_.metrics = p.at("metrics");
    meters_.loss_sum = checkpoint.tensor("loss_sum").to(machine_.device);
    meters_.loss_weight = checkpoint.tensor("loss_weight").to(machine_.device);
    // Older checkpoints have the sum of all.
    const at::Tensor penalty_of = checkpoint.tensor("penalty").to(machine_.device).flatten();
    for (size_t i = 0; i < meters_.penalty_of.size() && static_cast<int64_t>(i) < penalty_of.numel(); ++i)
      meters_.penalty_of[i].copy_(penalty_of[static_cast<int64_t>(i)]);
    meters_.gradient_norm = checkpoint.tensor("gradient_norm").to(machine_.device);
    meters_.updates = p.at("updates").as_int();
    // Older checkpoints do not have it; each step evaluated the penalties once.
    const Value* penalties = p.find("penalties");
    meters_.penalties = penalties ? penalties->as_int() : position_.step;
    if (metrics_.of_steps() && meters_.images > 0) meters_.leading = checkpoint.tensor("leading").to(machine_.device);
    if (!processes().leads()) {  // the sums are of all, and are added up again
      for (at::Tensor* sum : {&meters_.loss_sum, &meters_.loss_weight, &meters_.leading}) {
        if (sum->defined()) *sum = at::zeros_like(*sum);
      }
    }
  }
}

void Trainer::take_up(const Checkpoint& checkpoint) {
  const Value& p = checkpoint.progress;
  for (const std::string& name : folder_.cut_to(p.at("files")))
    log::warning(folder_.file(name).string() + " is shorter than it was at the checkpoint: lines are missing");
  std::error_code none;
  std::filesystem::remove(folder_.file("summary.json"), none);
  at_work_ = true;
  rewrite_artefacts();
  const std::string text = to_yaml(recipe_.resolved);
  const bool changed = text != read_file(folder_.file("recipe.yaml"));
  // A best checkpoint from beyond this point will be made again, or belongs to a run that went another way.
  if (const std::filesystem::path best = folder_.checkpoint("best"); std::filesystem::exists(best)) {
    bool later = true;
    try {
      const Value at = load_checkpoint(best).progress;
      later = std::pair(at.at("stage").as_int(), at.at("steps_done").as_int()) >
              std::pair(static_cast<int64_t>(position_.stage), position_.steps_done);
    } catch (const InputError& e) {
      log::warning(e.what());
    }
    if (later) std::filesystem::remove(best, none);
    // Going another way, the run may not come to one as good again.
    if (later && changed) position_.best_selection.reset();
  }
  if (changed) {
    log::warning("the recipe changes here: the run is not the one that it began as");
    write_file(folder_.file("recipe.yaml"), text);
  }
  write_environment(Value::map({{"stage", p.at("stage")}, {"epoch", p.at("epoch")}, {"step", p.at("step")}}));
  const Clock::time_point now = Clock::now();
  const Value& seconds = p.at("seconds");
  watches_.run = {seconds.at("run").as_double(), now};
  watches_.stage = {seconds.at("stage").as_double(), now};
  watches_.epoch = {seconds.at("epoch").as_double(), now};
  options_.recorded(folder_.path());
  progress_.note("Going on from " + checkpoint.path.filename().string() + ": " +
                 (position_.stage_begun ? stage_->name + ", epoch " + std::to_string(position_.epoch + 1) +
                                              ", after step " + std::to_string(position_.step)
                                        : "before stage " + std::to_string(position_.stage + 1)));
}

// environment.json: that of the beginning, and where the run went on an entry for each time.
void Trainer::write_environment(const Value& checkpoint) const {
  const std::filesystem::path path = folder_.file("environment.json");
  Value now = environment_of(machine_.device.str());
  now["libraries"] = libraries_of(recipe_);
  if (processes().several()) now["processes"] = processes().count();
  for (const Value::Entry& e : options_.origin.as_map()) now[e.key] = e.value;
  Value all = now;
  if (!checkpoint.is_null() && std::filesystem::exists(path)) {
    all = from_json(read_file(path), path.string());
    for (const std::string& d : differences(all, now))
      log::warning("the run began elsewhere (" + d + "): its results may differ in the last digits");
    if (const Value* libraries = all.find("libraries")) {
      for (const std::string& d : library_differences(*libraries, now.at("libraries")))
        log::warning("the run began with other libraries (" + d + "): its results may differ");
    }
    now["from"] = checkpoint;
    if (!all.find("resumed")) all["resumed"] = Value::list();
    all["resumed"].push_back(now);
  } else {
    all["id"] = random_id();
    all["began"] = wall_time();
  }
  write_file(path, to_json(all, 1) + "\n");
}

void Trainer::fail(const std::string& message) const {
  std::string said = message;
  if (said.find("allocate memory") != std::string::npos || said.find("out of memory") != std::string::npos ||
      said.find("bad_alloc") != std::string::npos) {
    said +=
        "\nThere is not enough memory: a smaller data.batch or data.eval_batch, or a smaller network, helps (espalier "
        "plan shows what a recipe needs).";
  }
  write_unfinished("failed", said);
  if (std::filesystem::exists(folder_.checkpoint("last")) || std::filesystem::exists(folder_.checkpoint("previous"))) {
    said += "\nThe last good state is kept. Once the cause is gone: espalier resume " + folder_.path().string() +
            " (--set changes the recipe, --from previous or best goes further back)";
  }
  throw Error(said);
}

void Trainer::write_unfinished(const std::string& status, const std::string& error) const {
  if (!at_work_) return;  // what was refused leaves the folder as it was
  try {
    Summary summary;
    summary.name = recipe_.name;
    summary.seed = recipe_.seed;
    summary.status = status;
    summary.error = error;
    summary.stages = position_.stages;
    summary.write(folder_.path());
    options_.recorded(folder_.path());
  } catch (const Error& e) {
    log::warning(e.what());  // a full disk; the error itself is what counts
  }
}

}  // namespace espalier
