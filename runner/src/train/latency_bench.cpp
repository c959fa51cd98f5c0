#include "train/latency_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <map>
#include <numeric>

#include <c10/core/GradMode.h>
#include <torch/cuda.h>

#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/operation.h"
#include "espalier/random_fill.h"
#include "record/environment.h"
#include "train/compute_type.h"

namespace espalier {

namespace {

using Clock = std::chrono::steady_clock;

NamedTensors made_up_inputs(const Graph& graph, const std::function<int64_t(const Port&)>& batch,
                            const Weights& weights) {
  NamedTensors inputs;
  for (const Port& port : graph.inputs()) {
    std::vector<int64_t> sizes = graph.sizes(graph[port.edge].shape);
    sizes.insert(sizes.begin(), batch(port));
    at::Tensor x = normal(sizes, 1, RandomKey(1).with(port.name)).to(weights.device(), weights.dtype());
    if (x.dim() == 4) x = x.contiguous(at::MemoryFormat::ChannelsLast);
    inputs.emplace_back(port.name, std::move(x));
  }
  return inputs;
}

// The median of a pass, in milliseconds. Short passes are timed more often, since a single one says little.
double median_ms(const std::function<void()>& pass, int64_t passes, at::Device device) {
  const auto time = [&] {
    const Clock::time_point began = Clock::now();
    pass();
    if (device.is_cuda()) torch::cuda::synchronize();
    return 1e3 * std::chrono::duration<double>(Clock::now() - began).count();
  };
  double first = 0;
  for (int i = 0; i < 3; ++i) first = time();
  constexpr double enough_ms = 3;
  const auto count = static_cast<int64_t>(std::clamp(enough_ms / std::max(first, 1e-3), 1.0, 10.0 * passes));
  std::vector<double> times;
  for (int64_t i = 0; i < std::max(passes, count); ++i) times.push_back(time());
  std::ranges::nth_element(times, times.begin() + std::ssize(times) / 2);
  return times[times.size() / 2];
}

// A graph of one node; its inputs and outputs are called by their numbers.
Graph alone(const Graph& graph, const Value& whole, int32_t n) {
  const Node& node = graph.nodes()[static_cast<size_t>(n)];
  Value one = Value::map({{"schema", whole.at("schema")},
                          {"parameter_count", 0},
                          {"macs", 0},
                          {"inputs", Value::map()},
                          {"outputs", Value::map()},
                          {"axes", whole.at("axes")},
                          {"edges", Value::list()},
                          {"parameters", Value::list()},
                          {"nodes", Value::list()}});
  std::map<int32_t, int64_t> places;  // of edges
  const auto place = [&](Edge e, int producer) {
    const auto [at, is_new] = places.emplace(e.id, std::ssize(one.at("edges").as_list()));
    if (!is_new) return at->second;
    Value edge = whole.at("edges").as_list()[static_cast<size_t>(e.id)];
    edge["producer"] = producer;
    one["edges"].push_back(edge);
    return at->second;
  };
  Value made = whole.at("nodes").as_list()[static_cast<size_t>(n)];
  Value inputs = Value::list(), outputs = Value::list(), parameters = Value::list();
  for (const Edge e : node.inputs) {
    inputs.push_back(place(e, -1));
    one["inputs"][std::to_string(e.id)] = places.at(e.id);
  }
  for (const Edge e : node.outputs) {
    outputs.push_back(place(e, 0));
    one["outputs"][std::to_string(e.id)] = places.at(e.id);
  }
  for (const ParamId p : node.parameters) {
    parameters.push_back(std::ssize(one.at("parameters").as_list()));
    Value parameter = whole.at("parameters").as_list()[static_cast<size_t>(p.id)];
    parameter["node"] = 0;
    one["parameters"].push_back(parameter);
  }
  made["inputs"] = inputs;
  made["outputs"] = outputs;
  made["parameters"] = parameters;
  one["nodes"].push_back(made);
  return Graph::from_value(one);
}

// Gives the one node's axes other sizes, and its operation what it holds by position.
Graph resized(const Graph& one, const std::map<Axis, int64_t>& sizes) {
  Graph sized = one;
  std::vector<AxisChange> changes;
  for (const auto& [axis, size] : sizes) {
    AxisChange change{axis, Indices(static_cast<size_t>(size), -1)};
    std::iota(change.from.begin(), change.from.begin() + std::min(size, one[axis].size), 0);
    changes.push_back(std::move(change));
    sized.resize(axis, size);
  }
  if (auto op = one.nodes()[0].op->follow(one, one.nodes()[0], changes)) sized.replace_operation(0, std::move(op));
  return sized;
}

// The sizes of its axes with which a width is about this share of what it is at most.
std::map<Axis, int64_t> sizes_for(const Graph& graph, const Dim& width, double factor) {
  std::map<Axis, int64_t> sizes;
  for (const Segment& s : width.segments) {
    for (const Factor& f : s.factors) {
      if (f.axis.id < 0 || graph[f.axis].fixed) continue;
      sizes[f.axis] = std::max<int64_t>(1, std::llround(factor * static_cast<double>(graph[f.axis].size)));
    }
  }
  return sizes;
}

// Shares of the widths that are measured, besides a single position.
std::vector<double> shares(size_t widths) {
  if (widths == 1) return {0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1};
  if (widths == 2) return {0, 0.125, 0.25, 0.5, 0.75, 1};
  return {0, 0.25, 0.5, 1};
}

// Nodes of one form.
struct Kind {
  LatencyKey key;             // of the first
  int32_t node = 0;           // the first
  std::vector<int64_t> most;  // the largest size of each width
};

std::vector<Kind> kinds_of(const Graph& graph) {
  std::vector<Kind> kinds;
  std::map<std::string, size_t> known;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    LatencyKey key = latency_key(graph, graph.nodes()[n]);
    std::vector<int64_t> sizes;
    for (const Dim& d : key.widths) sizes.push_back(graph.size(d));
    const auto [at, is_new] = known.emplace(to_json(key.form), kinds.size());
    if (is_new) {
      kinds.push_back({std::move(key), static_cast<int32_t>(n), std::move(sizes)});
      continue;
    }
    std::vector<int64_t>& most = kinds[at->second].most;
    for (size_t w = 0; w < most.size(); ++w) most[w] = std::max(most[w], sizes[w]);
  }
  return kinds;
}

// Measures one kind of node at all combinations of its sizes.
class KindBench {
 public:
  KindBench(const Graph& one, const Kind& kind, std::vector<int64_t> batches, const Weights& weights,
            const LatencyOptions& options)
      : one_(one), kind_(kind), batches_(std::move(batches)), weights_(weights), options_(options) {}

