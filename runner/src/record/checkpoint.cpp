#include "record/checkpoint.h"

#include <cmath>

#include <c10/core/GradMode.h>

#include "espalier/error.h"

namespace espalier {

namespace {

constexpr int64_t schema = 3;

constexpr const char* kept_components =
    "the optimizers and the controller of a stage that has begun can get other numbers, but not be replaced by others "
    "that keep other states";

std::string prefix_of(const std::string& name) {
  return name.empty() ? "" : name + "/";
}

void copy_in(const Checkpoint& c, const std::string& key, const at::Tensor& into) {
  const auto found = c.tensors.find(key);
  if (found == c.tensors.end()) throw InputError(c.path.string(), "the checkpoint has no tensor '" + key + "'");
  if (found->second.sizes() != into.sizes()) {
    throw InputError(c.path.string(), "the tensor '" + key + "' has the shape " +
                                          to_string(found->second.sizes().vec()) + ", its network needs " +
                                          to_string(into.sizes().vec()));
  }
  at::Tensor(into).copy_(found->second);
}

// JSON has no numbers that are not finite: they are written as a map of one text.
Value with_all_numbers(const Value& v) {
  if (v.is(Value::Kind::number) && !std::isfinite(v.as_double())) {
    const double n = v.as_double();
    return Value::map({{"number", std::isnan(n) ? "nan" : n > 0 ? "inf" : "-inf"}});
  }
  Value all = v;
  if (all.is_list()) {
    for (Value& item : all.as_list()) item = with_all_numbers(item);
  } else if (all.is_map()) {
    for (Value::Entry& e : all.as_map()) e.value = with_all_numbers(e.value);
  }
  return all;
}
Value all_numbers_of(const Value& v) {
  Value all = v;
  if (all.is_list()) {
    for (Value& item : all.as_list()) item = all_numbers_of(item);
  } else if (all.is_map()) {
    const Value* number = all.size() == 1 ? all.find("number") : nullptr;
    if (number && number->is_string()) return Value(std::stod(number->as_string()));
    for (Value::Entry& e : all.as_map()) e.value = all_numbers_of(e.value);
  }
  return all;
}

}  // namespace

NamedTensors model_tensors(const Graph& graph, const Weights& weights) {
  NamedTensors tensors;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    tensors.emplace_back(graph.parameters()[i].name, weights[{static_cast<int32_t>(i)}]);
  }
  return tensors;
}

void save_checkpoint(const std::filesystem::path& path, const State& state, const std::filesystem::path& keep) {
  TensorFile file;
  Value counters = Value::map();
  for (const auto& [name, weights] : state.weights) {
    const std::string prefix = prefix_of(name);
    for (auto& [parameter, tensor] : model_tensors(state.graph, *weights))
      file.tensors.emplace_back(prefix + "parameter:" + parameter, tensor);
    for (const StateSpec& s : weights->state_specs()) {
      for (size_t i = 0; i < state.graph.parameters().size(); ++i) {
        const Parameter& p = state.graph.parameters()[i];
        if (p.role == Role::buffer) continue;
        file.tensors.emplace_back(prefix + "state:" + s.name + ":" + p.name,
                                  weights->state(s.name, {static_cast<int32_t>(i)}));
      }
    }
    Value& numbers = counters[name] = Value::map();
    for (const auto& [key, n] : weights->counters()) numbers[key] = n;
  }
  for (const auto& [name, tensor] : state.tensors) file.tensors.emplace_back("run:" + name, tensor);
  file.metadata["espalier"] = to_json(Value::map({{"schema", schema},
                                                  {"graph", state.graph.to_value()},
                                                  {"counters", counters},
                                                  {"progress", with_all_numbers(state.progress)}}));
  save_safetensors(path, file, keep);
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
  TensorFile file = load_safetensors(path);
  const auto text = file.metadata.find("espalier");
  if (text == file.metadata.end())
    throw InputError(path.string(), "a safetensors file, but not a checkpoint of Espalier");
  if (!file.checked) throw InputError(path.string(), "the checkpoint's checksum is missing");
  Checkpoint c;
  c.path = path;
  try {
    const Value meta = from_json(text->second, "what it says of itself");
    if (meta.at("schema").as_int() != schema)
      throw Error("checkpoint schema " + to_json(meta.at("schema")) + ", this program reads " + std::to_string(schema));
    c.graph = Graph::from_value(meta.at("graph"));
    c.progress = all_numbers_of(meta.at("progress"));
    c.counters = meta.at("counters");
  } catch (const Error& e) {
    throw InputError(path.string(), e.what());
  }
  for (auto& [name, tensor] : file.tensors) c.tensors.emplace(name, std::move(tensor));
  return c;
}

void Checkpoint::restore(Weights& weights, const std::string& name, bool all_states) const {
  const c10::NoGradGuard no_grad;
  const std::string prefix = prefix_of(name);
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    const Parameter& p = graph[id];
    copy_in(*this, prefix + "parameter:" + p.name, weights[id].detach());
    if (p.role == Role::buffer) continue;
    for (const StateSpec& s : weights.state_specs()) {
      const std::string key = prefix + "state:" + s.name + ":" + p.name;
      if (!tensors.contains(key))
        throw InputError(path.string(), "it has no state '" + s.name + "'; " + kept_components);
      copy_in(*this, key, weights.state(s.name, id));
    }
  }
  for (const auto& [key, tensor] : tensors) {
    const std::string start = prefix + "state:";
    if (!all_states || !key.starts_with(start)) continue;
    const std::string state = key.substr(start.size(), key.find(':', start.size()) - start.size());
    if (!weights.has_state(state))
      throw InputError(path.string(), "it holds the state '" + state +
                                          "', which nothing has registered: " + kept_components +
                                          ", and a controller's resume() must register what its "
                                          "stage_begin() does");
  }
  weights.counters().clear();
  for (const Value::Entry& e : counters.at(name).as_map()) weights.counters()[e.key] = e.value.as_double();
}

at::Tensor Checkpoint::tensor(const std::string& name) const {
  const auto found = tensors.find("run:" + name);
  if (found == tensors.end()) throw InputError(path.string(), "the checkpoint has no tensor 'run:" + name + "'");
  return found->second;
}

}  // namespace espalier
