#include <algorithm>

#include "recipe/overrides.h"
#include "store/store.h"

namespace espalier {

std::vector<std::string> stored_keys() {
  return {"id",    "folder",     "name",     "recipe", "scale", "seed",        "status",    "error",
          "began", "hours",      "seconds",  "device", "cpu",   "version",     "metric",    "best",
          "loss",  "train_loss", "sparsity", "params", "macs",  "base_params", "base_macs", "train_cost"};
}

const Value& StoredRun::environment() const {
  if (!read_.environment) read_.environment = texts.environment.empty() ? Value::map() : from_json(texts.environment);
  return *read_.environment;
}

const Value& StoredRun::recipe() const {
  if (!read_.recipe) read_.recipe = texts.recipe.empty() ? Value::map() : from_json(texts.recipe);
  return *read_.recipe;
}

const std::optional<Summary>& StoredRun::summary() const {
  if (!read_.summary) {
    read_.summary.emplace();
    if (!texts.summary.empty()) *read_.summary = Summary::from_value(from_json(texts.summary));
  }
  return *read_.summary;
}

Value StoredRun::value(const std::string& key) const {
  if (key == "id") return id;
  if (key == "folder") return folder.string();
  if (key == "name") return name;
  if (key == "recipe") return source;
  if (key == "scale") return scale;
  if (key == "seed") return seed;
  if (key == "status") return status;
  if (key == "error") return error;
  if (key == "began") return began;
  if (key == "seconds") return seconds;
  constexpr double hour = 3600;
  if (key == "hours") return seconds / hour;
  if (key == "metric" || (!metric.empty() && key == metric)) return test;
  if (key == "best" || (!metric.empty() && key == metric + "_best")) return best;
  if (key == "loss") return loss;
  if (key == "params") return params;
  if (key == "macs") return macs;
  if (key == "train_cost") return train_cost;
  if (key == "device" || key == "cpu" || key == "version") {
    const Value* v = environment().find(key == "version" ? "espalier" : key);
    return v ? *v : Value();
  }
  if (const std::optional<Summary>& s = summary()) {
    if (s->result && key == "base_params") return s->result->base.params;
    if (s->result && key == "base_macs") return s->result->base.macs;
    if (const std::optional<double> v = s->metric(key)) return *v;
  }
  const std::vector<std::string> known = stored_keys();
  if (std::ranges::count(known, key) > 0) return {};
  const Value* v = value_at(recipe(), key);
  return v ? *v : Value();
}

}  // namespace espalier
