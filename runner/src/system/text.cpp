#include "system/text.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>

namespace espalier {

namespace {

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

}  // namespace

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string scientific(double value) {
  return format("%.1e", value);
}

std::string count_text(int64_t n) {
  if (n >= 1'000'000'000) return format("%.3g G", static_cast<double>(n) / 1e9);
  if (n >= 10'000'000) return format("%.4g M", static_cast<double>(n) / 1e6);
  std::string digits = std::to_string(n);
  for (auto i = static_cast<std::ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3)
    digits.insert(static_cast<size_t>(i), ",");
  return digits;
}

std::string bytes_text(int64_t n) {
  if (n >= 1'000'000'000) return format("%.2f GB", static_cast<double>(n) / 1e9);
  if (n >= 1'000'000) return format("%.1f MB", static_cast<double>(n) / 1e6);
  return format("%.1f kB", static_cast<double>(n) / 1e3);
}

void replace_all(std::string& text, const std::string& what, const std::string& with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) {
    text.replace(at, what.size(), with);
  }
}

std::string shell_word(const std::string& text) {
  const bool plain = !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) || std::strchr("/._-+=:,@", c) != nullptr;
  });
  if (plain) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace espalier
