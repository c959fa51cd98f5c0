#pragma once

#include <cmath>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/edit.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>

namespace espalier {

struct RegularizerBench {
  Graph graph;
  std::unique_ptr<Weights> weights;
  std::unique_ptr<Regularizer> regularizer;

  RegularizerBench(const std::string& plugin, const std::string& spec, at::ScalarType dtype = at::kDouble) {
    testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + plugin + ".so");
    GraphBuilder g({2, 6, 6});
    const Edge x = g.relu(g.batch_norm("bn", g.conv("conv", g.input(), {.filters = 4, .kernel = 3})));
    graph = g.output(g.linear("fc2", g.relu(g.linear("fc1", g.flatten(x), {.features = 5})), {.features = 3}));
    weights = std::make_unique<Weights>(graph, dtype, at::kCPU);
    weights->initialize(graph, RandomKey(4));
    regularizer = Registry::instance().create<Regularizer>(from_json(spec));
    regularizer->attach(graph, *weights);
  }

  at::Tensor weight(const std::string& name) const { return (*weights)[graph.parameter(name)].detach(); }
  at::Tensor gradient(const std::string& name) const { return weights->gradient(graph.parameter(name)); }
  double add() {
    at::Tensor value = at::zeros({}, at::kDouble);
    regularizer->add(graph, *weights, value);
    return value.item<double>();
  }
};

}  // namespace espalier
