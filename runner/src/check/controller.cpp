// What holds for every controller, in short runs on small networks.
#include "espalier/controller.h"

#include <algorithm>
#include <cmath>
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
  void add_gradients(const Batch& batch, Weights& weights, std::string_view loss) override {
    const Pass pass{.training = true, .key = key()};
    if (loss != "loss") return espalier::run(graph_, weights, batch.inputs, {loss}, pass)[0].backward();
    testkit::cross_entropy(graph_, weights, batch.input(), batch.target(), pass).backward();
  }
  void add_regularizers(Weights&) override {}
  using Run::update;
  void update(Weights& weights, const std::vector<Role>& roles) override {
    const c10::NoGradGuard no_grad;
    for (const auto& [label, o] : optimizers_) o->step(weights, o->learning_rate());
    if (!optimizers_.empty()) return;
    for (const Role role : roles) {
      const Bank& b = weights.bank(role);
      if (b.values.numel() > 0) at::Tensor(b.values.flat()).sub_(b.gradients.flat(), step_size);
    }
  }
  Batch draw(std::string_view part, int64_t n) override {
    const uint64_t seed = key().with(part).with(static_cast<uint64_t>(n)).value();
    return {.inputs = {{"input", testkit::input_of(graph_, samples_drawn, seed)}},
            .targets = {{"target", testkit::target_of(classes, samples_drawn, seed)}}};
  }
  Evaluation evaluate(std::string_view part) override {
    const c10::NoGradGuard no_grad;
    const uint64_t seed = RandomKey(4).with(part).value();
    const at::Tensor target = testkit::target_of(classes, samples_drawn, seed);
    const at::Tensor logits =
        espalier::run(graph_, weights_, {{"input", testkit::input_of(graph_, samples_drawn, seed)}}, {"logits"})[0];
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
};

void one_epoch(Controller& c, CheckRun& run, int64_t epoch) {
  run.at(epoch, 0);
  c.epoch_begin(run);
  for (int64_t s = 0; s < steps; ++s) {
    run.at(epoch, s);
    c.step(run, run.draw("train", 0));
    c.step_end(run);
  }
  c.epoch_end(run);
}

// A whole stage; after the first epoch, `between` is called.
template <class Between>
void one_stage(Controller& c, CheckRun& run, Between between) {
  run.edit(c.begin(run.graph()));
  run.begin();
  c.stage_begin(run);
  one_epoch(c, run, 0);
  between();
  for (int64_t e = 1; e < epochs; ++e) one_epoch(c, run, e);
  c.stage_end(run);
}

void one_stage(Controller& c, CheckRun& run) {
  one_stage(c, run, [] {});
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
  CheckRun whole(graph_for(r), r);
  const auto before = make_example<Controller>(r);
  const auto after = make_example<Controller>(r);
  std::unique_ptr<CheckRun> resumed;
  one_stage(*before, whole, [&] {
    // As a continuation does: values are set when resume() has registered what they belong to.
    resumed = std::make_unique<CheckRun>(whole.graph(), r);
    resumed->at(0, steps - 1);
    const Value saved = before->save();
    after->resume(*resumed, saved.is_null() ? saved : from_json(to_json(saved)));
    resumed->restore(whole);
  });
  for (int64_t e = 1; e < epochs; ++e) one_epoch(*after, *resumed, e);
  after->stage_end(*resumed);
  // A metric of the first epoch is not given again.
  for (const auto& [name, value] : whole.metrics()) {
    if (!resumed->metrics().contains(name)) resumed->metric(name, value);
  }
  resumed->expect_same_as(whole, "when a new controller goes on with save() after the first epoch");
  return {};
}

}  // namespace

std::vector<Check> controller_checks() {
  const std::string kind = Controller::kind;
  return {
      {kind, "run", "two epochs of three steps; what it leaves is consistent and finite", check_run},
      {kind, "deterministic", "a second run gives the same bytes", check_deterministic},
      {kind, "resume", "a new object goes on after resume() with what save() gave, to the same bytes", check_resume}};
}

}  // namespace espalier
