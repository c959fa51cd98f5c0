#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/data_pipeline.h"
#include "espalier/controller.h"
#include "espalier/dataset.h"
#include "espalier/optimizer.h"
#include "espalier/regularizer.h"
#include "espalier/schedule.h"
#include "recipe/recipe.h"
#include "record/checkpoint.h"
#include "record/progress.h"
#include "record/run_folder.h"

namespace espalier {

// The device of "auto", "cpu" or "cuda". Throws Error where there is no such device.
at::Device choose_device(const std::string& name);

struct TrainerOptions {
  std::filesystem::path out;  // the run folder, made
  DataPaths data;
  bool quiet = false;
  bool resume = false;               // goes on from a checkpoint of the folder
  std::string resume_from = "last";  // last (or previous, where the last is damaged), previous, best
  bool changed_data = false;         // goes on although the data are not those that the run began with
  bool finished = false;             // what it goes on with is a finished run, which is to be trained further
  double save_every = 60;            // seconds between checkpoints; 0: after every step
  Value origin = Value::map();       // what environment.json says besides the machine: command line, folders
};

// Carries out a recipe: its stages one after the other, each with its data, optimizers, regularizers, controller and
// schedule.
class Trainer final : public Run {
 public:
  Trainer(const Recipe& recipe, const TrainerOptions& options);
  ~Trainer() override;

  // Trains and writes the run folder. Returns what summary.json holds; where it throws, summary.json says so. Throws
  // Interrupted after interrupt(), with the state saved.
  Value run();

  // Times `steps` training steps of the first stage after `warmup` others: what `espalier bench` prints. With a folder,
  // leaves there what another program needs to do the same steps: model.py, model.safetensors (initial values) and
  // data.safetensors (inputs, targets, order). Saves nothing else.
  Value bench(int64_t steps, int64_t warmup, const std::filesystem::path& exported);

  // ---- Run, for controllers ----
  const Graph& graph() const override { return graph_; }
  Weights& weights() override { return *weights_; }
  const std::string& stage() const override { return stage_->name; }
  int64_t epochs() const override { return stage_->epochs; }
  void end_stage() override { ended_ = true; }
  int64_t epoch() const override { return epoch_; }
  int64_t step() const override { return step_; }
  RandomKey key() const override;
  using Run::edit;
  void edit(const Edits& edits) override;
  using Run::follow;
  void follow(const std::string& name, const std::shared_ptr<Weights>& weights, bool optimized) override;
  void train_step(const Batch& batch) override;
  using Run::add_gradients;
  void add_gradients(const Batch& batch, Weights& weights, std::string_view loss) override;
  void add_regularizers(Weights& weights) override;
  using Run::update;
  void update(Weights& weights, const std::vector<Role>& roles) override;
  using Run::draw;
  Batch draw(std::string_view part, int64_t n) override;
  Evaluation evaluate(std::string_view part) override;
  double learning_rate(ParamId p) const override { return rates_of({Role::weight, Role::architecture})[p]; }
  int64_t batch_size() const override { return data_.batch; }
  bool clipped() const override;
  void publish(const std::string& name, const Artefact& artefact) override;
  const Artefact& artefact(const std::string& name) const override;
  Value derive() const override;
  void metric(const std::string& name, double value) override { metrics_[name] = value; }
  void record(const std::string& name, const std::vector<std::pair<std::string, at::Tensor>>& tensors) override;
  void note(const std::string& text) override { progress_.note("  " + text); }

 private:
  // A component made from the recipe, with what labels its errors.
  template <class T>
  struct Made {
    std::unique_ptr<T> object;
    const Registered* component = nullptr;
    Location where;
    void call(const std::function<void(T&)>& body) const {
      labelled(*component, where, [&] { body(*object); });
    }
  };
  template <class T>
  static Made<T> make(const Value& spec) {
    const Registry& registry = Registry::instance();
    return {registry.create<T>(spec), &registry.at(T::kind, name_of(spec, T::kind), spec.location), spec.location};
  }
  // Calls `body`, which is the run's own work and no component's: what goes wrong in it is said with the place in the
  // run, so that whoever called it, a controller say, is not blamed.
  template <class Body>
  auto placed(const Body& body) const;
  std::string place() const;

  struct Counts {
    int64_t params = 0;
    int64_t macs = 0;
  };
  Counts counts() const { return {graph_.parameter_count(), graph_.macs()}; }
  Value counts_value() const;

  using Clock = std::chrono::steady_clock;
  // Time spent on something, which a resumed run goes on counting.
  struct Watch {
    double before = 0;
    Clock::time_point since = Clock::now();
    double seconds() const { return before + std::chrono::duration<double>(Clock::now() - since).count(); }
  };

