#pragma once

#include <cstdint>
#include <string>

namespace espalier {

// "3.14", "1.2e-06"
std::string fixed(double value, int digits);
std::string scientific(double value);
// "431,080" up to a million, then "14.99 M", "1.81 G".
std::string count_text(int64_t n);
// Bytes: "31 MB", "1.2 GB".
std::string bytes_text(int64_t n);

// Every `what` in the text becomes `with`.
void replace_all(std::string& text, const std::string& what, const std::string& with);

// A text as a word of the shell: in quotes where it needs them.
std::string shell_word(const std::string& text);

}  // namespace espalier
