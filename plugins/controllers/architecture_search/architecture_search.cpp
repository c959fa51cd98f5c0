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

#include <espalier/error.h>
#include <espalier/foresight.h>
#include <espalier/per_selector.h>
#include <espalier/plugin.h>

#include "derive.h"
#include "search.h"

namespace espalier {

namespace {

constexpr const char* why_validation =
    "architecture parameters learn from samples that the weights do not; write validation: 0.5 under data";
constexpr const char* what_genotype =
    "the options of the network that the search found, such as its cells, as its backbone derives them";

}  // namespace

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
  void resume(Run& run, const Value& saved) override {
    Search::resume(run, saved);
    follow(run);
  }

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

    clear_gradients(w, Role::architecture);  // u's too: it is one for both
    pass(run, batch, w, train_loss(), Role::architecture);
    {
      const c10::NoGradGuard no_grad;
      gradients_of(w, Role::architecture).mul_(o_.lambda);
    }
    pass(run, other, u, validation_loss(), Role::architecture);
    update_architecture(run);
  }

 protected:
  void measure(Run& run) override {
    Search::measure(run);
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
  void resume(Run& run, const Value& saved) override {
    Search::resume(run, saved);
    follow(run);
  }

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

ESPALIER_PLUGIN(
    "architecture_search", "1.0.0",
    component<Rarts>("rarts",
                     "architecture search with two copies of the weights that share the architecture parameters")
        .need("data:validation", why_validation)
        .publish("genotype", what_genotype),
    component<Darts>("darts",
                     "architecture search that alternates between weights and architecture parameters, of the first or "
                     "the second order")
        .need("data:validation", why_validation)
        .publish("genotype", what_genotype),
    component<Milenas>("milenas", "architecture search whose architecture parameters learn from both parts of the data")
        .need("data:validation", why_validation)
        .publish("genotype", what_genotype),
    component<Joint>("joint", "weights and architecture parameters trained together on the same data")
        .publish("genotype", what_genotype),
    component<Derive>("derive",
                      "the network that a trained search network stands for, in a stage with epochs: 0; looks its cell "
                      "up in a table of published accuracies")
        .publish("genotype", what_genotype));

}  // namespace espalier
