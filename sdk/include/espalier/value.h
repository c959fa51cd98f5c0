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

// Where a value was written.
struct Location {
  std::shared_ptr<const std::string> file;  // the name of the file; null for values that programs made
  int line = 0;                             // the line, from 1
  int column = 0;                           // the column, from 1

  // Returns "file:line:column", or "" if nothing is known.
  ESPALIER_API std::string str() const;
};

// A tree of plain data, as recipes, options of components, graph files and structural histories hold it. Maps keep
// their order.
class ESPALIER_API Value {
 public:
  struct Entry;
  // The values of a list, in order.
  using List = std::vector<Value>;
  // The entries of a map, in the order in which they were written.
  using Map = std::vector<Entry>;
  // What a value can be.
  enum class Kind { null, boolean, integer, number, string, list, map };

  // Makes null.
  Value();
  // NOLINTBEGIN(google-explicit-constructor): a Value is what it is made from
  // Makes a boolean.
  Value(bool v);
  // Makes an integer.
  Value(int v);
  // Makes an integer.
  Value(int64_t v);
  // Makes a number.
  Value(double v);
  // Makes a string.
  Value(const char* v);
  // Makes a string.
  Value(std::string v);
  // Makes a string.
  Value(std::string_view v);
  // Makes a list.
  Value(List v);
  // Makes a list of integers.
  Value(const std::vector<int64_t>& v);
  // Makes a list of numbers.
  Value(const std::vector<double>& v);
  // Makes a list of strings.
  Value(const std::vector<std::string>& v);
  // NOLINTEND(google-explicit-constructor)
  // Copies the whole tree.
  Value(const Value& other);
  // Takes the tree over.
  Value(Value&& other) noexcept;
  // Copies the whole tree.
  Value& operator=(const Value& other);
  // Takes the tree over.
  Value& operator=(Value&& other) noexcept;
  ~Value();

  // Returns an empty map.
  static Value map();
  // Returns a map of these entries: Value::map({{"name", "conv1"}, {"size", 20}}).
  static Value map(std::initializer_list<std::pair<const char*, Value>> entries);
  // Returns an empty list.
  static Value list() { return Value(List{}); }

  // Returns what the value is.
  Kind kind() const { return static_cast<Kind>(data_.index()); }
  // Returns whether the value is of this kind.
  bool is(Kind k) const { return kind() == k; }
  // Returns whether the value is null.
  bool is_null() const { return is(Kind::null); }
  // Returns whether the value is a map.
  bool is_map() const { return is(Kind::map); }
  // Returns whether the value is a list.
  bool is_list() const { return is(Kind::list); }
  // Returns whether the value is a string.
  bool is_string() const { return is(Kind::string); }
  // Returns whether the value is a number or an integer.
  bool is_number() const { return is(Kind::integer) || is(Kind::number); }

  // Returns the boolean. This and the next functions throw InputError at the value's location if it is of another kind.
  bool as_bool() const;
  // Returns the integer.
  int64_t as_int() const;
  // Returns the number or integer.
  double as_double() const;
  // Returns the string.
  const std::string& as_string() const;
  // Returns the list.
  const List& as_list() const;
  // Returns the list, for changes in place.
  List& as_list();
  // Returns the map.
  const Map& as_map() const;
  // Returns the map, for changes in place.
  Map& as_map();

  // Returns the value of a map's entry, or a null pointer if there is none.
  const Value* find(std::string_view key) const;
  // Returns the value of a map's entry for changes in place, or a null pointer if there is none.
  Value* find(std::string_view key);
  // Returns the value of a map's entry. Throws InputError if there is none.
  const Value& at(std::string_view key) const;
  // Returns the value of a map's entry, which is added if there is none. Turns null into an empty map.
  Value& operator[](std::string_view key);
  // Removes a map's entry. Returns whether there was one.
  bool erase(std::string_view key);
  // Adds a value to the end of a list. Turns null into an empty list.
  void push_back(Value v);
  // Returns how many elements a list or entries a map has; 0 for other values.
  size_t size() const;

  // Returns whether the data are equal. Where they were written does not count, nor whether an integer was written as a
  // number (2 and 2.0).
  bool operator==(const Value& other) const;

  // Returns words for messages: "a list", "the string 'x'", "the integer 3".
  std::string describe() const;

  // Where this value was written.
  Location location;

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, List, Map> data_;
};

// An entry of a map.
struct Value::Entry {
  std::string key;        // its key
  Value value;            // its value
  Location key_location;  // where the key was written
};

// Returns JSON text, in one line if `indent` is below 0. Numbers are read back exactly; NaN and infinities become null.
ESPALIER_API std::string to_json(const Value& value, int indent = -1);
// Reads JSON text. Throws InputError if it is not JSON; `name` stands in the message for the origin of the text.
ESPALIER_API Value from_json(std::string_view text, const std::string& name = "JSON");

// Returns the candidate nearest to `name` by edit distance, or "" if none is near.
ESPALIER_API std::string nearest(std::string_view name, const std::vector<std::string>& candidates);
// Returns a noun with its article: "a backbone", "an optimizer".
ESPALIER_API std::string with_article(const std::string& noun);
// Returns words for messages about an unknown name: " (did you mean 'x'?)", or " (known: a, b, c)" if nothing is near,
// or
// "" without candidates.
ESPALIER_API std::string suggestion(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace espalier
