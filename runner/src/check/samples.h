#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "check/check.h"
#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/registry.h"
#include "espalier/weights.h"

namespace espalier {

// What the user says of examples: options that those components get which have them, and folders of data.
struct ExampleOptions {
  Value with = Value::map();
  std::vector<std::string> data;
};
ExampleOptions& example_options();

// {use: NAME} with a value for each parameter that is required.
Value example_spec(const Registered& component);

template <class T>
std::unique_ptr<T> make_example(const Registered& component) {
  return Registry::instance().create<T>(example_spec(component));
}

// Small networks that components are tried on, the plainest first.
struct SampleNetwork {
  std::string name;
  Graph (*build)();
};
const std::vector<SampleNetwork>& sample_networks();
// A residual network of convolutions with batch norm and two linear layers, 3 classes; the same with gates; a mixture
// of attention and a shortcut whose coefficients compete; one whose residual blocks have names, layer1.0 and layer1.1;
// a mixture of a convolution and a shortcut by the softmax of architecture parameters.
Graph convolutional_sample();
Graph gated_sample();
Graph attention_sample();
Graph blocks_sample();
Graph search_sample();
// About a million weights, for times.
Graph large_sample();

// Sets parameters and buffers, keyed by name: magnitudes of weights and biases in [0.2, 1.2], either sign; scales and
// variances in [0.5, 1.5].
void fill(const Graph& graph, Weights& weights);

// Copies values, buffers, states and counters. Throws CheckFailure where `to` has no state of a name; `who` should have
// registered it.
void copy_all(const Weights& from, Weights& to, const std::string& who);
// Values, buffers and states: CheckFailure where a bit differs.
void expect_same(const std::string& what, const Graph& graph, const Weights& expected, const Weights& got);

// Values and buffers, one for each parameter of the graph, copied.
std::vector<at::Tensor> copied_values(const Graph& graph, const Weights& weights);
// That after changes of widths, which only drop positions, each parameter holds exactly what stays of its values
// before: CheckFailure where a bit differs.
void expect_rest_unchanged(const std::string& what, const Graph& before, const std::vector<at::Tensor>& values,
                           const Graph& after, const Weights& weights, const std::vector<AxisChange>& changes);

// Of each parameter's dimensions: which elements belong to the listed positions of the axis. uint8 of the parameter's
// sizes, 1: they do.
at::Tensor belongs_to(const Graph& graph, ParamId parameter, Axis axis, const Indices& positions);

// The axes that edits may change and that have more than one position. Those of coefficients of a mixture stay: their
// number is that of its terms.
std::vector<Axis> free_axes(const Graph& graph);

// 0, 2, 3, 5, 6, ...: every third position but the first goes. Of two, the first stays.
Indices kept_positions(int64_t size);

}  // namespace espalier