  Value carry_out();
  void start();
  void finish();
  // What a spec comes to once what it takes from earlier stages is known.
  Value known(const Value& spec) const;
  // The backbone's spec of the present network.
  const Value& network_in_force() const;
  // The learning rate of each parameter in an update of these roles.
  LearningRates rates_of(const std::vector<Role>& roles) const;
  void load_data(const DataSection& data);
  // Writes down what the data are, where that is not known yet. Throws InputError where they are not what they were.
  void keep_record(const Value& record) const;
  void build_network(const Value& spec, const WarmStart& warm, const std::string& purpose);
  // The stage's optimizers, regularizers, controller and schedule, not yet attached.
  void make_parts(size_t index);
  void begin_stage();
  void smooth_labels();
  void attach();
  void attach_optimizers(Weights& weights);
  void run_stage();
  void begin_epoch();
  RandomKey epoch_key() const;
  // The epoch's order; returns its number of steps.
  int64_t order_epoch();
  void train_one_step(int64_t steps);
  void train_epoch();
  void finish_epoch();
  void restore_best();
  // A turn in which the controller may change the network's values without an edit: what was evaluated before it no
  // longer counts where it did.
  void watch(const std::function<void(Controller&)>& turn);
  // What selects the best checkpoint: validation accuracy, or test accuracy where nothing is held out.
  double selection_accuracy(bool interruptible) const;
  // The network in plain PyTorch, and its values, in a folder.
  void export_model(const std::filesystem::path& folder) const;
  // without: positions of widths that read as zeros (see Pass); null: none.
  at::Tensor logits(const Batch& batch, const std::vector<AxisChange>* without = nullptr) const;
  // interruptible: throws Interrupted once a signal asks to stop.
  Evaluation evaluate_part(std::string_view part, bool interruptible) const;
  Evaluation evaluate_pipeline(DataPipeline& pipeline, bool interruptible) const;
  void evaluate_now(bool interruptible);
  Value summary() const;

  // ---- trainer_state.cpp: saving and going on ----
  State state() const;
  void save_last();
  // Between two steps: saves where it is time to, and stops where that was asked for.
  void checkpoint_if_due();
  // ---- trainer_artefacts.cpp ----
  void write_artefact(const std::string& name, const Artefact& artefact) const;
  // Puts those of a checkpoint in place of what lies in the folder.
  void save_artefacts(State& state) const;
  void restore_artefacts(const Checkpoint& checkpoint);
  void rewrite_artefacts() const;

  // Throws Error where the loss of the epoch or the weights are no longer finite.
  void check_loss() const;
  void check_weights() const;
  // From the newest good checkpoint. False: there is none yet, the run starts from the beginning.
  bool go_on();
  // Throws InputError where a finished run would come to nothing but its end from there.
  void require_something_to_do(const Checkpoint& checkpoint) const;
  // Everything that is in memory; then what lies in the folder.
  void restore(const Checkpoint& checkpoint);
  void take_up(const Checkpoint& checkpoint);
  void write_environment(const Value& checkpoint) const;
  [[noreturn]] void fail(const std::string& message) const;
  void write_unfinished(const std::string& status, const std::string& error) const;

  void print_table() const;

  const Recipe& recipe_;
  TrainerOptions options_;
  at::Device device_;
  at::ScalarType dtype_;
  RandomKey seed_;
  RunFolder folder_;
  Progress progress_;

  DataSection data_;
  DatasetInfo info_;
  std::unique_ptr<DataPipeline> train_, test_, validation_;
  std::map<std::pair<std::string, int64_t>, std::pair<int64_t, std::vector<int64_t>>> draws_;  // the pass and its order
  Augmentations augmentations_;

  Graph graph_;
  Graph first_;  // as first built
  std::unique_ptr<Weights> weights_;
  struct Follower {
    std::string name;
    std::weak_ptr<Weights> weights;
    bool optimized = false;
  };
  std::vector<Follower> followers_;

  bool at_work_ = false;  // the folder holds what this process makes: it has begun, or taken the run up

  // Where the run stands, between two steps.
  size_t stage_index_ = 0;
  bool stage_begun_ = false;
  bool ended_ = false;  // the stage, with the epoch under way
  int64_t epoch_ = 0;
  bool epoch_begun_ = false;
  int64_t step_ = 0;  // done in this epoch

  const StageSection* stage_ = nullptr;
  int64_t epochs_done_ = 0;  // of the run
  int64_t steps_done_ = 0;
  int64_t steps_total_ = 0;
  std::vector<Made<Optimizer>> optimizers_;
  std::vector<std::vector<Role>> optimized_;  // by each of them
  std::vector<int> optimizer_of_;             // of each parameter, its position among them; -1: none updates it
  at::Tensor clip_factor_;                    // of the last update; undefined: nothing was to be clipped
  std::vector<Made<Regularizer>> regularizers_;
  Made<Controller> controller_;
  std::unique_ptr<Schedule> schedule_;
  double lr_factor_ = 1;

  at::Tensor loss_sum_, correct_, penalty_;  // of the epoch, on the device
  bool penalties_looked_at_ = false;         // in this stage: those that are exactly zero were noted
  int64_t images_ = 0;
  Value metrics_ = Value::map();
  Evaluation test_result_;
  double best_accuracy_ = -1;   // test accuracy, since the network's structure changed
  double best_selection_ = -1;  // the best checkpoint's, of this stage and structure; below zero: there is none yet
  double macs_sum_ = 0;         // of the network at each step, in epochs
  double step_macs_ = 0;        // of the present network
  double base_macs_ = 0;
  bool stale_ = true;  // the network changed since test_result_
  Value stages_ = Value::list();
  std::map<std::string, Artefact> artefacts_;  // by STAGE.NAME
  Value stage_before_;                         // parameters and MACs at the stage's beginning

  // Where the time of a step goes, while it is measured.
  struct Phases {
    double data = 0, gradients = 0, regularizers = 0, update = 0;
    bool wait = false;  // for the device, at the end of each
  };
  class PhaseTimer;
  Phases* phases_ = nullptr;

  Watch run_watch_, stage_watch_, epoch_watch_;
  Clock::time_point saved_ = Clock::now();
  double save_seconds_ = 0;  // what the last checkpoint took
};

}  // namespace espalier
