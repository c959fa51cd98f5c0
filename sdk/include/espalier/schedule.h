#pragma once

#include <cstdint>

#include "espalier/component.h"
#include "espalier/value.h"

namespace espalier {

// How the learning rates of a stage change over its epochs: one factor for all of them. Example, a straight fall to
// zero:
//
//   double factor(double epoch, int64_t epochs) const override { return 1 - epoch / static_cast<double>(epochs); }
class ESPALIER_API Schedule : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "schedule";
  // Returns the factor of the learning rates, at least 0. `epoch`, from 0 to `epochs`, counts steps too: 3.5 is the
  // middle of the fourth epoch.
  virtual double factor(double epoch, int64_t epochs) const = 0;
  // Throws Error if a part of it lies beyond a stage of so many epochs (> 0) and would never take effect.
  virtual void check(int64_t /*epochs*/) const {}
  // Called after each evaluation with the leading metric, of which a larger value is better: its sign is changed
  // otherwise (of the validation part if there is one, else of the test part).
  virtual void observe(double /*score*/) {}
  // Returns what it remembers, for checkpoints.
  virtual Value save() const { return {}; }
  // Takes back what save() returned.
  virtual void load(const Value&) {}
};

}  // namespace espalier
