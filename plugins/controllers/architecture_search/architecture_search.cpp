// Searches of architectures by gradients: controllers that train the weights of a network and its architecture
// parameters on two parts of the data.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include <espalier/controller.h>
#include <espalier/error.h>
#include <espalier/foresight.h>
#include <espalier/own_step.h>
#include <espalier/per_selector.h>
#include <espalier/plugin.h>
#include <espalier/selector.h>

#include "channel_gates.h"

namespace espalier {

namespace {

constexpr const char* recipe_loss = "loss";
constexpr const char* why_validation =
    "architecture parameters learn from samples that the weights do not; write validation: 0.5 under data";

// For as long as it lives, passes through these Weights give the gradients of one role alone. Those of the weights are
// a third of a pass; those of coefficients are sums over the images of every operation.
class GradientsOf {
 public:
  GradientsOf(const Weights& weights, Role role)
      : weights_(weights), other_(role == Role::weight ? Role::architecture : Role::weight) {
    require(false);
  }
  GradientsOf(const GradientsOf&) = delete;
  GradientsOf& operator=(const GradientsOf&) = delete;
  ~GradientsOf() { require(true); }

 private:
  void require(bool gradients) const {
    for (const ParamId p : weights_.bank(other_).parameters) weights_[p].set_requires_grad(gradients);
  }
  const Weights& weights_;
  Role other_;
};

at::Tensor values_of(const Weights& weights, Role role) {
  return weights.bank(role).values.flat();
}
at::Tensor gradients_of(const Weights& weights, Role role) {
  return weights.bank(role).gradients.flat();
}

// Adds the gradients of one role.
void pass(Run& run, const Batch& batch, Weights& weights, const std::string& loss, Role role) {
  const GradientsOf only(weights, role);
  run.add_gradients(batch, weights, loss);
}

void clear(const Weights& weights, Role role) {
  if (weights.bank(role).gradients.numel() > 0) gradients_of(weights, role).zero_();
}

}  // namespace

// What the searches have in common.
struct SearchOptions {
  std::string train_loss = recipe_loss;
  std::string validation_loss = recipe_loss;
  Selector watch;
  Selector gates;
};

// Declares options of SearchOptions as those of a struct that derives from it.
template <class Options>
void declare_losses(Declare<Options>& p) {
  p("train_loss", static_cast<std::string Options::*>(&SearchOptions::train_loss),
    "Loss of the training part: the name of an output of the network that is a single number, or loss, that of the "
    "recipe.");
  p("validation_loss", static_cast<std::string Options::*>(&SearchOptions::validation_loss),
    "Loss of the validation part, named in the same way.");
}
template <class Options>
void declare_watch(Declare<Options>& p) {
  p("watch", static_cast<Selector Options::*>(&SearchOptions::watch),
    "Parameters whose values are metrics of every epoch: w, or alpha of architecture parameters; w.NAME if several are "
    "named, and w.0, w.1, ... if they have several numbers.");
}
template <class Options>
void declare_gates(Declare<Options>& p) {
  p("gates", static_cast<Selector Options::*>(&SearchOptions::gates),
    "Layers and batch norms whose channels get coefficients, which begin as 1 and are architecture parameters: a "
    "search "
    "of widths. A gate stands behind the batch norm and the activation function. Left out: no gates.");
}

class Search : public Controller, public OwnStep {
 public:
  Edits begin(const Graph& graph) const override { return channel_gates(graph, search_.gates); }
  void check(const Graph& graph) const override {
    const auto is_architecture = [](const Parameter& p) { return p.role == Role::architecture; };
    if (std::ranges::none_of(graph.parameters(), is_architecture)) {
      throw Error(
          "there is nothing to search: the network has no architecture parameters. Search networks have them "
          "(darts_search, nasbench201_search), and for a search of widths the option 'gates' makes some: `gates: "
          "norms`");
    }
    for (const std::string& loss : losses()) check_loss(graph, loss);
  }
  void stage_begin(Run& run) override { check(run.graph()); }
  void epoch_end(Run& run) override { watch(run, run.weights(), "w"); }
  void stage_end(Run& run) override { epoch_end(run); }  // summary.json has the last values

