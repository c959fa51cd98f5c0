#pragma once

#include <string>

#include "espalier/value.h"

namespace espalier {

// What a plain (unquoted) YAML scalar stands for: null, true or false, a decimal number, or text. Throws InputError for
// what one YAML program reads as a number or a truth value and another as text.
Value read_plain_scalar(const std::string& text, const Location& where);

}  // namespace espalier
