#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "distributed/processes.h"
#include "espalier/run.h"
#include "recipe/recipe.h"
#include "record/checkpoint.h"
#include "record/progress.h"
#include "record/run_folder.h"
#include "train/ema.h"
#include "train/epoch_meters.h"
#include "train/position.h"
#include "train/run_data.h"
#include "train/stage_parts.h"

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
  // Those that train together; each calls all of Trainer's functions. Only the one that leads has the run's folder, the
  // others have one of their own that nobody reads.
  std::shared_ptr<const Processes> processes = std::make_shared<const Processes>();
  std::filesystem::path
      original{};               // the run's folder, where `out` is not it and the run goes on: for networks that teach
  Value origin = Value::map();  // what environment.json says besides the machine: its recipe, folders
  // Called with the run's folder when it says more: at the beginning, after each epoch and at the end.
  std::function<void(const std::filesystem::path&)> recorded = [](const std::filesystem::path&) {};
};

// Carries out a recipe: its stages one after the other, each with its data, optimizers, regularizers, controller and
// schedule.
class Trainer final : public Run {
 public:
  Trainer(const Recipe& recipe, const TrainerOptions& options);
  ~Trainer() override;

  // Trains and writes the run folder. Where it throws, summary.json says so. Throws Interrupted after interrupt(), with
  // the state saved.
  void run();

  // Times `steps` training steps of the first stage after `warmup` others: what `espalier bench` prints. With a folder,
  // leaves there what another program needs to do the same steps: model.py, model.safetensors (initial values) and
  // data.safetensors (inputs, targets, order). Saves nothing else.
  Value bench(int64_t steps, int64_t warmup, const std::filesystem::path& exported);

  // ---- Run, for controllers ----
  const Graph& graph() const override { return network_.graph; }
  Weights& weights() override { return *network_.weights; }
  const std::string& stage() const override { return stage_->name; }
  int64_t epochs() const override { return stage_->epochs; }
  void end_stage() override { position_.ended = true; }
  int64_t epoch() const override { return position_.epoch; }
  int64_t step() const override { return position_.step; }
  // How much of the stage's epochs lies behind, from 0 to 1.
  double progress() const { return static_cast<double>(position_.epoch) / static_cast<double>(stage_->epochs); }
  RandomKey key() const override;
  using Run::edit;
  void edit(const Edits& edits) override;
  using Run::follow;
  void follow(const std::string& name, const std::shared_ptr<Weights>& weights, bool optimized) override;
  void train_step(const Batch& batch) override;
  using Run::add_gradients;
  void add_gradients(const Batch& batch, Weights& weights, const GradientPass& pass) override;
  void add_regularizers(Weights& weights) override;
  using Run::update;
  void update(Weights& weights, const std::vector<Role>& roles) override;
  using Run::draw;
  Batch draw(std::string_view part, int64_t n) override;
  using Run::evaluate;
  Evaluation evaluate(std::string_view part, const Weights& weights) override;
  at::Tensor loss(const Batch& batch, const Observer& observe) override;
  double learning_rate(ParamId p) const override { return parts_.learning_rate(p, position_.lr_factor); }
  int64_t batch_size() const override { return data_.step_samples(); }
  bool clipped() const override { return parts_.clipped(); }
  void publish(const std::string& name, const Artefact& artefact) override;
  const Artefact& artefact(const std::string& name) const override;
  Value derive() const override;
  void metric(const std::string& name, double value) override { meters_.metrics[name] = value; }
  void record(const std::string& name, const NamedTensors& tensors) override;
  void note(const std::string& text) override { progress_.note("  " + text); }

 private:
  // Calls `body`, which is the run's own work and no component's: what goes wrong in it is said with the place in the
  // run, so that whoever called it, a controller say, is not blamed.
  template <class Body>
  auto placed(const Body& body) const;
  std::string place() const;

  const Processes& processes() const { return *options_.processes; }
  // Waits for the others behind a function of the controller. Throws Error where another process is elsewhere.
  void meet(std::string_view after) const { processes().any(after, false); }
  // Throws Error naming the processes whose network has another structure or other values.
  void require_same_network(std::string_view when) const;

