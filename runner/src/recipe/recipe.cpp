#include "recipe/recipe.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

#include "espalier/augmentation.h"
#include "espalier/controller.h"
#include "espalier/error.h"
#include "recipe/choose_layout.h"
#include "recipe/expect.h"
#include "recipe/extends.h"
#include "recipe/needed_version.h"
#include "recipe/needs.h"
#include "recipe/overrides.h"
#include "recipe/references.h"
#include "recipe/rename.h"
#include "recipe/schedule.h"
#include "recipe/sections.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

constexpr size_t max_stages = 1000;
// So that counts of steps and samples fit into 64 bits whatever they are multiplied by.
constexpr int64_t max_epochs = 1'000'000'000;
constexpr int64_t max_batch = 100'000'000;

// The absolute path that a value of the recipe stands for. What a file says is relative to it, what the command line
// says to the working folder.
Value absolute_path(const Value& given) {
  if (given.as_string().empty()) return given;
  const bool in_file = given.location.file && !is_from_command_line(given.location);
  const fs::path folder = in_file ? fs::path(*given.location.file).parent_path() : "";
  Value path(fs::absolute(folder / given.as_string()).lexically_normal().string());
  path.location = given.location;
  return path;
}

// `what` names the section in messages: "the recipe", "stage 'shrink'".
void refuse_unknown_keys(const Value& section, const std::string& what, const std::vector<ParameterInfo>& keys,
                         const std::vector<SubsectionInfo>& subsections, const std::vector<ParameterInfo>& more = {}) {
  std::vector<std::string> known;
  for (const ParameterInfo& p : keys) known.push_back(p.name);
  for (const SubsectionInfo& s : subsections) known.push_back(s.name);
  for (const ParameterInfo& p : more) known.push_back(p.name);
  for (const Value::Entry& e : section.as_map()) {
    if (std::ranges::find(known, e.key) == known.end()) {
      throw InputError(e.key_location.str(), what + " has no key '" + e.key + "'" + suggestion(e.key, known));
    }
  }
}

const Value& expect_map(const Value& v, const std::string& what, const std::string& expected) {
  if (!v.is_map()) throw InputError(v.location.str(), what + " must be " + expected + ", got " + v.describe());
  return v;
}

// The declared keys of a section, checked, with their defaults.
Value read_keys(const Value& section, const std::vector<ParameterInfo>& keys, const std::string& what) {
  Value own = Value::map();
  own.location = section.location;
  for (const ParameterInfo& p : keys) {
    if (const Value* v = section.find(p.name)) own[p.name] = *v;
  }
  return check_options(keys, own, what);
}

void require_subsections(const Value& section, const std::vector<SubsectionInfo>& subsections,
                         const std::string& what) {
  for (const SubsectionInfo& s : subsections) {
    if (s.required && !section.find(s.name)) {
      throw InputError(section.location.str(), what + " needs the key '" + s.name + "': " + s.expected + ", " + s.doc);
    }
  }
}

// Names become folders.
void check_name(const Value& name) {
  const std::string& s = name.as_string();
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  if (s.empty() || s.size() > 100 || s[0] == '.' || s[0] == '-' || !std::ranges::all_of(s, allowed)) {
    throw InputError(name.location.str(),
                     "'name' must be up to 100 letters, digits, '.', '_' and '-', not beginning with '.' or '-'; got " +
                         name.describe());
  }
}

Location key_location(const Value& map, std::string_view key) {
  for (const Value::Entry& e : map.as_map()) {
    if (e.key == key) return e.key_location;
  }
  return map.location;
}

class Reader {
 public:
  explicit Reader(const Registry& registry) : registry_(registry) {}

