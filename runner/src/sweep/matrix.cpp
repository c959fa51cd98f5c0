#include "sweep/matrix.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "espalier/error.h"
#include "recipe/overrides.h"
#include "recipe/sections.h"
#include "sweep/draws.h"

namespace espalier {

namespace {

// Of a folder, with room for what programs append.
constexpr size_t max_name = 120;

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// What neither shells nor file systems mind. Of a path the steps up to its folder say nothing.
std::string safe(std::string_view text) {
  while (text.starts_with("../")) text.remove_prefix(3);
  std::string result;
  for (const char c : text) {
    const bool kept = is_letter_or_digit(c) || c == '.' || c == '_' || c == '+' || c == '-';
    if (kept || (!result.empty() && result.back() != '-')) result += kept ? c : '-';
  }
  while (!result.empty() && result.back() == '-') result.pop_back();
  return result;
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

bool is_number(const std::string& text) {
  return text.find_first_not_of("0123456789") == std::string::npos;
}

std::string join(const std::vector<std::string>& steps, size_t from) {
  std::string text;
  for (size_t i = from; i < steps.size(); ++i) text += (text.empty() ? "" : ".") + steps[i];
  return text;
}

[[noreturn]] void refuse_count(const Location& where, const std::string& runs) {
  throw InputError(where.str(), "the matrix stands for " + runs + " runs, of which " + std::to_string(max_matrix_runs) +
                                    " are allowed: take some values out");
}

void check_path(const std::string& path, const Location& where) {
  const std::vector<std::string> steps = steps_of(path);
  if (steps.empty()) throw InputError(where.str(), "'" + path + "' is no path of keys, as stages.0.epochs is");
  if (steps[0] == "matrix" || steps[0] == "extends")
    throw InputError(where.str(), "the matrix cannot vary '" + steps[0] + "'");
}

std::vector<Value> all_combinations(const Value& matrix) {
  if (matrix.size() == 0)
    throw InputError(matrix.location.str(), "the matrix is empty: write KEY: [VALUE, VALUE], as in seed: [0, 1, 2]");
  size_t runs = 1;
  for (const Value::Entry& e : matrix.as_map()) {
    check_path(e.key, e.key_location);
    if (!e.value.is_list()) {
      throw InputError(e.value.location.str(), "the matrix needs a list of values for '" + e.key + "', as in " + e.key +
                                                   ": [VALUE, VALUE], got " + e.value.describe());
    }
    if (e.value.size() == 0)
      throw InputError(e.value.location.str(), "the list of values for '" + e.key + "' is empty: no run is left");
    runs *= e.value.size();
    if (runs > max_matrix_runs) refuse_count(e.key_location, "at least " + std::to_string(runs));
    const Value::List& values = e.value.as_list();
    for (auto v = values.begin(); v != values.end(); ++v) {
      if (std::find(values.begin(), v, *v) != v)
        throw InputError(v->location.str(), "'" + e.key + "' takes " + v->describe() + " twice");
    }
  }
  std::vector<Value> all(runs, Value::map());
  size_t repeats = runs;  // of one value, before the next
  for (const Value::Entry& e : matrix.as_map()) {
    repeats /= e.value.size();
    for (size_t i = 0; i < runs; ++i) {
      all[i].as_map().push_back({e.key, e.value.as_list()[i / repeats % e.value.size()], e.key_location});
    }
  }
  return all;
}

std::vector<Value> listed_points(const Value& matrix) {
  const Value::List& points = matrix.as_list();
  if (points.empty()) throw InputError(matrix.location.str(), "the matrix is empty: it stands for no run");
  if (points.size() > max_matrix_runs) refuse_count(matrix.location, std::to_string(points.size()));
  std::vector<Value> sorted;  // the order of keys does not count
  for (const Value& point : points) {
    if (!point.is_map() || point.size() == 0) {
      throw InputError(point.location.str(),
                       "a run of the matrix must be a map, as in {seed: 0, stages.0.epochs: 3}, got " +
                           (point.is_map() ? "an empty one" : point.describe()));
    }
    for (const Value::Entry& e : point.as_map()) check_path(e.key, e.key_location);
    Value copy = point;
    std::ranges::sort(copy.as_map(), {}, &Value::Entry::key);
    if (const auto same = std::ranges::find(sorted, copy); same != sorted.end()) {
      throw InputError(point.location.str(), "this run is the same as the one at " + same->location.str());
    }
    sorted.push_back(std::move(copy));
  }
  return points;
}

std::vector<MatrixPoint> drawn_points(const Value& matrix) {
  const std::vector<RandomDraw> draws = random_draws(matrix);
  for (const Value::Entry& e : matrix.at("draw").as_map()) check_path(e.key, e.key_location);
  std::vector<MatrixPoint> points;
  for (const RandomDraw& d : draws) points.push_back({"draw=" + std::to_string(d.number), d.values, d.number});
  return points;
}

std::vector<std::string> paths_of(const std::vector<Value>& points) {
  std::vector<std::string> paths;
  for (const Value& point : points) {
    for (const Value::Entry& e : point.as_map()) {
      if (std::ranges::find(paths, e.key) == paths.end()) paths.push_back(e.key);
    }
  }
  return paths;
}

bool begins_with(const std::vector<std::string>& place, const std::vector<std::string>& prefix) {
  return place.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), place.begin());
}

const Location* find_command_line(const Value& v) {
  if (is_from_command_line(v.location)) return &v.location;
  if (v.is_list()) {
    for (const Value& e : v.as_list()) {
      if (const Location* found = find_command_line(e)) return found;
    }
  } else if (v.is_map()) {
    for (const Value::Entry& e : v.as_map()) {
      if (const Location* found = find_command_line(e.value)) return found;
    }
  }
  return nullptr;
}

}  // namespace

