#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/api.h"
#include "espalier/backbone.h"
#include "espalier/controller.h"
#include "espalier/operation.h"
#include "espalier/optimizer.h"
#include "espalier/registry.h"
#include "espalier/regularizer.h"
#include "espalier/run.h"
#include "espalier/weights.h"

// What tests of plugins use, also of plugins outside of this tree.
namespace espalier::testkit {

// Loads a plugin and registers its components. A second call does nothing. Throws if it cannot be loaded.
ESPALIER_API void load_plugin(const std::filesystem::path& library);
// Returns the folder of the plugins that belong to the libespalier in use, which a test may load beside its own:
// load_plugin(plugins_folder() / "libsgd.so").
ESPALIER_API std::filesystem::path plugins_folder();
// Runs the program `espalier` that belongs to the libespalier in use, and returns what it printed. Throws Error with
// that text if the exit status is not 0. In a test of an author's, it checks and trains what needs the whole program;
// {"check", "--strict", library} also compares the exported forms of an operation with the operation.
ESPALIER_API std::string run_espalier(const std::vector<std::string>& arguments);

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

// Returns the largest difference between the gradient that a regularizer adds and the one that autograd finds for
// `penalty`, relative to the largest gradient; or the difference of the two values, relative to the value, if that is
// larger. It tells a gradient by hand from the formula of a paper, written with tensors. The weights must be float64.
ESPALIER_API double autograd_error(Regularizer& regularizer, const Graph& graph, Weights& weights,
                                   const std::function<at::Tensor(const Graph&, const Weights&)>& penalty);

// An optimizer and what it is compared with.
struct OptimizerTrial {
  std::string spec;         // as a recipe names it: {"use": "sgd", "lr": 0.1}
  std::string torch;        // an expression in Python over the list of parameters `p`: "torch.optim.SGD(p, lr=0.1)"
  std::string python = {};  // code that runs before it, such as a class of an optimizer that PyTorch does not have
  int64_t steps = 100;
};

// Where the two end.
struct OptimizerComparison {
  std::map<std::string, double> differences;  // the largest of each parameter, by name
  std::map<std::string, double> moved;        // how far the parameter has gone from its start at most
  Graph graph;
  std::unique_ptr<Weights> weights;  // after our steps
  Value report;  // what report(parameters by name) of the optimizer in Python returns, if it has one
};

// Trains small_network() on the same 16 samples, from the same values, in float64: here, and in Python with PyTorch
// (run_python() says which Python). The bias of "conv" has a batch norm behind it and so a gradient of rounding alone.
ESPALIER_API OptimizerComparison compare_optimizer(const std::string& python, const OptimizerTrial& trial);
// Returns a network of a convolution "conv" with batch norm "bn" and a linear layer "fc": 2 x 6 x 6 pixels, 3 classes.
ESPALIER_API Graph small_network();

// A run for tests of controllers, in float64 on the CPU. Edits act on the graph and the weights. It has no data unless
// `batches` gives some or `classes` says that they may be made up, and steps change nothing unless it has an optimizer
// or a rate of `descent`. A test that trains:
//
//   testkit::TestRun run(network(), /*seed=*/1);
//   run.classes = 3, run.descent = 0.1;
//   run.train(*controller);
//   EXPECT_EQ(run.edits(), 2);
class ESPALIER_API TestRun : public Run {
 public:
  // Makes a run of a graph whose weights are initialized by the seed.
  TestRun(Graph graph, uint64_t seed);
  ~TestRun() override;
  // Returns how many edits there were.
  int64_t edits() const { return edits_; }
  // Returns the metrics that were given, by name.
  const std::map<std::string, double>& metrics() const { return metrics_; }
  int64_t at_epoch = 0,                                        // what epoch() returns
      of_epochs = 1,                                           // what epochs() returns
      at_step = 0,                                             // what step() returns
      of_steps = 1;                                            // the steps of an epoch in train()
  bool ended = false;                                          // whether end_stage() was called
  std::map<std::string, Evaluation, std::less<>> evaluations;  // what evaluate() gives of each part
  // What record() was told, by name.
  std::map<std::string, NamedTensors> records;
  std::vector<std::string> notes;             // what note() was told
  double rate = 0.1;                          // what learning_rate() gives of every parameter
  double descent = 0;                         // above 0: without optimizers, update() is gradient descent of this rate
  int64_t samples = 128;                      // what batch_size() gives
  int64_t classes = 0;                        // above 0: inputs and so many classes are made up where data are missing
  std::map<std::string, Artefact> artefacts;  // by STAGE.NAME; the stage is called "test"
  Value derived;                              // what derive() gives
  std::function<Batch(int64_t n)> batches;    // what draw() gives; null: there are no data

