#pragma once

#include <string>

#include "espalier/value.h"

namespace espalier {

// Whether a version, "1.2.3" or "1.2", is one of those that the conditions name: ">= 1.2", or several with commas
// between, all of which must hold: ">= 1.2, < 2". What is left out of a version is 0. Throws Error in words where the
// conditions are none.
bool fits_version(const std::string& version, const std::string& conditions);

// Throws InputError at the place of the key where the recipe's `needs_sdk` does not fit this program's version. It is
// called before other keys are looked at, since a recipe for a later version may have keys that this one does not know.
void check_needed_sdk(const Value& recipe);

}  // namespace espalier
