#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "espalier/api.h"
#include "espalier/selector.h"
#include "espalier/value.h"

namespace espalier {

// What an option of a component may hold, as `describe` names it.
enum class ParameterType {
  boolean,
  integer,
  number,
  string,
  path,  // of a file or folder, relative to the recipe
  choice,
  integers,      // a list of integers
  numbers,       // a list of numbers
  strings,       // a list of strings
  selector,      // which parameters of the network (selector.h)
  per_selector,  // one number, or a map from selectors to numbers
  component,     // {use: NAME, ...}: a nested component
  components,    // a list of them
  options,       // {NAME: VALUE, ...}: options of its own, one level deeper
};

// Returns the name of a type: "integer", "list of numbers".
ESPALIER_API const char* to_string(ParameterType type);

// Returns whether a value stands for an artefact: {from: STAGE.NAME, run: FOLDER}; without `run` it is one of the same
// recipe. Every parameter except a nested component may hold one. Its value is known when the stage has run.
ESPALIER_API bool is_reference(const Value& value);
// Returns whether such a value is somewhere in it.
ESPALIER_API bool has_reference(const Value& value);

// The declaration of one option. Validation, defaults, `describe` and the JSON Schema come from it.
struct ParameterInfo {
  std::string name;                                         // the key in recipes
  std::string formerly;                                     // an earlier name, which recipes may not use any more
  ParameterType type = ParameterType::string;               // what it holds
  Value fallback;                                           // the default; null: none
  bool required = false;                                    // must be given
  double least = -std::numeric_limits<double>::infinity();  // the smallest number
  double most = std::numeric_limits<double>::infinity();    // the largest number
  bool open_below = false;                                  // least itself is not allowed
  bool open_above = false;                                  // most itself is not allowed
  std::vector<std::string> choices;                         // the words of a choice; of options: instead of a map
  std::string unit;                                         // "epochs", "pixels"
  std::string component_kind;                               // the kind of nested components
  std::vector<ParameterInfo> options;                       // the options one level deeper
  std::string doc;                                          // what it is, for `describe`

  // Returns what is expected, for errors and `describe`: "integer >= 1", "one of a, b".
  ESPALIER_API std::string expected() const;
  // Returns the value in its canonical form. Throws InputError at the value's location if it does not fit.
  ESPALIER_API Value check(const Value& value) const;
};

// One number, or one for each selector (the first that matches counts): tau: {conv*: 0.1, "*": 0.2}.
struct PerSelector {
  double everywhere = 0;                                 // the one number, if there are no selectors
  std::vector<std::pair<Selector, double>> by_selector;  // the numbers, in the order in which they were written

