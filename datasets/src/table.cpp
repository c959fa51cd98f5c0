#include "espalier/datasets/table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include <fnmatch.h>

#include "content_reader.h"
#include "espalier/error.h"
#include "espalier/value.h"
#include "table_text.h"
#include "text.h"

namespace espalier {
namespace {

// The length of the UTF-8 character at the beginning, 0 if there is none (Unicode 15, table 3-7).
size_t character(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const auto follows = [&](size_t i, int least = 0x80, int most = 0xbf) {
    return i < s.size() && byte(i) >= least && byte(i) <= most;
  };
  const int first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef)
    return follows(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf) && follows(2) ? 3 : 0;
  if (first >= 0xf0 && first <= 0xf4)
    return follows(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf) && follows(2) && follows(3) ? 4 : 0;
  return 0;
}

// "17:5" of a place in a text.
std::string line_and_column(std::string_view text, size_t at) {
  const std::string_view before = text.substr(0, at);
  const size_t last = before.rfind('\n');
  return std::to_string(1 + std::ranges::count(before, '\n')) + ":" +
         std::to_string(at - (last == std::string_view::npos ? 0 : last + 1) + 1);
}

}  // namespace

bool TableColumn::is_missing(int64_t row) const {
  const auto r = static_cast<size_t>(row);
  return is_nominal() ? codes[r] < 0 : std::isnan(numbers[r]);
}

size_t Table::file_of(int64_t row) const {
  return static_cast<size_t>(std::ranges::upper_bound(begins, row) - begins.begin()) - 1;
}

std::string Table::place(int64_t row) const {
  return files[file_of(row)].string() + ":" + std::to_string(lines[static_cast<size_t>(row)]);
}

std::string column_text(size_t column, const std::string& name) {
  return "column " + std::to_string(column + 1) + " ('" + name + "')";
}

std::optional<double> parse_number(std::string_view text, bool decimal_comma) {
  if (text.starts_with('+')) {
    text.remove_prefix(1);
    if (text.starts_with('-')) return std::nullopt;
  }
  std::string with_point;
  if (decimal_comma) {
    if (text.find('.') != std::string_view::npos) return std::nullopt;
    with_point = text;
    std::ranges::replace(with_point, ',', '.');
    text = with_point;
  }
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size() || text.empty()) return std::nullopt;
  // What is too small for a double is zero.
  const size_t exponent = text.find_first_of("eE");
  if (error == std::errc::result_out_of_range && exponent != std::string_view::npos && text[exponent + 1] == '-')
    return 0.0;
  if (error != std::errc()) return std::nullopt;
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