  NetworkSize size() const { return {network_.graph.parameter_count(), network_.graph.macs()}; }

  using Clock = std::chrono::steady_clock;
  // Time spent on something, which a resumed run goes on counting.
  struct Watch {
    double before = 0;
    Clock::time_point since = Clock::now();
    double seconds() const { return before + std::chrono::duration<double>(Clock::now() - since).count(); }
  };

  // ---- trainer.cpp: the whole run ----
  void carry_out();
  void start();
  void finish();
  void load_data(const DataSection& section);
  std::string parallel_note() const;
  // Writes down what the data are, where that is not known yet. Throws InputError where they are not what they were.
  void keep_record(const Value& record) const;
  void build_network(const Value& spec, const WarmStart& warm, const std::string& purpose);
  // The network in plain PyTorch, and its values, in a folder.
  void export_model(const std::filesystem::path& folder) const;
  Summary summary() const;
  void print_table(const Summary& summary) const;

  // ---- trainer_gradients.cpp: the gradients of a step ----
  struct Piece;
  // What is computed at a time of a batch: with `accumulate` several pieces, of which each process has its part.
  std::vector<Piece> pieces_of(const Batch& batch, const Made<Loss>* weighted) const;
  // Forward and backward through the network. share: of the whole batch's loss; undefined: it is the whole.
  void add_piece(const Piece& piece, Weights& weights, const GradientPass& of, const at::Tensor& share);
  void add_pieces(const Batch& batch, Weights& weights, const GradientPass& pass);
  // So that gradients which there were are counted once when those of all processes are added.
  void keep_once(Weights& weights) const;
  void sum_gradients(Weights& weights) const;

  // ---- trainer_edit.cpp ----
  // The edits of the process that leads.
  Edits agreed(const Edits& edits) const;

  // ---- trainer_stage.cpp: stages, epochs and steps; trainer_evaluation.cpp: what is measured ----
  // The stage's components, not yet attached.
  void make_parts(size_t index);
  // Tells the loss what it learns from, and the networks that teach.
  void begin_loss();
  void begin_stage();
  void attach();
  // Begins the average of the stage, if it has one.
  void begin_ema();
  void run_stage();
  void begin_epoch();
  RandomKey epoch_key() const;
  void train_one_step(int64_t steps);
  void train_epoch();
  void finish_epoch();
  void restore_best();
  // A controller's turn.
  void call(const Made<Controller>& controller, const std::function<void(Controller&)>& turn);
  // A turn of each controller of the stage, in their order.
  void for_controllers(const std::function<void(Controller&)>& turn);
  // Turns in which the controllers may change the network's values without an edit: what was evaluated before them no
  // longer counts where one did.
  void watch(const std::function<void()>& turns);
  // Evaluations for which controllers may put other values into the network. Throws Error where they leave others.
  void around_evaluation(const std::function<void()>& evaluations);
  std::vector<at::Tensor> copy_of_values() const;
  bool has_values(const std::vector<at::Tensor>& values) const;
  // The values that evaluations are of: the network's, or their average.
  const Weights& evaluated() const;
  // What selects the best checkpoint: the score on the validation part, or on the test part where nothing is held out.
  double selection_score(bool interruptible) const;
  // Takes what was measured on the test part into the best of the run.
  void count_best();
  // What TensorBoard is told of an epoch that ends, beside its metrics.
  void add_events() const;
  // Ends the stage where its early_stop or stop_below say so.
  void stop_if_due(const Evaluation& selection);
  // The network as the stage leaves it, for a later stage whose loss learns from it.
  void keep_for_later() const;
  // In a folder `networks/NAME` of the run's, which is read as the folder of a run is.
  void keep_network(const std::string& name, const Weights& weights) const;
  // without: positions of widths that read as zeros (see Pass); null: none.
  at::Tensor logits(const Batch& batch, const std::vector<AxisChange>* without = nullptr) const;
  // interruptible: throws Interrupted once a signal asks to stop.
  Evaluation evaluate_part(std::string_view part, bool interruptible, const Weights& weights) const;
  Evaluation evaluate_part(std::string_view part, bool interruptible) const {
    return evaluate_part(part, interruptible, evaluated());
  }
  void evaluate_now(bool interruptible);