  Recipe read(const Value& given) {
    check_needed_sdk(given);
    needs_ = given.is_map() ? needed_recipes(given) : std::vector<NeededRecipe>();
    const Value root = with_whole_network(given);
    const std::vector<ParameterInfo> keys = Declare<RecipeKeys>().parameters();
    expect_map(root, "a recipe", "a map (key: value)");
    refuse_unknown_keys(root, "the recipe", keys, recipe_subsections());
    if (const Value* matrix = root.find("matrix"); matrix && !matrix->is_null()) {
      throw InputError(matrix->location.str(),
                       "a recipe with a matrix is several: `espalier run`, plan and validate take it; "
                       "--set matrix= leaves it out");
    }
    if (const Value* version = root.find("espalier"); version && version->is_number() && version->as_double() != 1) {
      throw InputError(version->location.str(),
                       "recipes of version " + to_json(*version) + " are not known: this program reads 'espalier: 1'");
    }
    if (const Value* device = root.find("device"); device && device->is_string() && device->as_string() == "gpu")
      throw InputError(device->location.str(), "'device' is auto, cpu or cuda: a GPU is called cuda");
    Value all = read_keys(root, keys, "the recipe");
    require_subsections(root, recipe_subsections(), "the recipe");
    check_name(all.at("name"));

    Recipe r;
    const RecipeKeys k = Declare<RecipeKeys>().read(all, "the recipe");
    r.name = k.name;
    r.description = k.description;
    r.seed = k.seed;
    r.device = k.device;
    r.precision = k.precision;
    r.threads = k.threads;
    r.synchronised_norms = k.batch_norm == "synchronised";
    // It says nothing of a run of one process, and a run of an earlier version is still one of the same recipe.
    if (r.synchronised_norms) all.erase("batch_norm");
    if (k.needs_sdk.empty()) all.erase("needs_sdk");
    r.network = read_network(k.network.value, r.warm_start, all["network"]);
    // In the order in which people write them.
    const Value network = all.at("network");
    all.erase("network");
    data_in_force_ = as_map(root.at("data"));
    r.data = read_data(data_in_force_, all["data"]);
    all["network"] = network;
    Value metrics = Value::list();
    for (const Nested& m : k.metrics) {
      r.metrics.push_back(check("metric", m.value));
      metrics.push_back(r.metrics.back());
    }
    if (!r.metrics.empty()) all["metrics"] = metrics;
    metrics_ = r.metrics;
    network_in_force_ = r.network;
    dataset_in_force_ = r.data.dataset;
    validation_in_force_ = r.data.validation;
    read_stages(root.at("stages"), r.stages, all["stages"]);
    if (const Value* base = root.find("base"); base && !base->is_null()) all["base"] = read_base(*base, r);
    if (const Value* expect = root.find("expect"); expect && !expect->is_null())
      all["expect"] = r.expect = read_expect(*expect, known_metrics(), r);
    if (!needs_.empty()) {
      Value paths = Value::list();
      for (const NeededRecipe& n : needs_) paths.push_back(n.path.string());
      all["needs"] = paths;
    }
    r.missing_runs = missing_;
    r.resolved = std::move(all);
    return r;
  }

 private:
  // A component's spec, checked, with all defaults and absolute paths: the run folder's recipe lies elsewhere.
  Value check(const std::string& kind, const Value& spec) const {
    Value checked = registry_.check(kind, with_references(spec));
    make_paths_absolute(kind, checked);
    return checked;
  }