bool matches_pattern(const std::string& name, const std::string& pattern) {
  return name == pattern || fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

std::vector<size_t> named_columns(const Table& table, const std::vector<std::string>& names,
                                  const std::string& option) {
  std::vector<size_t> found;
  const auto add = [&](size_t column) {
    if (std::ranges::find(found, column) == found.end()) found.push_back(column);
  };
  std::vector<std::string> known;
  for (const TableColumn& column : table.columns) known.push_back(column.name);
  const auto count = static_cast<int64_t>(known.size());
  for (const std::string& name : names) {
    const auto fail = [&](const std::string& what) {
      throw InputError(table.files.front().string(), "`" + option + "`: " + what);
    };
    if (const auto at = std::ranges::find(known, name); at != known.end()) {
      add(static_cast<size_t>(at - known.begin()));
      continue;
    }
    int64_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (!name.empty() && end == name.data() + name.size()) {
      if (error != std::errc() || number == 0 || number > count || number < -count) {
        fail("there is no column " + name + "; the " + std::to_string(count) + " columns are counted from 1, or from " +
             "the end by -1, -2, ...");
      }
      add(static_cast<size_t>(number > 0 ? number - 1 : count + number));
      continue;
    }
    const bool pattern = name.find_first_of("*?[") != std::string::npos;
    bool any = false;
    for (size_t c = 0; c < known.size(); ++c) {
      if (pattern && matches_pattern(known[c], name)) add(c), any = true;
    }
    if (!any) {
      const std::string near = nearest(name, known);
      fail(std::string(pattern ? "no column matches '" : "there is no column '") + name + "'" +
           (near.empty() ? " (there are " + some_of(known) + ")" : " (did you mean '" + near + "'?)"));
    }
  }
  return found;
}

std::string read_table_text(const std::filesystem::path& file) {
  ContentReader content(file);
  std::string text;
  constexpr size_t piece = size_t{1} << 20;
  for (;;) {
    const size_t size = text.size();
    text.resize(size + piece);
    const size_t got = content.read(text.data() + size, piece);
    text.resize(size + got);
    if (got < piece) break;
  }
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    throw InputError(file.string(), "is written in UTF-16; save it as UTF-8");
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  for (size_t at = 0; at < text.size();) {
    const size_t length = character(std::string_view(text).substr(at, 4));
    if (length > 0 && text[at] != '\0') {
      at += length;
      continue;
    }
    char byte[8];
    std::snprintf(byte, sizeof byte, "%02x", static_cast<unsigned char>(text[at]));
    throw InputError(file.string() + ":" + line_and_column(text, at),
                     text[at] == '\0' ? "a zero byte, which no text holds; the file is damaged, or no text"
                                      : "the byte " + std::string(byte) + " is no UTF-8; save the file as UTF-8");
  }
  return text;
}

bool Lines::next(std::string_view& line) {
  if (rest_.empty()) return false;
  ++number_;
  const size_t end = rest_.find_first_of("\r\n");
  line = rest_.substr(0, end);
  if (end == std::string_view::npos) {
    rest_ = {};
  } else {
    rest_.remove_prefix(end + (rest_.substr(end).starts_with("\r\n") ? 2 : 1));
  }
  return true;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string shown(std::string_view text) {
  constexpr size_t most = 40;
  if (text.size() <= most) return "'" + std::string(text) + "'";
  // Not within a character.
  size_t end = 0;
  for (size_t length = 1; length > 0 && end < most; end += length) length = character(text.substr(end, 4));
  return "'" + std::string(text.substr(0, end)) + "...'";
}

std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t most = 5;
  if (names.size() <= most + 1) return listed(names);
  std::string text;
  for (size_t i = 0; i < most; ++i) text += (i > 0 ? ", " : "") + names[i];
  return text + " and " + grouped(static_cast<int64_t>(names.size() - most)) + " more";
}

int32_t Categories::code(std::string_view text) {
  const auto found = codes_.find(text);
  if (found != codes_.end()) return found->second;
  return codes_.emplace(text, static_cast<int32_t>(codes_.size())).first->second;
}

void Categories::finish(TableColumn& column) const {
  std::vector<std::string> names;
  bool numbers = true;
  for (const auto& [name, code] : codes_) {
    names.push_back(name);
    numbers = numbers && parse_number(name).has_value();
  }
  // 2 before 10, where all are numbers.
  if (numbers) std::ranges::stable_sort(names, {}, [](const std::string& name) { return *parse_number(name); });
  std::vector<int32_t> places(names.size());
  for (size_t i = 0; i < names.size(); ++i)
    places[static_cast<size_t>(codes_.find(names[i])->second)] = static_cast<int32_t>(i);
  for (int32_t& code : column.codes) code = code < 0 ? -1 : places[static_cast<size_t>(code)];
  column.categories = std::move(names);
}

void check_cells(const std::filesystem::path& file, int64_t rows, int64_t columns) {
  constexpr int64_t most = int64_t{1} << 29, most_columns = 1'000'000;
  const std::string why = "; a table is kept with its zeros, and ";
  if (columns > most_columns) {
    throw InputError(file.string(),
                     "has " + grouped(columns) + " columns" + why + grouped(most_columns) + " columns are the most");
  }
  if (columns == 0 || rows <= most / columns) return;
  throw InputError(file.string(), "has " + grouped(rows) + " rows of " + grouped(columns) + " columns" + why +
                                      "so many cells (more than " + grouped(most) + ") do not fit into memory");
}

void check_names(const std::string& where, const std::vector<TableColumn>& columns, const std::string& advice) {
  std::map<std::string, size_t> places;
  for (size_t c = 0; c < columns.size(); ++c) {
    const auto [at, added] = places.emplace(columns[c].name, c);
    if (added) continue;
    throw InputError(where, "the columns " + std::to_string(at->second + 1) + " and " + std::to_string(c + 1) +
                                " are both called '" + columns[c].name + "'; " + advice);
  }
}

}  // namespace espalier
