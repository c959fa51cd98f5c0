#include "recipe/recipe.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "espalier/error.h"
#include "recipe/component_specs.h"
#include "recipe/data_section.h"
#include "recipe/expect.h"
#include "recipe/extends.h"
#include "recipe/needed_version.h"
#include "recipe/network_section.h"
#include "recipe/overrides.h"
#include "recipe/references.h"
#include "recipe/scales.h"
#include "recipe/section_keys.h"
#include "recipe/sections.h"
#include "recipe/stage_sections.h"

namespace espalier {

namespace {

class Reader {
 public:
  Reader(const Registry& registry, std::vector<NeededRecipe> needs) : specs_(registry, std::move(needs)) {}

  Recipe read(const Value& given) {
    const Value root = with_whole_network(given, specs_);
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
    r.network = read_network(k.network.value, r.warm_start, all["network"], specs_);
    // In the order in which people write them.
    const Value network = all.at("network");
    all.erase("network");
    InForce in_force{.data = data_as_map(root.at("data"))};
    r.data = read_data(in_force.data, all["data"], specs_);
    all["network"] = network;
    Value metrics = Value::list();
    for (const Nested& m : k.metrics) {
      r.metrics.push_back(specs_.check("metric", m.value));
      metrics.push_back(r.metrics.back());
    }
    if (!r.metrics.empty()) all["metrics"] = metrics;
    metrics_ = r.metrics;
    in_force.network = r.network;
    in_force.dataset = r.data.dataset;
    in_force.validation = r.data.validation;
    read_stages(root.at("stages"), std::move(in_force), specs_, r.stages, all["stages"]);
    if (const Value* base = root.find("base"); base && !base->is_null()) all["base"] = read_base(*base, r);
    if (const Value* expect = root.find("expect"); expect && !expect->is_null())
      all["expect"] = r.expect = read_expect(*expect, known_metrics(), r);
    if (!specs_.needs().empty()) {
      Value paths = Value::list();
      for (const NeededRecipe& n : specs_.needs()) paths.push_back(n.path.string());
      all["needs"] = paths;
    }
    r.missing_runs = specs_.missing();
    r.resolved = std::move(all);
    return r;
  }

 private:
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
    Value all = r.base = specs_.check("backbone", spec);
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
    std::vector<std::string> metrics = specs_.registry().names("metric");
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

  ComponentSpecs specs_;
  std::vector<Value> metrics_;
};

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

Recipe check_recipe(const Value& tree, const Registry& registry) {
  check_needed_sdk(tree);
  return Reader(registry, tree.is_map() ? needed_recipes(tree) : std::vector<NeededRecipe>()).read(tree);
}

Recipe load_recipe(const std::filesystem::path& path, const std::vector<std::string>& overrides,
                   const Registry& registry) {
  return check_recipe(read_recipe(path, overrides), registry);
}

}  // namespace espalier
