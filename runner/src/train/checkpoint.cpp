#include "train/checkpoint.h"

#include <c10/core/GradMode.h>

#include "espalier/error.h"

namespace espalier {

namespace {

constexpr int64_t schema = 1;

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

}  // namespace

NamedTensors model_tensors(const Graph& graph, const Weights& weights) {
  NamedTensors tensors;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    tensors.emplace_back(graph.parameters()[i].name, weights[{static_cast<int32_t>(i)}]);
  }
  return tensors;
}

void save_checkpoint(const std::filesystem::path& path, const Graph& graph, const Weights& weights,
                     const Value& progress) {
  TensorFile file;
  for (auto& [name, tensor] : model_tensors(graph, weights)) file.tensors.emplace_back("parameter:" + name, tensor);
  for (const StateSpec& s : weights.state_specs()) {
    for (size_t i = 0; i < graph.parameters().size(); ++i) {
      const Parameter& p = graph.parameters()[i];
      if (p.role != Role::buffer)
        file.tensors.emplace_back("state:" + s.name + ":" + p.name, weights.state(s.name, {static_cast<int32_t>(i)}));
    }
  }
  Value counters = Value::map();
  for (const auto& [name, n] : weights.counters()) counters[name] = n;
  file.metadata["espalier"] = to_json(
      Value::map({{"schema", schema}, {"graph", graph.to_value()}, {"counters", counters}, {"progress", progress}}));
  save_safetensors(path, file);
}

Checkpoint load_checkpoint(const std::filesystem::path& path) {
  TensorFile file = load_safetensors(path);
  const auto text = file.metadata.find("espalier");
  if (text == file.metadata.end())
    throw InputError(path.string(), "a safetensors file, but not a checkpoint of Espalier");
  const Value meta = from_json(text->second, path.string());
  if (meta.at("schema").as_int() != schema)
    throw InputError(path.string(), "checkpoint schema " + to_json(meta.at("schema")) + ", this program reads " +
                                        std::to_string(schema));
  Checkpoint c;
  c.path = path;
  c.graph = Graph::from_value(meta.at("graph"));
  c.progress = meta.at("progress");
  for (const Value::Entry& e : meta.at("counters").as_map()) c.counters[e.key] = e.value.as_double();
  for (auto& [name, tensor] : file.tensors) c.tensors.emplace(name, std::move(tensor));
  return c;
}

void Checkpoint::restore(Weights& weights) const {
  const c10::NoGradGuard no_grad;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    const Parameter& p = graph[id];
    copy_in(*this, "parameter:" + p.name, weights[id].detach());
    if (p.role == Role::buffer) continue;
    for (const StateSpec& s : weights.state_specs())
      copy_in(*this, "state:" + s.name + ":" + p.name, weights.state(s.name, id));
  }
  weights.counters() = counters;
}

}  // namespace espalier
