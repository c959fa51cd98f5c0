#include "espalier/declare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "espalier/error.h"

namespace espalier {

const char* to_string(ParameterType type) {
  switch (type) {
    case ParameterType::boolean:
      return "boolean";
    case ParameterType::integer:
      return "integer";
    case ParameterType::number:
      return "number";
    case ParameterType::string:
      return "string";
    case ParameterType::path:
      return "path";
    case ParameterType::choice:
      return "choice";
    case ParameterType::integers:
      return "list of integers";
    case ParameterType::numbers:
      return "list of numbers";
    case ParameterType::strings:
      return "list of strings";
    case ParameterType::selector:
      return "selector";
    case ParameterType::per_selector:
      return "number or map from selectors to numbers";
    case ParameterType::component:
      return "component";
    case ParameterType::components:
      return "list of components";
    case ParameterType::options:
      return "map of options";
  }
  return "";
}

namespace {

std::string short_number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", v);
  return text;
}

std::string join(const std::vector<std::string>& items) {
  std::string all;
  for (const std::string& s : items) all += (all.empty() ? "" : ", ") + s;
  return all;
}

std::string range_of(const ParameterInfo& p) {
  std::string text;
  if (std::isfinite(p.least)) text += (p.open_below ? " > " : " >= ") + short_number(p.least);
  if (std::isfinite(p.most))
    text += (text.empty() ? "" : " and") + std::string(p.open_above ? " < " : " <= ") + short_number(p.most);
  return text;
}

[[noreturn]] void refuse(const ParameterInfo& p, const Value& v, const std::string& got) {
  throw InputError(v.location.str(), "'" + p.name + "' must be " + p.expected() + ", got " + got);
}

void check_range(const ParameterInfo& p, const Value& v) {
  const double x = v.as_double();
  const bool ok =
      std::isfinite(x) && (p.open_below ? x > p.least : x >= p.least) && (p.open_above ? x < p.most : x <= p.most);
  if (!ok) refuse(p, v, to_json(v));
}

Value check_number(const ParameterInfo& p, const Value& v) {
  if (!v.is_number()) refuse(p, v, v.describe());
  check_range(p, v);
  return v;
}

Value check_integer(const ParameterInfo& p, const Value& v) {
  // From 9e15 on a number with a point or an exponent does not tell integers apart.
  const bool too_large = v.is(Value::Kind::number) && std::abs(v.as_double()) >= 9e15;
  if (!v.is_number() || too_large || std::nearbyint(v.as_double()) != v.as_double()) refuse(p, v, v.describe());
  check_range(p, v);
  Value result(v.as_int());
  result.location = v.location;
  return result;
}

// A single item where a list is meant is a list of one.
template <class Check>
Value check_list(const ParameterInfo& p, const Value& v, Check check) {
  Value result = Value::list();
  result.location = v.location;
  if (v.is_list()) {
    for (const Value& e : v.as_list()) result.push_back(check(p, e));
  } else {
    result.push_back(check(p, v));
  }
  return result;
}

Value check_string(const ParameterInfo& p, const Value& v) {
  if (!v.is_string()) refuse(p, v, v.describe());
  return v;
}

// "~" is a word of the shell, and in a recipe a folder of this name.
Value check_path(const ParameterInfo& p, const Value& v) {
  check_string(p, v);
  if (v.as_string() == "~" || v.as_string().starts_with("~/"))
    refuse(p, v, "'" + v.as_string() + "', and '~' is not replaced here: write the path of your home folder");
  return v;
}

// Names may look like numbers: columns, class folders.
Value check_word(const ParameterInfo& p, const Value& v) {
  if (!v.is(Value::Kind::integer)) return check_string(p, v);
  Value word(to_json(v));
  word.location = v.location;
  return word;
}

Value check_component(const ParameterInfo& p, const Value& v) {
  if (v.is_string()) {
    Value spec = Value::map({{"use", v}});
    spec.location = v.location;
    return spec;
  }
  if (!v.is_map()) refuse(p, v, v.describe());
  if (!v.find("use"))
    throw InputError(v.location.str(),
                     "'" + p.name + "' needs the key 'use': the name of " + with_article(p.component_kind));
  return v;
}

}  // namespace

