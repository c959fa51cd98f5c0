// What holds for every controller, in short runs on small networks.
#include "espalier/controller.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <c10/core/GradMode.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/execute.h"
#include "espalier/optimizer.h"
#include "espalier/testkit.h"

namespace espalier {

namespace {

constexpr int64_t epochs = 2, steps = 3, samples_drawn = 6, classes = 3;
constexpr double step_size = 0.05;

// A run on random data. What the controller needs of an optimizer comes from one that provides it; without any, steps
// are those of gradient descent.
class CheckRun final : public Run {
 public:
  CheckRun(Graph graph, const Registered& controller)
      : graph_(std::move(graph)), weights_(graph_, at::kDouble, at::kCPU) {
    for (const Need& need : controller.component.needs) {
      for (const Registered* r : Registry::instance().all()) {
        const auto& provides = r->component.provides;
        if (r->component.kind != Optimizer::kind ||
            std::find(provides.begin(), provides.end(), need.what) == provides.end())
          continue;
        optimizers_.emplace_back(r->component.name, make_example<Optimizer>(*r));
        break;
      }
    }
    attach();
  }
  void begin() { fill(graph_, weights_); }

  const Graph& graph() const override { return graph_; }
  Weights& weights() override { return weights_; }
  const std::string& stage() const override { return stage_; }
  int64_t epochs() const override { return espalier::epochs; }
  void end_stage() override {}
  int64_t epoch() const override { return epoch_; }
  int64_t step() const override { return step_; }
  RandomKey key() const override {
    return RandomKey(4).with(static_cast<uint64_t>(epoch_)).with(static_cast<uint64_t>(step_));
  }
  void at(int64_t epoch, int64_t step) { epoch_ = epoch, step_ = step; }

  using Run::edit;
  void edit(const Edits& edits) override {
    const auto followed = followers();
    std::vector<Weights*> all{&weights_};
    for (const auto& [name, w] : followed) all.push_back(w.get());
    apply(graph_, all, edits);
    attach();
    edits_ += edits.size();
  }
  using Run::follow;
  void follow(const std::string& name, const std::shared_ptr<Weights>& weights, bool optimized) override {
    followers_[name] = {weights, optimized};
    attach();
  }
  void train_step(const Batch& batch) override {
    weights_.zero_gradients();
    add_gradients(batch, weights_, "loss");
    update(weights_, {Role::weight, Role::architecture});
  }
  using Run::add_gradients;
  void add_gradients(const Batch& batch, Weights& weights, const GradientPass& of) override {
    const Pass pass{.training = true, .key = key(), .statistics = of.statistics};
    if (of.loss != "loss") {
      espalier::run(graph_, weights, batch.inputs, {of.loss}, pass)[0].backward();
    } else {
      testkit::cross_entropy(graph_, weights, batch.input(), batch.target(), pass).backward();
    }
    if (of_turn_) of_turn_->backward_end(*this, weights);
  }
  void add_regularizers(Weights&) override {}
  using Run::update;
  void update(Weights& weights, const std::vector<Role>& roles) override {
    const c10::NoGradGuard no_grad;
    if (of_turn_) of_turn_->update_begin(*this, weights);
    for (const auto& [label, o] : optimizers_) o->step(weights, o->learning_rate());
    for (const Role role : roles) {
      const Bank& b = weights.bank(role);
      if (optimizers_.empty() && b.values.numel() > 0) at::Tensor(b.values.flat()).sub_(b.gradients.flat(), step_size);
    }
    if (of_turn_) of_turn_->update_end(*this, weights);
  }
  Batch draw(std::string_view part, int64_t n) override {
    const uint64_t seed = key().with(part).with(static_cast<uint64_t>(n)).value();
    return {.inputs = {{"input", testkit::input_of(graph_, samples_drawn, seed)}},
            .targets = {{"target", testkit::target_of(classes, samples_drawn, seed)}}};
  }
  using Run::evaluate;
  Evaluation evaluate(std::string_view part, const Weights& weights) override {
    const c10::NoGradGuard no_grad;
    const uint64_t seed = RandomKey(4).with(part).value();
    const at::Tensor target = testkit::target_of(classes, samples_drawn, seed);
    const at::Tensor logits =
        espalier::run(graph_, weights, {{"input", testkit::input_of(graph_, samples_drawn, seed)}}, {"logits"})[0];
    const double accuracy = 100 * logits.argmax(-1).eq(target).to(at::kDouble).mean().item<double>();
    return {.loss = at::cross_entropy_loss(logits, target).item<double>(),
            .metrics = {{"accuracy", accuracy}},
            .score = accuracy};
  }
  at::Tensor loss(const Batch& batch, const Observer& observe) override {
    const at::Tensor logits = espalier::run(graph_, weights_, batch.inputs, {"logits"}, {}, observe)[0];
    return at::cross_entropy_loss(logits, batch.target());
  }
  double learning_rate(ParamId) const override { return step_size; }
  int64_t batch_size() const override { return samples_drawn; }
  bool clipped() const override { return false; }
  void publish(const std::string& name, const Artefact& artefact) override {
    artefacts_[stage_ + "." + name] = artefact;
  }
  const Artefact& artefact(const std::string& name) const override {
    const auto found = artefacts_.find(name);
    if (found == artefacts_.end()) throw Error("no stage published '" + name + "'");
    return found->second;
  }
  Value derive() const override { return Value::map(); }
  void metric(const std::string& name, double value) override { metrics_[name] = value; }
  void record(const std::string&, const NamedTensors&) override {}
  void note(const std::string&) override {}

