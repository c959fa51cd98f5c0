#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/controller.h"
#include "espalier/dataset.h"
#include "espalier/optimizer.h"
#include "espalier/regularizer.h"
#include "output/progress.h"
#include "output/run_folder.h"
#include "recipe/recipe.h"
#include "schedule.h"
#include "train/data_pipeline.h"

namespace espalier {

// The device of "auto", "cpu" or "cuda". Throws Error where there is no such device.
at::Device choose_device(const std::string& name);

struct TrainerOptions {
  std::filesystem::path out;  // the run folder, made
  DataPaths data;
  bool quiet = false;
};

// Carries out a recipe: its stages one after the other, each with its data, optimizers, regularizers, controller and
// schedule.
class Trainer final : public Run {
 public:
  Trainer(const Recipe& recipe, const TrainerOptions& options);
  ~Trainer() override;

  // Trains and writes the run folder. Returns what summary.json holds; where it throws, summary.json says so.
  Value run();

  // ---- Run, for controllers ----
  const Graph& graph() const override { return graph_; }
  Weights& weights() override { return *weights_; }
  const std::string& stage() const override { return stage_->name; }
  int64_t epochs() const override { return stage_->epochs; }
  int64_t epoch() const override { return epoch_; }
  int64_t step() const override { return step_; }
  RandomKey key() const override;
  void edit(const Edit& edit) override;
  void follow(const std::shared_ptr<Weights>& weights) override;
  void train_step(const Batch& batch) override;
  void add_gradients(const Batch& batch, Weights& weights) override;
  void add_regularizers(Weights& weights) override;
  void update(Weights& weights) override;
  Evaluation evaluate(std::string_view part) override;
  void metric(const std::string& name, double value) override { metrics_[name] = value; }
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
  static Made<T> make(const Value& spec);

  struct Counts {
    int64_t params = 0;
    int64_t macs = 0;
  };
  Counts counts() const { return {graph_.parameter_count(), graph_.macs()}; }
  Value counts_value() const;

  Value carry_out();
  void save_last();
  void load_data(const DataSection& data);
  void build_network(const Value& spec, const std::string& purpose);
  void begin_stage(size_t index);
  void attach();
  void train_epoch();
  void finish_epoch(double seconds);
  void run_stage(size_t index);
  void evaluate_now();
  void restore_best();
  at::Tensor logits(const Batch& batch) const;
  Evaluation evaluate_pipeline(DataPipeline& pipeline) const;
  Value summary(double seconds) const;
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
  Augmentation augmentation_;

  Graph graph_;
  Graph first_;  // as first built
  std::unique_ptr<Weights> weights_;
  std::vector<std::weak_ptr<Weights>> followers_;

  const StageSection* stage_ = nullptr;
  size_t stage_index_ = 0;
  int64_t epoch_ = 0;
  int64_t step_ = 0;
  int64_t epochs_done_ = 0;  // of the run
  int64_t steps_done_ = 0;
  int64_t steps_total_ = 0;
  std::vector<Made<Optimizer>> optimizers_;
  std::vector<Made<Regularizer>> regularizers_;
  Made<Controller> controller_;
  std::unique_ptr<Schedule> schedule_;
  double lr_factor_ = 1;

  at::Tensor loss_sum_, correct_, penalty_;  // of the epoch, on the device
  int64_t images_ = 0;
  Value metrics_ = Value::map();
  Evaluation test_result_;
  double best_accuracy_ = -1;   // test accuracy, over the run
  double best_selection_ = -1;  // validation or test accuracy, in the stage: selects the best checkpoint
  double macs_sum_ = 0;         // over epochs
  double base_macs_ = 0;
  bool stale_ = true;  // the network changed since test_result_
  Value stages_ = Value::list();
};

}  // namespace espalier
