#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace espalier {

struct TextFault {
  int line = 1;    // 1-based
  int column = 1;  // in characters
  std::string what;
};

// The first place where a text is not UTF-8, or holds a control character other than tab and line ends.
std::optional<TextFault> find_text_fault(std::string_view text);

}  // namespace espalier
