#include "commands/describe.h"

#include <cmath>
#include <iostream>
#include <memory>
#include <set>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/plugin_options.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "espalier/value.h"
#include "plugins/builtin.h"
#include "recipe/sections.h"
#include "recipe/yaml.h"
#include "system/terminal.h"

namespace espalier {

namespace {

// What can be described: a component, or a section of a recipe.
struct Subject {
  std::string kind;
  std::string name;
  std::string doc;
  std::vector<ParameterInfo> parameters;
  std::vector<SubsectionInfo> subsections;
  const Registered* registered = nullptr;
};

std::vector<Subject> all_subjects() {
  std::vector<Subject> subjects;
  for (const Registered* r : Registry::instance().all()) {
    subjects.push_back({r->component.kind, r->component.name, r->component.doc, r->component.parameters, {}, r});
  }
  const auto section = [&](const char* name, const char* doc, std::vector<ParameterInfo> keys,
                           std::vector<SubsectionInfo> more) {
    subjects.push_back({"section", name, doc, std::move(keys), std::move(more), nullptr});
  };
  section("recipe", "the keys of a recipe", Declare<RecipeKeys>().parameters(), recipe_subsections());
  section("data", "the keys of a recipe's data, beside the data set's own parameters", Declare<DataKeys>().parameters(),
          data_subsections());
  section("network", "the keys of a recipe's network, beside the backbone's own parameters",
          Declare<NetworkKeys>().parameters(), network_subsections());
  section("stage", "the keys of one of a recipe's stages", Declare<StageKeys>().parameters(), stage_subsections());
  return subjects;
}

std::string one_line(const Value& v) {
  std::string text = to_yaml(v);
  text.erase(text.find_last_not_of('\n') + 1);
  return text;
}

std::string default_of(const ParameterInfo& p) {
  if (p.required) return "required";
  if (p.type == ParameterType::options && p.fallback.is_map()) return "those below";
  if (p.fallback.is_null() || (p.fallback.is_list() && p.fallback.size() == 0))
    return p.choices.empty() || p.type != ParameterType::options ? "none" : p.choices.front();
  return one_line(p.fallback);
}

// "an integer >= 1" without the article, which a table does not need.
std::string type_of(const ParameterInfo& p) {
  if (p.type == ParameterType::selector) return "selector";
  if (p.type == ParameterType::options) return "map" + (p.choices.empty() ? "" : ", or " + p.choices.front());
  const std::string text = p.expected();
  for (const char* article : {"a ", "an "}) {
    if (text.starts_with(article)) return text.substr(std::string(article).size());
  }
  return text;
}

Value to_value(const ParameterInfo& p) {
  Value v = Value::map({{"name", p.name},
                        {"type", to_string(p.type)},
                        {"required", p.required},
                        {"default", p.fallback},
                        {"expected", p.expected()}});
  if (std::isfinite(p.least)) v[p.open_below ? "above" : "least"] = p.least;
  if (std::isfinite(p.most)) v[p.open_above ? "below" : "most"] = p.most;
  if (!p.choices.empty()) v["choices"] = p.choices;
  if (!p.unit.empty()) v["unit"] = p.unit;
  if (!p.component_kind.empty()) v["component_kind"] = p.component_kind;
  if (!p.options.empty()) {
    Value& options = v["options"] = Value::list();
    for (const ParameterInfo& inner : p.options) options.push_back(to_value(inner));
  }
  v["doc"] = p.doc;
  return v;
}

Value to_value(const Subject& s) {
  Value v = Value::map({{"kind", s.kind}, {"name", s.name}, {"doc", s.doc}, {"parameters", Value::list()}});
  for (const ParameterInfo& p : s.parameters) v["parameters"].push_back(to_value(p));
  for (const SubsectionInfo& sub : s.subsections) {
    v["parameters"].push_back(Value::map({{"name", sub.name},
                                          {"type", "section"},
                                          {"required", sub.required},
                                          {"expected", sub.expected},
                                          {"doc", sub.doc}}));
  }
  if (!s.registered) return v;
  v["needs"] = Value::list();
  for (const Need& n : s.registered->component.needs)
    v["needs"].push_back(Value::map({{"what", n.what}, {"why", n.why}}));
  v["provides"] = s.registered->component.provides;
  v["publishes"] = Value::list();
  for (const Published& p : s.registered->component.publishes)
    v["publishes"].push_back(Value::map({{"name", p.name}, {"doc", p.doc}}));
  v["plugin"] = s.registered->origin.plugin;
  v["version"] = s.registered->origin.version;
  v["path"] = s.registered->origin.path;
  return v;
}

void print(const Subject& s) {
  std::cout << s.kind << " " << s.name << (s.doc.empty() ? "" : ": " + s.doc) << "\n";
  if (s.registered) {
    const Origin& o = s.registered->origin;
    std::cout << (o.path.empty() ? "part of Espalier" : "plugin " + o.plugin + " " + o.version + " (" + o.path + ")")
              << "\n";
    for (const Need& n : s.registered->component.needs) std::cout << "needs " << n.what << ": " << n.why << "\n";
    for (const std::string& p : s.registered->component.provides) std::cout << "provides " << p << "\n";
    for (const Published& p : s.registered->component.publishes)
      std::cout << "publishes " << p.name << ": " << p.doc << "\n";
  }
  if (s.parameters.empty() && s.subsections.empty()) {
    std::cout << "\nno parameters\n";
    return;
  }
  std::vector<std::vector<std::string>> rows = {{s.registered ? "parameter" : "key", "type", "default", "what it is"}};
  for (const ParameterInfo& p : s.parameters) {
    rows.push_back({p.name, type_of(p), default_of(p), p.doc});
    for (const ParameterInfo& inner : p.options)
      rows.push_back({p.name + "." + inner.name, type_of(inner), default_of(inner), inner.doc});
  }
  for (const SubsectionInfo& sub : s.subsections)
    rows.push_back({sub.name, sub.expected, sub.required ? "required" : "none", sub.doc});
  std::cout << "\n" << table(rows, terminal_width());
}

void describe(const std::string& name, const std::string& kind, bool json) {
  const std::vector<Subject> subjects = all_subjects();
  std::set<std::string> kinds, names;
  for (const Subject& s : subjects) {
    kinds.insert(s.kind);
    if (kind.empty() || s.kind == kind) names.insert(s.name);
  }
  if (!kind.empty() && !kinds.contains(kind)) {
    throw InputError("--kind", "no kind is called '" + kind + "'" + suggestion(kind, {kinds.begin(), kinds.end()}));
  }
  Value found = Value::list();
  for (const Subject& s : subjects) {
    if (s.name != name || (!kind.empty() && s.kind != kind)) continue;
    if (!json && found.size() > 0) std::cout << "\n";
    if (!json) print(s);
    found.push_back(to_value(s));
  }
  if (found.size() == 0) {
    throw InputError("NAME", "no " + (kind.empty() ? "component" : kind) + " is called '" + name + "'" +
                                 suggestion(name, {names.begin(), names.end()}));
  }
  if (json) std::cout << to_json(found, 1) << "\n";
}

// All that can be described: a line each with kind, name and what it is; in JSON with everything.
void list_names(const std::string& kind, bool json) {
  Value list = Value::list();
  std::vector<std::vector<std::string>> rows{{"kind", "name", ""}};
  std::set<std::string> kinds;
  for (const Subject& s : all_subjects()) {
    kinds.insert(s.kind);
    if (!kind.empty() && s.kind != kind) continue;
    list.push_back(to_value(s));
    rows.push_back({s.kind, s.name, s.doc});
  }
  if (list.size() == 0)
    throw InputError("--kind", "there is no kind '" + kind + "'" + suggestion(kind, {kinds.begin(), kinds.end()}));
  std::ranges::sort(rows.begin() + 1, rows.end());
  std::cout << (json ? to_json(list, 1) + "\n" : table(rows, 0));
}

}  // namespace

void add_describe_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "describe", "Shows the parameters of a component, or the keys of a recipe: recipe, data, network, stage");
  struct Flags {
    PluginOptions plugins;
    std::string name, kind;
    bool json = false;
  };
  auto flags = std::make_shared<Flags>();
  command->add_option("name", flags->name, "Its name; without one, all names are listed")->type_name("NAME");
  command->add_option("--kind", flags->kind, "Only of this kind: optimizer, controller, ..., section")
      ->type_name("KIND");
  command->add_flag("--json", flags->json,
                    "Prints JSON: a list of {kind, name, doc, parameters, needs, provides, ...}");
  flags->plugins.add_to(*command);
  command->footer(
      "Examples:\n  espalier describe                      what can be described\n"
      "  espalier describe --kind optimizer\n  espalier describe kernel_number\n  espalier describe stage\n");
  command->callback([flags] {
    register_builtin(Registry::instance());
    flags->plugins.load();
    if (flags->name.empty()) {
      list_names(flags->kind, flags->json);
    } else {
      describe(flags->name, flags->kind, flags->json);
    }
  });
}

}  // namespace espalier