  // Makes the number 0 for all.
  PerSelector() = default;
  // Makes one number for all.
  PerSelector(double v) : everywhere(v) {}  // NOLINT(google-explicit-constructor): a plain number is the common case
};

// A nested component as it was written. Registry::create makes it.
struct Nested {
  Value value;  // its spec; null: none
};

// The constraint at_least(). This and the next structs are arguments of Declare.
struct AtLeast {
  double value;  // the bound
};
// The constraint at_most().
struct AtMost {
  double value;  // the bound
};
// The constraint above().
struct Above {
  double value;  // the bound
};
// The constraint below().
struct Below {
  double value;  // the bound
};
// The constraint one_of().
struct OneOf {
  std::vector<std::string> names;  // the words
};
// The constraint unit().
struct Unit {
  std::string name;  // the unit
};
// The constraint of_kind().
struct OfKind {
  std::string kind;  // the kind
};
// The constraint path().
struct IsPath {};
// The constraint formerly().
struct Formerly {
  std::string name;  // the old name
};
// The constraint required().
struct Required {};
// The constraint or_word().
struct OrWord {
  std::string word;  // the word
};

// Requires a number that is at least `v`.
inline AtLeast at_least(double v) {
  return {v};
}
// Requires a number that is at most `v`.
inline AtMost at_most(double v) {
  return {v};
}
// Requires a number that is larger than `v`.
inline Above above(double v) {
  return {v};
}
// Requires a number that is less than `v`.
inline Below below(double v) {
  return {v};
}
// Requires one of these words.
inline OneOf one_of(std::vector<std::string> names) {
  return {std::move(names)};
}
// Says in what unit the number is.
inline Unit unit(std::string name) {
  return {std::move(name)};
}
// Says of what kind a nested component is: "backbone", "optimizer".
inline OfKind of_kind(std::string kind) {
  return {std::move(kind)};
}
// Says that a string names a file or a folder. What a recipe gives is relative to the recipe's own folder, and the
// component gets an absolute path.
inline IsPath path() {
  return {};
}
// Says what the option was called before. A recipe that uses the old name is refused with a message that says the new
// one.
inline Formerly formerly(std::string name) {
  return {std::move(name)};
}
// Says that the option has no default and must be given.
inline Required required() {
  return {};
}

// Lets a word stand for the default of a group of options: `schedule: once` for none.
inline OrWord or_word(std::string word) {
  return {std::move(word)};
}

template <class Options>
class Declare;

// A struct that declares options itself, so that it can be an option: a group of them, one level deeper.
template <class T>
concept DeclaresOptions = requires(Declare<T>& p) {
  T::declare(p);
};

namespace detail {
inline void constrain(ParameterInfo& p, const AtLeast& c) {
  p.least = c.value;
}
inline void constrain(ParameterInfo& p, const AtMost& c) {
  p.most = c.value;
}
inline void constrain(ParameterInfo& p, const Above& c) {
  p.least = c.value, p.open_below = true;
}
inline void constrain(ParameterInfo& p, const Below& c) {
  p.most = c.value, p.open_above = true;
}
inline void constrain(ParameterInfo& p, const OneOf& c) {
  p.choices = c.names, p.type = ParameterType::choice;
}
inline void constrain(ParameterInfo& p, const Unit& c) {
  p.unit = c.name;
}
inline void constrain(ParameterInfo& p, const OfKind& c) {
  p.component_kind = c.kind;
}
inline void constrain(ParameterInfo& p, const IsPath&) {
  p.type = ParameterType::path;
}
inline void constrain(ParameterInfo& p, const Formerly& c) {
  p.formerly = c.name;
}
inline void constrain(ParameterInfo& p, const Required&) {
  p.required = true;
}
inline void constrain(ParameterInfo& p, const OrWord& c) {
  p.choices = {c.word};
}
inline void constrain(ParameterInfo& p, const char* doc) {
  p.doc = doc;
}

// The correspondence between the C++ type of an option and Value; `value` has passed check().
#define ESPALIER_OPTION_TYPE(CXX, TYPE)                      \
  inline ParameterType type_of(const CXX*) {                 \
    return ParameterType::TYPE;                              \
  }                                                          \
  ESPALIER_API void assign(CXX& option, const Value& value); \
  ESPALIER_API Value unassign(const CXX& option);
ESPALIER_OPTION_TYPE(bool, boolean)
ESPALIER_OPTION_TYPE(int64_t, integer)
ESPALIER_OPTION_TYPE(double, number)
ESPALIER_OPTION_TYPE(std::string, string)
ESPALIER_OPTION_TYPE(std::vector<int64_t>, integers)
ESPALIER_OPTION_TYPE(std::vector<double>, numbers)
ESPALIER_OPTION_TYPE(std::vector<std::string>, strings)
ESPALIER_OPTION_TYPE(Selector, selector)
ESPALIER_OPTION_TYPE(PerSelector, per_selector)
ESPALIER_OPTION_TYPE(Nested, component)
ESPALIER_OPTION_TYPE(std::vector<Nested>, components)
#undef ESPALIER_OPTION_TYPE

// A group of options is a map.
template <DeclaresOptions T>
ParameterType type_of(const T*) {
  return ParameterType::options;
}
template <DeclaresOptions T>
void assign(T& option, const Value& value);
template <DeclaresOptions T>
Value unassign(const T& option);

// An optional option has no default: leaving it out means none.
template <class T>
ParameterType type_of(const std::optional<T>*) {
  return type_of(static_cast<const T*>(nullptr));
}
template <class T>
void assign(std::optional<T>& option, const Value& value) {
  if (value.is_null()) return option.reset();
  assign(option.emplace(), value);
}
template <class T>
Value unassign(const std::optional<T>& option) {
  return option ? unassign(*option) : Value();
}

// What a group of options declares; nothing of other types.
template <class T>
std::vector<ParameterInfo> options_of(const T*) {
  if constexpr (DeclaresOptions<T>) return Declare<T>().parameters();
  return {};
}
template <class T>
std::vector<ParameterInfo> options_of(const std::optional<T>*) {
  return options_of(static_cast<const T*>(nullptr));
}
}  // namespace detail

// Checks options against their declarations and returns the map with every option, defaults filled in. `options` is a
// map or null, and a key "use" is passed over. Throws InputError for an unknown key, a missing required one, or a value
// that does not fit; `what` names the owner in the messages.
ESPALIER_API Value check_options(const std::vector<ParameterInfo>& parameters, const Value& options,
                                 const std::string& what);

// Collects what a typed options struct declares:
//
//   struct Options {
//     int64_t width = 20;
//     static void declare(Declare<Options>& p) {
//       p("width", &Options::width, at_least(1), "Filters of the first convolution.");
//     }
//   };
template <class Options>
class Declare {
 public:
  // Asks the options struct for its declarations.
  Declare() { Options::declare(*this); }

