#pragma once

#include <memory>
#include <string>
#include <utility>

#include "espalier/weights.h"
#include "plan/warm_start.h"
#include "recipe/recipe.h"

namespace espalier {

// The values that a network begins with, as long as they are known.
class BeginningValues {
 public:
  BeginningValues() = default;
  // key: of what is drawn.
  BeginningValues(WarmStart start, RandomKey key) : start_(std::move(start)), key_(key), known_(true) {}

  const Weights& of(const Graph& graph) {
    if (!weights_) {
      weights_ = std::make_unique<Weights>(graph, at::kFloat, at::kCPU);
      weights_->initialize(graph, key_);
      if (!start_.from.empty()) warm_start(start_, graph, weights_.get());
    }
    return *weights_;
  }
  // The structure is another now: which positions went is not known.
  void lose() { known_ = false; }
  bool known() const { return known_; }
  // Whether a stage that comes now begins with just these.
  bool untrained() const { return known_ && !trained_; }
  // The network will have been trained.
  void train() { trained_ = true; }

  std::string str() const {
    const std::string of = start_.from.empty() ? "the initial values" : "the values of " + start_.from.string();
    return of + (trained_ ? ", before anything is trained" : "");
  }

 private:
  WarmStart start_;
  RandomKey key_;
  bool known_ = false, trained_ = false;
  std::unique_ptr<Weights> weights_;
};

}  // namespace espalier
