// Comma-separated values, taken apart by libcsv.
#include <algorithm>
#include <limits>
#include <memory>
#include <set>

#include <csv.h>

#include "espalier/datasets/table.h"
#include "espalier/error.h"
#include "table_text.h"
#include "text.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

// The cells of a file, row by row.
struct Cells {
  std::string text;                // of all cells, one behind the other
  std::vector<size_t> ends;        // where each ends in it
  std::vector<size_t> rows = {0};  // the first cell of each row, and the number of all cells
  std::vector<int64_t> lines;      // where each row begins

  size_t count() const { return lines.size(); }
  size_t width(size_t row) const { return rows[row + 1] - rows[row]; }
  std::string_view at(size_t row, size_t column) const {
    const size_t cell = rows[row] + column;
    const size_t begin = cell == 0 ? 0 : ends[cell - 1];
    return std::string_view(text).substr(begin, ends[cell] - begin);
  }
};

// What libcsv calls back with. Nothing may be thrown through it.
struct Reading {
  Cells cells;
  int64_t line = 1;       // of what is being read
  bool row_ended = true;  // with the last byte
};

void on_cell(void* bytes, size_t n, void* reading) {
  Cells& cells = static_cast<Reading*>(reading)->cells;
  cells.text.append(static_cast<const char*>(bytes), n);
  cells.ends.push_back(cells.text.size());
}

void on_row(int /*terminator*/, void* reading) {
  auto& r = *static_cast<Reading*>(reading);
  r.row_ended = true;
  // An empty line is no row.
  if (r.cells.ends.size() == r.cells.rows.back()) return;
  r.cells.rows.push_back(r.cells.ends.size());
  r.cells.lines.push_back(r.line);
}

Cells cells_of(const fs::path& file, std::string_view text, char delimiter) {
  csv_parser parser;
  if (csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI | CSV_REPALL_NL) != 0) throw Error("libcsv cannot be initialised");
  const std::unique_ptr<csv_parser, void (*)(csv_parser*)> owner(&parser, csv_free);
  csv_set_delim(&parser, static_cast<unsigned char>(delimiter));
  Reading reading;
  int64_t line = 0;
  const auto fail = [&](const std::string& where, const std::string& what) {
    if (csv_error(&parser) != CSV_EPARSE) throw Error(std::string("libcsv: ") + csv_strerror(csv_error(&parser)));
    throw InputError(file.string() + ":" + where, what);
  };
  // A line at a time, so that the callbacks know where they are.
  for (std::string_view rest = text; !rest.empty();) {
    size_t end = rest.find_first_of("\r\n");
    end = end == std::string_view::npos ? rest.size() : end + (rest.substr(end).starts_with("\r\n") ? 2 : 1);
    const std::string_view piece = rest.substr(0, end);
    rest.remove_prefix(end);
    ++line;
    if (reading.row_ended) reading.line = line;
    reading.row_ended = false;
    const size_t done = csv_parse(&parser, piece.data(), piece.size(), on_cell, on_row, &reading);
    if (done == piece.size()) continue;
    const std::string begun =
        reading.line < line ? " (the row begins in line " + std::to_string(reading.line) + ")" : "";
    fail(std::to_string(line) + ":" + std::to_string(done + 1),
         parser.quoted ? "behind the closing quote stands " + shown(piece.substr(done, 1)) + begun +
                             "; a quote within a quoted field is written twice"
                       : "a quote within a field that does not begin with one" + begun +
                             "; put the whole field in quotes, and write the quote within it twice");
  }
  if (csv_fini(&parser, on_cell, on_row, &reading) != 0) {
    fail(std::to_string(reading.line), "the field " +
                                           std::to_string(reading.cells.ends.size() - reading.cells.rows.back() + 1) +
                                           " of this row begins with a quote that is not closed before the end of the "
                                           "file");
  }
  return std::move(reading.cells);
}