  // Calls `body`, a step of the controller, which is told of the parts of it.
  template <class Body>
  void in_step(Controller& c, const Body& body) {
    of_turn_ = &c;
    body();
    of_turn_ = nullptr;
  }
  void evaluate_around(Controller& c) {
    c.evaluation_begin(*this);
    evaluate("test");
    c.evaluation_end(*this);
  }
  std::vector<at::Tensor> copy_of_values() const {
    std::vector<at::Tensor> all;
    for (const Role role : {Role::weight, Role::architecture, Role::buffer})
      all.push_back(weights_.bank(role).values.flat().clone());
    return all;
  }
  void expect_values(const std::vector<at::Tensor>& wanted, const std::string& what) const {
    const std::vector<at::Tensor> now = copy_of_values();
    for (size_t i = 0; i < now.size(); ++i) expect(now[i].equal(wanted[i]), "the same values " + what, "others");
  }

  size_t edits() const { return edits_; }
  const std::map<std::string, double>& metrics() const { return metrics_; }
  std::map<std::string, std::shared_ptr<Weights>> followers() const {
    std::map<std::string, std::shared_ptr<Weights>> alive;
    for (const auto& [name, f] : followers_) {
      if (auto w = f.weights.lock()) alive.emplace(name, std::move(w));
    }
    return alive;
  }
  // What a checkpoint of the other run holds.
  void restore(const CheckRun& other) {
    copy_all(other.weights_, weights_, "resume()");
    const auto mine = followers();
    for (const auto& [name, w] : other.followers()) {
      expect(mine.contains(name), "resume() follows the Weights '" + name + "', as stage_begin() did", "it does not");
      copy_all(*w, *mine.at(name), "resume()");
    }
  }
  void expect_same_as(const CheckRun& other, const std::string& what) const {
    expect(to_json(graph_.to_value()) == to_json(other.graph_.to_value()), "the same structure " + what, "another");
    expect_same(what, graph_, other.weights_, weights_);
    const auto mine = followers();
    for (const auto& [name, w] : other.followers()) {
      expect(mine.contains(name), "the followed Weights '" + name + "' " + what, "none");
      expect_same(what + ", '" + name + "'", graph_, *w, *mine.at(name));
    }
    for (const auto& [name, value] : other.metrics_) {
      const auto found = metrics_.find(name);
      expect(found != metrics_.end() && found->second == value,
             "the metric '" + name + "' " + what + ": " + std::to_string(value),
             found == metrics_.end() ? "none" : std::to_string(found->second));
    }
  }

 private:
  struct Follower {
    std::weak_ptr<Weights> weights;
    bool optimized = false;
  };
  void attach() {
    for (const auto& [label, o] : optimizers_) {
      o->attach(graph_, weights_, {}, label);
      for (const auto& [name, f] : followers_) {
        if (const auto w = f.weights.lock(); w && f.optimized) o->attach(graph_, *w, {}, label);
      }
    }
  }