std::string ParameterInfo::expected() const {
  const std::string range = range_of(*this);
  const std::string of_unit = unit.empty() ? "" : " (" + unit + ")";
  switch (type) {
    case ParameterType::boolean:
      return "true or false";
    case ParameterType::integer:
      return "an integer" + range + of_unit;
    case ParameterType::number:
      return "a number" + range + of_unit;
    case ParameterType::string:
      return "a string";
    case ParameterType::path:
      return "a path (of a file or folder, relative to the recipe)";
    case ParameterType::choice:
      return "one of " + join(choices);
    case ParameterType::integers:
      return "a list of integers" + (range.empty() ? "" : " each" + range) + of_unit;
    case ParameterType::numbers:
      return "a list of numbers" + (range.empty() ? "" : " each" + range) + of_unit;
    case ParameterType::strings:
      return "a list of strings";
    case ParameterType::selector:
      return "a selector (weights, biases, norms, gates, all, or names such as conv1, fc*; \"!\" excludes)";
    case ParameterType::per_selector:
      return "a number" + range + ", or a map from selectors to such numbers";
    case ParameterType::component:
      return with_article(component_kind) + ": {use: NAME, ...}";
    case ParameterType::components:
      return "a list of " + component_kind + "s: [{use: NAME, ...}]";
    case ParameterType::options: {
      std::vector<std::string> names;
      for (const ParameterInfo& p : options) names.push_back(p.name);
      return "a map of the options " + join(names) + (choices.empty() ? "" : ", or the word " + choices.front());
    }
  }
  return {};
}

namespace {
Value check_group(const std::vector<ParameterInfo>& parameters, const Value& options, const std::string& what,
                  const std::string& prefix);
}

bool is_reference(const Value& value) {
  if (!value.is_map()) return false;
  const Value* from = value.find("from");
  const Value* run = value.find("run");
  return from && from->is_string() && value.size() == (run ? 2U : 1U) && (!run || run->is_string());
}

bool has_reference(const Value& value) {
  if (is_reference(value)) return true;
  if (value.is_list()) return std::ranges::any_of(value.as_list(), has_reference);
  return value.is_map() &&
         std::ranges::any_of(value.as_map(), [](const Value::Entry& e) { return has_reference(e.value); });
}

Value ParameterInfo::check(const Value& v) const {
  if (v.is_null()) {
    if (required || !fallback.is_null()) refuse(*this, v, "nothing");
    return v;
  }
  const bool nested = type == ParameterType::component || type == ParameterType::components;
  if (!nested && is_reference(v)) return v;
  switch (type) {
    case ParameterType::boolean:
      if (!v.is(Value::Kind::boolean)) refuse(*this, v, v.describe());
      return v;
    case ParameterType::integer:
      return check_integer(*this, v);
    case ParameterType::number:
      return check_number(*this, v);
    case ParameterType::string:
      return check_string(*this, v);
    case ParameterType::path:
      return check_path(*this, v);
    case ParameterType::choice:
      if (!v.is_string()) refuse(*this, v, v.describe());
      if (std::ranges::find(choices, v.as_string()) == choices.end()) {
        const std::string near = nearest(v.as_string(), choices);
        refuse(*this, v, v.describe() + (near.empty() ? "" : " (did you mean '" + near + "'?)"));
      }
      return v;
    case ParameterType::integers:
      return check_list(*this, v, check_integer);
    case ParameterType::numbers:
      return check_list(*this, v, check_number);
    case ParameterType::strings:
      return check_list(*this, v, check_word);
    case ParameterType::selector:
      return check_list(*this, v, check_string);
    case ParameterType::per_selector:
      if (!v.is_map()) return check_number(*this, v);
      if (v.size() == 0) refuse(*this, v, "an empty map");
      for (const Value::Entry& e : v.as_map()) check_number(*this, e.value);
      return v;
    case ParameterType::component:
      return check_component(*this, v);
    case ParameterType::components:
      return check_list(*this, v, check_component);
    case ParameterType::options:
      if (v.is_string() && std::ranges::find(choices, v.as_string()) != choices.end()) return fallback;
      if (!v.is_map()) refuse(*this, v, v.describe());
      return check_group(options, v, "'" + name + "'", name + ".");
  }
  return v;
}

