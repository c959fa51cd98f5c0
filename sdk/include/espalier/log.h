#pragma once

#include <string_view>

#include "espalier/api.h"

// Messages about what happens, on standard error. The variable ESPALIER_LOG sets what is shown: debug, info (default),
// warning, error.
namespace espalier::log {

ESPALIER_API void debug(std::string_view message);
ESPALIER_API void info(std::string_view message);
ESPALIER_API void warning(std::string_view message);
ESPALIER_API void error(std::string_view message);

}  // namespace espalier::log
