#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace espalier {

// "47,040,016"
std::string grouped(int64_t n);
// "a, b and c"
std::string listed(const std::vector<std::string>& words);

}  // namespace espalier
