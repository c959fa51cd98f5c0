#include "output/text.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace espalier {

namespace {

std::string format(const char* pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

// Characters on the screen: bytes that do not continue one in UTF-8.
size_t width_of(const std::string& s) {
  return static_cast<size_t>(
      std::ranges::count_if(s, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
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

std::string table_text(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(row[c]));
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const std::string pad(widths[c] - width_of(rows[r][c]), ' ');
      line += (c ? "  " : "") + (c == 0 ? rows[r][c] + pad : pad + rows[r][c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
    if (r == 0) {
      for (size_t c = 0; c < widths.size(); ++c) {
        text += c ? "  " : "";
        for (size_t i = 0; i < widths[c]; ++i) text += "─";
      }
      text += "\n";
    }
  }
  return text;
}

}  // namespace espalier
