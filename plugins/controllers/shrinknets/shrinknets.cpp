#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/sign.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/foresight.h>
#include <espalier/groups.h>
#include <espalier/operation.h>
#include <espalier/plugin.h>
#include <espalier/random_fill.h>

#include "kill.h"

namespace espalier {

namespace {

constexpr const char* mean_state = "shrinknets.mean";          // of the signs of a switch
constexpr const char* variance_state = "shrinknets.variance";  // of them
constexpr const char* alive_state = "shrinknets.alive";        // 1, or 0 of what is killed and not yet collected
constexpr const char* input_view = "inputs";                   // the view of the input that loses dead inputs
constexpr const char* suffix = ".switch";

// The node behind which the switch of a layer stands: its batch norm if that alone reads the layer, else itself.
const Node& place_of(const Graph& graph, const Node& layer) {
  const Edge out = layer.outputs.front();
  const Node* reader = nullptr;
  for (const Node& n : graph.nodes()) {
    const auto reads = std::ranges::count(n.inputs, out);
    if (reads == 0) continue;
    if (reader || reads > 1) return layer;
    reader = &n;
  }
  return reader && reader->op->type() == "batch_norm" ? *reader : layer;
}

bool is_output(const Graph& graph, Edge e) {
  return std::ranges::any_of(graph.outputs(), [&](const Port& p) { return p.edge == e; });
}

}  // namespace

// ShrinkNets (paper 002): every neuron is multiplied by a switch that is trained with the weights, under an l1 penalty
// of the switches (a regularizer `l1` with `on: gates`). A neuron whose switch is killed goes, from the network and
// from everything that follows it, while training goes on; at the end the switches become part of the layers.
class ShrinkNets final : public Controller, public Foresight {
 public:
  struct Options {
    Selector on;
    bool inputs = false;
    std::string switch_ = "linear";
    std::string init = "uniform";
    std::string kill = "sign_variance";
    double gamma = 0.99;
    double variance = 0.5;
    std::string first_mean = "sign";
    double tau = 1e-3;
    int64_t every = 1;
    std::string unit = "epochs";
    int64_t min_units = 1;
    bool fold = true;

    static void declare(Declare<Options>& p) {
      p("on", &Options::on,
        "Layers whose filters and units get switches. Left out: all layers but the last whose width no other layer "
        "makes.");
      p("inputs", &Options::inputs,
        "Whether the inputs of the network get switches, too: for regression, where a linear network has no other.");
      p("switch", &Options::switch_, one_of({"linear", "relu"}),
        "What a neuron is multiplied by; relu: by the switch's positive part, so that a switch at zero or below is "
        "dead "
        "at once, as in the earlier version of the method.");
      p("init", &Options::init, one_of({"uniform", "normal", "one"}),
        "Initial switches; uniform: between -1 and 1 (of relu between 0 and 1); normal: with standard deviation 1.");
      p("kill", &Options::kill, one_of({"sign_variance", "random_variance", "sign_change", "threshold", "none"}),
        "When a switch is killed; sign_variance: if the running variance of its sign is above `variance`; "
        "random_variance: likewise, and before that each step silences a switch whose variance is above a number that "
        "the step draws between 0 and `variance`, so that the network learns to do without; sign_change: at the "
        "first change of its sign; threshold: if its size is below `tau` when neurons are collected; none: never.");
      p("gamma", &Options::gamma, at_least(0), below(1),
        "Share of the running mean and variance of signs that stays in a step. A sign that changes for good kills "
        "after "
        "about 1.6 / (1 - gamma) steps.");
      p("variance", &Options::variance, above(0), "Variance of the sign above which a switch is killed.");
      p("first_mean", &Options::first_mean, one_of({"sign", "one"}),
        "Mean of the signs before the first step; sign: the sign of each switch; one: 1, so that a switch which begins "
        "below zero counts as changed, as in the authors' program of figure 2.");
      p("tau", &Options::tau, at_least(0), "Size of a switch below which the rule `threshold` kills it.");
      p("every", &Options::every, at_least(0),
        "Number of epochs or steps between two collections of dead neurons; 0: they stay, multiplied by zero.");
      p("unit", &Options::unit, one_of({"epochs", "steps"}), "What `every` counts.");
      p("min_units", &Options::min_units, at_least(1), "Filters or units that each layer keeps in any case.");
      p("fold", &Options::fold,
        "Whether the switches become part of the layers when the stage ends, which changes no output.");
    }
  };
  explicit ShrinkNets(Options o) : o_(std::move(o)), rule_{rule_of(o_.kill), o_.gamma, o_.variance} {
    if (o_.switch_ == "relu") {
      if (o_.kill != Options().kill && o_.kill != "sign_change")
        throw Error("a relu switch is dead once it is not positive: leave out 'kill', which is '" + o_.kill + "'");
      rule_.kind = Kill::not_positive;
    }
  }

