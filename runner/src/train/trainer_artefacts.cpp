// What stages hand on: kept in memory and in checkpoints, written into the run's folder, put into the recipe's specs.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "espalier/backbone.h"
#include "espalier/error.h"
#include "recipe/references.h"
#include "system/files.h"
#include "train/trainer.h"

namespace espalier {

namespace {

// In a checkpoint, before the name of an artefact's tensor.
std::string prefix_of(const std::string& name) {
  return "artefact/" + name + "/";
}

bool is_word(const std::string& name) {
  return !name.empty() &&
         std::ranges::all_of(name, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; });
}

}  // namespace

void Trainer::publish(const std::string& name, const Artefact& artefact) {
  if (!whose_turn_) throw Error("only a controller publishes an artefact, in its turn");
  const Component& component = whose_turn_->component->component;
  if (!is_word(name)) throw Error("an artefact is called by letters, digits, '_' and '-', not '" + name + "'");
  if (std::ranges::find(component.publishes, name, &Published::name) == component.publishes.end()) {
    throw Error("it publishes '" + name + "' without saying so: its component needs .publish(\"" + name +
                "\", \"what it is\")");
  }
  const std::string whole = stage_->name + "." + name;
  Artefact& kept = artefacts_[whole] = artefact;
  for (auto& [tensor_name, tensor] : kept.tensors) tensor = tensor.detach().cpu().contiguous().clone();
  write_artefact(whole, kept);
  note("publishes " + whole);
}

const Artefact& Trainer::artefact(const std::string& name) const {
  const auto it = artefacts_.find(name);
  if (it != artefacts_.end()) return it->second;
  std::vector<std::string> known;
  for (const auto& [other, artefact] : artefacts_) known.push_back(other);
  throw Error("no stage has published '" + name + "'" + suggestion(name, known));
}

Value Trainer::derive() const {
  const Value spec = known(network_in_force());
  const Made<Backbone> backbone = Made<Backbone>::make(spec);
  Value derived;
  backbone.call([&](Backbone& b) { derived = b.derive(network_.graph, *network_.weights); });
  if (derived.is_null()) {
    throw Error("the backbone '" + name_of(spec, "backbone") +
                "' derives no network from a trained one; search networks do (darts_search, nasbench201_search)");
  }
  return derived;
}

const Value& Trainer::network_in_force() const {
  const Value* network = &recipe_.network;
  for (size_t i = 0; i < recipe_.stages.size() && i <= position_.stage; ++i) {
    if (!recipe_.stages[i].network.is_null()) network = &recipe_.stages[i].network;
  }
  return *network;
}

Value Trainer::known(const Value& spec) const {
  return with_artefacts(spec, [&](const Reference& reference) -> std::optional<Value> {
    const std::string& from = reference.from.as_string();
    for (const auto& [name, artefact] : artefacts_) {
      if (from == name || from.starts_with(name + ".")) return part_of_artefact(artefact.value, name, reference.from);
    }
    throw InputError(reference.from.location.str(), "the stage has ended and did not publish '" + from + "'");
  });
}

void Trainer::write_artefact(const std::string& name, const Artefact& artefact) const {
  const std::filesystem::path folder = folder_.file("artefacts");
  std::filesystem::create_directories(folder);
  if (!artefact.tensors.empty()) save_safetensors(folder / (name + ".safetensors"), {artefact.tensors, {}});
  write_file(folder / (name + ".json"), to_json(artefact.value, 1) + "\n");
}

void Trainer::rewrite_artefacts() const {
  std::error_code none;
  std::filesystem::remove_all(folder_.file("artefacts"), none);
  for (const auto& [name, artefact] : artefacts_) write_artefact(name, artefact);
}

void Trainer::save_artefacts(State& state) const {
  Value& all = state.progress["artefacts"] = Value::map();
  for (const auto& [name, artefact] : artefacts_) {
    Value tensors = Value::list();
    for (const auto& [tensor_name, tensor] : artefact.tensors) {
      tensors.push_back(tensor_name);
      state.tensors.emplace_back(prefix_of(name) + tensor_name, tensor);
    }
    all[name] = Value::map({{"value", artefact.value}, {"tensors", tensors}});
  }
}

void Trainer::restore_artefacts(const Checkpoint& checkpoint) {
  artefacts_.clear();
  const Value* all = checkpoint.progress.find("artefacts");
  if (!all) return;
  for (const Value::Entry& e : all->as_map()) {
    Artefact& artefact = artefacts_[e.key];
    artefact.value = e.value.at("value");
    for (const Value& name : e.value.at("tensors").as_list())
      artefact.tensors.emplace_back(name.as_string(), checkpoint.tensor(prefix_of(e.key) + name.as_string()));
  }
}

}  // namespace espalier