  LatencyEntry measure() {
    LatencyEntry entry{kind_.key.form, {}, {}};
    std::vector<std::vector<std::map<Axis, int64_t>>> choices;  // of each width, the sizes of its axes
    for (size_t w = 0; w < kind_.most.size(); ++w) {
      const Dim& width = kind_.key.widths[w];
      const double to_most = static_cast<double>(kind_.most[w]) / static_cast<double>(one_.size(width));
      entry.widths.emplace_back();
      choices.emplace_back();
      for (const double share : shares(kind_.most.size())) {
        std::map<Axis, int64_t> sizes = sizes_for(one_, width, share * to_most);
        const int64_t size = resized_size(width, sizes);
        if (!entry.widths.back().empty() && size <= entry.widths.back().back()) continue;
        entry.widths.back().push_back(size);
        choices.back().push_back(std::move(sizes));
      }
    }
    measure(choices, 0, {}, entry.ms);
    return entry;
  }

 private:
  int64_t resized_size(const Dim& width, const std::map<Axis, int64_t>& sizes) const {
    Graph sized = one_;
    for (const auto& [axis, size] : sizes) sized.resize(axis, size);
    return sized.size(width);
  }
  void measure(const std::vector<std::vector<std::map<Axis, int64_t>>>& choices, size_t width,
               const std::map<Axis, int64_t>& sizes, std::vector<double>& ms) const {
    if (width == choices.size()) return ms.push_back(measure(sizes));
    for (const std::map<Axis, int64_t>& choice : choices[width]) {
      std::map<Axis, int64_t> all = sizes;
      all.insert(choice.begin(), choice.end());
      measure(choices, width + 1, all, ms);
    }
  }
  double measure(const std::map<Axis, int64_t>& sizes) const {
    const Graph graph = resized(one_, sizes);
    Weights weights(graph, weights_.dtype(), weights_.device());
    weights.initialize(graph, RandomKey(1));
    const NamedTensors inputs = made_up_inputs(
        graph, [&](const Port& port) { return batches_[static_cast<size_t>(port.edge.id)]; }, weights);
    std::vector<std::string_view> outputs;
    for (const Port& port : graph.outputs()) outputs.emplace_back(port.name);
    return median_ms([&] { run(graph, weights, inputs, outputs, {.training = false, .key = {}}); }, options_.passes,
                     weights.device());
  }