  Edits begin(const Graph& graph) const override {
    Edits edits;
    if (o_.inputs) {
      const std::vector<std::string> readers = readers_of_input(graph);
      for (const std::string& node : readers) {
        const std::string view = readers.size() == 1 ? std::string(input_view) : input_view + ("." + node);
        edits.push_back({SplitOff{.node = node, .input = 0, .view = view}});
        edits.push_back({InsertGate{
            .gate = view + suffix, .edge = view, .axis = "", .initial = 1, .role = "weight", .readers = {}}});
      }
    }
    for (const std::string& layer : layers(graph)) {
      const Node& place = place_of(graph, graph.node(layer));
      edits.push_back({InsertGate{.gate = layer + suffix,
                                  .edge = graph[place.outputs.front()].name,
                                  .axis = "",
                                  .initial = 1,
                                  .role = "weight",
                                  .readers = {}}});
    }
    return edits;
  }

  void check(const Graph& graph) const override {
    if (switches(graph).empty()) {
      throw Error(
          "there is nothing to switch off: the network has no layer but the last whose width no other layer makes. Of "
          "a linear network the inputs can be: `inputs: true`");
    }
  }

  std::vector<std::string> idle(const Graph&, int64_t epochs) const override {
    std::vector<std::string> lines;
    if (o_.every > epochs && o_.unit == "epochs") {
      lines.push_back("'every' is " + std::to_string(o_.every) + " epochs, and the stage has " +
                      std::to_string(epochs) + ": neurons go at the end of the stage alone");
    }
    if (o_.kill != "threshold" && o_.tau != Options().tau)
      lines.push_back("'tau' is without effect where 'kill' is " + o_.kill);
    return lines;
  }

  void stage_begin(Run& run) override {
    check(run.graph());
    add_states(run);
    const c10::NoGradGuard no_grad;
    for (const GateInfo& g : switches(run.graph())) {
      at::Tensor value = run.weights()[g.parameter];
      const RandomKey key = run.key().with("shrinknets").with(run.graph()[g.parameter].name);
      const bool relu = o_.switch_ == "relu";
      if (o_.init == "uniform") value.copy_(uniform(value.sizes().vec(), relu ? 0 : -1, 1, key));
      if (o_.init == "normal") value.copy_(normal(value.sizes().vec(), 1, key));
      if (relu) value.abs_();
      at::Tensor mean = run.weights().state(mean_state, g.parameter);
      if (o_.first_mean == "one") {
        mean.fill_(1);
      } else {
        mean.copy_(value.sign());
      }
    }
    begun_ = neurons(run.graph());
    record(run);
  }
  Value save() const override { return Value::map({{"cost", cost_}, {"begun", begun_}}); }
  void resume(Run& run, const Value& saved) override {
    add_states(run);
    cost_ = saved.at("cost").as_double();
    begun_ = saved.at("begun").as_int();
  }

  void step(Run& run, const Batch& batch) override {
    if (o_.kill != "random_variance") return run.train_step(batch);
    // A silent switch is out of the pass: its neuron gives 0 and learns nothing, and the switch feels the penalty
    // alone.
    Weights& w = run.weights();
    w.zero_gradients();
    std::vector<at::Tensor> sounding, kept;
    {
      const c10::NoGradGuard no_grad;
      for (const GateInfo& g : gates(run)) {
        const RandomKey key = run.key().with("shrinknets.silence").with(static_cast<uint64_t>(g.parameter.id));
        at::Tensor value = w[g.parameter].detach();
        const at::Tensor noise = uniform(value.sizes().vec(), 0, o_.variance, key).to(value.options());
        sounding.push_back(noise.ge(w.state(variance_state, g.parameter)).to(value.scalar_type()));
        kept.push_back(value.clone());
        value.mul_(sounding.back());
      }
      w.bank(Role::weight).values.touch();
    }
    run.add_gradients(batch, w);
    {
      const c10::NoGradGuard no_grad;
      for (size_t i = 0; i < kept.size(); ++i) {
        w[gates_[i].parameter].detach().copy_(kept[i]);
        at::Tensor gradient = w.gradient(gates_[i].parameter).detach();
        gradient.mul_(sounding[i]);
      }
      w.bank(Role::weight).values.touch();
      w.bank(Role::weight).gradients.touch();
    }
    run.add_regularizers(w);
    run.update(w);
  }

