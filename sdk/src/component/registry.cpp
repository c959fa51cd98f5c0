#include "espalier/registry.h"

#include <algorithm>
#include <set>
#include <tuple>

#include <c10/util/Exception.h>

#include "espalier/error.h"
#include "operations/builtin.h"
#include "scores/builtin.h"
#include "tasks/builtin.h"

namespace espalier {

std::string Registered::str() const {
  std::string s = component.kind + " '" + component.name + "'";
  if (!origin.path.empty()) s += " of plugin " + origin.plugin + " " + origin.version + " (" + origin.path + ")";
  return s;
}

Registry& Registry::instance() {
  // Never destroyed: its factories live in libraries that stay loaded.
  static Registry* const registry = [] {
    auto* r = new Registry;
    for (auto* kind : {builtin_operations, builtin_losses, builtin_metrics, builtin_scores}) {
      for (Component& c : kind()) r->add(std::move(c), {});
    }
    return r;
  }();
  return *registry;
}

void Registry::add(Component component, const Origin& origin) {
  const std::string what = component.kind + " '" + component.name + "'";
  if (component.name.empty()) throw Error(with_article(component.kind) + " without a name");
  if (!component.create) throw Error(what + " has no factory");
  if (const Registered* other = find(component.kind, component.name)) {
    throw Error(what + " is already offered by plugin " + other->origin.plugin +
                (other->origin.path.empty() ? "" : " (" + other->origin.path + ")"));
  }
  std::set<std::string> names;
  for (const ParameterInfo& p : component.parameters) {
    if (!names.insert(p.name).second) throw Error(what + " declares the parameter '" + p.name + "' twice");
    if (p.name == "use") throw Error(what + " declares a parameter 'use', which recipes need for the component's name");
    if (!p.required && !p.fallback.is_null()) {
      try {
        p.check(p.fallback);
      } catch (const Error& e) {
        throw Error(what + ": its own default is not allowed: " + e.what());
      }
    }
  }
  components_.push_back(std::make_unique<Registered>(Registered{std::move(component), origin}));
}

const Registered* Registry::find(const std::string& kind, const std::string& name) const {
  for (const auto& c : components_) {
    if (c->component.kind == kind && c->component.name == name) return c.get();
  }
  return nullptr;
}

const Registered& Registry::at(const std::string& kind, const std::string& name, const Location& where) const {
  if (const Registered* c = find(kind, name)) return *c;
  const std::vector<std::string> known = names(kind);
  std::string hint = suggestion(name, known);
  if (known.empty()) hint = " (no plugin that offers one is loaded; `espalier plugins` shows the searched folders)";
  for (const auto& c : components_) {
    if (c->component.name == name) hint = " ('" + name + "' is " + with_article(c->component.kind) + ")";
  }
  throw InputError(where.str(), "no " + kind + " is called '" + name + "'" + hint);
}

std::vector<const Registered*> Registry::all() const {
  std::vector<const Registered*> result;
  for (const auto& c : components_) result.push_back(c.get());
  std::ranges::sort(result, [](const Registered* a, const Registered* b) {
    return std::tie(a->component.kind, a->component.name) < std::tie(b->component.kind, b->component.name);
  });
  return result;
}

std::vector<std::string> Registry::names(const std::string& kind) const {
  std::vector<std::string> result;
  for (const auto& c : components_) {
    if (c->component.kind == kind) result.push_back(c->component.name);
  }
  std::ranges::sort(result);
  return result;
}

// Components among the options, and those within groups of options.
void Registry::check_nested(const std::vector<ParameterInfo>& parameters, Value& options) const {
  for (const ParameterInfo& p : parameters) {
    Value& v = options[p.name];
    if (v.is_null()) continue;
    if (p.type == ParameterType::component) v = check(p.component_kind, v);
    if (p.type == ParameterType::components) {
      for (Value& e : v.as_list()) e = check(p.component_kind, e);
    }
    if (p.type == ParameterType::options && !is_reference(v)) check_nested(p.options, v);
  }
}

const std::string& name_of(const Value& spec, const std::string& kind) {
  if (spec.is_string()) return spec.as_string();
  if (spec.is_map()) {
    const Value* use = spec.find("use");
    if (!use) throw InputError(spec.location.str(), with_article(kind) + " needs the key 'use': {use: NAME, ...}");
    if (use->is_string()) return use->as_string();
    throw InputError(use->location.str(),
                     "'use' must be the name of " + with_article(kind) + ", got " + use->describe());
  }
  throw InputError(spec.location.str(),
                   "expected " + with_article(kind) + ": {use: NAME, ...}, got " + spec.describe());
}

Value Registry::check(const std::string& kind, const Value& spec) const {
  const Registered& c = at(kind, name_of(spec, kind), spec.is_map() ? spec.at("use").location : spec.location);
  Value checked =
      check_options(c.component.parameters, spec.is_map() ? spec : Value(), kind + " '" + c.component.name + "'");
  check_nested(c.component.parameters, checked);
  Value result = Value::map({{"use", c.component.name}});
  result.location = spec.location;
  for (Value::Entry& e : checked.as_map()) result[e.key] = std::move(e.value);
  return result;
}

std::unique_ptr<Object> Registry::create_object(const std::string& kind, const Value& spec) const {
  const Value checked = check(kind, spec);
  const Registered& c = at(kind, name_of(spec, kind), spec.location);
  for (const Value::Entry& e : checked.as_map()) {
    if (!has_reference(e.value)) continue;
    throw InputError(e.value.location.str(),
                     "'" + e.key + "' of " + kind + " '" + c.component.name +
                         "' refers to what a stage publishes, and is not known before that stage has run");
  }
  std::unique_ptr<Object> object;
  labelled(c, spec.location, [&] { object = c.component.create(checked); });
  if (!object) throw InputError(spec.location.str(), c.str() + ": its factory made nothing");
  return object;
}

void Registry::throw_wrong_type(const std::string& kind, const Value& spec) {
  throw InputError(spec.location.str(),
                   kind + " '" + name_of(spec, kind) + "': its factory made an object of another kind");
}

void labelled(const Registered& component, const Location& where, const std::function<void()>& body) {
  const std::string place = where.str().empty() ? "" : where.str() + ": ";
  try {
    body();
  } catch (const InputError&) {
    throw;  // already says where
  } catch (const LocatedError&) {
    throw;
  } catch (const EditError& e) {
    throw EditError(place + component.str() + ": " + e.what());
  } catch (const c10::Error& e) {
    throw LocatedError(place + component.str() + ": " + e.what_without_backtrace());
  } catch (const std::exception& e) {
    throw LocatedError(place + component.str() + ": " + e.what());
  } catch (...) {
    throw LocatedError(place + component.str() + ": threw something that is no std::exception");
  }
}

}  // namespace espalier
