#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "espalier/api.h"
#include "espalier/backbone.h"
#include "espalier/registry.h"
#include "espalier/regularizer.h"
#include "espalier/weights.h"

// For the tests of plugins, anyone's.
namespace espalier::testkit {

// Loads a plugin and registers its components; a second time it does nothing.
ESPALIER_API void load_plugin(const std::filesystem::path& library);

// The graph of a backbone given as JSON, {"use": "lenet5"}, for images of channels x size x size.
ESPALIER_API Graph build(const std::string& spec, const InputSpec& input, const TargetSpec& target);

// Values like those of a data set, on the CPU: [batch, ...] normal, keyed by the seed; and class numbers.
ESPALIER_API at::Tensor input_of(const Graph& graph, int64_t batch, uint64_t seed, at::ScalarType dtype = at::kDouble);
ESPALIER_API at::Tensor target_of(int64_t classes, int64_t batch, uint64_t seed);

// The largest difference between the gradient that a regularizer adds and central differences of its value, at float64 weights,
// relative to the largest gradient. Take weights without zeros where the penalty has a kink.
ESPALIER_API double gradient_error(Regularizer& regularizer, const Graph& graph, Weights& weights, double step = 1e-5);

// Runs a Python script and returns what it printed; throws Error with that where it fails. Tests of this project pass the macro
// ESPALIER_PYTHON, the Python that holds the same PyTorch, and skip where it is empty.
ESPALIER_API std::string run_python(const std::string& python, const std::string& script, const std::vector<std::string>& arguments = {});

}  // namespace espalier::testkit