  void step_end(Run& run) override {
    const c10::NoGradGuard no_grad;
    gates(run);
    Weights& w = run.weights();
    int64_t alive = 0;
    for (const GateInfo& g : gates_) {
      alive += update(w, g.parameter);
    }
    // On a GPU, which nothing waits for, the dead that are not collected yet count, too.
    cost_ += static_cast<double>(w.device().is_cuda() ? size_ : alive);
    w.bank(Role::weight).values.touch();
    if (o_.every > 0 && o_.unit == "steps" && (run.step() + 1) % o_.every == 0) collect(run);
  }

  void epoch_end(Run& run) override {
    if (o_.every > 0 && o_.unit == "epochs" && (run.epoch() + 1) % o_.every == 0) collect(run);
    record(run);
  }

  void stage_end(Run& run) override {
    collect(run);
    record(run);
    if (!o_.fold) return;
    Edits edits;
    for (const GateInfo& g : switches(run.graph()))
      edits.push_back({FoldGate{run.graph().nodes()[static_cast<size_t>(g.node)].name}});
    run.edit(edits);
  }

 private:
  static Kill rule_of(const std::string& name) {
    if (name == "sign_variance") return Kill::sign_variance;
    if (name == "random_variance") return Kill::sign_variance;
    if (name == "sign_change") return Kill::sign_change;
    return Kill::none;
  }

  // Names of the layers that get switches.
  std::vector<std::string> layers(const Graph& graph) const {
    std::vector<std::string> names;
    const std::vector<ParamId> selected = o_.on.match(graph);
    for (const Node& n : graph.nodes()) {
      if (n.parameters.empty() || graph[n.parameters.front()].kind != "weight") continue;
      const ParamId weight = n.parameters.front();
      const Dim& width = graph[weight].shape.front();
      if (std::ranges::find(selected, weight) == selected.end() || !width.has_axis()) continue;
      const std::vector<Axis> axes = filter_axes(graph, Selector(graph[weight].name.c_str()));
      const bool own = axes.size() == 1 && graph.producers(axes.front()).size() == 1;
      if (!own || is_output(graph, place_of(graph, n).outputs.front())) {
        if (!o_.on.empty() && !own)
          throw Error("'on' names '" + n.name + "', whose width other layers make, too: its filters cannot go alone");
        continue;
      }
      names.push_back(n.name);
    }
    return names;
  }

  static std::vector<std::string> readers_of_input(const Graph& graph) {
    std::vector<std::string> names;
    Edge input;
    for (const Port& p : graph.inputs()) {
      if (p.name == "input") input = p.edge;
    }
    for (const Node& n : graph.nodes()) {
      if (n.inputs.empty() || n.inputs.front() != input) continue;
      if (n.op->type() != "linear")
        throw Error("'inputs' is for networks whose first layers are linear, and '" + n.name + "' reads the input");
      names.push_back(n.name);
    }
    return names;
  }

  // Those that this controller put in, which lie along one axis.
  static std::vector<GateInfo> switches(const Graph& graph) {
    std::vector<GateInfo> gates = graph.gates();
    std::erase_if(gates, [&](const GateInfo& g) {
      return g.axis.id < 0 || !graph.nodes()[static_cast<size_t>(g.node)].name.ends_with(suffix);
    });
    return gates;
  }

  // The same, without looking for them in each step.
  const std::vector<GateInfo>& gates(Run& run) {
    if (gates_of_ != run.weights().generation() || gates_.empty()) {
      gates_ = switches(run.graph());
      gates_of_ = run.weights().generation();
      size_ = neurons(run.graph());
    }
    return gates_;
  }

  // How many neurons (or inputs) live.
  static int64_t neurons(const Graph& graph) {
    int64_t count = 0;
    for (const GateInfo& g : switches(graph)) count += graph[g.axis].size;
    return count;
  }

  static void add_states(Run& run) {
    // Of the switches alone; other parameters have none.
    const auto of_switches = [](const Parameter& p) { return p.kind == "gate" ? p.shape : Shape{}; };
    run.weights().add_state(run.graph(), {.name = mean_state, .shape = of_switches, .initial = 0});
    run.weights().add_state(run.graph(), {.name = variance_state, .shape = of_switches, .initial = 0});
    run.weights().add_state(run.graph(), {.name = alive_state, .shape = of_switches, .initial = 1});
  }

