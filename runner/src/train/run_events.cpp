#include "train/run_events.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/histc.h>
#include <c10/core/GradMode.h>

#include "formats/tensorboard.h"
#include "recipe/yaml.h"
#include "record/environment.h"

namespace espalier {

namespace {

using Named = std::vector<std::pair<std::string, Value>>;

// The numbers, texts and truth values of a recipe by their paths, as --set takes them; lists of these are texts.
void flatten(const std::string& path, const Value& value, Named& to) {
  const auto below = [&](const std::string& key) { return path.empty() ? key : path + "." + key; };
  if (value.is_map()) {
    for (const Value::Entry& e : value.as_map()) flatten(below(e.key), e.value, to);
  } else if (value.is_list()) {
    const auto& items = value.as_list();
    const bool maps = std::ranges::any_of(items, [](const Value& v) { return v.is_map(); });
    if (!maps) {
      if (!items.empty()) to.emplace_back(path, Value(to_json(value)));
      return;
    }
    for (size_t i = 0; i < items.size(); ++i) {
      const Value* name = items[i].is_map() ? items[i].find("name") : nullptr;
      if (!name && items[i].is_map()) name = items[i].find("use");
      flatten(below(name && name->is_string() ? name->as_string() : std::to_string(i)), items[i], to);
    }
  } else if (!value.is_null()) {
    to.emplace_back(path, value);
  }
}

// Of thirty intervals as wide as each other; of the values that are finite.
Histogram histogram_of(const at::Tensor& values) {
  constexpr int64_t intervals = 30;
  const at::Tensor all = values.detach().flatten().to(at::kCPU, at::kDouble);
  const at::Tensor x = all.masked_select(all.isfinite());
  Histogram h;
  if (x.numel() == 0) return h;
  h.least = x.min().item<double>();
  h.most = x.max().item<double>();
  h.sum = x.sum().item<double>();
  h.squares = x.square().sum().item<double>();
  // All the same: one interval that holds them.
  const double width = h.most > h.least ? (h.most - h.least) / intervals : 0;
  if (width == 0) return {h.least, h.most, h.sum, h.squares, {h.most}, {static_cast<double>(x.numel())}};
  const at::Tensor counts = at::histc(x, intervals, h.least, h.most);
  for (int64_t i = 0; i < intervals; ++i) {
    h.limits.push_back(i + 1 == intervals ? h.most : h.least + width * static_cast<double>(i + 1));
    h.counts.push_back(counts[i].item<double>());
  }
  return h;
}

}  // namespace

std::string events_of_start(const Value& recipe, const std::vector<std::string>& results) {
  Named parameters;
  flatten("", recipe, parameters);
  std::erase_if(parameters, [](const auto& p) { return p.first == "espalier" || p.first == "name"; });
  // Markdown's form for a text that stays as it is.
  std::string text = "    ";
  for (const char c : to_yaml(recipe)) {
    text += c;
    if (c == '\n') text += "    ";
  }
  return text_event(wall_time(), 0, "recipe", text) + run_start_event(wall_time(), parameters, results);
}

std::string events_of_stage(int64_t step, const std::string& name, int64_t epochs) {
  return text_event(wall_time(), step, "stage",
                    "The stage **" + name + "** begins after " + std::to_string(step) + " steps, and has " +
                        std::to_string(epochs) + " epochs.");
}

std::string events_of_epoch(int64_t step, const std::vector<std::pair<std::string, double>>& rates,
                            const std::vector<std::pair<std::string, double>>& penalties) {
  std::vector<std::pair<std::string, double>> scalars;
  for (const auto& [optimizer, rate] : rates) scalars.emplace_back("lr/" + optimizer, rate);
  for (const auto& [regularizer, penalty] : penalties) scalars.emplace_back("penalty/" + regularizer, penalty);
  return scalar_event(wall_time(), step, scalars);
}

std::string events_of_network(int64_t step, const Graph& graph, const Weights& weights) {
  const c10::NoGradGuard no_grad;
  std::vector<std::pair<std::string, double>> widths;
  std::vector<std::pair<std::string, Histogram>> histograms;
  for (const Node& n : graph.nodes()) {
    const bool layer = std::ranges::any_of(n.parameters, [&](ParamId p) { return graph[p].kind == "weight"; });
    if (layer) widths.emplace_back("widths/" + n.name, static_cast<double>(graph.size(graph[n.outputs[0]].shape[0])));
  }
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    if (graph[id].role != Role::buffer) histograms.emplace_back(graph[id].name, histogram_of(weights[id]));
  }
  return scalar_event(wall_time(), step, widths) + histogram_event(wall_time(), step, histograms);
}

}  // namespace espalier
