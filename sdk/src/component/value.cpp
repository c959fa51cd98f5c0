#include "espalier/value.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "espalier/error.h"

namespace espalier {

std::string Location::str() const {
  if (!file) return {};
  if (line <= 0) return *file;
  return *file + ":" + std::to_string(line) + ":" + std::to_string(column);
}

Value::Value() = default;
Value::Value(bool v) : data_(v) {}
Value::Value(int v) : data_(static_cast<int64_t>(v)) {}
Value::Value(int64_t v) : data_(v) {}
Value::Value(double v) : data_(v) {}
Value::Value(const char* v) : data_(std::string(v)) {}
Value::Value(std::string v) : data_(std::move(v)) {}
Value::Value(std::string_view v) : data_(std::string(v)) {}
Value::Value(List v) : data_(std::move(v)) {}
Value::Value(const std::vector<int64_t>& v) : data_(List(v.begin(), v.end())) {}
Value::Value(const std::vector<double>& v) : data_(List(v.begin(), v.end())) {}
Value::Value(const std::vector<std::string>& v) : data_(List(v.begin(), v.end())) {}
Value::Value(const Value& other) = default;
Value::Value(Value&& other) noexcept = default;
Value& Value::operator=(const Value& other) = default;
Value& Value::operator=(Value&& other) noexcept = default;
Value::~Value() = default;

Value Value::map() {
  Value v;
  v.data_ = Map{};
  return v;
}

Value Value::map(std::initializer_list<std::pair<const char*, Value>> entries) {
  Value v = map();
  for (const auto& [key, value] : entries) v[key] = value;
  return v;
}

namespace {
[[noreturn]] void wrong_kind(const Value& v, const char* wanted) {
  throw InputError(v.location.str(), std::string("expected ") + wanted + ", got " + v.describe());
}
}  // namespace

bool Value::as_bool() const {
  if (const auto* v = std::get_if<bool>(&data_)) return *v;
  wrong_kind(*this, "true or false");
}

int64_t Value::as_int() const {
  if (const auto* v = std::get_if<int64_t>(&data_)) return *v;
  // 1e5 is an integer to whoever writes it.
  if (const auto* v = std::get_if<double>(&data_); v && std::nearbyint(*v) == *v && std::abs(*v) < 9e15) {
    return static_cast<int64_t>(*v);
  }
  wrong_kind(*this, "an integer");
}

double Value::as_double() const {
  if (const auto* v = std::get_if<double>(&data_)) return *v;
  if (const auto* v = std::get_if<int64_t>(&data_)) return static_cast<double>(*v);
  wrong_kind(*this, "a number");
}

const std::string& Value::as_string() const {
  if (const auto* v = std::get_if<std::string>(&data_)) return *v;
  wrong_kind(*this, "a string");
}

const Value::List& Value::as_list() const {
  if (const auto* v = std::get_if<List>(&data_)) return *v;
  wrong_kind(*this, "a list");
}

Value::List& Value::as_list() {
  return const_cast<List&>(std::as_const(*this).as_list());
}

const Value::Map& Value::as_map() const {
  if (const auto* v = std::get_if<Map>(&data_)) return *v;
  wrong_kind(*this, "a map (key: value)");
}

Value::Map& Value::as_map() {
  return const_cast<Map&>(std::as_const(*this).as_map());
}

const Value* Value::find(std::string_view key) const {
  const auto* map = std::get_if<Map>(&data_);
  if (!map) return nullptr;
  for (const Entry& e : *map) {
    if (e.key == key) return &e.value;
  }
  return nullptr;
}

Value* Value::find(std::string_view key) {
  return const_cast<Value*>(std::as_const(*this).find(key));
}

const Value& Value::at(std::string_view key) const {
  as_map();
  if (const Value* v = find(key)) return *v;
  throw InputError(location.str(), "the key '" + std::string(key) + "' is missing");
}

Value& Value::operator[](std::string_view key) {
  if (is_null()) data_ = Map{};
  Map& map = as_map();
  if (Value* v = find(key)) return *v;
  map.push_back({std::string(key), Value(), {}});
  return map.back().value;
}

bool Value::erase(std::string_view key) {
  return std::erase_if(as_map(), [&](const Entry& e) { return e.key == key; }) > 0;
}

void Value::push_back(Value v) {
  if (is_null()) data_ = List{};
  as_list().push_back(std::move(v));
}

size_t Value::size() const {
  if (const auto* v = std::get_if<List>(&data_)) return v->size();
  if (const auto* v = std::get_if<Map>(&data_)) return v->size();
  return 0;
}

bool Value::operator==(const Value& other) const {
  if (is_number() && other.is_number()) return as_double() == other.as_double();
  if (kind() != other.kind()) return false;
  switch (kind()) {
    case Kind::boolean:
      return as_bool() == other.as_bool();
    case Kind::string:
      return as_string() == other.as_string();
    case Kind::list:
      return as_list() == other.as_list();
    case Kind::map:
      return std::ranges::equal(as_map(), other.as_map(),
                                [](const Entry& a, const Entry& b) { return a.key == b.key && a.value == b.value; });
    default:
      return true;
  }
}

std::string Value::describe() const {
  switch (kind()) {
    case Kind::null:
      return "nothing";
    case Kind::boolean:
      return as_bool() ? "true" : "false";
    case Kind::integer:
      return "the integer " + to_json(*this);
    case Kind::number:
      return "the number " + to_json(*this);
    case Kind::string: {
      const std::string& s = as_string();
      return "the string '" + (s.size() <= 60 ? s : s.substr(0, 57) + "...") + "'";
    }
    case Kind::list:
      return "a list";
    case Kind::map:
      return "a map";
  }
  return {};
}

namespace {

using Json = nlohmann::ordered_json;

Json json_of(const Value& v) {
  switch (v.kind()) {
    case Value::Kind::null:
      return nullptr;
    case Value::Kind::boolean:
      return v.as_bool();
    case Value::Kind::integer:
      return v.as_int();
    case Value::Kind::number:
      return v.as_double();
    case Value::Kind::string:
      return v.as_string();
    case Value::Kind::list: {
      Json j = Json::array();
      for (const Value& e : v.as_list()) j.push_back(json_of(e));
      return j;
    }
    case Value::Kind::map: {
      Json j = Json::object();
      for (const Value::Entry& e : v.as_map()) j[e.key] = json_of(e.value);
      return j;
    }
  }
  return nullptr;
}

Value value_of(const Json& j) {
  switch (j.type()) {
    case Json::value_t::boolean:
      return j.get<bool>();
    case Json::value_t::number_integer:
      return j.get<int64_t>();
    case Json::value_t::number_unsigned: {
      const auto u = j.get<uint64_t>();
      return u <= static_cast<uint64_t>(INT64_MAX) ? Value(static_cast<int64_t>(u)) : Value(static_cast<double>(u));
    }
    case Json::value_t::number_float:
      return j.get<double>();
    case Json::value_t::string:
      return j.get<std::string>();
    case Json::value_t::array: {
      Value v = Value::list();
      for (const Json& e : j) v.push_back(value_of(e));
      return v;
    }
    case Json::value_t::object: {
      Value v = Value::map();
      for (const auto& [key, e] : j.items()) v[key] = value_of(e);
      return v;
    }
    default:
      return {};
  }
}

}  // namespace

std::string to_json(const Value& value, int indent) {
  // Invalid UTF-8 (a file name, say) is replaced rather than refused.
  return json_of(value).dump(indent, ' ', false, Json::error_handler_t::replace);
}

Value from_json(std::string_view text, const std::string& name) {
  try {
    int depth = 0;
    auto guard = [&](int, Json::parse_event_t event, Json&) {
      if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
        if (++depth > 200) throw Error("nested deeper than 200 levels");
      } else if (event == Json::parse_event_t::object_end || event == Json::parse_event_t::array_end) {
        --depth;
      }
      return true;
    };
    return value_of(Json::parse(text, guard));
  } catch (const std::exception& e) {
    std::string why = e.what();
    // The library's "[json.exception.parse_error.101] " is nothing for readers.
    if (why.starts_with("[json.")) why.erase(0, why.find("] ") + 2);
    throw InputError(name, "not valid JSON: " + why);
  }
}