 protected:
  explicit Search(SearchOptions options) : search_(std::move(options)) {}

  const std::string& train_loss() const { return search_.train_loss; }
  const std::string& validation_loss() const { return search_.validation_loss; }
  virtual std::vector<std::string> losses() const { return {train_loss(), validation_loss()}; }

  // The ordinary update of the weights: w <- w - eta grad_w L_a(w, alpha) (paper 003, (2.21) and (2.23)).
  void update_weights(Run& run, const Batch& batch) const {
    Weights& w = run.weights();
    w.zero_gradients();
    pass(run, batch, w, train_loss(), Role::weight);
    run.add_regularizers(w);
    run.update(w, {Role::weight});
  }
  // Adds the penalties P(alpha) to the gradients of the architecture parameters, and updates these.
  static void update_architecture(Run& run) {
    run.add_regularizers(run.weights());
    run.update(run.weights(), {Role::architecture});
  }
  // Puts the watched values of some Weights among the metrics; `letter` is what weights are called.
  void watch(Run& run, const Weights& weights, const std::string& letter) const {
    if (search_.watch.empty()) return;
    std::map<std::string, std::vector<ParamId>> named;
    for (const ParamId p : search_.watch.match(run.graph()))
      named[run.graph()[p].role == Role::architecture ? "alpha" : letter].push_back(p);
    for (const auto& [symbol, parameters] : named) {
      for (const ParamId p : parameters) {
        std::string name = symbol;
        if (parameters.size() > 1) name.append(".").append(run.graph()[p].name);
        const at::Tensor values = weights[p].detach().to(at::kCPU, at::kDouble).contiguous().view(-1);
        const auto* x = values.const_data_ptr<double>();
        if (values.numel() == 1) run.metric(name, x[0]);
        for (int64_t i = 0; values.numel() > 1 && i < values.numel(); ++i)
          run.metric(std::string(name).append(".").append(std::to_string(i)), x[i]);
      }
    }
  }

 private:
  static void check_loss(const Graph& graph, const std::string& loss) {
    if (loss == recipe_loss) return;
    const Port* output = graph.find_output(loss);
    if (!output) {
      std::vector<std::string> names{recipe_loss};
      for (const Port& port : graph.outputs()) names.push_back(port.name);
      throw Error("the network has no output '" + loss + "' that could be a loss" + suggestion(loss, names));
    }
    if (!graph.sizes(graph[output->edge].shape).empty())
      throw Error("the output '" + loss + "' of the network is no single number, so it is no loss");
  }

  SearchOptions search_;
};

// RARTS, relaxed architecture search (paper 003, algorithms 1 and 2): the auxiliary model (w, alpha) learns from the
// training part, the primary one (u, alpha) from the validation part, and both have one alpha. In each step w, then u,
// then alpha descends on the Lagrangian (2.11),
//
//   L_p(u, alpha) + lambda L_a(w, alpha) + beta / 2 |u - w|^2 + gamma P(alpha),
//
// u with the new w, and alpha with both new (2.12), (2.34). The penalties P are the regularizers of the stage, and
// gamma is their weight. The models are two Weights that share the architecture parameters; each has statistics of
// batch norms of its own.
class Rarts final : public Search {
 public:
  struct Options : SearchOptions {
    double lambda = 1;
    double beta = 1;
    std::string primary = "copy";
    std::optional<PerSelector> primary_values;

    static void declare(Declare<Options>& p) {
      p("lambda", &Options::lambda, above(0),
        "Factor of the loss of the auxiliary model, which the training part is for.");
      p("beta", &Options::beta, at_least(0),
        "How strongly the weights of the two models are drawn together: the factor of half their squared distance. "
        "Keep "
        "its product with the learning rate well below 1.");
      p("primary", &Options::primary, one_of({"copy", "drawn"}),
        "Weights that the primary model begins with; copy: those of the auxiliary model, which is the network of the "
        "run; drawn: others, drawn in the same way.");
      p("primary_values", &Options::primary_values,
        "Numbers that weights of the primary model begin with instead, by selector: {w: 0}. Others begin as `primary` "
        "says.");
      declare_losses(p);
      declare_watch(p);
      declare_gates(p);
    }
  };
  explicit Rarts(Options options) : Search(options), o_(std::move(options)) {}

