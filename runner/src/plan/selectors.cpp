#include "plan/selectors.h"

#include <vector>

#include "espalier/declare.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "recipe/references.h"

namespace espalier {

Value names_of(const Graph& g, const Selector& s) {
  Value names = Value::list();
  for (const ParamId p : s.match(g)) names.push_back(g[p].name);
  return names;
}

namespace {

void add_selectors(const Graph& g, const std::vector<ParameterInfo>& parameters, const Value& spec,
                   const std::string& where, Value& out) {
  const auto add = [&](const Selector& s, const std::string& parameter, const Value& v) {
    if (s.empty()) return;
    try {
      s.require_matches(g);
    } catch (const Error& e) {
      throw InputError(v.location.str(), where + "." + parameter + ": " + e.what());
    }
    out.push_back(Value::map({{"where", where + "." + parameter}, {"selector", s.str()}, {"matches", names_of(g, s)}}));
  };
  for (const ParameterInfo& p : parameters) {
    const Value* v = spec.find(p.name);
    if (!v || v->is_null()) continue;
    if (is_reference(*v)) continue;
    if (p.type == ParameterType::options) add_selectors(g, p.options, *v, where + "." + p.name, out);
    if (p.type == ParameterType::selector) {
      Selector s;
      detail::assign(s, p.check(*v));
      add(s, p.name, v->location.file ? *v : spec);
    } else if (p.type == ParameterType::per_selector && v->is_map()) {
      for (const Value::Entry& e : v->as_map()) add(Selector(e.key.c_str()), p.name, e.value);
    } else if (p.type == ParameterType::component) {
      add_selectors(g, p.component_kind, *v, where + "." + p.name, out);
    } else if (p.type == ParameterType::components) {
      for (const Value& e : v->as_list()) add_selectors(g, p.component_kind, e, where + "." + p.name, out);
    }
  }
}

}  // namespace

void add_selectors(const Graph& g, const std::string& kind, const Value& spec, const std::string& where, Value& out) {
  const Registered& c = Registry::instance().at(kind, name_of(spec, kind), spec.location);
  add_selectors(g, c.component.parameters, spec, where, out);
}

}  // namespace espalier
