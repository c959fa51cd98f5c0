#include "recipe/overrides.h"

#include <charconv>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "espalier/error.h"
#include "recipe/yaml.h"

namespace espalier {

namespace {

// stages.shrink.controller.tau."conv1.weight" -> its steps; empty where the path is garbled.
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

}  // namespace

void apply_override(Value& recipe, const std::string& text) {
  const size_t equals = end_of_path(text);
  const std::string path = text.substr(0, equals);
  const Location where{std::make_shared<const std::string>("--set " + path), 0, 0};
  const std::vector<std::string> steps = steps_of(path);
  if (equals == std::string::npos || steps.empty()) {
    throw InputError("--set " + text, "expected KEY.KEY=VALUE, as in stages.0.epochs=2");
  }
  Value value = parse_yaml(std::string_view(text).substr(equals + 1), *where.file, false);
  relocate(value, where);

  Value* at = &recipe;
  std::string so_far;
  for (size_t i = 0; i < steps.size(); ++i) {
    const std::string& step = steps[i];
    const bool last = i + 1 == steps.size();
    // `network: lenet5` is short for {use: lenet5}.
    if (at->is_string()) {
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
    if (!next) {
      const std::string owner = so_far.empty() ? "the recipe" : "'" + so_far + "'";
      throw InputError(where.str(), owner + " has no '" + step + "'" + suggestion(step, known_steps(*at)));
    }
    at = next;
    so_far += (so_far.empty() ? "" : ".") + step;
  }
  *at = std::move(value);
}

Value merge(const Value& base, const Value& over) {
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
