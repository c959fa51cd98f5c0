#include "record/libraries.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <dlfcn.h>

#include "espalier/build_config.h"
#include "espalier/datasets/checksum.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "recipe/schedule.h"

namespace espalier {

namespace {

void add_used(std::set<const Registered*>& used, const std::string& kind, const Value& spec);

void add_nested(std::set<const Registered*>& used, const std::vector<ParameterInfo>& parameters, const Value& options) {
  for (const ParameterInfo& p : parameters) {
    const Value* v = options.find(p.name);
    if (!v) continue;
    if (p.type == ParameterType::component) add_used(used, p.component_kind, *v);
    if (p.type == ParameterType::components && v->is_list()) {
      for (const Value& e : v->as_list()) add_used(used, p.component_kind, e);
    }
    if (p.type == ParameterType::options && v->is_map()) add_nested(used, p.options, *v);
  }
}

void add_used(std::set<const Registered*>& used, const std::string& kind, const Value& spec) {
  if (spec.is_null()) return;
  const Registered& c = Registry::instance().at(kind, name_of(spec, kind), spec.location);
  used.insert(&c);
  add_nested(used, c.component.parameters, spec);
}

std::set<const Registered*> used_components(const Recipe& recipe) {
  std::set<const Registered*> used;
  add_used(used, "dataset", recipe.data.dataset);
  add_used(used, "backbone", recipe.network);
  if (recipe.base.is_map() && recipe.base.find("use")) add_used(used, "backbone", recipe.base);
  for (const StageSection& s : recipe.stages) {
    if (s.data) add_used(used, "dataset", s.data->dataset);
    add_used(used, "backbone", s.network);
    for (const Value& c : s.controllers) add_used(used, "controller", c);
    for (const OptimizerSection& o : s.optimizers) add_used(used, "optimizer", o.spec);
    for (const Value& r : s.regularizers) add_used(used, "regularizer", r);
  }
  for (const Registered* r : Registry::instance().all()) {
    if (r->component.kind == "operation") used.insert(r);
  }
  return used;
}

Value library(const std::string& name, const std::string& version, const std::string& path) {
  Value v = Value::map({{"name", name}, {"version", version}, {"path", path}});
  try {
    v["sha256"] = file_checksum(path, "sha256");
  } catch (const Error&) {
    v["sha256"] = Value();  // replaced or taken away since it was loaded
  }
  return v;
}

// The library that a function of the SDK lies in.
std::string sdk_path() {
  Dl_info info{};
  return dladdr(reinterpret_cast<const void*>(&name_of), &info) != 0 && info.dli_fname ? info.dli_fname : "";
}

}  // namespace

Value libraries_of(const Recipe& recipe) {
  Value all = Value::list();
  all.push_back(library("espalier (program)", ESPALIER_VERSION, "/proc/self/exe"));
  all.push_back(library("espalier (library)", ESPALIER_VERSION, sdk_path()));
  std::set<std::string> paths;  // of the plugins, in order
  std::vector<const Registered*> of_plugins;
  for (const Registered* r : used_components(recipe)) {
    if (!r->origin.path.empty() && paths.insert(r->origin.path).second) of_plugins.push_back(r);
  }
  std::ranges::sort(of_plugins, {}, [](const Registered* r) { return r->origin.plugin; });
  for (const Registered* r : of_plugins)
    all.push_back(library("plugin " + r->origin.plugin, r->origin.version, r->origin.path));
  return all;
}

std::vector<std::string> library_differences(const Value& before, const Value& now) {
  const auto find = [](const Value& libraries, const Value& name) -> const Value* {
    for (const Value& l : libraries.as_list()) {
      if (l.at("name") == name) return &l;
    }
    return nullptr;
  };
  std::vector<std::string> found;
  for (const Value& b : before.as_list()) {
    const std::string& name = b.at("name").as_string();
    const Value* n = find(now, b.at("name"));
    if (!n) {
      found.push_back(name + " is not used any more");
    } else if (!(b.at("version") == n->at("version"))) {
      found.push_back(name + ": version " + b.at("version").as_string() + " before, " + n->at("version").as_string() +
                      " now");
    } else if (!(b.at("sha256") == n->at("sha256"))) {
      found.push_back(name + ": another file than before, of the same version (" + n->at("path").as_string() + ")");
    }
  }
  for (const Value& n : now.as_list()) {
    if (!find(before, n.at("name"))) found.push_back(n.at("name").as_string() + " was not used before");
  }
  return found;
}

}  // namespace espalier
