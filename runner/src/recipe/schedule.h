#pragma once

#include <cstdint>

#include "espalier/component.h"
#include "espalier/registry.h"
#include "espalier/value.h"

namespace espalier {

// How the learning rates of a stage change: a factor for all of them.
class Schedule : public Object {
 public:
  static constexpr const char* kind = "schedule";
  // `epoch` counts steps too: 3.5 is the middle of the fourth epoch of `epochs`.
  virtual double factor(double epoch, int64_t epochs) const = 0;
  // Throws Error where a part of it lies beyond a stage of so many epochs (> 0) and would never take effect.
  virtual void check(int64_t /*epochs*/) const {}
  // The accuracy after an evaluation; higher is better.
  virtual void observe(double /*metric*/) {}
  // What it remembers, for checkpoints.
  virtual Value save() const { return {}; }
  virtual void load(const Value&) {}
};

// Adds the built-in schedules: constant, step, cosine, plateau. A second time it does nothing.
void register_schedules(Registry& registry);

}  // namespace espalier
