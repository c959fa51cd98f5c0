#pragma once

#include <string>

#include "espalier/value.h"

namespace espalier {

// Carries out one `--set`, "stages.shrink.epochs=2": a path of keys, and a YAML value. An item of a list is named by
// its number (from 0), its `name`, its `use`, or itself; a key that holds a point is put in double quotes. The last key
// may be new: whether it is known is checked with the rest of the recipe. Throws InputError, at "--set
// stages.shrink.epochs", where the way to it is not.
void apply_override(Value& recipe, const std::string& text);

// `over` on top of `base`: maps key by key, everything else is replaced. Of two components ({use: ...}) of different
// names nothing is merged.
Value merge(const Value& base, const Value& over);

}  // namespace espalier
