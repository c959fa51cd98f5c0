#include "recipe/component_specs.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "recipe/section_keys.h"

namespace espalier {

namespace fs = std::filesystem;

Value ComponentSpecs::check(const std::string& kind, const Value& spec) const {
  Value checked = registry_.check(kind, with_references(spec));
  make_paths_absolute(kind, checked);
  return checked;
}

Value ComponentSpecs::with_references(const Value& spec) const {
  return with_artefacts(spec, [&](const Reference& reference) -> std::optional<Value> {
    if (reference.run.is_null()) {
      check_reference(reference, stages_so_far_, registry_);
      return std::nullopt;
    }
    const Value run = absolute_path(reference.run);
    if (!fs::exists(run.as_string()) && is_needed(run)) {
      Value later = Value::map({{"from", reference.from}, {"run", run}});
      later.location = reference.from.location;
      return later;
    }
    return artefact_of_run(run, reference.from);
  });
}

bool ComponentSpecs::is_needed(const Value& folder) const {
  const fs::path path = folder.as_string();
  const std::optional<Maker> maker = maker_of(path, needs_);
  if (!maker) return false;
  if (std::ranges::none_of(missing_, [&](const MissingRun& m) { return lies_in(path, m.folder); })) {
    missing_.push_back({path, folder.location.str() + ": the run " + path.string() + " of " +
                                  maker->recipe->path.string() + " does not exist yet: " + maker->command +
                                  " makes it"});
  }
  return true;
}

void ComponentSpecs::make_paths_absolute(const std::string& kind, Value& spec) const {
  make_paths_absolute(registry_.at(kind, name_of(spec, kind), spec.location).component.parameters, spec);
}

void ComponentSpecs::make_paths_absolute(const std::vector<ParameterInfo>& parameters, Value& options) const {
  for (const ParameterInfo& p : parameters) {
    Value* v = options.find(p.name);
    if (!v || v->is_null()) continue;
    if (is_reference(*v)) continue;
    if (p.type == ParameterType::path) {
      *v = absolute_path(*v);
      if (!v->as_string().empty() && !fs::exists(v->as_string())) static_cast<void>(is_needed(*v));
    }
    if (p.type == ParameterType::component) make_paths_absolute(p.component_kind, *v);
    if (p.type == ParameterType::components) {
      for (Value& e : v->as_list()) make_paths_absolute(p.component_kind, e);
    }
    if (p.type == ParameterType::options) make_paths_absolute(p.options, *v);
  }
}

}  // namespace espalier
