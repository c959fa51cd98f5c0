#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/value.h"

namespace espalier {

// Carries out one `--set`, "stages.shrink.epochs=2": a path of keys, and a YAML value. An item of a list is named by
// its number (from 0), its `name`, its `use`, or itself; a key that holds a point is put in double quotes. The last key
// may be new: whether it is known is checked with the rest of the recipe. Throws InputError, at "--set
// stages.shrink.epochs", where the way to it is not.
void apply_override(Value& recipe, const std::string& text);

// stages.shrink.controller.tau."conv1.weight" -> its steps; empty where the path is garbled.
std::vector<std::string> steps_of(std::string_view path);

struct SetResult {
  std::vector<std::string> place;  // the path's steps with items of lists by number: the same for all paths to a place
  Value replaced;                  // null where the key is new
};

// Carries out the same for a value that was written elsewhere: `where` is the place of the path, for errors and new
// keys.
SetResult set_value(Value& recipe, const std::string& path, Value value, const Location& where);

// The value at a path as --set takes it; null where there is none, or where the path fits two items of a list.
const Value* value_at(const Value& recipe, const std::string& path);

// Whether a value was set by apply_override().
bool is_from_command_line(const Location& where);

// `over` on top of `base`: maps key by key, everything else is replaced. Of two components ({use: ...}) of different
// names nothing is merged.
Value merge(const Value& base, const Value& over);

}  // namespace espalier