  // ---- trainer_artefacts.cpp: what stages hand on ----
  // What a spec comes to once what it takes from earlier stages is known.
  Value known(const Value& spec) const;
  // The backbone's spec of the present network.
  const Value& network_in_force() const;
  void write_artefact(const std::string& name, const Artefact& artefact) const;
  void save_artefacts(State& state) const;
  void restore_artefacts(const Checkpoint& checkpoint);
  // Puts those in memory in place of what lies in the folder.
  void rewrite_artefacts() const;

  // ---- trainer_state.cpp: saving and going on ----
  // All processes take part: the sums of the epoch are added up.
  State state() const;
  // Writes it, if this process leads. previous: as for save_checkpoint.
  void save(const std::string& name, const std::string& previous = "") const;
  void save_last();
  // Between two steps: saves where it is time to, and stops where that was asked for.
  void checkpoint_if_due();
  void resume_controllers(const Checkpoint& checkpoint);
  // Throws Error where the loss of the epoch or the weights are no longer finite.
  void check_loss() const;
  void check_weights() const;
  // Throws InputError where a run that teaches has other values now.
  void require_same_teachers(const Value& progress) const;
  // From the newest good checkpoint. False: there is none yet, the run starts from the beginning.
  bool go_on();
  // The same in a process that does not lead: from what that one found.
  bool follow_on();
  // Throws InputError where a finished run would come to nothing but its end from there.
  void require_something_to_do(const Checkpoint& checkpoint) const;
  // Everything that is in memory; then what lies in the folder.
  void restore(const Checkpoint& checkpoint);
  void take_up(const Checkpoint& checkpoint);
  void write_environment(const Value& checkpoint) const;
  [[noreturn]] void fail(const std::string& message) const;
  void write_unfinished(const std::string& status, const std::string& error) const;

  // Where the time of a step goes, while it is measured.
  struct Phases {
    double data = 0, gradients = 0, regularizers = 0, update = 0;
    bool wait = false;  // for the device, at the end of each
  };
  class PhaseTimer;

  // Another Weights of the network that edits and checkpoints follow.
  struct Follower {
    std::string name;
    std::weak_ptr<Weights> weights;
    bool optimized = false;
  };
  struct Network {
    Graph graph;
    Graph first;  // as first built
    std::unique_ptr<Weights> weights;
    std::vector<Follower> followers;
    double step_macs = 0;
  };

  const Recipe& recipe_;
  TrainerOptions options_;
  struct Machine {
    at::Device device;
    at::ScalarType dtype;
  } machine_;
  RandomKey seed_;
  RunFolder folder_;
  Progress progress_;
  RunData data_;
  Network network_;
  bool at_work_ = false;  // the folder holds what this process makes: it has begun, or taken the run up
  Position position_;
  const StageSection* stage_ = nullptr;
  StageParts parts_;
  const Made<Controller>* whose_turn_ = nullptr;
  Metrics metrics_;
  Value teachers_ = Value::map();  // the checksum of each network that teaches and is no stage's
  std::optional<Ema> ema_;
  EpochMeters meters_;
  struct Tested {
    Evaluation result;
    bool stale = true;  // the network changed since
  } tested_;
  std::map<std::string, Artefact> artefacts_;  // by STAGE.NAME
  NetworkSize stage_before_;                   // at the stage's beginning
  Phases* phases_ = nullptr;
  struct Watches {
    Watch run, stage, epoch;
  } watches_;
  uint64_t trimmed_at_ = 0;  // the structure for which free memory was last handed back
  struct Saving {
    Clock::time_point at = Clock::now();
    double seconds = 0;  // what the last checkpoint took
  } saving_;
};

}  // namespace espalier
