// How a run carries out an edit: measured, checked, written down.
#include <ATen/TensorOperators.h>
#include <ATen/ops/max.h>
#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "output/text.h"
#include "train/trainer.h"

namespace espalier {

namespace {

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// All values as they were, to undo an edit that fails its check.
class Snapshot {
 public:
  explicit Snapshot(const Weights& w) {
    for (const Role r : roles) values_.push_back(w.bank(r).values.flat().clone());
  }
  void restore(Weights& w) const {
    for (size_t i = 0; i < values_.size(); ++i) at::Tensor(w.bank(roles[i]).values.flat()).copy_(values_[i]);
  }

 private:
  static constexpr Role roles[] = {Role::weight, Role::architecture, Role::buffer};
  std::vector<at::Tensor> values_;
};

}  // namespace

void Trainer::follow(const std::string& name, const std::shared_ptr<Weights>& weights) {
  std::erase_if(followers_, [&](const auto& f) { return f.second.expired() || f.first == name; });
  followers_.emplace_back(name, weights);
}

void Trainer::edit(const Edit& edit) {
  const c10::NoGradGuard no_grad;
  const Rewrite rewrite = plan(graph_, edit);  // refuses the impossible before anything is touched
  const Batch probe = test_->plain_batch(0, std::min(test_->size(), data_.eval_batch));
  const at::Tensor before = logits(probe);
  const Value counts_before = counts_value();
  Value line = Value::map({{"stage", stage_->name},
                           {"epoch", epoch_},
                           {"step", step_},
                           {"edit", edit.to_value()},
                           {"before", counts_before}});

  const Snapshot snapshot(*weights_);
  std::string inexact;
  for (const AxisChange& change : rewrite.changes) {
    const int64_t size = graph_[change.axis].size;
    inexact = inexact_at(graph_, change.axis);
    zero(graph_, *weights_, change.axis, complement(change.from, size));
    line["axis"] = Value::map(
        {{"name", graph_[change.axis].name}, {"before", size}, {"after", static_cast<int64_t>(change.from.size())}});
  }
  const at::Tensor zeroed = logits(probe);

  std::vector<Weights*> all{weights_.get()};
  std::vector<std::shared_ptr<Weights>> alive;
  for (const auto& [name, follower] : followers_) {
    if (auto w = follower.lock()) alive.push_back(std::move(w));
  }
  for (const auto& w : alive) all.push_back(w.get());
  std::vector<std::unique_ptr<Weights::Prepared>> undo;
  for (const Weights* w : all) undo.push_back(w->present());
  const Graph graph = graph_;
  apply(graph_, all, edit);
  const at::Tensor after = logits(probe);

  const double zeroing = largest_difference(before, zeroed);
  const double removal = largest_difference(zeroed, after);
  line["after"] = counts_value();
  line["zeroing_difference"] = zeroing;
  line["removal_difference"] = removal;
  if (!inexact.empty()) line["inexact_at"] = inexact;
  // Rounding: other widths sum in another order.
  const double tolerance = (dtype_ == at::kDouble ? 1e-10 : 1e-5) * std::max(1.0, zeroed.abs().max().item<double>());
  line["tolerance"] = tolerance;
  if (inexact.empty() && !(removal <= tolerance)) {
    graph_ = graph;
    for (size_t i = 0; i < all.size(); ++i) all[i]->commit(std::move(undo[i]), graph_);
    snapshot.restore(*weights_);
    throw EditError(edit.str() + ": the network's function changed by " + std::to_string(removal) +
                    " where removing zeros must not change it (at most " + std::to_string(tolerance) + ")");
  }
  folder_.add_history(line);
  stale_ = true;
  attach();
  const Value& axis = line.at("axis");
  note(edit.str() + " of " + to_json(axis.at("before")) + "; logits differ by " + scientific(zeroing) +
       " (zeroing) and " + scientific(removal) + " (removal)");
}

}  // namespace espalier
