#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace espalier {

// "3.14", "1.2e-06"
std::string fixed(double value, int digits);
std::string scientific(double value);
// "431,080" up to a million, then "14.99 M", "1.81 G".
std::string count_text(int64_t n);
// Bytes: "31 MB", "1.2 GB".
std::string bytes_text(int64_t n);

// Rows of cells as aligned columns, numbers to the right; the first row is the head.
std::string table_text(const std::vector<std::vector<std::string>>& rows);

}  // namespace espalier