  const Graph& one_;
  const Kind& kind_;
  std::vector<int64_t> batches_;  // of the one node's edges
  const Weights& weights_;
  const LatencyOptions& options_;
};

std::string today() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

}  // namespace

LatencyTable measure_latencies(const Graph& graph, const Weights& weights, const LatencyOptions& options,
                               const std::function<void(size_t done, size_t of)>& progress) {
  const c10::NoGradGuard no_grad;
  const ComputeType compute(options.precision, weights.device());
  const NamedTensors inputs = made_up_inputs(
      graph, [&](const Port&) { return options.batch; }, weights);
  std::vector<std::string_view> outputs;
  for (const Port& port : graph.outputs()) outputs.emplace_back(port.name);
  const Pass pass{.training = false, .key = {}};
  // What depends on no sample has a batch of one.
  std::vector<int64_t> batches(graph.edges().size(), options.batch);
  try {
    run(graph, weights, inputs, outputs, pass,
        [&](Edge e, const at::Tensor& value) { batches[static_cast<size_t>(e.id)] = value.size(0); });
  } catch (const std::exception& e) {
    throw Error(std::string("the network cannot be computed with made-up inputs, so it cannot be timed: ") + e.what());
  }
  const double network =
      median_ms([&] { run(graph, weights, inputs, outputs, pass); }, options.passes, weights.device());

  const std::vector<Kind> kinds = kinds_of(graph);
  const Value whole = graph.to_value();
  std::vector<LatencyEntry> entries;
  for (const Kind& kind : kinds) {
    if (progress) progress(entries.size(), kinds.size());
    const Graph one = alone(graph, whole, kind.node);
    // Its edges keep the order in which the node names them.
    const Node& node = graph.nodes()[static_cast<size_t>(kind.node)];
    std::vector<int64_t> of_edges(one.edges().size(), 1);
    for (size_t i = 0; i < node.inputs.size(); ++i)
      of_edges[static_cast<size_t>(one.nodes()[0].inputs[i].id)] = batches[static_cast<size_t>(node.inputs[i].id)];
    entries.push_back(KindBench(one, kind, of_edges, weights, options).measure());
  }

  const std::string device = weights.device().str();
  const Value here = environment_of(device);
  Value origin = Value::map({{"device", weights.device().is_cuda() ? "cuda" : "cpu"},
                             {"model", device_model(device)},
                             {"threads", here.at("threads")},
                             {"precision", options.precision},
                             {"batch", options.batch},
                             {"date", today()}});
  for (const char* key : {"espalier", "torch", "isa", "torch_isa"}) origin[key] = here.at(key);
  const double sum = LatencyTable(origin, entries).ms(graph);
  origin["network"] = Value::map({{"ms", network}, {"table_ms", sum}});
  return {std::move(origin), std::move(entries)};
}

}  // namespace espalier