  // Declares one option: its name, its member, then any of at_least, at_most, above, below, one_of, unit, of_kind,
  // path, required, or_word, and a line that says what it is. The member's initial value is the default. A member that
  // is a struct with declare() (or an optional one) is a group of options, which recipes write as a map.
  template <class Member, class... Constraints>
  void operator()(const char* name, Member Options::*member, const Constraints&... constraints) {
    ParameterInfo info;
    info.name = name;
    info.type = detail::type_of(static_cast<const Member*>(nullptr));
    info.options = detail::options_of(static_cast<const Member*>(nullptr));
    info.fallback = detail::unassign(Options{}.*member);
    (detail::constrain(info, constraints), ...);
    if (info.required) info.fallback = Value();
    parameters_.push_back(std::move(info));
    setters_.push_back([member](Options& o, const Value& v) { detail::assign(o.*member, v); });
    getters_.push_back([member](const Options& o) { return detail::unassign(o.*member); });
  }

  // Returns the declarations.
  const std::vector<ParameterInfo>& parameters() const { return parameters_; }

  // Checks options and returns them as the struct. Throws InputError if they do not fit; `what` names the owner.
  Options read(const Value& options, const std::string& what) const {
    const Value checked = check_options(parameters_, options, what);
    Options result;
    for (size_t i = 0; i < parameters_.size(); ++i) setters_[i](result, checked.at(parameters_[i].name));
    return result;
  }

  // Returns the map that read() would make these options from.
  Value write(const Options& options) const {
    Value result = Value::map();
    for (size_t i = 0; i < parameters_.size(); ++i) result[parameters_[i].name] = getters_[i](options);
    return result;
  }

 private:
  std::vector<ParameterInfo> parameters_;
  std::vector<std::function<void(Options&, const Value&)>> setters_;
  std::vector<std::function<Value(const Options&)>> getters_;
};

namespace detail {
template <DeclaresOptions T>
void assign(T& option, const Value& value) {
  option = Declare<T>().read(value, "the group of options");
}
template <DeclaresOptions T>
Value unassign(const T& option) {
  return Declare<T>().write(option);
}
}  // namespace detail

// The options of components that have none.
struct NoOptions {
  // Declares nothing.
  static void declare(Declare<NoOptions>&) {}
};

}  // namespace espalier