// The delimiter that takes the first lines apart into equally many fields, more than one.
char guessed_delimiter(std::string_view text) {
  constexpr int looked_at = 10;
  for (const char delimiter : {';', '\t', ','}) {
    Lines lines(text);
    std::set<int64_t> counts;
    std::string_view line;
    int read = 0;
    while (read < looked_at && lines.next(line)) {
      if (trimmed(line).empty()) continue;
      bool quoted = false;
      int64_t count = 0;
      for (const char c : line) {
        if (c == '"') quoted = !quoted;
        count += !quoted && c == delimiter ? 1 : 0;
      }
      if (quoted) break;  // a field of several lines
      counts.insert(count);
      ++read;
    }
    if (counts.size() == 1 && *counts.begin() > 0) return delimiter;
  }
  return ',';
}

bool is_one_of(std::string_view text, const std::vector<std::string>& texts) {
  return std::ranges::find(texts, text) != texts.end();
}

// Whether the first row holds names: no number is in it, and it is unlike the other rows.
bool begins_with_names(const Cells& cells, const CsvFormat& format) {
  const auto number = [&](size_t row, size_t column) {
    return parse_number(cells.at(row, column), format.decimal_comma).has_value();
  };
  for (size_t c = 0; c < cells.width(0); ++c) {
    if (number(0, c)) return false;
  }
  bool again = false;
  for (size_t row = 1; row < cells.count(); ++row) {
    for (size_t c = 0; c < std::min(cells.width(0), cells.width(row)); ++c) {
      if (number(row, c)) return true;
      again = again || cells.at(row, c) == cells.at(0, c);
    }
  }
  return !again;
}

class CsvReader {
 public:
  CsvReader(const std::vector<fs::path>& files, const CsvFormat& format) : format_(format) { table_.files = files; }

  Table read() {
    for (const fs::path& file : table_.files) read_file(file);
    table_.begins.push_back(table_.rows());
    const std::vector<size_t> nominal = named_columns(table_, format_.nominal, "nominal");
    const std::vector<size_t> ignored = named_columns(table_, format_.ignore, "ignore");
    for (size_t c = 0; c < table_.columns.size(); ++c) {
      const bool any = std::ranges::count(nominal, c) > 0 || std::ranges::count(ignored, c) > 0;
      if (any || !is_numeric(c)) {
        make_nominal(c);
      } else {
        make_numeric(c);
      }
    }
    return std::move(table_);
  }

 private:
  void read_file(const fs::path& file) {
    const std::string text = read_table_text(file);
    const char delimiter = format_.delimiter == "auto"  ? guessed_delimiter(text)
                           : format_.delimiter == "tab" ? '\t'
                                                        : format_.delimiter.front();
    Cells cells = cells_of(file, text, delimiter);
    if (cells.count() == 0) throw InputError(file.string(), "holds no rows");
    const bool first_file = cells_.empty();
    if (first_file) header_ = format_.header.value_or(begins_with_names(cells, format_));
    std::vector<std::string> names;
    for (size_t c = 0; c < cells.width(0); ++c) {
      const std::string_view name = header_ ? cells.at(0, c) : std::string_view();
      names.push_back(name.empty() ? "column" + std::to_string(c + 1) : std::string(name));
    }
    if (first_file) {
      for (const std::string& name : names) table_.columns.emplace_back().name = name;
      check_names(place(file, cells, 0), table_.columns,
                  "give each a name of its own, or say `header: false` if this row holds values");
    } else {
      expect_same(file, cells, names);
    }
    const size_t begin = header_ ? 1 : 0;
    if (cells.count() == begin) throw InputError(file.string(), "holds no rows below the names of its columns");
    for (size_t row = 1; row < cells.count(); ++row) {
      if (cells.width(row) == names.size()) continue;
      throw InputError(place(file, cells, row),
                       "has " + fields(cells.width(row)) + ", and line " + std::to_string(cells.lines[0]) + " has " +
                           fields(names.size()) + " (separated by " +
                           (delimiter == '\t' ? "tabs" : "'" + std::string(1, delimiter) + "'") +
                           "); mend the row, or give `delimiter`");
    }
    table_.begins.push_back(table_.rows());
    table_.lines.insert(table_.lines.end(), cells.lines.begin() + static_cast<ptrdiff_t>(begin), cells.lines.end());
    cells_.push_back(std::move(cells));
  }

  static std::string fields(size_t n) { return std::to_string(n) + (n == 1 ? " field" : " fields"); }

