#include "system/terminal.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include <sys/ioctl.h>
#include <unistd.h>

namespace espalier {

namespace {

// Narrower, a column is not read but spelt.
constexpr size_t least_wrapped = 24;

std::vector<std::string> wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines(1);
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    std::string& line = lines.back();
    if (line.empty()) {
      line = word;
    } else if (characters(line) + 1 + characters(word) <= width) {
      line += " " + word;
    } else {
      lines.push_back(word);
    }
  }
  return lines;
}

}  // namespace

bool is_terminal() {
  return isatty(STDOUT_FILENO) == 1;
}

size_t terminal_width() {
  if (!is_terminal()) return 0;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const int n = columns ? std::atoi(columns) : 0;
  return n > 0 ? static_cast<size_t>(n) : 80;
}

size_t characters(const std::string& text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; }));
}

std::string table(const std::vector<std::vector<std::string>>& rows, size_t width) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], characters(row[i]));
  }
  size_t before_last = 0;
  for (size_t i = 0; i + 1 < widths.size(); ++i) before_last += widths[i] + 2;
  const bool wraps = width > 0 && before_last + least_wrapped <= width;

  std::string out;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    size_t column = 0;
    const auto put = [&](const std::string& cell, size_t i) {
      line += std::string(column - characters(line), ' ') + cell;
      column += widths[i] + 2;
    };
    const auto end_line = [&] {
      line.erase(line.find_last_not_of(' ') + 1);
      out += line + "\n";
      line.clear();
    };
    for (size_t i = 0; i < rows[r].size(); ++i) {
      if (!wraps || i + 1 < widths.size()) {
        put(rows[r][i], i);
        continue;
      }
      const std::vector<std::string> lines = wrap(rows[r][i], width - before_last);
      for (size_t l = 0; l < lines.size(); ++l) {
        if (l > 0) end_line();
        column = before_last;
        put(lines[l], i);
      }
    }
    end_line();
    if (r > 0) continue;
    column = 0;
    for (size_t i = 0; i < widths.size(); ++i)
      put(std::string(characters(i < rows[0].size() ? rows[0][i] : ""), '-'), i);
    end_line();
  }
  return out;
}

std::string number_table(std::vector<std::vector<std::string>> rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], characters(row[i]));
  }
  for (auto& row : rows) {
    for (size_t i = 1; i < row.size(); ++i) row[i].insert(0, widths[i] - characters(row[i]), ' ');
  }
  return table(rows, 0);
}

}  // namespace espalier