  // Adds an optimizer for all parameters, or a regularizer, as a recipe names it: {"use": "sgd", "lr": 0.1}. Throws
  // Error if no plugin that offers it was loaded.
  void optimize_with(const std::string& spec);
  void optimize_with(std::unique_ptr<Optimizer> optimizer, const std::string& label);
  void regularize_with(const std::string& spec);

  // Runs a stage of of_epochs epochs of of_steps steps with a controller, from begin() to stage_end(), and calls all
  // its functions in the order that controller.h gives. `between` is told after each step how many steps are done.
  void train(Controller& controller, const std::function<void(int64_t done)>& between = {});
  // Goes on with such a stage when so many of its steps are done, to its end: after Controller::resume().
  void go_on(Controller& controller, int64_t done, const std::function<void(int64_t done)>& between = {});
  // Does one step of a controller with a batch, with the hooks within it.
  void step_with(Controller& controller, const Batch& batch);
  // Evaluates the part "test" with the controller's hooks around it.
  void evaluate_around(Controller& controller);
  // Returns the other Weights that are followed and alive, by name; of several of one name, the first.
  std::map<std::string, std::shared_ptr<Weights>> followers() const;
  // Returns the values of the network.
  const Weights& values() const { return weights_; }

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
  void follow(const std::string& name, const std::shared_ptr<Weights>& weights, bool optimized) override;
  // Does nothing without an optimizer and without `descent`.
  void train_step(const Batch& batch) override;
  // Adds the gradients of the cross-entropy, or of an output of the graph.
  using Run::add_gradients;
  void add_gradients(const Batch& batch, Weights& weights, const GradientPass& pass) override;
  void add_regularizers(Weights& weights) override;
  using Run::update;
  void update(Weights& weights, const std::vector<Role>& roles) override;
  // Returns batches(n), or made-up data. Throws Error if there are none.
  Batch draw(std::string_view part, int64_t n) override;
  // Returns the cross-entropy.
  at::Tensor loss(const Batch& batch, const Observer& observe) override;
  using Run::evaluate;
  // Returns what `evaluations` has of the part, or else, if data may be made up, cross-entropy and accuracy of some, or
  // else nothing.
  Evaluation evaluate(std::string_view part, const Weights& weights) override;
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
  struct Follower {
    std::weak_ptr<Weights> weights;
    bool optimized = false;
  };
  void attach();
  Batch made_up(const RandomKey& key) const;

  Graph graph_;
  RandomKey key_;
  Weights weights_;
  std::multimap<std::string, Follower> followers_;  // by name; a test may follow several of one name
  std::vector<std::pair<std::string, std::unique_ptr<Optimizer>>> optimizers_;
  std::vector<std::unique_ptr<Regularizer>> regularizers_;
  std::string stage_ = "test";
  std::map<std::string, double> metrics_;
  int64_t edits_ = 0;
  Controller* of_step_ = nullptr;  // whose step is under way
};

// Runs a Python script and returns what it printed. Throws Error with what it printed if it fails. Tests of this
// project pass the macro ESPALIER_PYTHON, the Python that holds the same PyTorch, and skip if it is empty.
ESPALIER_API std::string run_python(const std::string& python, const std::string& script,
                                    const std::vector<std::string>& arguments = {});

}  // namespace espalier::testkit