  Graph graph_;
  Weights weights_;
  std::vector<std::pair<std::string, std::unique_ptr<Optimizer>>> optimizers_;
  std::map<std::string, Follower> followers_;
  std::map<std::string, double> metrics_;
  std::map<std::string, Artefact> artefacts_;
  std::string stage_ = "check";
  int64_t epoch_ = 0, step_ = 0;
  size_t edits_ = 0;
  Controller* of_turn_ = nullptr;  // whose step is under way
};

// A stage from the end of `done` of its steps on; after each step, `between` is told how many are done.
void go_on(Controller& c, CheckRun& run, int64_t done, const std::function<void(int64_t done)>& between = {}) {
  while (done < epochs * steps) {
    const int64_t epoch = done / steps, step = done % steps;
    run.at(epoch, step);
    if (step == 0) c.epoch_begin(run);
    run.in_step(c, [&] { c.step(run, run.draw("train", 0)); });
    c.step_end(run);
    ++done;
    if (between) between(done);
    if (step + 1 < steps) continue;
    run.evaluate_around(c);
    c.epoch_end(run);
  }
  c.stage_end(run);
}

void one_stage(Controller& c, CheckRun& run, const std::function<void(int64_t done)>& between = {}) {
  run.edit(c.begin(run.graph()));
  run.begin();
  c.stage_begin(run);
  go_on(c, run, 0, between);
}

// The first network that it can work on.
Graph graph_for(const Registered& r) {
  std::string why;
  for (const SampleNetwork& s : sample_networks()) {
    CheckRun run(s.build(), r);
    try {
      one_stage(*make_example<Controller>(r), run);
      return s.build();
    } catch (const std::exception& e) {
      if (why.empty()) why = s.name + ": " + e.what();
    }
  }
  if (!r.component.needs.empty())
    throw CheckSkipped("it needs " + r.component.needs.front().what + " of its stage, and on " + why);
  // A file's name, say, of which there is no example.
  for (const ParameterInfo& p : r.component.parameters) {
    if (p.required && (p.type == ParameterType::string || p.type == ParameterType::path))
      throw CheckSkipped("it needs a '" + p.name + "' that cannot be made up, and on " + why);
  }
  throw CheckFailure("a short run on one of the networks that are tried", "an error on " + why);
}

std::string check_run(const Registered& r) {
  CheckRun run(graph_for(r), r);
  one_stage(*make_example<Controller>(r), run);
  const Graph& g = run.graph();
  const std::string text = to_json(g.to_value());
  expect(to_json(Graph::from_value(from_json(text)).to_value()) == text,
         "a graph that is the same after writing and reading it", "another");
  for (size_t i = 0; i < g.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    expect(run.weights()[p].sizes().vec() == g.sizes(g[p].shape),
           "'" + g[p].name + "' of " + to_string(g.sizes(g[p].shape)), to_string(run.weights()[p].sizes().vec()));
    expect_finite("'" + g[p].name + "'", run.weights()[p]);
  }
  const Evaluation e = run.evaluate("test");
  expect(std::isfinite(e.loss), "a finite loss in the end", std::to_string(e.loss));
  return std::to_string(run.edits()) + (run.edits() == 1 ? " edit" : " edits");
}

std::string check_deterministic(const Registered& r) {
  const Graph g = graph_for(r);
  CheckRun a(g, r), b(g, r);
  // Followed Weights live as long as their controllers.
  const auto first = make_example<Controller>(r), second = make_example<Controller>(r);
  one_stage(*first, a);
  one_stage(*second, b);
  b.expect_same_as(a, "in a second run");
  return {};
}

std::string check_resume(const Registered& r) {
  const Graph graph = graph_for(r);
  // After each step there may be a checkpoint, in the middle of an epoch, too.
  for (int64_t stop = 1; stop <= epochs * steps; ++stop) {
    CheckRun whole(graph, r);
    const auto before = make_example<Controller>(r);
    const auto after = make_example<Controller>(r);
    std::unique_ptr<CheckRun> resumed;
    bool ends_epoch = false;
    one_stage(*before, whole, [&](int64_t done) {
      if (done != stop) return;
      // As a continuation does: values are set when resume() has registered what they belong to.
      resumed = std::make_unique<CheckRun>(whole.graph(), r);
      resumed->at((done - 1) / steps, (done - 1) % steps);
      const Value saved = before->save();
      after->resume(*resumed, saved.is_null() ? saved : from_json(to_json(saved)));
      resumed->restore(whole);
      ends_epoch = done % steps == 0;
    });
    if (ends_epoch) {
      resumed->evaluate_around(*after);
      after->epoch_end(*resumed);
    }
    go_on(*after, *resumed, stop);
    // A metric of an epoch before is not given again.
    for (const auto& [name, value] : whole.metrics()) {
      if (!resumed->metrics().contains(name)) resumed->metric(name, value);
    }
    resumed->expect_same_as(whole, "when a new controller goes on with save() after step " +
                                       std::to_string((stop - 1) % steps + 1) + " of " + std::to_string(steps) +
                                       " of epoch " + std::to_string((stop - 1) / steps + 1));
  }
  return {};
}

std::string check_evaluation(const Registered& r) {
  CheckRun run(graph_for(r), r);
  const auto c = make_example<Controller>(r);
  one_stage(*c, run, [&](int64_t) {
    const auto kept = run.copy_of_values();
    run.evaluate_around(*c);
    run.expect_values(kept, "after evaluation_end() as before evaluation_begin()");
  });
  return {};
}

}  // namespace

std::vector<Check> controller_checks() {
  const std::string kind = Controller::kind;
  return {
      {kind, "run", "two epochs of three steps; what it leaves is consistent and finite", check_run},
      {kind, "deterministic", "a second run gives the same bytes", check_deterministic},
      {kind, "resume", "after each step a new object goes on with what save() gave, to the same bytes", check_resume},
      {kind, "evaluation", "what it does around evaluations leaves no trace in the values", check_evaluation}};
}

}  // namespace espalier