namespace {

// Where one word is meant and a list is given: " (a list is what 'class_weight_values' takes)", if another parameter
// that begins alike takes one.
std::string list_parameter(const std::vector<ParameterInfo>& parameters, const ParameterInfo& p) {
  const std::string stem = p.name.ends_with('s') ? p.name.substr(0, p.name.size() - 1) : p.name;
  for (const ParameterInfo& other : parameters) {
    const bool list = other.type == ParameterType::integers || other.type == ParameterType::numbers ||
                      other.type == ParameterType::strings;
    if (list && other.name != p.name && other.name.starts_with(stem))
      return " (a list is what '" + other.name + "' takes)";
  }
  return "";
}

// prefix: what stands before the names in messages, "target." in a group of that name.
Value check_group(const std::vector<ParameterInfo>& parameters, const Value& options, const std::string& what,
                  const std::string& prefix) {
  if (!options.is_null() && !options.is_map()) {
    throw InputError(options.location.str(), what + ": expected a map of its parameters, got " + options.describe());
  }
  std::vector<std::string> names;
  for (const ParameterInfo& p : parameters) names.push_back(p.name);
  if (options.is_map()) {
    for (const Value::Entry& e : options.as_map()) {
      if (e.key == "use" || std::ranges::find(names, e.key) != names.end()) continue;
      const auto renamed = std::ranges::find(parameters, e.key, &ParameterInfo::formerly);
      if (renamed != parameters.end()) {
        throw InputError(e.key_location.str(),
                         what + ": '" + e.key + "' is called '" + renamed->name + "' now; write the new name");
      }
      const std::string known = names.empty() ? " (it has none)" : suggestion(e.key, names);
      throw InputError(e.key_location.str(), what + " has no parameter '" + e.key + "'" + known);
    }
  }
  Value result = Value::map();
  result.location = options.location;
  for (const ParameterInfo& p : parameters) {
    const Value* given = options.find(p.name);
    if (given) {
      ParameterInfo named = p;
      named.name = prefix + p.name;
      if (p.type == ParameterType::choice && given->is_list())
        refuse(named, *given, given->describe() + list_parameter(parameters, p));
      result[p.name] = named.check(*given);
    } else if (p.required) {
      throw InputError(options.location.str(), what + " needs the parameter '" + p.name + "': " + p.expected() +
                                                   (p.doc.empty() ? "" : ", " + p.doc));
    } else {
      result[p.name] = p.fallback;
    }
  }
  return result;
}

}  // namespace

Value check_options(const std::vector<ParameterInfo>& parameters, const Value& options, const std::string& what) {
  return check_group(parameters, options, what, "");
}

namespace detail {

void assign(bool& o, const Value& v) {
  o = v.as_bool();
}
void assign(int64_t& o, const Value& v) {
  o = v.as_int();
}
void assign(double& o, const Value& v) {
  o = v.as_double();
}
void assign(std::string& o, const Value& v) {
  o = v.as_string();
}
void assign(std::vector<int64_t>& o, const Value& v) {
  o.clear();
  for (const Value& e : v.as_list()) o.push_back(e.as_int());
}
void assign(std::vector<double>& o, const Value& v) {
  o.clear();
  for (const Value& e : v.as_list()) o.push_back(e.as_double());
}
void assign(std::vector<std::string>& o, const Value& v) {
  o.clear();
  for (const Value& e : v.as_list()) o.push_back(e.as_string());
}
void assign(Selector& o, const Value& v) {
  std::vector<std::string> terms;
  assign(terms, v);
  o = Selector(std::move(terms));
}
void assign(PerSelector& o, const Value& v) {
  if (!v.is_map()) {
    o = PerSelector(v.as_double());
    return;
  }
  o = PerSelector();
  for (const Value::Entry& e : v.as_map()) o.by_selector.emplace_back(Selector(e.key.c_str()), e.value.as_double());
}
void assign(Nested& o, const Value& v) {
  o.value = v;
}
void assign(std::vector<Nested>& o, const Value& v) {
  o.clear();
  if (v.is_null()) return;
  for (const Value& e : v.as_list()) o.push_back({e});
}

Value unassign(const bool& o) {
  return o;
}
Value unassign(const int64_t& o) {
  return o;
}
Value unassign(const double& o) {
  return o;
}
Value unassign(const std::string& o) {
  return o;
}
Value unassign(const std::vector<int64_t>& o) {
  return o;
}
Value unassign(const std::vector<double>& o) {
  return o;
}
Value unassign(const std::vector<std::string>& o) {
  return o;
}
Value unassign(const Selector& o) {
  return o.terms();
}
Value unassign(const PerSelector& o) {
  if (o.by_selector.empty()) return o.everywhere;
  Value v = Value::map();
  for (const auto& [selector, x] : o.by_selector) v[selector.str()] = x;
  return v;
}
Value unassign(const Nested& o) {
  return o.value;
}
Value unassign(const std::vector<Nested>& o) {
  Value v = Value::list();
  for (const Nested& n : o) v.push_back(n.value);
  return v;
}

}  // namespace detail

}  // namespace espalier
