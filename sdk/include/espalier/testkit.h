#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/api.h"
#include "espalier/backbone.h"
#include "espalier/operation.h"
#include "espalier/registry.h"
#include "espalier/regularizer.h"
#include "espalier/run.h"
#include "espalier/weights.h"

// What tests of plugins use, also of plugins outside of this tree.
namespace espalier::testkit {

// Loads a plugin and registers its components. A second call does nothing. Throws if it cannot be loaded.
ESPALIER_API void load_plugin(const std::filesystem::path& library);

// Returns the graph of a backbone that is given as JSON, {"use": "lenet5"}, for this input and target.
ESPALIER_API Graph build(const std::string& spec, const InputSpec& input, const TargetSpec& target);

// Returns values for the graph's first input, on the CPU: [batch, ...], normally distributed, keyed by the seed.
ESPALIER_API at::Tensor input_of(const Graph& graph, int64_t batch, uint64_t seed, at::ScalarType dtype = at::kDouble);
// Returns class numbers, int64 [batch] on the CPU, keyed by the seed.
ESPALIER_API at::Tensor target_of(int64_t classes, int64_t batch, uint64_t seed);
// Returns the mean cross-entropy of the output "logits" against class numbers, with gradients. Other inputs than
// "input" come from input_of() with the batch's size.
ESPALIER_API at::Tensor cross_entropy(const Graph& graph, const Weights& weights, const at::Tensor& input,
                                      const at::Tensor& target, const Pass& pass = {});

// Returns the largest difference between the gradient that a regularizer adds and central differences of its value,
// relative to the largest gradient. The weights must be float64, and without zeros if the penalty has a kink there.
ESPALIER_API double gradient_error(Regularizer& regularizer, const Graph& graph, Weights& weights, double step = 1e-5);

// A run without training, for controllers: edits act on the graph and the weights (float64, on the CPU). There are no
// data unless `batches` gives some.
class ESPALIER_API TestRun final : public Run {
 public:
  // Makes a run of a graph whose weights are initialized by the seed.
  TestRun(Graph graph, uint64_t seed);
  // Returns how many edits there were.
  int64_t edits() const { return edits_; }
  // Returns the metrics that were given, by name.
  const std::map<std::string, double>& metrics() const { return metrics_; }
  int64_t at_epoch = 0,                                        // what epoch() returns
      of_epochs = 1,                                           // what epochs() returns
      at_step = 0;                                             // what step() returns
  bool ended = false;                                          // whether end_stage() was called
  std::map<std::string, Evaluation, std::less<>> evaluations;  // what evaluate() gives of each part; {} of others
  // What record() was told, by name.
  std::map<std::string, NamedTensors> records;
  std::vector<std::string> notes;             // what note() was told
  double rate = 0.1;                          // what learning_rate() gives of every parameter
  int64_t samples = 128;                      // what batch_size() gives
  std::map<std::string, Artefact> artefacts;  // by STAGE.NAME; the stage is called "test"
  Value derived;                              // what derive() gives
  std::function<Batch(int64_t n)> batches;    // what draw() gives; null: there are no data

  const Graph& graph() const override { return graph_; }
  Weights& weights() override { return weights_; }
  const std::string& stage() const override { return stage_; }
  int64_t epochs() const override { return of_epochs; }
  void end_stage() override { ended = true; }
  int64_t epoch() const override { return at_epoch; }
  int64_t step() const override { return at_step; }
  RandomKey key() const override {
    return key_.with(static_cast<uint64_t>(at_epoch)).with(static_cast<uint64_t>(at_step));
  }
  using Run::edit;
  void edit(const Edits& edits) override;
  using Run::follow;
  void follow(const std::string&, const std::shared_ptr<Weights>& weights, bool) override {
    followers_.push_back(weights);
  }
  void train_step(const Batch&) override {}
  // Adds the gradients of the cross-entropy, or of an output of the graph; there are no regularizers and no optimizers.
  using Run::add_gradients;
  void add_gradients(const Batch& batch, Weights& weights, const GradientPass& pass) override;
  void add_regularizers(Weights&) override {}
  using Run::update;
  void update(Weights&, const std::vector<Role>&) override {}
  // Returns batches(n). Throws Error if there are no data.
  Batch draw(std::string_view, int64_t n) override;
  // Returns the cross-entropy.
  at::Tensor loss(const Batch& batch, const Observer& observe) override;
  using Run::evaluate;
  Evaluation evaluate(std::string_view part, const Weights&) override {
    const auto it = evaluations.find(part);
    return it == evaluations.end() ? Evaluation{} : it->second;
  }
  double learning_rate(ParamId) const override { return rate; }
  int64_t batch_size() const override { return samples; }
  bool clipped() const override { return false; }
  void publish(const std::string& name, const Artefact& artefact) override {
    artefacts[stage_ + "." + name] = artefact;
  }
  const Artefact& artefact(const std::string& name) const override;
  Value derive() const override { return derived; }
  void metric(const std::string& name, double value) override { metrics_[name] = value; }
  void record(const std::string& name, const NamedTensors& tensors) override { records[name] = tensors; }
  void note(const std::string& text) override { notes.push_back(text); }

 private:
  Graph graph_;
  RandomKey key_;
  Weights weights_;
  std::vector<std::weak_ptr<Weights>> followers_;
  std::string stage_ = "test";
  std::map<std::string, double> metrics_;
  int64_t edits_ = 0;
};

// Runs a Python script and returns what it printed. Throws Error with what it printed if it fails. Tests of this
// project pass the macro ESPALIER_PYTHON, the Python that holds the same PyTorch, and skip if it is empty.
ESPALIER_API std::string run_python(const std::string& python, const std::string& script,
                                    const std::vector<std::string>& arguments = {});

}  // namespace espalier::testkit