  StepCost step_cost() const override {
    return {.passes = 4, .copies = 2, .parts = {"train", "validation"}, .roles_apart = true};
  }

  void check(const Graph& graph) const override {
    Search::check(graph);
    if (!o_.primary_values || o_.primary_values->by_selector.empty()) return;
    for (const auto& [selector, value] : o_.primary_values->by_selector) {
      for (const ParamId p : selector.match(graph)) {
        if (graph[p].role == Role::architecture)
          throw Error("'primary_values' names '" + graph[p].name + "', an architecture parameter: the models share it");
      }
    }
  }

  void stage_begin(Run& run) override {
    Search::stage_begin(run);
    follow(run);
    const c10::NoGradGuard no_grad;
    Weights& u = *primary_;
    u.copy_from(run.weights());
    if (o_.primary == "drawn") {
      Weights drawn(run.graph(), u.dtype(), u.device());
      drawn.initialize(run.graph(), run.key().with("rarts.primary"));
      for (const Role role : {Role::weight, Role::buffer}) values_of(u, role).copy_(values_of(drawn, role));
    }
    if (!o_.primary_values) return;
    for (const ParamId p : u.bank(Role::weight).parameters) {
      if (const auto value = value_for(*o_.primary_values, run.graph(), p)) u[p].detach().fill_(*value);
    }
  }
  void resume(Run& run, const Value&) override { follow(run); }

  void step(Run& run, const Batch& batch) override {
    Weights &w = run.weights(), &u = *primary_;
    const Batch other = run.draw("validation");

    w.zero_gradients();
    pass(run, batch, w, train_loss(), Role::weight);
    couple(w, u, o_.lambda);
    run.add_regularizers(w);
    run.update(w, {Role::weight});

    u.zero_gradients();
    pass(run, other, u, validation_loss(), Role::weight);
    couple(u, w, 1);
    run.add_regularizers(u);
    run.update(u, {Role::weight});

    clear(w, Role::architecture);  // u's too: it is one for both
    pass(run, batch, w, train_loss(), Role::architecture);
    {
      const c10::NoGradGuard no_grad;
      gradients_of(w, Role::architecture).mul_(o_.lambda);
    }
    pass(run, other, u, validation_loss(), Role::architecture);
    update_architecture(run);
  }

  void epoch_end(Run& run) override {
    Search::epoch_end(run);
    watch(run, *primary_, "u");
    const c10::NoGradGuard no_grad;
    const at::Tensor distance = values_of(*primary_, Role::weight) - values_of(run.weights(), Role::weight);
    run.metric("distance", distance.norm().item<double>());
  }

 private:
  void follow(Run& run) {
    primary_ = std::make_shared<Weights>(run.graph(), run.weights(), std::vector<Role>{Role::architecture});
    run.follow("rarts.primary", primary_, /*optimized=*/true);
  }
  // gradient <- factor * gradient + beta * (of - to)
  void couple(const Weights& of, const Weights& to, double factor) const {
    const c10::NoGradGuard no_grad;
    at::Tensor gradient = gradients_of(of, Role::weight);
    if (factor != 1) gradient.mul_(factor);
    if (o_.beta == 0) return;
    gradient.add_(values_of(of, Role::weight) - values_of(to, Role::weight), o_.beta);
  }

  Options o_;
  std::shared_ptr<Weights> primary_;
};

// DARTS (Liu et al. 2019; paper 003, (2.7) and (2.21)): alpha descends on the validation loss, either with the weights
// as they are (first order) or with those that a training step would make of them, w' (second order). The gradient of
// the second order is
//
//   grad_alpha L_p(w', alpha) - eta (grad_alpha L_a(w + r v, alpha) - grad_alpha L_a(w - r v, alpha)) / (2 r),
//
// with v = grad_w' L_p(w', alpha) and r = epsilon / |v|: a central difference in place of the product of v with the
// mixed second derivatives.
class Darts final : public Search, public Foresight {
 public:
  struct Options : SearchOptions {
    std::string order = "first";
    std::string begin_with = "architecture";
    double epsilon = 0.01;

