#pragma once

// Optimizers against PyTorch's (or another transcription in Python): 100 steps of a small network on the same data from
// the same weights.
#include <functional>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/edit.h>
#include <espalier/optimizer.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>

namespace espalier {

using testkit::small_network;

struct OptimizerCase {
  std::string name;
  std::string spec;
  std::string torch;        // over the list of parameters p
  std::string python = {};  // what it needs defined
  int steps = 100;
  std::string plugin = {};  // empty: of the optimizer's name
  // How far a bias without a gradient may go: rounding (1e-17 and less), divided by an eps of the optimizer's.
  double of_rounding = 1e-9;
};

// `look`, if any, sees the network after the last step, and what the reference's report() tells.
inline void expect_equal_to_pytorch(
    const OptimizerCase& c, const std::function<void(const Graph&, const Weights&, const Value& report)>& look = {}) {
  SCOPED_TRACE(c.name);
  const std::string plugin = c.plugin.empty() ? from_json(c.spec).at("use").as_string() : c.plugin;
  testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + plugin + ".so");
  const testkit::OptimizerComparison found = testkit::compare_optimizer(
      ESPALIER_PYTHON, {.spec = c.spec, .torch = c.torch, .python = c.python, .steps = c.steps});
  for (const auto& [name, difference] : found.differences) {
    // float64 rounding, grown over 100 steps of a network that is not convex.
    EXPECT_LE(difference, name == "conv.bias" ? c.of_rounding : 1e-9) << name;
    // A bias before batch norm has no gradient but rounding.
    if (name != "conv.bias") {
      EXPECT_GT(found.moved.at(name), 1e-3) << name;
    }
  }
  if (look) look(found.graph, *found.weights, found.report);
}

}  // namespace espalier
