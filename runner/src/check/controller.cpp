// What holds for every controller, in short runs on small networks.
#include "espalier/controller.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <utility>

#include <ATen/TensorOperators.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/optimizer.h"
#include "espalier/testkit.h"

namespace espalier {

namespace {

constexpr int64_t epochs = 2, steps = 3, samples = 6, classes = 3;
constexpr double step_size = 0.05;

// A run on random data. What the controller needs of an optimizer comes from one that provides it; without any, steps
// are those of gradient descent.
class CheckRun final : public testkit::TestRun {
 public:
  CheckRun(Graph graph, const Registered& controller) : TestRun(std::move(graph), /*seed=*/4) {
    of_epochs = espalier::epochs, of_steps = steps;
    rate = descent = step_size;
    TestRun::samples = espalier::samples;
    TestRun::classes = espalier::classes;
    derived = Value::map();
    for (const Need& need : controller.component.needs) {
      for (const Registered* r : Registry::instance().all()) {
        const auto& provides = r->component.provides;
        if (r->component.kind != Optimizer::kind ||
            std::find(provides.begin(), provides.end(), need.what) == provides.end())
          continue;
        optimize_with(make_example<Optimizer>(*r), r->component.name);
        break;
      }
    }
  }

  std::vector<at::Tensor> copy_of_values() const {
    std::vector<at::Tensor> all;
    for (const Role role : {Role::weight, Role::architecture, Role::buffer})
      all.push_back(values().bank(role).values.flat().clone());
    return all;
  }
  void expect_values(const std::vector<at::Tensor>& wanted, const std::string& what) const {
    const std::vector<at::Tensor> now = copy_of_values();
    for (size_t i = 0; i < now.size(); ++i) expect(now[i].equal(wanted[i]), "the same values " + what, "others");
  }

  // What a checkpoint of the other run holds.
  void restore(const CheckRun& other) {
    copy_all(other.values(), weights(), "resume()");
    const auto mine = followers();
    for (const auto& [name, w] : other.followers()) {
      expect(mine.contains(name), "resume() follows the Weights '" + name + "', as stage_begin() did", "it does not");
      copy_all(*w, *mine.at(name), "resume()");
    }
  }
  void expect_same_as(const CheckRun& other, const std::string& what) const {
    expect(to_json(graph().to_value()) == to_json(other.graph().to_value()), "the same structure " + what, "another");
    expect_same(what, graph(), other.values(), values());
    const auto mine = followers();
    for (const auto& [name, w] : other.followers()) {
      expect(mine.contains(name), "the followed Weights '" + name + "' " + what, "none");
      expect_same(what + ", '" + name + "'", graph(), *w, *mine.at(name));
    }
    for (const auto& [name, value] : other.metrics()) {
      const auto found = metrics().find(name);
      expect(found != metrics().end() && found->second == value,
             "the metric '" + name + "' " + what + ": " + std::to_string(value),
             found == metrics().end() ? "none" : std::to_string(found->second));
    }
  }
};

// A stage whose values are far from zero and known.
void one_stage(Controller& c, CheckRun& run, const std::function<void(int64_t done)>& between = {}) {
  run.edit(c.begin(run.graph()));
  fill(run.graph(), run.weights());
  c.stage_begin(run);
  run.go_on(c, 0, between);
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
      resumed->at_epoch = (done - 1) / steps, resumed->at_step = (done - 1) % steps;
      const Value saved = before->save();
      after->resume(*resumed, saved.is_null() ? saved : from_json(to_json(saved)));
      resumed->restore(whole);
      ends_epoch = done % steps == 0;
    });
    if (ends_epoch) {
      resumed->evaluate_around(*after);
      after->epoch_end(*resumed);
    }
    resumed->go_on(*after, stop);
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