    static void declare(Declare<Options>& p) {
      p("order", &Options::order, one_of({"first", "second"}),
        "Order of the approximation; first: architecture parameters learn with the weights as they are; second: with "
        "the weights that the optimizer would make of them in a step on the training batch.");
      p("begin_with", &Options::begin_with, one_of({"architecture", "weights"}),
        "What a step updates first; architecture: as in the authors' program; weights: as in paper 003, (2.21), and in "
        "the program of NATS-Bench.");
      p("epsilon", &Options::epsilon, above(0),
        "Norm of the change of the weights in the finite difference of the second order.");
      declare_losses(p);
      declare_watch(p);
      declare_gates(p);
    }
  };
  explicit Darts(Options options) : Search(options), o_(std::move(options)) {}

  StepCost step_cost() const override {
    return {
        .passes = second() ? 5 : 2, .copies = second() ? 2 : 1, .parts = {"train", "validation"}, .roles_apart = true};
  }
  std::vector<std::string> idle(const Graph&, int64_t) const override {
    if (second() || o_.epsilon == Options().epsilon) return {};
    return {"'epsilon' is without effect where 'order' is first"};
  }

  void stage_begin(Run& run) override {
    Search::stage_begin(run);
    follow(run);
  }
  void resume(Run& run, const Value&) override { follow(run); }

  void step(Run& run, const Batch& batch) override {
    const Batch other = run.draw("validation");
    if (o_.begin_with == "weights") update_weights(run, batch);
    run.weights().zero_gradients();
    if (second()) {
      unrolled_gradient(run, batch, other);
    } else {
      pass(run, other, run.weights(), validation_loss(), Role::architecture);
    }
    update_architecture(run);
    if (o_.begin_with == "architecture") update_weights(run, batch);
  }

 private:
  bool second() const { return o_.order == "second"; }
  // The weights one step ahead are made anew in each step. They are registered so that edits and optimizers find them.
  void follow(Run& run) {
    if (!second()) return;
    ahead_ = std::make_shared<Weights>(run.graph(), run.weights(), std::vector<Role>{Role::architecture});
    run.follow("darts.ahead", ahead_, /*optimized=*/true);
  }

  // Adds the gradient of the second order to those of the architecture parameters, which are clear.
  void unrolled_gradient(Run& run, const Batch& batch, const Batch& other) const {
    Weights &w = run.weights(), &ahead = *ahead_;
    step_ahead(run, batch);

    // v, and grad_alpha L_p(w', alpha). The banks of the architecture parameters are one.
    ahead.zero_gradients();
    run.add_gradients(other, ahead, validation_loss());
    const c10::NoGradGuard no_grad;
    at::Tensor v = gradients_of(ahead, Role::weight), alpha = gradients_of(ahead, Role::architecture);
    const at::Tensor direct = alpha.clone();
    const double rate = scale_by_rates(run, ahead);

    // Of a gradient that is zero the difference is zero, whatever r is.
    const at::Tensor r = o_.epsilon / v.norm().clamp_min(1e-30);
    at::Tensor moved = values_of(ahead, Role::weight);
    const auto difference = [&](const at::Tensor& by) {
      moved.copy_(values_of(w, Role::weight)).addcmul_(v, by);
      const c10::AutoGradMode grad(true);
      pass(run, batch, ahead, train_loss(), Role::architecture);
    };
    alpha.zero_();
    difference(r);
    alpha.neg_();
    difference(-r);
    alpha.mul_(rate / (2 * r)).add_(direct);
  }

  // w' = what the optimizer makes of w in a step on the training batch, from the states that it has: with momentum and
  // weight decay w - eta (momentum * buffer + grad_w L_a(w, alpha) + decay * w).
  void step_ahead(Run& run, const Batch& batch) const {
    Weights &w = run.weights(), &ahead = *ahead_;
    {
      const c10::NoGradGuard no_grad;
      ahead.copy_from(w);
      const auto& states = w.bank(Role::weight).states;
      for (const auto& [name, arena] : ahead.bank(Role::weight).states) {
        if (const auto same = states.find(name); same != states.end())
          at::Tensor(arena.flat()).copy_(same->second.flat());
      }
      ahead.counters() = w.counters();
    }
    ahead.zero_gradients();
    pass(run, batch, ahead, train_loss(), Role::weight);
    run.add_regularizers(ahead);
    run.update(ahead, {Role::weight});
  }