  // The spec with what other runs published in place of what refers to it. References to stages of this recipe stay,
  // and are checked.
  Value with_references(const Value& spec) const {
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

  // Whether the folder, which does not exist, is that of a run which the recipe says that it needs.
  bool is_needed(const Value& folder) const {
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

  void make_paths_absolute(const std::string& kind, Value& spec) const {
    make_paths_absolute(registry_.at(kind, name_of(spec, kind), spec.location).component.parameters, spec);
  }
  void make_paths_absolute(const std::vector<ParameterInfo>& parameters, Value& options) const {
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

  // `data: mnist` is short for {use: mnist}.
  static Value as_map(const Value& data) {
    if (!data.is_string()) return expect_map(data, "'data'", "a map: {use: DATASET, ...}");
    Value result = Value::map({{"use", data}});
    result.location = data.location;
    return result;
  }

  DataSection read_data(const Value& data, Value& resolved) {
    const std::vector<ParameterInfo> keys = Declare<DataKeys>().parameters();
    const std::string& name = name_of(data, "dataset");
    const Registered& dataset = registry_.at("dataset", name, data.at("use").location);
    std::vector<ParameterInfo> own = dataset.component.parameters;
    // A data set that resizes its images itself says how.
    const bool resizes = std::ranges::find(own, "resize", &ParameterInfo::name) != own.end();
    for (const ParameterInfo& p : own) {
      const auto same = [&](const auto& other) { return other.name == p.name && p.name != "resize"; };
      if (std::ranges::any_of(keys, same) || std::ranges::any_of(data_subsections(), same)) {
        throw InputError(data.location.str(),
                         dataset.str() + " declares the parameter '" + p.name + "', which is a key of 'data' itself");
      }
    }
    own.emplace_back().name = "use";
    refuse_unknown_keys(data, "data with dataset '" + name + "'", keys, data_subsections(), own);

    DataSection d;
    Value spec = Value::map();
    spec.location = data.location;
    for (const Value::Entry& e : data.as_map()) {
      const auto same = [&](const ParameterInfo& p) { return p.name == e.key; };
      if (std::ranges::any_of(own, same)) spec.as_map().push_back(e);
    }
    resolved = d.dataset = check("dataset", spec);
    const Value checked = read_keys(data, keys, "data");
    const DataKeys k = Declare<DataKeys>().read(checked, "data");
    d.batch = k.batch;
    d.eval_batch = k.eval_batch;
    d.validation = k.validation;
    d.limit = k.limit;
    d.test_limit = k.test_limit;
    d.repeat = k.repeat;
    d.shuffle = k.shuffle;
    d.drop_last = k.drop_last;
    d.workers = k.workers;
    for (const auto& [key, n] : {std::pair("batch", d.batch), std::pair("eval_batch", d.eval_batch)}) {
      if (n > max_batch) {
        throw InputError(checked.at(key).location.str(),
                         "'" + std::string(key) + "' is " + std::to_string(n) + " samples: more than any data set has");
      }
    }
    check_validation(d, checked);
    for (const Value::Entry& e : checked.as_map()) resolved[e.key] = e.value;
    const Value* augment = data.find("augment");
    resolved["augment"] = read_augment(augment ? *augment : Value::list(), d.augment);
    if (const Value* resize = data.find("resize"); resize && !resize->is_null() && !resizes)
      resolved["resize"] = read_resize(*resize, d.resize);
    const Value* normalize = data.find("normalize");
    resolved["normalize"] = read_normalize(normalize ? *normalize : Value(true), d.normalize);
    return d;
  }

  // As much as can be known without the data: with a limit, how many samples there are at most.
  static void check_validation(const DataSection& d, const Value& checked) {
    if (d.limit == 0 || d.validation == 0) return;
    const double held_out = std::round(d.validation * static_cast<double>(d.limit));
    if (held_out > 0 && held_out < static_cast<double>(d.limit)) return;
    throw InputError(checked.at("validation").location.str(),
                     "of " + std::to_string(d.limit) + " samples (limit), a 'validation' of " +
                         to_json(checked.at("validation")) +
                         (held_out > 0 ? " leaves nothing to train on" : " holds out nothing"));
  }

  // [crop, {rotate: 15}, {use: cutout, size: 8}] -> the specs with all parameters.
  Value read_augment(const Value& given, std::vector<Value>& specs) const {
    Value result = Value::list();
    result.location = given.location;
    const auto add = [&](const Value& spec) {
      const std::string& name = name_of(spec, Augmentation::kind);
      const auto same = [&](const Value& other) { return name_of(other, Augmentation::kind) == name; };
      specs.push_back(check(Augmentation::kind, spec));
      if (std::any_of(specs.begin(), specs.end() - 1, same))
        throw InputError(spec.location.str(), "the augmentation '" + name + "' is written twice");
      result.push_back(specs.back());
    };
    for (const Value& item : given.is_list() ? given.as_list() : Value::List{given}) {
      if (item.is_string() || (item.is_map() && item.find("use"))) {
        add(item);
      } else if (item.is_map()) {
        for (const Value::Entry& e : item.as_map()) add(augmentation_of(e));
      } else {
        throw InputError(item.location.str(),
                         "'augment' must be " + data_subsections()[0].expected + ", got " + item.describe());
      }
    }
    return result;
  }

  // {rotate: 15} -> {use: rotate, angle: 15}: the first parameter.
  Value augmentation_of(const Value::Entry& short_form) const {
    Value name(short_form.key);
    name.location = short_form.key_location;
    Value spec = Value::map({{"use", name}});
    spec.location = short_form.key_location;
    const Registered& r = registry_.at(Augmentation::kind, short_form.key, short_form.key_location);
    if (short_form.value.is_null()) return spec;
    if (r.component.parameters.empty())
      throw InputError(short_form.value.location.str(), r.str() + " has no parameters: write its name alone");
    spec[r.component.parameters.front().name] = short_form.value;
    return spec;
  }

  static const SubsectionInfo& normalize_section() {
    return *std::ranges::find(data_subsections(), "normalize", &SubsectionInfo::name);
  }

  // `resize: 224` is short for {size: 224}.
  static Value read_resize(const Value& given, ResizeSection& resize) {
    Value section = given;
    if (given.is_number()) {
      section = Value::map({{"size", given}});
      section.location = given.location;
    }
    const auto info = std::ranges::find(data_subsections(), "resize", &SubsectionInfo::name);
    expect_map(section, "'resize'", info->expected);
    const std::vector<ParameterInfo> keys = Declare<ResizeKeys>().parameters();
    refuse_unknown_keys(section, "resize", keys, {});
    Value checked = read_keys(section, keys, "resize");
    const ResizeKeys k = Declare<ResizeKeys>().read(checked, "resize");
    resize = {k.size, k.interpolation == "bicubic"};
    return checked;
  }

  static Value read_normalize(const Value& given, NormalizeSection& normalize) {
    const bool names = given.is_map() && given.size() > 0 && !given.find("mean") && !given.find("std");
    if (!names) return read_rule(given, normalize.input);
    Value by_name = given;
    for (Value::Entry& e : by_name.as_map()) {
      if (e.value.is_map() && !e.value.find("mean") && !e.value.find("std")) {
        throw InputError(e.value.location.str(), "'" + e.key +
                                                     "' of 'normalize' must be true, false, standardize or "
                                                     "{mean: [...], std: [...]}");
      }
      e.value = read_rule(e.value, normalize.by_name.emplace_back(e.key, NormalizeRule()).second);
    }
    return by_name;
  }

  static Value read_rule(const Value& given, NormalizeRule& rule) {
    if (given.is(Value::Kind::boolean)) {
      rule.on = given.as_bool();
      return given;
    }
    if (given.is_string() && given.as_string() == "standardize") {
      rule.standardize = true;
      return given;
    }
    if (given.is_string()) {
      const std::vector<std::string> words = {"standardize", "true", "false"};
      throw InputError(given.location.str(), "'normalize' must be " + std::string(normalize_section().expected) +
                                                 ", got '" + given.as_string() + "'" +
                                                 suggestion(given.as_string(), words));
    }
    expect_map(given, "'normalize'", normalize_section().expected);
    const std::vector<ParameterInfo> keys = Declare<NormalizeKeys>().parameters();
    refuse_unknown_keys(given, "normalize", keys, {});
    Value checked = read_keys(given, keys, "normalize");
    const NormalizeKeys k = Declare<NormalizeKeys>().read(checked, "normalize");
    if (k.mean.size() != k.std.size() || k.mean.empty()) {
      throw InputError(given.location.str(), "'mean' and 'std' need one number for each channel, got " +
                                                 std::to_string(k.mean.size()) + " and " +
                                                 std::to_string(k.std.size()));
    }
    rule.mean = k.mean;
    rule.deviation = k.std;
    return checked;
  }

  // A network without `use` has the structure of the run that its values come from. Returns the section with all of it
  // said.
  Value with_whole_network(const Value& section) const {
    const Value* network = section.is_map() ? section.find("network") : nullptr;
    if (!network || !network->is_map() || network->find("use")) return section;
    Value whole = section;
    whole["network"] = with_structure(*network);
    return whole;
  }
  Value with_structure(const Value& given) const {
    const Value* from = given.find("from");
    if (!from || !from->is_string() || from->as_string().empty()) return given;
    const Value folder = absolute_path(*from);
    const fs::path run = folder.as_string();
    const bool later = !fs::exists(run) && is_needed(folder);
    if (!later && !fs::is_directory(run)) {
      throw InputError(from->location.str(), "without `use` the network's structure is that of a run, and " +
                                                 run.string() + (fs::exists(run) ? " is a file" : " does not exist") +
                                                 ": name the backbone with `use`");
    }
    const Value* which = given.find("which");
    const bool best = which && which->is_string() && which->as_string() == "best";
    if (!later && !best && !fs::exists(run / "graph.json")) {
      throw InputError(from->location.str(), run.string() + " is no folder of a finished run: it has no graph.json" +
                                                 (fs::exists(run / "checkpoints" / "best.safetensors")
                                                      ? "; `which: best` begins with its best epoch"
                                                      : ""));
    }
    Value graph((best ? run / "checkpoints" / "best.safetensors" : run).string());
    graph.location = from->location;
    Value whole = Value::map({{"use", "recorded"}, {"graph", graph}});
    whole.location = whole["use"].location = given.location;
    for (const Value::Entry& e : given.as_map()) whole.as_map().push_back(e);
    return whole;
  }

  // The backbone's spec, checked, without the keys that any network takes.
  Value read_network(const Value& given, WarmStart& start, Value& resolved) const {
    const std::vector<ParameterInfo> keys = Declare<NetworkKeys>().parameters();
    Value spec = given;
    const Value* rename = nullptr;
    if (given.is_map()) {
      const std::string& name = name_of(given, "backbone");
      const Registered& backbone = registry_.at("backbone", name, given.at("use").location);
      const auto take = [&](const std::string& key) {
        if (std::ranges::find(backbone.component.parameters, key, &ParameterInfo::name) !=
            backbone.component.parameters.end()) {
          throw InputError(given.location.str(), backbone.str() + " declares the parameter '" + key +
                                                     "', which is a key of 'network' itself");
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
    resolved = spec = check("backbone", spec);
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
    if (!fs::exists(from.as_string())) static_cast<void>(is_needed(from));
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

  // Which table the file is read by, and the options of the backbone that it sets.
  static void read_layout_of(const Value& given, const Value& word, WarmStart& start, Value& spec, Value& resolved) {
    const std::string text = word.as_string();
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
      if (!own)
        throw InputError(value.location.str(), "the backbone '" + backbone + "' has no option '" + option + "'");
      if (!given.find(option)) {
        spec[option] = resolved[option] = value;
      } else if (!(*own == value)) {
        start.notes.push_back("files of " + start.layout->name + " are computed with " + option + ": " +
                              to_json(value) + ", and the recipe says " + to_json(*own));
      }
    }
  }

  static Value read_rename(const Value& given, std::vector<std::pair<std::string, std::vector<std::string>>>& rename) {
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

  void read_stages(const Value& given, std::vector<StageSection>& stages, Value& resolved) {
    const std::string& expected = recipe_subsections()[1].expected;
    if (!given.is_list())
      throw InputError(given.location.str(), "'stages' must be " + expected + ", got " + given.describe());
    if (given.size() == 0)
      throw InputError(given.location.str(), "'stages' is empty: a recipe needs at least one stage");
    if (given.size() > max_stages)
      throw InputError(given.location.str(), "more than " + std::to_string(max_stages) + " stages");
    resolved = Value::list();
    for (const Value& stage : given.as_list()) {
      expect_map(stage, "a stage", "a map: {name: ..., epochs: ...}");
      Value all;
      StageSection s = read_stage(stage, stages.size() + 1, all);
      for (const StageSection& before : stages) {
        if (before.name != s.name) continue;
        throw InputError(stage.at("name").location.str(),
                         "two stages are called '" + s.name + "' (the first at " + before.location.str() + ")");
      }
      stages_so_far_.push_back(published_by(s, registry_));
      stages.push_back(std::move(s));
      resolved.push_back(std::move(all));
    }
  }

  StageSection read_stage(const Value& as_written, size_t number, Value& resolved) {
    const Value stage = with_whole_network(as_written);
    const Value* name = stage.find("name");
    const std::string what =
        name && name->is_string() ? "stage '" + name->as_string() + "'" : "stage " + std::to_string(number);
    const std::vector<ParameterInfo> keys = Declare<StageKeys>().parameters();
    refuse_unknown_keys(stage, what, keys, stage_subsections());
    resolved = read_keys(stage, keys, what);
    check_name(resolved.at("name"));
    const StageKeys k = Declare<StageKeys>().read(resolved, what);

    StageSection s;
    s.name = k.name;
    s.location = stage.location;
    s.epochs = k.epochs;
    s.clip_norm = k.clip_norm;
    read_loss(k, stage, what, s, resolved);
    s.accumulate = k.accumulate;
    s.freeze = k.freeze;
    s.unfreeze_at = k.unfreeze_at;
    if (s.unfreeze_at && s.freeze.empty()) {
      throw InputError(resolved.at("unfreeze_at").location.str(),
                       what + " has 'unfreeze_at' and freezes nothing: give `freeze` a selector, or leave it out");
    }
    s.lr_scale = k.lr_scale;
    s.layer_decay = k.layer_decay;
    s.gradient_norm = k.gradient_norm;
    if (const auto ema = read_section<EmaKeys>(stage, "ema", resolved))
      s.ema = {.decay = ema->decay, .warmup = ema->warmup, .instead = ema->evaluate == "instead"};
    if (const auto stop = read_section<EarlyStopKeys>(stage, "early_stop", resolved)) {
      s.early_stop = {.metric = stop->metric,
                      .patience = stop->patience,
                      .min_delta = stop->min_delta,
                      .location = stage.at("early_stop").location};
    }
    if (const auto stop = read_section<StopBelowKeys>(stage, "stop_below", resolved)) s.stop_below_lr = stop->lr;
    s.start_from = k.start_from;
    s.evaluate_every = k.evaluate_every;
    if (s.epochs > max_epochs)
      throw InputError(resolved.at("epochs").location.str(), what + " would not end: at most 1e9 epochs");
    if (s.start_from == "best" && number == 1) {
      throw InputError(resolved.at("start_from").location.str(),
                       what + " is the first: there is no stage before it to start from");
    }

    if (!k.optimizer.value.is_null() && !k.optimizers.empty()) {
      throw InputError(key_location(stage, "optimizers").str(),
                       what + " has both 'optimizer' and 'optimizers': write one of them");
    }
    std::vector<Nested> optimizers = k.optimizers;
    if (!k.optimizer.value.is_null()) optimizers.push_back(k.optimizer);
    if (optimizers.empty() && s.epochs > 0) {
      throw InputError(stage.location.str(), what + " trains for " + std::to_string(s.epochs) +
                                                 " epochs and has no optimizer: write optimizer: {use: NAME}");
    }
    std::vector<Participant> participants;
    Value list = Value::list();
    for (const Nested& o : optimizers) {
      s.optimizers.push_back(read_optimizer(o.value));
      Value spec = s.optimizers.back().spec;
      participants.push_back({"optimizer", spec});
      if (!s.optimizers.back().on.empty()) spec["on"] = s.optimizers.back().on.terms();
      if (!s.optimizers.back().scheduled) spec["scheduled"] = false;
      if (!s.optimizers.back().clipped) spec["clipped"] = false;
      list.push_back(std::move(spec));
    }
    resolved.erase("optimizer");
    resolved["optimizers"] = std::move(list);

    list = Value::list();
    for (const Nested& r : k.regularizers) {
      s.regularizers.push_back(check("regularizer", r.value));
      participants.push_back({"regularizer", s.regularizers.back()});
      list.push_back(s.regularizers.back());
    }
    resolved["regularizers"] = std::move(list);

    read_controllers(k, stage, what, s, resolved);
    resolved["schedule"] = s.schedule = component_or(Schedule::kind, k.schedule.value, "constant", stage.location);
    // What schedules refuse beyond their declarations, they refuse when they are made.
    const std::unique_ptr<Schedule> schedule = [&]() -> std::unique_ptr<Schedule> {
      if (has_reference(s.schedule)) return nullptr;
      try {
        return registry_.create<Schedule>(s.schedule);
      } catch (const Error& e) {
        throw InputError("", e.what());  // says where
      }
    }();
    try {
      if (k.epochs > 0 && schedule) schedule->check(k.epochs);
    } catch (const Error& e) {
      throw InputError(s.schedule.location.str(),
                       "schedule '" + name_of(s.schedule, Schedule::kind) + "': " + e.what());
    }

    if (const Value* data = stage.find("data"); data && !data->is_null()) {
      data_in_force_ = merge(data_in_force_, as_map(*data));
      s.data = read_data(data_in_force_, resolved["data"]);
      dataset_in_force_ = s.data->dataset;
      validation_in_force_ = s.data->validation;
    }
    resolved.erase("network");
    if (!k.network.value.is_null()) {
      s.network = network_in_force_ = read_network(k.network.value, s.warm_start, resolved["network"]);
    }

    for (const Value& c : s.controllers) participants.push_back({"controller", c});
    participants.push_back({"backbone", network_in_force_});
    participants.push_back({"dataset", dataset_in_force_});
    std::vector<std::string> given;
    if (validation_in_force_ > 0) given.emplace_back("data:validation");
    check_needs(participants, given, s.name, registry_);
    return s;
  }

  void read_controllers(const StageKeys& k, const Value& stage, const std::string& what, StageSection& s,
                        Value& resolved) const {
    resolved.erase("controllers");
    if (k.controllers.empty()) {
      s.controllers = {component_or("controller", k.controller.value, "none", stage.location)};
      resolved["controller"] = s.controllers.front();
      return;
    }
    if (!k.controller.value.is_null()) {
      throw InputError(key_location(stage, "controllers").str(),
                       what + " has both 'controller' and 'controllers': write one of them");
    }
    resolved.erase("controller");
    Value list = Value::list();
    std::string stepper;
    std::map<std::string, std::string> publishers;
    for (const Nested& c : k.controllers) {
      s.controllers.push_back(check("controller", c.value));
      list.push_back(s.controllers.back());
      const Component& component =
          registry_.at("controller", name_of(c.value, "controller"), c.value.location).component;
      const auto refuse = [&](const std::string& other, const std::string& why) {
        throw InputError(c.value.location.str(), what + ": '" + other + "' and '" + component.name + "' " + why);
      };
      for (const Published& p : component.publishes) {
        const auto [first, is_new] = publishers.try_emplace(p.name, component.name);
        if (!is_new) refuse(first->second, "both publish '" + p.name + "': give each a stage of its own");
      }
      if (std::ranges::find(component.provides, Controller::own_step) == component.provides.end()) continue;
      if (!stepper.empty())
        refuse(stepper, "both have a training step of their own, and a stage carries out one: leave one of them out");
      stepper = component.name;
    }
    resolved["controllers"] = std::move(list);
  }

  // The loss, with `label_smoothing`, which is short for the option of cross_entropy.
  void read_loss(const StageKeys& k, const Value& stage, const std::string& what, StageSection& s,
                 Value& resolved) const {
    s.label_smoothing = k.label_smoothing;
    if (k.loss.value.is_null()) return;
    Value spec = k.loss.value;
    if (k.label_smoothing > 0) {
      const std::string& name = name_of(spec, "loss");
      if (name != "cross_entropy" || (spec.is_map() && spec.find("label_smoothing"))) {
        throw InputError(key_location(stage, "label_smoothing").str(),
                         what + ": 'label_smoothing' is short for the option of the loss cross_entropy" +
                             (name == "cross_entropy" ? ", which its 'loss' has already: write it once"
                                                      : ", and the stage has the loss '" + name + "': leave it out"));
      }
      if (spec.is_string()) {
        const Value use = spec;
        spec = Value::map({{"use", use}});
        spec.location = use.location;
      }
      spec["label_smoothing"] = k.label_smoothing;
      s.label_smoothing = 0;
      resolved["label_smoothing"] = 0.0;
    }
    resolved["loss"] = s.loss = check("loss", spec);
  }

  // A section of a stage with declared keys, or none.
  template <class Keys>
  static std::optional<Keys> read_section(const Value& stage, const char* name, Value& resolved) {
    const Value* given = stage.find(name);
    if (!given || given->is_null()) return std::nullopt;
    const auto info = std::ranges::find(stage_subsections(), name, &SubsectionInfo::name);
    expect_map(*given, "'" + std::string(name) + "'", info->expected);
    const std::vector<ParameterInfo> keys = Declare<Keys>().parameters();
    refuse_unknown_keys(*given, name, keys, {});
    resolved[name] = read_keys(*given, keys, name);
    return Declare<Keys>().read(resolved[name], name);
  }

  OptimizerSection read_optimizer(Value spec) const {
    const Registered& optimizer = registry_.at("optimizer", name_of(spec, "optimizer"), spec.at("use").location);
    OptimizerSection o;
    const auto& own = optimizer.component.parameters;
    // An option of the optimizer's own is no key of the stage's.
    std::vector<ParameterInfo> keys = Declare<OptimizerKeys>().parameters();
    std::erase_if(keys, [&](const ParameterInfo& key) {
      return std::ranges::find(own, key.name, &ParameterInfo::name) != own.end();
    });
    const OptimizerKeys read = Declare<OptimizerKeys>().read(
        read_keys(spec, keys, "optimizer '" + optimizer.component.name + "'"), "optimizer");
    o.on = read.on;
    o.scheduled = read.scheduled;
    o.clipped = read.clipped;
    for (const ParameterInfo& key : keys) {
      const Value* given = spec.find(key.name);
      if (!given) continue;
      if (key.name == "on") {
        if (o.on.empty())
          throw InputError(given->location.str(),
                           "'on' is empty and selects nothing: leave it out to update all parameters");
        o.on_location = given->location;
      }
      spec.erase(key.name);
    }
    o.spec = check("optimizer", spec);
    return o;
  }

  Value component_or(const std::string& kind, const Value& given, const char* otherwise, const Location& where) const {
    if (!given.is_null()) return check(kind, given);
    Value spec = Value::map({{"use", otherwise}});
    spec.location = spec["use"].location = where;
    return check(kind, spec);
  }

  // Returns all of it; the network without the other keys goes into `base` of the recipe.
  Value read_base(const Value& given, Recipe& r) const {
    if (given.is_map() && !given.find("use")) {
      const std::vector<ParameterInfo> keys = Declare<BaseKeys>().parameters();
      refuse_unknown_keys(given, "base", keys, {});
      r.base = read_keys(given, keys, "base");
      const BaseKeys read = Declare<BaseKeys>().read(r.base, "base");
      r.base_epochs = read.epochs;
      r.cost_with_start = read.with_start;
      refuse_no_start(given, r);
      return r.base;
    }
    Value spec = given;
    if (given.is_map()) {
      const Value cost = read_keys(given, Declare<BaseCostKeys>().parameters(), "base");
      const BaseCostKeys read = Declare<BaseCostKeys>().read(cost, "base");
      r.base_epochs = read.epochs;
      r.cost_with_start = read.with_start;
      for (const char* key : {"epochs", "with_start"}) spec.erase(key);
    }
    refuse_no_start(given, r);
    Value all = r.base = check("backbone", spec);
    if (r.base_epochs) all["epochs"] = *r.base_epochs;
    if (r.cost_with_start) all["with_start"] = true;
    return all;
  }

  static void refuse_no_start(const Value& base, const Recipe& r) {
    if (!r.cost_with_start || !r.warm_start.from.empty()) return;
    throw InputError(base.at("with_start").location.str(),
                     "'with_start' counts the training of the run that the network begins with, and this network "
                     "begins anew: leave it out, or name a run by network: {from: RUN}");
  }

  // What `expect` may name: all metrics that there are, or those that the recipe names.
  std::vector<std::string> known_metrics() const {
    std::vector<std::string> names = expected_of_every_run();
    std::vector<std::string> metrics = registry_.names("metric");
    if (!metrics_.empty()) {
      metrics.clear();
      for (const Value& m : metrics_) metrics.push_back(name_of(m, "metric"));
    }
    for (const std::string& name : metrics) {
      names.push_back(name);
      names.push_back(name + "_best");
    }
    return names;
  }

  static Value read_expect(const Value& given, const std::vector<std::string>& known, const Recipe& recipe) {
    const std::vector<ParameterInfo> keys = Declare<ExpectKeys>().parameters();
    Value result = Value::map();
    for (const Value::Entry& e : expect_map(given, "'expect'", recipe_subsections()[3].expected).as_map()) {
      if (std::ranges::find(known, e.key) == known.end() && !is_measured_by_a_stage(e.key, recipe))
        throw InputError(e.key_location.str(), "no metric is called '" + e.key + "'" + suggestion(e.key, known));
      expect_map(e.value, "'" + e.key + "'", "{value: NUMBER, within: NUMBER}");
      refuse_unknown_keys(e.value, "the expected '" + e.key + "'", keys, {});
      result[e.key] = read_keys(e.value, keys, "the expected '" + e.key + "'");
    }
    return result;
  }

  const Registry& registry_;
  std::vector<NeededRecipe> needs_;
  mutable std::vector<MissingRun> missing_;  // runs of needs_ that are read and do not exist
  std::vector<StageArtefacts> stages_so_far_;
  std::vector<Value> metrics_;
  Value data_in_force_;  // as written
  Value network_in_force_;
  Value dataset_in_force_;
  double validation_in_force_ = 0;
};

// The recipe's scales, taken out of it. Throws InputError where they are no maps of changes.
Value take_scales(Value& tree) {
  const Value* given = tree.find("scales");
  Value scales = given && !given->is_null() ? *given : Value::map();
  tree.erase("scales");
  expect_map(scales, "'scales'", recipe_subsections()[5].expected);
  Value given_ones = Value::map();
  for (const Value::Entry& e : scales.as_map()) {
    if (e.value.is_null()) continue;  // what a recipe that this one extends has, and this one has not
    expect_map(e.value, "the scale '" + e.key + "'", "a map of changes: {data.limit: 1000, stages.train.epochs: 1}");
    given_ones[e.key] = e.value;
  }
  return given_ones;
}

std::vector<std::string> keys_of(const Value& map) {
  std::vector<std::string> keys;
  for (const Value::Entry& e : map.as_map()) keys.push_back(e.key);
  return keys;
}

// Carries out the changes of a scale; its name becomes part of the recipe's.
void apply_scale(Value& tree, const std::filesystem::path& path, const std::string& scale) {
  const Value scales = take_scales(tree);
  if (scale.empty()) return;
  if (scales.size() == 0) throw InputError(path.string(), "the recipe has no scales, and '" + scale + "' is asked for");
  const Value* changes = scales.find(scale);
  if (!changes)
    throw InputError(path.string(), "the recipe has no scale '" + scale + "'" + suggestion(scale, keys_of(scales)));
  tree.erase("expect");  // what is expected of the recipe as it stands; a scale has its own or none
  for (const Value::Entry& e : changes->as_map()) set_value(tree, e.key, e.value, e.key_location);
  if (Value* name = tree.find("name"); name && name->is_string()) *name = name->as_string() + "-" + scale;
}

}  // namespace

bool is_measured_by_a_stage(std::string_view name, const Recipe& recipe) {
  return std::ranges::any_of(recipe.stages, [&](const StageSection& stage) {
    const std::string of_stage = stage.name + ".";
    return name.size() > of_stage.size() && name.starts_with(of_stage);
  });
}

Value read_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                  const std::string& scale) {
  Value tree = read_extended(path);
  apply_scale(tree, path, scale);
  for (const std::string& o : overrides) apply_override(tree, o);
  return tree;
}

std::vector<std::string> scales_of(const std::filesystem::path& path) {
  Value tree = read_extended(path);
  return keys_of(take_scales(tree));
}

Recipe check_recipe(const Value& tree, const Registry& registry) {
  return Reader(registry).read(tree);
}

Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                   const Registry& registry) {
  return check_recipe(read_recipe(path, overrides), registry);
}

}  // namespace espalier
