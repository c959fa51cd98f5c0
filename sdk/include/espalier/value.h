#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "espalier/api.h"

namespace espalier {

// Where a value was written: 1-based line and column; file is null for values made by programs.
struct Location {
  std::shared_ptr<const std::string> file;
  int line = 0;
  int column = 0;

  // "file:line:column", or "" where nothing is known.
  ESPALIER_API std::string str() const;
};

// A tree of plain data, as recipes, options of components, graph files and structural histories hold it. Maps keep
// their order.
class ESPALIER_API Value {
 public:
  struct Entry;
  using List = std::vector<Value>;
  using Map = std::vector<Entry>;
  enum class Kind { null, boolean, integer, number, string, list, map };

  Value();
  // NOLINTBEGIN(google-explicit-constructor): a Value is what it is made from
  Value(bool v);
  Value(int v);
  Value(int64_t v);
  Value(double v);
  Value(const char* v);
  Value(std::string v);
  Value(std::string_view v);
  Value(List v);
  Value(const std::vector<int64_t>& v);
  Value(const std::vector<double>& v);
  Value(const std::vector<std::string>& v);
  // NOLINTEND(google-explicit-constructor)
  Value(const Value& other);
  Value(Value&& other) noexcept;
  Value& operator=(const Value& other);
  Value& operator=(Value&& other) noexcept;
  ~Value();
  static Value map();
  static Value map(std::initializer_list<std::pair<const char*, Value>> entries);
  static Value list() { return Value(List{}); }

  Kind kind() const { return static_cast<Kind>(data_.index()); }
  bool is(Kind k) const { return kind() == k; }
  bool is_null() const { return is(Kind::null); }
  bool is_map() const { return is(Kind::map); }
  bool is_list() const { return is(Kind::list); }
  bool is_string() const { return is(Kind::string); }
  // Integers count as numbers.
  bool is_number() const { return is(Kind::integer) || is(Kind::number); }

  // Each throws InputError at this value's location where the kind differs.
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;
  const std::string& as_string() const;
  const List& as_list() const;
  List& as_list();
  const Map& as_map() const;
  Map& as_map();

  // Of a map: the entry's value, or null where there is none.
  const Value* find(std::string_view key) const;
  Value* find(std::string_view key);
  // Of a map: the entry's value; throws where there is none.
  const Value& at(std::string_view key) const;
  // Of a map: the entry's value, made where there is none. Turns null into an empty map.
  Value& operator[](std::string_view key);
  bool erase(std::string_view key);
  void push_back(Value v);
  // Elements of a list, entries of a map, 0 otherwise.
  size_t size() const;

  // Equal data; where it was written and an integer's being written as a number (2 and 2.0) do not count.
  bool operator==(const Value& other) const;

  // "a list", "the string 'x'", "the integer 3": for error messages.
  std::string describe() const;

  // Where this value was written.
  Location location;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, List, Map> data_;
};

struct Value::Entry {
  std::string key;
  Value value;
  Location key_location;
};

// JSON text. `indent` < 0: one line. Numbers round-trip exactly; NaN and infinities become null.
ESPALIER_API std::string to_json(const Value& value, int indent = -1);
// `name` stands in the errors for the text's origin.
ESPALIER_API Value from_json(std::string_view text, const std::string& name = "JSON");

// The candidate nearest to `name` by edit distance, empty where none is near.
ESPALIER_API std::string nearest(std::string_view name, const std::vector<std::string>& candidates);
// "a backbone", "an optimizer".
ESPALIER_API std::string with_article(const std::string& noun);
// " (did you mean 'x'?)", or " (known: a, b, c)" where nothing is near, or "" without candidates.
ESPALIER_API std::string suggestion(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace espalier