  // w' changes with alpha through the learning rate of each weight. Returns the one rate if all have the same, and else
  // multiplies v, the gradients of the weights ahead, by the rates and returns 1: the product is linear in v.
  static double scale_by_rates(const Run& run, const Weights& ahead) {
    const std::vector<ParamId>& parameters = ahead.bank(Role::weight).parameters;
    std::vector<double> rates;
    for (const ParamId p : parameters) rates.push_back(run.learning_rate(p));
    if (std::ranges::adjacent_find(rates, std::ranges::not_equal_to()) == rates.end())
      return rates.empty() ? 0 : rates.front();
    for (size_t i = 0; i < parameters.size(); ++i) at::Tensor(ahead.gradient(parameters[i])).mul_(rates[i]);
    return 1;
  }

  Options o_;
  std::shared_ptr<Weights> ahead_;
};

// MiLeNAS of the first order (He et al. 2020; paper 003, (2.23)): alpha descends on the losses of both parts of the
// data, grad_alpha L_a(w, alpha) + lambda grad_alpha L_p(w, alpha), with the new weights.
class Milenas final : public Search {
 public:
  struct Options : SearchOptions {
    double lambda = 1;

    static void declare(Declare<Options>& p) {
      p("lambda", &Options::lambda, above(0),
        "Factor of the validation loss in the gradient of the architecture parameters. The authors' program has the "
        "factor at the training loss, and 1.");
      declare_losses(p);
      declare_watch(p);
      declare_gates(p);
    }
  };
  explicit Milenas(Options options) : Search(options), o_(std::move(options)) {}

  StepCost step_cost() const override {
    return {.passes = 3, .copies = 1, .parts = {"train", "validation"}, .roles_apart = true};
  }

  void step(Run& run, const Batch& batch) override {
    const Batch other = run.draw("validation");
    update_weights(run, batch);
    Weights& w = run.weights();
    w.zero_gradients();
    pass(run, other, w, validation_loss(), Role::architecture);
    {
      const c10::NoGradGuard no_grad;
      gradients_of(w, Role::architecture).mul_(o_.lambda);
    }
    pass(run, batch, w, train_loss(), Role::architecture);
    update_architecture(run);
  }

 private:
  Options o_;
};

// Joint training of weights and architecture parameters on the same data (paper 003, section 2.1): what the searches
// that split the data are compared with.
class Joint final : public Search {
 public:
  struct Options : SearchOptions {
    std::vector<std::string> losses{recipe_loss};

    static void declare(Declare<Options>& p) {
      p("losses", &Options::losses,
        "Losses whose sum is minimised: names of outputs of the network that are single numbers, or loss, that of the "
        "recipe.");
      declare_watch(p);
      declare_gates(p);
    }
  };
  explicit Joint(Options options) : Search(options), o_(std::move(options)) {
    if (o_.losses.empty()) throw Error("'losses' is empty: there is nothing to minimise");
  }

  StepCost step_cost() const override { return {.passes = static_cast<int64_t>(o_.losses.size())}; }

  void step(Run& run, const Batch& batch) override {
    Weights& w = run.weights();
    w.zero_gradients();
    for (const std::string& loss : o_.losses) run.add_gradients(batch, w, loss);
    run.add_regularizers(w);
    run.update(w);
  }

 protected:
  std::vector<std::string> losses() const override { return o_.losses; }

 private:
  Options o_;
};

ESPALIER_PLUGIN("architecture_search", "1.0.0",
                component<Rarts>("rarts",
                                 "architecture search with two copies of the weights that share the "
                                 "architecture parameters")
                    .need("data:validation", why_validation),
                component<Darts>("darts",
                                 "architecture search that alternates between weights and architecture "
                                 "parameters, of the first or the second order")
                    .need("data:validation", why_validation),
                component<Milenas>("milenas",
                                   "architecture search whose architecture parameters learn from both parts "
                                   "of the data")
                    .need("data:validation", why_validation),
                component<Joint>("joint", "weights and architecture parameters trained together on the same data"));

}  // namespace espalier
