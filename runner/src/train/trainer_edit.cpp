// How a run carries out an edit: measured, checked, written down.
#include <optional>
#include <string_view>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mean.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/log.h"
#include "espalier/rewrite.h"
#include "system/text.h"
#include "train/trainer.h"

namespace espalier {

namespace {

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// Share of the batch (or of its nodes) whose class has the largest logit.
double accuracy_of(const at::Tensor& logits, const at::Tensor& target) {
  return logits.argmax(-1).eq(target).to(at::kDouble).mean().item<double>();
}

// Every edit is tried on so many test samples: what is compared is an identity of numbers, which a few show.
constexpr int64_t probe_samples = 32;

// Samples of the probe whose class may be lost by rounding, which moves those on the edge between two classes.
constexpr double unexplained_samples = 1.5;

// All values as they were, to undo an edit that fails its check.
class Snapshot {
 public:
  explicit Snapshot(const Weights& w) {
    for (const Role r : roles) {
      const at::Tensor& flat = w.bank(r).values.flat();
      values_.emplace_back(flat, flat.clone());
    }
  }
  // Into the memory that they came from: earlier edits of the same call may have put other arenas in its place since.
  void restore() const {
    for (const auto& [flat, values] : values_) at::Tensor(flat).copy_(values);
  }

 private:
  static constexpr Role roles[] = {Role::weight, Role::architecture, Role::buffer};
  std::vector<std::pair<at::Tensor, at::Tensor>> values_;
};

}  // namespace

void Trainer::follow(const std::string& name, const std::shared_ptr<Weights>& weights, bool optimized) {
  std::erase_if(network_.followers, [&](const Follower& f) { return f.weights.expired() || f.name == name; });
  network_.followers.push_back({name, weights, optimized});
  if (optimized) parts_.attach_copy(network_.graph, *weights);
}

Edits Trainer::agreed(const Edits& edits) const {
  if (!processes().several()) return edits;
  Value list = Value::list();
  for (const Edit& e : edits) list.push_back(e.to_value());
  const std::string mine = to_json(list), decided = processes().from_leader("an edit", mine);
  const int64_t other = processes().largest("the edits of all", {mine == decided ? 0 : processes().rank()})[0];
  if (other == 0) return edits;
  if (processes().leads()) {
    log::warning("stage '" + stage_->name + "': the controller decided on other edits in process " +
                 std::to_string(other) + " than in process 0, whose edits are carried out");
  }
  if (mine == decided) return edits;
  Edits all;
  const Value taken = from_json(decided);
  for (const Value& e : taken.as_list()) all.push_back(Edit::from_value(e));
  return all;
}

void Trainer::require_same_network(std::string_view when) const {
  if (!processes().several()) return;
  std::string text;
  for (const Parameter& p : network_.graph.parameters()) {
    text += p.name;
    for (const int64_t n : network_.graph.sizes(p.shape)) text += " " + std::to_string(n);
    text += "\n";
  }
  processes().require_same("the structure of the network " + std::string(when), text,
                           "a component decided by something that is not the same in all processes");
  text.clear();
  for (const Role role : {Role::weight, Role::architecture, Role::buffer}) {
    const at::Tensor& values = network_.weights->bank(role).values.flat();
    // The bits as whole numbers, so that one which differs is seen.
    if (values.numel() > 0)
      text += std::to_string(values.view(machine_.dtype == at::kDouble ? at::kLong : at::kInt).sum().item<int64_t>()) +
              "\n";
  }
  processes().require_same(
      "the values of the network " + std::string(when), text,
      "processors of different kinds round differently, so all machines need the same; or a component computes with "
      "its own part of a batch, other than by Run::add_gradients");
}

void Trainer::edit(const Edits& wanted) {
  const c10::NoGradGuard no_grad;
  if (wanted.empty()) return;
  const Edits edits = agreed(wanted);
  const auto size_value = [&] {
    const NetworkSize now = size();
    return Value::map({{"params", now.params}, {"macs", now.macs}});
  };
  std::vector<Weights*> all{network_.weights.get()};
  std::vector<std::shared_ptr<Weights>> alive;
  for (const Follower& f : network_.followers) {
    if (auto w = f.weights.lock()) alive.push_back(std::move(w));
  }
  for (const auto& w : alive) all.push_back(w.get());

  // All as it was, to go back to.
  const Graph graph = network_.graph;
  std::vector<std::unique_ptr<Weights::Prepared>> undo;
  for (const Weights* w : all) undo.push_back(w->present());
  std::optional<Snapshot> snapshot;
  std::vector<Value> lines;
  std::vector<std::string> notes, warnings;
  // An edit that one process refuses is refused by all.
  bool done = false;
  const auto refuse_together = [&] {
    try {
      processes().any("carrying out an edit", true);
    } catch (const Error&) {  // the reason that is on its way counts
    }
  };
  try {
    const Batch probe = data_.test().plain_batch(0, std::min(data_.test().size(), probe_samples));
    at::Tensor before;
    for (size_t next = 0; next < edits.size();) {
      const size_t first = next;
      Rewrite rewrite = plan(network_.graph, edits, next);
      if (!before.defined()) before = logits(probe);
      const Rewrite::Effect effect = rewrite.effect;
      Value line = Value::map({{"stage", stage_->name}, {"epoch", position_.epoch}, {"step", position_.step}});
      Value& list = line["edits"] = Value::list();
      for (size_t i = first; i < next; ++i) list.push_back(edits[i].to_value());
      line["before"] = size_value();
      std::string inexact;
      Value& axes = line["axes"] = Value::list();
      for (const AxisChange& change : rewrite.changes) {
        const AxisInfo& axis = network_.graph[change.axis];
        axes.push_back(Value::map(
            {{"name", axis.name}, {"before", axis.size}, {"after", static_cast<int64_t>(change.from.size())}}));
        if (inexact.empty()) inexact = inexact_at(network_.graph, change.axis);
      }
      at::Tensor zeroed = before, masked;
      if (effect == Rewrite::Effect::removes) {
        // First with zeros in all that the nodes give of what goes: known without touching a value, so that zeroing or
        // removing cannot agree with it where they damage what stays.
        if (!rewrite.changes.empty()) masked = logits(probe, &rewrite.changes);
        if (!snapshot) snapshot.emplace(*network_.weights);
        for (const AxisChange& change : rewrite.changes)
          zero(network_.graph, *network_.weights, change.axis,
               complement(change.from, network_.graph[change.axis].size));
        for (const auto& [parameter, mask] : rewrite.masks) {
          at::Tensor values = (*network_.weights)[parameter];
          values.mul_(mask.to(values.options()));
        }
        zeroed = logits(probe);
      }
      espalier::carry_out(network_.graph, all, std::move(rewrite));
      const at::Tensor after = logits(probe);
      line["after"] = size_value();

      std::string text = edits[first].str();
      if (next - first > 1) text += " and " + std::to_string(next - first - 1) + " more";
      if (axes.size() > 0) text += " of " + to_json(axes.as_list().front().at("before"));
      // Rounding: other widths sum in another order.
      const double tolerance =
          (machine_.dtype == at::kDouble ? 1e-10 : 1e-5) * std::max(1.0, zeroed.abs().max().item<double>());
      const double difference = largest_difference(zeroed, after);
      double masking = 0;
      if (effect == Rewrite::Effect::removes) {
        const double zeroing = largest_difference(before, zeroed);
        line["zeroing_difference"] = zeroing;
        line["removal_difference"] = difference;
        if (masked.defined()) masking = largest_difference(zeroed, masked);
        notes.push_back(text + "; logits differ by " + scientific(zeroing) + " (zeroing) and " +
                        scientific(difference) + " (removal)");
      } else {
        line["difference"] = difference;
        notes.push_back(text + "; logits differ by " + scientific(difference));
      }
      double accuracy_before = 0, accuracy_zeroed = 0, accuracy_after = 0;
      if (data_.info().target.task == task::classification) {
        const at::Tensor& target = probe.target();
        accuracy_before = accuracy_of(before, target);
        accuracy_zeroed = accuracy_of(zeroed, target);
        accuracy_after = accuracy_of(after, target);
        line["accuracy"] = Value::map({{"samples", probe.size()},
                                       {"before", accuracy_before},
                                       {"zeroed", accuracy_zeroed},
                                       {"after", accuracy_after}});
      }
      if (effect != Rewrite::Effect::changes &&
          static_cast<double>(probe.size()) * (accuracy_zeroed - accuracy_after) > unexplained_samples) {
        warnings.push_back(text + ": the accuracy on " + std::to_string(probe.size()) + " test samples fell from " +
                           fixed(100 * accuracy_before, 2) + " % to " + fixed(100 * accuracy_after, 2) +
                           " %. With zeros in place of what was removed it is " + fixed(100 * accuracy_zeroed, 2) +
                           " %" + (inexact.empty() ? "" : "; '" + inexact + "' depends on the number of its channels"));
      }
      const bool exact =
          effect == Rewrite::Effect::preserves || (effect == Rewrite::Effect::removes && inexact.empty());
      if (exact) line["tolerance"] = tolerance;
      if (!inexact.empty()) line["inexact_at"] = inexact;
      if (exact && !(masking <= tolerance)) {
        throw EditError(edits[first].str() + ": the network's function changed by " + std::to_string(masking) +
                        " more than zeros in place of what goes explain (at most " + std::to_string(tolerance) +
                        " is rounding): an operation that claims to keep zeros does not, or something that stays was "
                        "set to zero, too");
      }
      if (exact && !(difference <= tolerance)) {
        throw EditError(edits[first].str() + ": the network's function changed by " + std::to_string(difference) +
                        " where this edit must not change it (at most " + std::to_string(tolerance) + ")");
      }
      lines.push_back(std::move(line));
      before = after;
    }
    done = true;
    if (processes().any("carrying out an edit", false))
      throw EditError(edits.front().str() + ": it could not be carried out in another process");
  } catch (...) {
    if (!done) refuse_together();
    network_.graph = graph;
    for (size_t i = 0; i < all.size(); ++i) all[i]->commit(std::move(undo[i]), network_.graph);
    if (snapshot) snapshot->restore();
    throw;
  }
  for (const Value& line : lines) folder_.add_history(line);
  for (const std::string& text : notes) note(text);
  for (const std::string& text : warnings) log::warning(text);
  tested_.stale = true;
  position_.best_score.reset();
  position_.best_selection.reset();
  attach();
  require_same_network("after an edit");
}

}  // namespace espalier
