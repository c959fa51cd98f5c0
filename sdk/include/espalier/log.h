#pragma once

#include <string_view>

#include "espalier/api.h"

// Messages about what happens, on standard error. The environment variable ESPALIER_LOG sets the lowest level that is
// shown: debug, info (the default), warning or error.
namespace espalier::log {

// Writes what only somebody who looks for a fault wants to know.
ESPALIER_API void debug(std::string_view message);
// Writes what a user may want to know.
ESPALIER_API void info(std::string_view message);
// Writes what is probably not meant, and goes on.
ESPALIER_API void warning(std::string_view message);
// Writes what ends the program.
ESPALIER_API void error(std::string_view message);
// From now on nothing below a warning is shown, as if ESPALIER_LOG were `warning`.
ESPALIER_API void only_warnings();
// From now on nothing below an error is shown, and `who` stands before each: "process 1", where several do the same.
ESPALIER_API void only_errors(std::string_view who);

}  // namespace espalier::log