std::string nearest(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  if (name.size() > 200) return best;  // nobody mistyped that
  size_t best_distance = std::max<size_t>(1, name.size() / 3) + 1;
  for (const std::string& c : candidates) {
    // Levenshtein with transpositions, one row at a time.
    std::vector<std::vector<size_t>> d(name.size() + 1, std::vector<size_t>(c.size() + 1));
    for (size_t i = 0; i <= name.size(); ++i) d[i][0] = i;
    for (size_t j = 0; j <= c.size(); ++j) d[0][j] = j;
    for (size_t i = 1; i <= name.size(); ++i) {
      for (size_t j = 1; j <= c.size(); ++j) {
        d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (name[i - 1] != c[j - 1] ? 1 : 0)});
        if (i > 1 && j > 1 && name[i - 1] == c[j - 2] && name[i - 2] == c[j - 1])
          d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
    if (d.back().back() < best_distance) best_distance = d.back().back(), best = c;
  }
  return best;
}

std::string with_article(const std::string& noun) {
  const bool vowel = !noun.empty() && std::string_view("aeiou").find(noun[0]) != std::string_view::npos;
  return (vowel ? "an " : "a ") + noun;
}

std::string suggestion(std::string_view name, const std::vector<std::string>& candidates) {
  if (candidates.empty()) return {};
  if (const std::string n = nearest(name, candidates); !n.empty()) return " (did you mean '" + n + "'?)";
  std::string all;
  for (const std::string& c : candidates) all += (all.empty() ? "" : ", ") + c;
  return " (known: " + all + ")";
}

}  // namespace espalier