std::vector<std::string> short_names(const std::vector<std::string>& paths) {
  std::vector<std::vector<std::string>> steps;
  for (const std::string& p : paths) steps.push_back(steps_of(p));
  std::vector<std::string> names;
  for (size_t i = 0; i < paths.size(); ++i) {
    size_t from = steps[i].empty() ? 0 : steps[i].size() - 1;
    const auto says_little = [&](const std::string& step) {
      return is_number(step) || step == "use" || step == "name";
    };
    const auto is_taken = [&] {
      for (size_t j = 0; j < paths.size(); ++j) {
        const size_t length = steps[i].size() - from;
        if (j != i && steps[j].size() >= length && join(steps[j], steps[j].size() - length) == join(steps[i], from))
          return true;
      }
      return false;
    };
    while (from > 0 && (says_little(steps[i][from]) || is_taken())) --from;
    names.push_back(join(steps[i], from));
  }
  return names;
}

std::string short_text(const Value& value) {
  if (value.is_string()) return value.as_string();
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : "-") + part; };
  if (value.is_list()) {
    for (const Value& e : value.as_list()) add(short_text(e));
    return text.empty() ? "none" : text;
  }
  if (!value.is_map()) return to_json(value);
  for (const Value::Entry& e : value.as_map()) {
    if (e.key != "use") add(e.key);
    add(short_text(e.value));
  }
  return text;
}

std::vector<MatrixPoint> matrix_points(const Value& tree) {
  const Value* matrix = tree.find("matrix");
  if (!matrix || matrix->is_null()) return {};
  if (!matrix->is_map() && !matrix->is_list()) {
    throw InputError(matrix->location.str(),
                     "'matrix' must be " + recipe_subsections()[4].expected + ", got " + matrix->describe());
  }
  if (is_random(*matrix)) return drawn_points(*matrix);
  const std::vector<Value> all = matrix->is_map() ? all_combinations(*matrix) : listed_points(*matrix);
  const std::vector<std::string> paths = paths_of(all);
  const std::vector<std::string> names = short_names(paths);

  std::vector<MatrixPoint> points;
  std::set<std::string> taken;
  for (const Value& values : all) {
    std::string stem;
    for (const Value::Entry& e : values.as_map()) {
      const std::string& name = names[static_cast<size_t>(std::ranges::find(paths, e.key) - paths.begin())];
      stem += (stem.empty() ? "" : ",") + safe(name) + "=" + safe(short_text(e.value));
    }
    // A folder's name does not begin with a point.
    if (stem[0] == '.') stem.insert(0, "_");
    if (stem.size() > max_name) stem.resize(max_name);
    std::string name = stem;
    for (int n = 2; !taken.insert(lower(name)).second; ++n) name = stem + "-" + std::to_string(n);
    points.push_back({name, values, std::nullopt});
  }
  return points;
}

Value recipe_at(const Value& tree, const MatrixPoint& point) {
  Value recipe = tree;
  recipe.erase("matrix");
  std::vector<std::pair<const Value::Entry*, std::vector<std::string>>> before;
  for (const Value::Entry& e : point.values.as_map()) {
    SetResult set = set_value(recipe, e.key, e.value, e.key_location);
    bool within = false;  // what an earlier key of the matrix has set
    for (const auto& [other, place] : before) {
      if (begins_with(place, set.place)) {
        const bool same = place.size() == set.place.size();
        throw InputError(e.key_location.str(), "'" + e.key + "' replaces what the matrix sets by '" + other->key +
                                                   "': " + (same ? "leave one of them out" : "write it first"));
      }
      within = within || begins_with(set.place, place);
    }
    if (const Location* flag = within ? nullptr : find_command_line(set.replaced)) {
      throw InputError(flag->str(), "the matrix varies '" + e.key + "' itself (" + e.key_location.str() +
                                        "): leave the flag out, or the matrix with --set matrix=");
    }
    before.emplace_back(&e, std::move(set.place));
  }
  return recipe;
}

void for_each_run(const Value& tree, const std::vector<MatrixPoint>& points, const Registry& registry,
                  const std::function<void(const MatrixPoint&, const Recipe&)>& use) {
  for (const MatrixPoint& point : points) {
    const Value recipe = recipe_at(tree, point);  // its errors stand at the matrix
    try {
      use(point, check_recipe(recipe, registry));
    } catch (const Error& e) {
      throw InputError("", std::string(e.what()) + " (in the run " + point.name + " of the matrix)");
    }
  }
}

}  // namespace espalier
