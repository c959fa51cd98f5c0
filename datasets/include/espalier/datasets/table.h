#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace espalier {

// A column of a table: numbers, or values out of a set of categories.
struct TableColumn {
  enum class Kind { numeric, nominal };
  std::string name;
  Kind kind = Kind::numeric;
  std::vector<double> numbers;          // of each row if numeric; NaN: missing. All others are finite.
  std::vector<int32_t> codes;           // of each row if nominal: the place among the categories; -1: missing
  std::vector<std::string> categories;  // if nominal, each once

  bool is_nominal() const { return kind == Kind::nominal; }
  bool is_missing(int64_t row) const;
};

// The rows of one file, or those of several files with the same columns, one file after the other.
struct Table {
  std::vector<std::filesystem::path> files;
  std::vector<int64_t> begins;  // the first row of each file, and the number of all rows
  std::vector<TableColumn> columns;
  std::vector<int64_t> lines;        // where each row begins in its file, from 1
  std::vector<std::string> targets;  // the columns that are to be learned, where the file says so; otherwise empty

  int64_t rows() const { return static_cast<int64_t>(lines.size()); }
  // The number of the file that a row comes from.
  size_t file_of(int64_t row) const;
  // "data.csv:17"
  std::string place(int64_t row) const;
};

// "column 3 ('age')", counted from 1.
std::string column_text(size_t column, const std::string& name);

// A number as it is written in English (or with a decimal comma), with nothing before or behind it. Hexadecimal digits,
// separators of thousands, infinities and numbers that are too large are none.
std::optional<double> parse_number(std::string_view text, bool decimal_comma = false);

// Whether a name is meant by a pattern: the name itself, or with *, ? and [...] as in a shell.
bool matches_pattern(const std::string& name, const std::string& pattern);

// The columns that a list names, each once, in the order of the list: by name, by a pattern, or by a number, which
// counts from 1, or from the end if it is negative. Throws InputError at the first file for what matches nothing;
// `option` says whose list it is.
std::vector<size_t> named_columns(const Table& table, const std::vector<std::string>& names, const std::string& option);

// How a file of separated values is to be taken.
struct CsvFormat {
  std::string delimiter = "auto";  // one character, "tab", or "auto": what splits the first lines alike of ; tab ,
  std::optional<bool> header{};    // whether the first row holds the names; none: where it holds no number
  bool decimal_comma = false;      // 1,5 instead of 1.5
  // Columns of categories, even if they hold numbers, as named_columns() takes them.
  std::vector<std::string> nominal{};
  std::vector<std::string> ignore{};  // columns that nobody uses: they may hold anything
  std::vector<std::string> missing = {"", "?", "NA", "N/A", "NaN", "nan", "null"};  // what stands for no value
};

// Reads comma-separated values (RFC 4180, in UTF-8), plain or compressed with gzip. A column of numbers is numeric and
// one without a number is nominal, with sorted categories; one with both is an error, unless the format names it. This
// and the next functions read files that have the same columns, and throw InputError with the file, the line and the
// column of what is wrong.
Table read_csv(const std::vector<std::filesystem::path>& files, const CsvFormat& format);

// Reads attribute-relation files (ARFF) with dense or sparse rows, plain or compressed with gzip. Attributes of strings
// and dates become nominal, with sorted categories. `-C N` in the name of the relation (MEKA) makes the first N
// attributes the targets, or the last -N.
Table read_arff(const std::vector<std::filesystem::path>& files);

// How a LIBSVM file is to be taken.
struct LibsvmFormat {
  int64_t features = 0;     // how many; 0: as many as the largest index says
  bool zero_based = false;  // whether indices count from 0 instead of 1
};

// Reads LIBSVM files, "LABEL INDEX:VALUE ...", plain or compressed with gzip. The first column is called "label". It is
// nominal, in the order of the numbers, if all labels are whole numbers and at most 100 are different. If a line has
// several labels, "1,5", there is a column of 0 and 1 for each label, "label1", "label5", and these are the targets.
// The others are called "1", "2", and so on.
Table read_libsvm(const std::vector<std::filesystem::path>& files, const LibsvmFormat& format);

}  // namespace espalier
