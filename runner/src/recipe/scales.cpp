#include "recipe/scales.h"

#include "espalier/error.h"
#include "recipe/extends.h"
#include "recipe/overrides.h"
#include "recipe/recipe.h"
#include "recipe/section_keys.h"
#include "recipe/sections.h"

namespace espalier {

namespace {

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

}  // namespace

std::vector<std::string> scales_of(const std::filesystem::path& path) {
  Value tree = read_extended(path);
  return keys_of(take_scales(tree));
}

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

}  // namespace espalier
