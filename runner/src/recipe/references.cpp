#include "recipe/references.h"

#include <algorithm>
#include <utility>

#include "espalier/declare.h"
#include "espalier/error.h"
#include "recipe/extends.h"
#include "recipe/overrides.h"
#include "recipe/recipe.h"
#include "system/files.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

// Whether `from` names the artefact or something in it.
bool names(const std::string& from, const std::string& artefact) {
  return from == artefact || from.starts_with(artefact + ".");
}

}  // namespace

Value with_artefacts(const Value& spec, const std::function<std::optional<Value>(const Reference&)>& find) {
  if (is_reference(spec)) {
    const Value* run = spec.find("run");
    std::optional<Value> found = find({spec.at("from"), run ? *run : Value()});
    if (!found) return spec;
    if (!found->location.file) found->location = spec.location;
    return *std::move(found);
  }
  Value result = spec;
  if (spec.is_list()) {
    for (Value& v : result.as_list()) v = with_artefacts(v, find);
  } else if (spec.is_map()) {
    for (Value::Entry& e : result.as_map()) e.value = with_artefacts(e.value, find);
  }
  return result;
}

StageArtefacts published_by(const StageSection& stage, const Registry& registry) {
  StageArtefacts result{stage.name, {}};
  const auto add = [&](const char* kind, const Value& spec) {
    for (const Published& p : registry.at(kind, name_of(spec, kind), spec.location).component.publishes)
      result.names.push_back(p.name);
  };
  for (const Value& c : stage.controllers) add("controller", c);
  return result;
}

void check_reference(const Reference& reference, const std::vector<StageArtefacts>& before, const Registry& registry) {
  const std::string& from = reference.from.as_string();
  std::vector<std::string> known;
  for (const StageArtefacts& s : before) {
    for (const std::string& name : s.names) {
      known.push_back(s.stage + "." + name);
      if (names(from, known.back())) return;
    }
  }
  std::string hint = suggestion(from, known);
  if (known.empty()) {
    std::vector<std::string> publishers;
    for (const Registered* r : registry.all()) {
      if (!r->component.publishes.empty()) publishers.push_back(r->component.name);
    }
    hint = " (none of the stages before publishes anything";
    for (size_t i = 0; i < publishers.size(); ++i) {
      hint += i ? ", " : "; these controllers do: ";
      hint += publishers[i];
    }
    hint += ")";
  }
  throw InputError(reference.from.location.str(), "no stage before this one publishes '" + from + "'" + hint +
                                                      "; an artefact of another run needs its folder: {from: " + from +
                                                      ", run: FOLDER}");
}

bool lies_in(const fs::path& path, const fs::path& folder) {
  return std::ranges::mismatch(path, folder).in2 == folder.end();
}

Value part_of_artefact(const Value& artefact, const std::string& name, const Value& from) {
  Value part = artefact;
  std::string so_far = name;
  std::string rest = from.as_string().substr(name.size());
  while (!rest.empty()) {
    rest.erase(0, 1);  // the dot
    const std::string key = rest.substr(0, rest.find('.'));
    const Value* next = part.is_map() ? part.find(key) : nullptr;
    if (!next) {
      std::vector<std::string> keys;
      if (part.is_map()) {
        for (const Value::Entry& e : part.as_map()) keys.push_back(e.key);
      }
      throw InputError(from.location.str(), "the artefact '" + so_far + "' has no '" + key + "'" +
                                                (keys.empty() ? ": it is " + part.describe() : suggestion(key, keys)));
    }
    const Value taken = *next;
    part = taken;
    so_far.append(".").append(key);
    rest.erase(0, key.size());
  }
  part.location = from.location;
  return part;
}

Value artefact_of_run(const Value& folder, const Value& from) {
  const fs::path artefacts = fs::path(folder.as_string()) / "artefacts";
  std::vector<std::string> known;
  std::error_code none;
  for (const fs::directory_entry& e : fs::directory_iterator(artefacts, none)) {
    if (e.path().extension() == ".json") known.push_back(e.path().stem().string());
  }
  std::ranges::sort(known);
  for (const std::string& name : known) {
    if (!names(from.as_string(), name)) continue;
    const fs::path file = artefacts / (name + ".json");
    return part_of_artefact(from_json(read_file(file), file.string()), name, from);
  }
  if (!fs::exists(folder.as_string()))
    throw InputError(folder.location.str(), "the run " + folder.as_string() + " does not exist");
  throw InputError(from.location.str(),
                   "the run " + folder.as_string() + " has no artefact '" + from.as_string() + "'" +
                       (known.empty() ? " (it published none)" : suggestion(from.as_string(), known)));
}

std::vector<NeededRecipe> needed_recipes(const Value& recipe) {
  std::vector<NeededRecipe> result;
  const Value* needs = recipe.find("needs");
  if (!needs || needs->is_null()) return result;
  for (const Value& entry : needs->is_list() ? needs->as_list() : Value::List{*needs}) {
    if (!entry.is_string()) continue;  // the declaration refuses it
    const bool in_file = entry.location.file && !is_from_command_line(entry.location);
    const fs::path folder = in_file ? fs::path(*entry.location.file).parent_path() : "";
    const fs::path path = fs::absolute(folder / entry.as_string()).lexically_normal();
    if (!fs::is_regular_file(path))
      throw InputError(entry.location.str(), "there is no recipe " + path.string() + ", which `needs` names");
    const Value tree = read_extended(path);
    const Value* name = tree.is_map() ? tree.find("name") : nullptr;
    if (!name || !name->is_string()) throw InputError(path.string(), "this is no recipe: it has no name");
    std::vector<std::string> scales;
    if (const Value* given = tree.find("scales"); given && given->is_map()) {
      for (const Value::Entry& e : given->as_map()) {
        if (!e.value.is_null()) scales.push_back(e.key);
      }
    }
    result.push_back({path, name->as_string(), std::move(scales)});
  }
  return result;
}

bool is_called(const std::string& folder, const std::string& recipe) {
  return folder == recipe || folder.starts_with(recipe + "-");
}

std::optional<Maker> maker_of(const fs::path& folder, const std::vector<NeededRecipe>& needed) {
  std::optional<Maker> best;
  for (const NeededRecipe& recipe : needed) {
    if (best && recipe.name.size() <= best->recipe->name.size()) continue;
    for (const fs::path& part : folder) {
      if (!is_called(part.string(), recipe.name)) continue;
      std::string of_scale;
      for (const std::string& scale : recipe.scales) {
        if (scale.size() > of_scale.size() && is_called(part.string(), recipe.name + "-" + scale)) of_scale = scale;
      }
      best = Maker{&recipe, "espalier run " + recipe.path.string() + (of_scale.empty() ? "" : " --scale " + of_scale)};
      break;
    }
  }
  return best;
}

}  // namespace espalier
