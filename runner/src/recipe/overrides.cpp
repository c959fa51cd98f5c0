#include "recipe/overrides.h"

#include <algorithm>
#include <charconv>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/error.h"
#include "recipe/sections.h"
#include "recipe/yaml.h"

namespace espalier {

namespace {

// The `=` that ends the path, outside quotes.
size_t end_of_path(std::string_view text) {
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (text[i] == '=' && !quoted) return i;
  }
  return std::string_view::npos;
}

void relocate(Value& v, const Location& where) {
  v.location = where;
  if (v.is_list()) {
    for (Value& e : v.as_list()) relocate(e, where);
  } else if (v.is_map()) {
    for (Value::Entry& e : v.as_map()) {
      e.key_location = where;
      relocate(e.value, where);
    }
  }
}

// What a list's item may be called.
std::vector<std::string> names_of(const Value& item) {
  std::vector<std::string> names;
  if (item.is_string()) names.push_back(item.as_string());
  for (const char* key : {"name", "use"}) {
    if (const Value* v = item.find(key); v && v->is_string()) names.push_back(v->as_string());
  }
  // {crop: 8}
  if (item.is_map() && item.size() == 1) names.push_back(item.as_map()[0].key);
  return names;
}

Value* find_item(Value& list, const std::string& step, const Location& where) {
  Value::List& items = list.as_list();
  Value* found = nullptr;
  for (Value& item : items) {
    for (const std::string& name : names_of(item)) {
      if (name != step || found == &item) continue;
      if (found) throw InputError(where.str(), "two items are called '" + step + "': use their number, counted from 0");
      found = &item;
    }
  }
  if (found) return found;
  size_t index = 0;
  const char* end = step.data() + step.size();
  const auto [rest, error] = std::from_chars(step.data(), end, index);
  return error == std::errc() && rest == end && index < items.size() ? &items[index] : nullptr;
}

std::vector<std::string> known_steps(const Value& v) {
  std::vector<std::string> known;
  if (v.is_map()) {
    for (const Value::Entry& e : v.as_map()) known.push_back(e.key);
  } else if (v.is_list()) {
    for (const Value& item : v.as_list()) {
      for (const std::string& name : names_of(item)) known.push_back(name);
    }
  }
  return known;
}

[[noreturn]] void refuse_step(const Value& owner, const std::string& path, const std::string& step,
                              const Location& where) {
  std::string what = (path.empty() ? "the recipe" : "'" + path + "'") + " has no '" + step + "'";
  const bool number = step.find_first_not_of("0123456789") == std::string::npos;
  if (owner.is_list() && (number || owner.size() == 0)) {
    const std::string items = owner.size() == 0   ? "no items"
                              : owner.size() == 1 ? "one item"
                                                  : std::to_string(owner.size()) + " items";
    what += ": it has " + items + (owner.size() == 0 ? "" : ", counted from 0");
  } else if (owner.is_list() || owner.is_map()) {
    what += suggestion(step, known_steps(owner));
  } else {
    what += ": it is " + owner.describe();
  }
  throw InputError(where.str(), what);
}

// Whether the text at this place can be nothing but text, and no component's short form: a name, a device.
bool is_only_text(const std::vector<std::string>& place) {
  std::vector<ParameterInfo> keys;
  if (place.size() == 1) keys = Declare<RecipeKeys>().parameters();
  if (place.size() == 3 && place[0] == "stages") keys = Declare<StageKeys>().parameters();
  return std::ranges::any_of(keys, [&](const ParameterInfo& p) {
    return p.name == place.back() && (p.type == ParameterType::string || p.type == ParameterType::choice);
  });
}

const std::string command_line_prefix = "--set ";

}  // namespace

std::vector<std::string> steps_of(std::string_view path) {
  std::vector<std::string> steps(1);
  bool quoted = false;
  for (const char c : path) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == '.' && !quoted) {
      steps.emplace_back();
    } else {
      steps.back() += c;
    }
  }
  for (const std::string& s : steps) {
    if (s.empty() || quoted) return {};
  }
  return steps;
}

