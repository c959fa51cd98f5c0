#include "recipe/needs.h"

#include <algorithm>
#include <map>

#include "espalier/error.h"

namespace espalier {

namespace {

struct Found {
  const Registered* component;
  Location where;
};

void collect(std::vector<Found>& found, const Registry& registry, const std::string& kind, const Value& spec);

void collect_nested(std::vector<Found>& found, const Registry& registry, const std::vector<ParameterInfo>& parameters,
                    const Value& options) {
  for (const ParameterInfo& p : parameters) {
    const Value* v = options.find(p.name);
    if (!v) continue;
    if (p.type == ParameterType::component) collect(found, registry, p.component_kind, *v);
    if (p.type == ParameterType::components && v->is_list()) {
      for (const Value& e : v->as_list()) collect(found, registry, p.component_kind, e);
    }
    if (p.type == ParameterType::options && v->is_map()) collect_nested(found, registry, p.options, *v);
  }
}

void collect(std::vector<Found>& found, const Registry& registry, const std::string& kind, const Value& spec) {
  if (spec.is_null()) return;
  const Registered& c = registry.at(kind, name_of(spec, kind), spec.location);
  found.push_back({&c, spec.location});
  collect_nested(found, registry, c.component.parameters, spec);
}

bool provides(const Component& c, const std::string& what) {
  return std::ranges::find(c.provides, what) != c.provides.end();
}

// " (optimizer 'linbreg' does)"
std::string who_provides(const Registry& registry, const std::string& what) {
  std::string names;
  for (const Registered* r : registry.all()) {
    if (provides(r->component, what))
      names += (names.empty() ? "" : ", ") + r->component.kind + " '" + r->component.name + "'";
  }
  return names.empty() ? " (nor does any component that is loaded)" : " (provided by " + names + ")";
}

}  // namespace

void check_needs(const std::vector<Participant>& participants, const std::vector<std::string>& given,
                 const std::string& stage, const Registry& registry) {
  std::vector<Found> found;
  for (const Participant& p : participants) collect(found, registry, p.kind, p.spec);
  std::map<std::string, int> providers;
  for (const std::string& what : given) ++providers[what];
  for (const Found& f : found) {
    for (const std::string& what : f.component->component.provides) ++providers[what];
  }
  for (const Found& f : found) {
    for (const Need& need : f.component->component.needs) {
      if (providers[need.what] > (provides(f.component->component, need.what) ? 1 : 0)) continue;
      throw InputError(f.where.str(), f.component->component.kind + " '" + f.component->component.name + "' needs '" +
                                          need.what + "' (" + need.why + "), and nothing else in stage '" + stage +
                                          "' provides it" + who_provides(registry, need.what));
    }
  }
}

}  // namespace espalier
