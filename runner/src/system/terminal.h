#pragma once

#include <string>
#include <vector>

namespace espalier {

// Whether standard output is a terminal, rather than a file or a pipe.
bool is_terminal();
// Its columns; 0 where it is none: lines may be of any length.
size_t terminal_width();

// Characters of a UTF-8 text.
size_t characters(const std::string& text);

// Rows of cells in columns two spaces apart, the first row underlined. With a width, the last column is wrapped to it.
std::string table(const std::vector<std::vector<std::string>>& rows, size_t width);
// The same for numbers: all columns but the first stand to the right.
std::string number_table(std::vector<std::vector<std::string>> rows);

}  // namespace espalier