SetResult set_value(Value& recipe, const std::string& path, Value value, const Location& where) {
  const std::vector<std::string> steps = steps_of(path);
  if (steps.empty()) {
    throw InputError(where.str(), "'" + path + "' is no path of keys, as stages.0.epochs is");
  }
  SetResult result;
  std::vector<std::string>& place = result.place;
  Value* at = &recipe;
  std::string so_far;
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::string& step = steps[i];
    const bool last = i + 1 == steps.size();
    // `network: lenet5` is short for {use: lenet5}.
    if (at->is_string() && !is_only_text(place)) {
      Value spec = Value::map({{"use", *at}});
      spec.location = at->location;
      *at = std::move(spec);
    }
    Value* next = at->is_list() ? find_item(*at, step, where) : at->find(step);
    if (!next && last && (at->is_map() || at->is_null())) {
      if (at->is_null()) relocate(*at = Value::map(), where);
      at->as_map().push_back({step, Value(), where});
      next = &at->as_map().back().value;
    }
    if (!next) refuse_step(*at, so_far, step, where);
    place.push_back(at->is_list() ? std::to_string(next - at->as_list().data()) : step);
    at = next;
    so_far += (so_far.empty() ? "" : ".") + step;
  }
  result.replaced = std::exchange(*at, std::move(value));
  return result;
}

void apply_override(Value& recipe, const std::string& text) {
  const size_t equals = end_of_path(text);
  const std::string path = text.substr(0, equals);
  const Location where{std::make_shared<const std::string>(command_line_prefix + path), 0, 0};
  if (equals == std::string::npos || steps_of(path).empty()) {
    throw InputError(command_line_prefix + text, "expected KEY.KEY=VALUE, as in stages.0.epochs=2");
  }
  Value value = parse_yaml(std::string_view(text).substr(equals + 1), *where.file, false);
  relocate(value, where);
  set_value(recipe, path, std::move(value), where);
}

const Value* value_at(const Value& recipe, const std::string& path) {
  const Value* at = &recipe;
  const std::vector<std::string> steps = steps_of(path);
  for (const std::string& step : steps) {
    if (at->is_list()) {
      const Value::List& items = at->as_list();
      const auto is_called = [&](const Value& item) {
        const std::vector<std::string> names = names_of(item);
        return std::ranges::find(names, step) != names.end() || step == std::to_string(&item - items.data());
      };
      if (std::ranges::count_if(items, is_called) != 1) return nullptr;
      at = &*std::ranges::find_if(items, is_called);
    } else if (!(at = at->find(step))) {
      return nullptr;
    }
  }
  return steps.empty() ? nullptr : at;
}

bool is_from_command_line(const Location& where) {
  return where.file && where.file->starts_with(command_line_prefix);
}

namespace {

// Changes of the items of a list, by their names.
Value merge_items(const Value& base, const Value& over) {
  Value result = base;
  std::vector<std::string> names;
  for (const Value& item : base.as_list()) names.push_back(item.at("name").as_string());
  for (const Value::Entry& e : over.as_map()) {
    const auto at = std::ranges::find(names, e.key);
    if (at == names.end()) {
      throw InputError(e.key_location.str(), "the recipe that this one extends has no '" + e.key + "' here" +
                                                 suggestion(e.key, names) + "; a list replaces its list");
    }
    Value& item = result.as_list()[static_cast<size_t>(at - names.begin())];
    item = merge(Value(item), e.value);
  }
  return result;
}

bool has_names(const Value& list) {
  return list.is_list() && list.size() > 0 && std::ranges::all_of(list.as_list(), [](const Value& item) {
           const Value* name = item.is_map() ? item.find("name") : nullptr;
           return name && name->is_string();
         });
}

}  // namespace

Value merge(const Value& base, const Value& over) {
  if (has_names(base) && over.is_map()) return merge_items(base, over);
  if (!base.is_map() || !over.is_map()) return over;
  const Value* old_use = base.find("use");
  const Value* new_use = over.find("use");
  if (old_use && new_use && !(*old_use == *new_use)) return over;
  Value result = base;
  result.location = over.location;
  for (const Value::Entry& e : over.as_map()) {
    if (Value* old = result.find(e.key)) {
      *old = merge(Value(*old), e.value);
    } else {
      result.as_map().push_back(e);
    }
  }
  return result;
}

}  // namespace espalier
