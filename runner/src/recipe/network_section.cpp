#include "recipe/network_section.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "espalier/error.h"
#include "recipe/choose_layout.h"
#include "recipe/rename.h"
#include "recipe/section_keys.h"
#include "recipe/sections.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

Value with_structure(const Value& given, const ComponentSpecs& specs) {
  const Value* from = given.find("from");
  if (!from || !from->is_string() || from->as_string().empty()) return given;
  const Value folder = absolute_path(*from);
  const fs::path run = folder.as_string();
  const bool later = !fs::exists(run) && specs.is_needed(folder);
  if (!later && !fs::is_directory(run)) {
    throw InputError(from->location.str(), "without `use` the network's structure is that of a run, and " +
                                               run.string() + (fs::exists(run) ? " is a file" : " does not exist") +
                                               ": name the backbone with `use`");
  }
  const Value* which = given.find("which");
  const bool best = which && which->is_string() && which->as_string() == "best";
  if (!later && !best && !fs::exists(run / "graph.json")) {
    throw InputError(
        from->location.str(),
        run.string() + " is no folder of a finished run: it has no graph.json" +
            (fs::exists(run / "checkpoints" / "best.safetensors") ? "; `which: best` begins with its best epoch" : ""));
  }
  Value graph((best ? run / "checkpoints" / "best.safetensors" : run).string());
  graph.location = from->location;
  Value whole = Value::map({{"use", "recorded"}, {"graph", graph}});
  whole.location = whole["use"].location = given.location;
  for (const Value::Entry& e : given.as_map()) whole.as_map().push_back(e);
  return whole;
}

Value read_rename(const Value& given, std::vector<std::pair<std::string, std::vector<std::string>>>& rename) {
  expect_map(given, "'rename'", network_subsections()[0].expected);
  for (const Value::Entry& e : given.as_map()) {
    std::vector<std::string> names;
    const auto add = [&](const Value& v) {
      if (!v.is_string())
        throw InputError(v.location.str(), "what replaces '" + e.key + "' must be a text, or a list of texts that " +
                                               "splits a tensor, got " + v.describe());
      names.push_back(v.as_string());
    };
    if (e.value.is_list()) {
      for (const Value& v : e.value.as_list()) add(v);
    } else {
      add(e.value);
    }
    try {
      static_cast<void>(RenameRule(e.key, names));
    } catch (const Error& error) {
      throw InputError(e.key_location.str(), error.what());
    }
    rename.emplace_back(e.key, std::move(names));
  }
  return given;
}

// Which table the file is read by, and the options of the backbone that it sets.
void read_layout_of(const Value& given, const Value& word, WarmStart& start, Value& spec, Value& resolved) {
  const std::string& text = word.as_string();
  const bool is_file = text.find('/') != std::string::npos || text.ends_with(".yaml") || text.ends_with(".yml");
  const std::string backbone = name_of(given, "backbone");
  const Value named = is_file ? absolute_path(word) : word;
  LayoutChoice choice = choose_layout(start, named, backbone, given);
  start.tried = std::move(choice.tried);
  start.layout = std::move(choice.layout);
  if (text != layout_auto) resolved["layout"] = named;
  if (!start.layout) return;
  if (!is_file) resolved["layout"] = start.layout->name;
  for (const auto& [option, value] : start.layout->options) {
    const Value* own = spec.find(option);
    if (!own) throw InputError(value.location.str(), "the backbone '" + backbone + "' has no option '" + option + "'");
    if (!given.find(option)) {
      spec[option] = resolved[option] = value;
    } else if (!(*own == value)) {
      start.notes.push_back("files of " + start.layout->name + " are computed with " + option + ": " + to_json(value) +
                            ", and the recipe says " + to_json(*own));
    }
  }
}

}  // namespace

Value with_whole_network(const Value& section, const ComponentSpecs& specs) {
  const Value* network = section.is_map() ? section.find("network") : nullptr;
  if (!network || !network->is_map() || network->find("use")) return section;
  Value whole = section;
  whole["network"] = with_structure(*network, specs);
  return whole;
}

Value read_network(const Value& given, WarmStart& start, Value& resolved, const ComponentSpecs& specs) {
  const std::vector<ParameterInfo> keys = Declare<NetworkKeys>().parameters();
  Value spec = given;
  const Value* rename = nullptr;
  if (given.is_map()) {
    const std::string& name = name_of(given, "backbone");
    const Registered& backbone = specs.registry().at("backbone", name, given.at("use").location);
    const auto take = [&](const std::string& key) {
      if (std::ranges::find(backbone.component.parameters, key, &ParameterInfo::name) !=
          backbone.component.parameters.end()) {
        throw InputError(given.location.str(),
                         backbone.str() + " declares the parameter '" + key + "', which is a key of 'network' itself");
      }
      spec.erase(key);
    };
    std::vector<ParameterInfo> own = backbone.component.parameters;
    own.emplace_back().name = "use";
    refuse_unknown_keys(given, "network with backbone '" + name + "'", keys, network_subsections(), own);
    for (const ParameterInfo& p : keys) take(p.name);
    take("rename");
    rename = given.find("rename");
  }
  resolved = spec = specs.check("backbone", spec);
  const Value checked = read_keys(given.is_map() ? given : Value::map(), keys, "network");
  const NetworkKeys k = Declare<NetworkKeys>().read(checked, "network");
  if (k.from.empty()) {
    for (const char* key : {"rename", "partial", "which", "key", "layout", "classifier", "ignore"}) {
      const Value* v = given.is_map() ? given.find(key) : nullptr;
      const bool says_something = v && (key == std::string("rename") || !(*v == Value(false)));
      if (!says_something) continue;
      throw InputError(v->location.str(), "'" + std::string(key) +
                                              "' says how the values of 'from' are taken, and the network has no "
                                              "'from'");
    }
    return spec;
  }
  const Value from = absolute_path(checked.at("from"));
  if (!fs::exists(from.as_string())) static_cast<void>(specs.is_needed(from));
  start.location = from.location;
  start.partial = k.partial;
  start.key = k.key;
  start.which = k.which;
  start.from = from.as_string();
  resolved["from"] = from;
  if (start.which != "last") resolved["which"] = start.which;
  if (rename) resolved["rename"] = read_rename(*rename, start.rename);
  resolved["partial"] = k.partial;
  if (!k.key.empty()) resolved["key"] = k.key;
  start.ignore = k.ignore;
  for (const Value& pattern : checked.at("ignore").as_list()) {
    try {
      check_pattern(pattern.as_string());
    } catch (const Error& error) {
      throw InputError(pattern.location.str(), error.what());
    }
  }
  if (!k.ignore.empty()) resolved["ignore"] = k.ignore;
  start.new_classifier = k.classifier == "new";
  if (start.new_classifier) resolved["classifier"] = k.classifier;
  read_layout_of(given, checked.at("layout"), start, spec, resolved);
  return spec;
}

}  // namespace espalier