  static std::string place(const fs::path& file, const Cells& cells, size_t row) {
    return file.string() + ":" + std::to_string(cells.lines[row]);
  }

  void expect_same(const fs::path& file, const Cells& cells, const std::vector<std::string>& names) const {
    const std::string& first = table_.files.front().string();
    if (names.size() != table_.columns.size()) {
      throw InputError(place(file, cells, 0), "has " + fields(names.size()) + ", and those of " + first + " are " +
                                                  std::to_string(table_.columns.size()) +
                                                  "; all files of a table need the same columns");
    }
    for (size_t c = 0; c < names.size(); ++c) {
      if (names[c] == table_.columns[c].name) continue;
      throw InputError(place(file, cells, 0), column_text(c, names[c]) + " is called '" + table_.columns[c].name +
                                                  "' in " + first + "; all files of a table need the same columns");
    }
  }

  // Calls f(row, cell) for each cell of a column that holds something.
  template <class F>
  void each(size_t column, F f) const {
    for (size_t i = 0; i < cells_.size(); ++i) {
      const Cells& cells = cells_[i];
      const size_t header = header_ ? 1 : 0;
      for (size_t row = header; row < cells.count(); ++row) {
        const std::string_view cell = cells.at(row, column);
        if (!is_one_of(cell, format_.missing)) f(table_.begins[i] + static_cast<int64_t>(row - header), cell);
      }
    }
  }

  // A column of no values counts as one of numbers.
  bool is_numeric(size_t column) const {
    int64_t numbers = 0, texts = 0, commas = 0, first_number = 0, first_text = 0;
    std::string text;
    each(column, [&](int64_t row, std::string_view cell) {
      if (parse_number(cell, format_.decimal_comma)) {
        if (numbers++ == 0) first_number = row;
        return;
      }
      if (texts++ == 0) first_text = row, text = cell;
      commas += !format_.decimal_comma && parse_number(cell, true) ? 1 : 0;
    });
    if (texts == 0) return true;
    const std::string where = table_.place(first_text), name = column_text(column, table_.columns[column].name);
    const std::string nominal =
        "name the column in `nominal` if it holds categories, or in `ignore` if it is not needed";
    if (commas == texts) {
      throw InputError(
          where, name + ": " + shown(text) + " is written with a decimal comma; say `decimal: comma`, or " + nominal);
    }
    if (numbers == 0) return false;
    const std::string names =
        first_text == 0 && !header_ && !format_.header ? "if this row holds names, say `header: true`; otherwise " : "";
    throw InputError(where, name + ": " + shown(text) + " is not a number, but " + grouped(numbers) +
                                (numbers == 1 ? " value of the column is" : " values of the column are") +
                                " (the first at " + table_.place(first_number) + "); " + names + "correct it, or " +
                                nominal);
  }

  void make_numeric(size_t column) {
    TableColumn& c = table_.columns[column];
    c.kind = TableColumn::Kind::numeric;
    c.numbers.assign(static_cast<size_t>(table_.rows()), std::numeric_limits<double>::quiet_NaN());
    each(column, [&](int64_t row, std::string_view cell) {
      c.numbers[static_cast<size_t>(row)] = *parse_number(cell, format_.decimal_comma);
    });
  }

  void make_nominal(size_t column) {
    TableColumn& c = table_.columns[column];
    c.kind = TableColumn::Kind::nominal;
    c.codes.assign(static_cast<size_t>(table_.rows()), -1);
    Categories categories;
    each(column,
         [&](int64_t row, std::string_view cell) { c.codes[static_cast<size_t>(row)] = categories.code(cell); });
    categories.finish(c);
  }

  const CsvFormat& format_;
  Table table_;
  std::vector<Cells> cells_;  // of each file
  bool header_ = false;
};

}  // namespace

Table read_csv(const std::vector<fs::path>& files, const CsvFormat& format) {
  if (format.delimiter != "auto" && format.delimiter != "tab" &&
      (format.delimiter.size() != 1 || std::string_view("\"\r\n").find(format.delimiter) != std::string_view::npos)) {
    throw InputError("", "`delimiter` must be one character, tab or auto, got '" + format.delimiter + "'");
  }
  return CsvReader(files, format).read();
}

}  // namespace espalier
