#pragma once

#include <nlohmann/json.hpp>

namespace espalier::detection {

// Answers one request of scripts/lib/check_detection.py: {"do": NAME, ...} with tensors as {"sizes", "type", "values"}.
nlohmann::json compute(const nlohmann::json& request);

}  // namespace espalier::detection