  // Returns how many switches live, on the CPU.
  int64_t update(Weights& w, ParamId p) {
    at::Tensor value = w[p].detach();
    at::Tensor mean = w.state(mean_state, p), variance = w.state(variance_state, p), alive = w.state(alive_state, p);
    if (value.is_cpu()) {
      return value.scalar_type() == at::kDouble ? pass<double>(value, mean, variance, alive)
                                                : pass<float>(value, mean, variance, alive);
    }
    // The same, on a GPU.
    const at::Tensor s = value.sign();
    const at::Tensor before = mean.clone();
    variance.mul_(o_.gamma).add_((s - before).square(), 1 - o_.gamma);
    mean.mul_(o_.gamma).add_(s, 1 - o_.gamma);
    at::Tensor dead = at::zeros_like(value);
    if (rule_.kind == Kill::sign_variance) dead = variance.gt(o_.variance).to(value.scalar_type());
    if (rule_.kind == Kill::sign_change) {
      dead = (s * before).lt(0).to(value.scalar_type());
      mean.copy_(s);
    }
    if (rule_.kind == Kill::not_positive) dead = value.le(0).to(value.scalar_type());
    alive.mul_(1 - dead);
    value.mul_(alive);
    return 0;
  }

  template <class T>
  int64_t pass(at::Tensor& value, at::Tensor& mean, at::Tensor& variance, at::Tensor& alive) const {
    T* v = value.data_ptr<T>();
    T* m = mean.data_ptr<T>();
    T* s = variance.data_ptr<T>();
    T* a = alive.data_ptr<T>();
    int64_t living = 0;
    for (int64_t i = 0; i < value.numel(); ++i) {
      if (rule_.kills(v[i], m[i], s[i])) a[i] = 0;
      v[i] *= a[i];
      living += a[i] > 0;
    }
    return living;
  }

  // The dead go, all at once.
  void collect(Run& run) {
    const c10::NoGradGuard no_grad;
    const Graph& graph = run.graph();
    Weights& w = run.weights();
    std::map<Axis, std::vector<bool>> living;
    for (const GateInfo& g : switches(graph)) {
      const at::Tensor value = w[g.parameter].detach().to(at::kCPU, at::kDouble).flatten();
      const at::Tensor alive = w.state(alive_state, g.parameter).to(at::kCPU, at::kDouble).flatten();
      std::vector<bool>& axis = living[g.axis];
      axis.resize(static_cast<size_t>(value.numel()), false);
      for (int64_t i = 0; i < value.numel(); ++i) {
        const double v = value.const_data_ptr<double>()[i];
        const bool below = o_.kill == "threshold" && rule_.kind == Kill::none && std::abs(v) < o_.tau;
        if (alive.const_data_ptr<double>()[i] > 0 && !below) axis[static_cast<size_t>(i)] = true;
      }
    }
    Edits edits;
    for (auto& [axis, lives] : living) {
      keep_at_least(run, axis, lives);
      const Indices keep = indices_of(lives);
      if (keep.size() < lives.size()) edits.push_back(shrink(graph, axis, keep));
    }
    run.edit(edits);
  }

  // A layer that would be left with less keeps those whose switches are largest.
  void keep_at_least(Run& run, Axis axis, std::vector<bool>& lives) const {
    const auto least = std::min<int64_t>(o_.min_units, static_cast<int64_t>(lives.size()));
    while (std::ranges::count(lives, true) < least) {
      double largest = -1;
      size_t best = 0;
      for (const GateInfo& g : switches(run.graph())) {
        if (g.axis != axis) continue;
        const at::Tensor value = run.weights()[g.parameter].detach().to(at::kCPU, at::kDouble).flatten();
        for (size_t i = 0; i < lives.size(); ++i) {
          const double v = std::abs(value.const_data_ptr<double>()[i]);
          if (!lives[i] && v > largest) largest = v, best = i;
        }
      }
      lives[best] = true;
    }
  }

  void record(Run& run) {
    const Graph& graph = run.graph();
    int64_t alive = 0;
    for (const GateInfo& g : switches(graph))
      alive += std::llround(run.weights().state(alive_state, g.parameter).sum().item<double>());
    run.metric("neurons", static_cast<double>(neurons(graph)));
    run.metric("alive", static_cast<double>(alive));
    // What the living have cost: the sum of their number over the steps (002-M5).
    run.metric("neuron_steps", cost_);
    int64_t of_switches = 0;
    for (const GateInfo& g : switches(graph)) of_switches += graph.numel(graph[g.parameter].shape);
    run.metric("params_without_switches", static_cast<double>(graph.parameter_count() - of_switches));
  }

  Options o_;
  KillRule rule_;
  double cost_ = 0;
  int64_t begun_ = 0;  // neurons at the stage's beginning
  std::vector<GateInfo> gates_;
  uint64_t gates_of_ = ~uint64_t{0};  // the generation of the weights that gates_ belong to
  int64_t size_ = 0;                  // neurons of it
};

ESPALIER_PLUGIN("shrinknets", "1.0.0",
                component<ShrinkNets>("shrinknets", "switches on neurons, which leave while training goes on"));

}  // namespace espalier
