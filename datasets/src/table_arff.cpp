// Attribute-relation files, the format of Weka, MEKA and Mulan.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <map>

#include "espalier/datasets/table.h"
#include "espalier/error.h"
#include "espalier/value.h"
#include "table_text.h"
#include "text.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

// A word or a quoted text.
struct Token {
  std::string text;
  bool quoted = false;
  size_t column = 0;  // where it begins in the line, from 1

  bool is_missing() const { return !quoted && text == "?"; }
};

// One attribute as the header declares it.
struct Attribute {
  TableColumn column;
  bool open = false;                                  // strings and dates: the values are those of the rows
  Categories found{};                                 // of these
  std::map<std::string, int32_t, std::less<>> codes;  // of those that are declared
};

class ArffReader {
 public:
  explicit ArffReader(const std::vector<fs::path>& files) { table_.files = files; }

  Table read() {
    for (const fs::path& file : table_.files) read_file(file);
    table_.begins.push_back(table_.rows());
    for (Attribute& a : attributes_) {
      if (a.open) a.found.finish(a.column);
      table_.columns.push_back(std::move(a.column));
    }
    return std::move(table_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { fail(at_ + 1, what); }
  [[noreturn]] void fail(size_t column, const std::string& what) const {
    throw InputError(file_ + ":" + std::to_string(number_) + ":" + std::to_string(column), what);
  }

  void read_file(const fs::path& file) {
    file_ = file.string();
    const std::string text = read_table_text(file);
    Lines lines(text);
    table_.begins.push_back(table_.rows());
    const bool first = attributes_.empty();
    std::vector<Attribute> attributes;
    bool data = false;
    while (lines.next(line_)) {
      number_ = lines.number();
      at_ = 0;
      skip_spaces();
      if (at_ == line_.size() || line_[at_] == '%') continue;
      if (data) {
        read_row();
      } else {
        data = read_declaration(attributes);
        if (data) begin_data(std::move(attributes), first);
      }
    }
    if (!data) throw InputError(file_, "has no line @data; it is no ARFF file, or it is cut short");
    if (table_.rows() == table_.begins.back()) throw InputError(file_, "holds no rows behind @data");
  }

  void skip_spaces() {
    while (at_ < line_.size() && (line_[at_] == ' ' || line_[at_] == '\t')) ++at_;
  }
  bool at_end() const { return at_ == line_.size(); }

  // The next text, up to a space or one of the characters in `ends`, or in quotes.
  Token token(std::string_view ends, bool spaces_end = true) {
    skip_spaces();
    Token t;
    t.column = at_ + 1;
    if (at_end()) return t;
    const char quote = line_[at_];
    if (quote == '\'' || quote == '"') {
      t.quoted = true;
      for (++at_;; ++at_) {
        if (at_end()) fail(t.column, "the quote is not closed in this line");
        if (line_[at_] == quote) break;
        if (line_[at_] == '\\' && at_ + 1 < line_.size()) ++at_;
        t.text += line_[at_];
      }
      ++at_;
      return t;
    }
    const size_t begin = at_;
    while (!at_end() && ends.find(line_[at_]) == std::string_view::npos &&
           !(spaces_end && (line_[at_] == ' ' || line_[at_] == '\t'))) {
      ++at_;
    }
    t.text = trimmed(line_.substr(begin, at_ - begin));
    return t;
  }

  // Whether the line was @data.
  bool read_declaration(std::vector<Attribute>& attributes) {
    const size_t begin = at_;
    const std::string word = lower(token("").text);
    if (word == "@data") return true;
    if (word == "@relation") {
      relation_ = token("", false).text;
      return false;
    }
    if (word != "@attribute") {
      at_ = begin;
      fail("expected @relation, @attribute or @data, got " + shown(line_.substr(begin)));
    }
    Attribute a;
    const Token name = token("{");
    if (name.text.empty()) fail(name.column, "an attribute without a name");
    a.column.name = name.text;
    skip_spaces();
    if (!at_end() && line_[at_] == '{') {
      read_categories(a);
    } else {
      const Token type = token("");
      const std::string kind = lower(type.text);
      if (kind == "string" || kind == "date") {
        a.column.kind = TableColumn::Kind::nominal;
        a.open = true;
      } else if (kind != "numeric" && kind != "real" && kind != "integer") {
        fail(type.column, "the attribute '" + a.column.name + "' is of the type " + shown(type.text) +
                              "; numeric, real, integer, string, date and {a, b, ...} are read");
      }
    }
    attributes.push_back(std::move(a));
    return false;
  }

  void read_categories(Attribute& a) {
    a.column.kind = TableColumn::Kind::nominal;
    ++at_;
    for (bool more = true; more;) {
      const Token value = token(",}", false);
      if (value.text.empty() && !value.quoted)
        fail(value.column, "an empty value among those of '" + a.column.name + "'");
      if (!a.codes.emplace(value.text, static_cast<int32_t>(a.codes.size())).second) {
        fail(value.column, "the value " + shown(value.text) + " of '" + a.column.name + "' is declared twice");
      }
      a.column.categories.push_back(value.text);
      skip_spaces();
      if (at_end() || (line_[at_] != ',' && line_[at_] != '}')) {
        fail("expected a comma or '}' behind the value " + shown(value.text) + " of '" + a.column.name + "'");
      }
      more = line_[at_++] == ',';
    }
    skip_spaces();
    if (!at_end() && line_[at_] != '%') fail("expected nothing behind the values of '" + a.column.name + "'");
  }

  void begin_data(std::vector<Attribute> attributes, bool first) {
    if (attributes.empty()) fail(1, "@data without an @attribute before it");
    if (!first) {
      expect_same(attributes);
      return;
    }
    attributes_ = std::move(attributes);
    std::vector<TableColumn> columns;
    for (const Attribute& a : attributes_) columns.emplace_back().name = a.column.name;
    check_names(file_, columns, "give each attribute a name of its own");
    read_targets();
  }

  // `-C N` of MEKA: the first N attributes are labels, or the last -N.
  void read_targets() {
    const size_t option = relation_.find("-C ");
    if (option == std::string::npos || (option > 0 && relation_[option - 1] != ' ')) return;
    const std::string_view text = trimmed(std::string_view(relation_).substr(option + 3));
    int64_t n = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (error != std::errc() || n == 0) return;
    const auto count = static_cast<int64_t>(attributes_.size());
    if (n <= -count || n >= count) {
      throw InputError(file_, "its relation says that " + std::to_string(n) +
                                  " attributes are labels (-C), and it has " + std::to_string(count) +
                                  "; name them in `target`");
    }
    const int64_t begin = n > 0 ? 0 : count + n;
    for (int64_t i = begin; i < begin + std::abs(n); ++i)
      table_.targets.push_back(attributes_[static_cast<size_t>(i)].column.name);
  }

  void expect_same(const std::vector<Attribute>& others) const {
    const std::string first = table_.files.front().string();
    if (others.size() != attributes_.size()) {
      throw InputError(file_, "has " + std::to_string(others.size()) + " attributes, and " + first + " has " +
                                  std::to_string(attributes_.size()) + "; all files of a table need the same ones");
    }
    for (size_t c = 0; c < others.size(); ++c) {
      const Attribute &a = attributes_[c], &b = others[c];
      if (a.column.name == b.column.name && a.column.kind == b.column.kind && a.open == b.open &&
          (a.open || a.column.categories == b.column.categories)) {
        continue;
      }
      throw InputError(file_, "the attribute " + std::to_string(c + 1) + " ('" + b.column.name +
                                  "') is declared otherwise than '" + a.column.name + "' in " + first +
                                  "; all files of a table need the same ones");
    }
  }

  void read_row() {
    const bool sparse = line_[at_] == '{';
    row_.assign(attributes_.size(), Token{.text = "0"});
    const size_t count = sparse ? read_sparse() : read_dense();
    if (!sparse && count != attributes_.size()) {
      fail(1, "has " + std::to_string(count) + (count == 1 ? " value" : " values") + ", and " +
                  std::to_string(attributes_.size()) + " attributes are declared");
    }
    table_.lines.push_back(number_);
    // Only here: a value that is left out of a sparse row is the first of its attribute.
    for (size_t c = 0; c < row_.size(); ++c) add(c, row_[c], sparse && row_[c].column == 0);
    check_cells(file_, table_.rows(), static_cast<int64_t>(attributes_.size()));
  }

  size_t read_dense() {
    size_t count = 0;
    for (bool more = true; more; ++count) {
      skip_spaces();
      if (count > 0 && !at_end() && line_[at_] == '{') fail("weights of rows are not read; take them out");
      Token value = token(",", false);
      if (value.text.empty() && !value.quoted) fail(value.column, "an empty value; a missing one is written ?");
      skip_spaces();
      if (!at_end() && line_[at_] != ',') fail("expected a comma behind the value " + shown(value.text));
      if (count < row_.size()) row_[count] = std::move(value);
      more = !at_end();
      if (more) ++at_;
    }
    return count;
  }

  size_t read_sparse() {
    ++at_;
    int64_t last = -1;
    skip_spaces();
    bool more = at_end() || line_[at_] != '}';
    if (!more) ++at_;
    while (more) {
      const Token index = token(",}");
      int64_t i = 0;
      const auto [end, error] = std::from_chars(index.text.data(), index.text.data() + index.text.size(), i);
      if (index.text.empty() || error != std::errc() || end != index.text.data() + index.text.size())
        fail(index.column, "expected the number of an attribute, counted from 0, got " + shown(index.text));
      if (i < 0 || i >= static_cast<int64_t>(attributes_.size())) {
        fail(index.column, "there is no attribute " + index.text + "; the " + std::to_string(attributes_.size()) +
                               " attributes are counted from 0");
      }
      if (i <= last) fail(index.column, "the attribute " + index.text + " stands behind " + std::to_string(last));
      last = i;
      Token value = token(",}", false);
      if (value.text.empty() && !value.quoted) fail(value.column, "the attribute " + index.text + " without a value");
      row_[static_cast<size_t>(i)] = std::move(value);
      skip_spaces();
      if (at_end() || (line_[at_] != ',' && line_[at_] != '}')) fail("expected a comma or '}'");
      more = line_[at_++] == ',';
    }
    skip_spaces();
    if (!at_end() && line_[at_] != '%') fail("expected nothing behind '}'; weights of rows are not read");
    return attributes_.size();
  }

  void add(size_t column, const Token& value, bool left_out) {
    Attribute& a = attributes_[column];
    TableColumn& c = a.column;
    if (!c.is_nominal()) {
      if (value.is_missing()) {
        c.numbers.push_back(std::numeric_limits<double>::quiet_NaN());
        return;
      }
      const auto number = parse_number(value.text);
      if (!number) fail(value.column, column_text(column, c.name) + ": " + shown(value.text) + " is not a number");
      c.numbers.push_back(*number);
    } else if (value.is_missing()) {
      c.codes.push_back(-1);
    } else if (a.open) {
      c.codes.push_back(left_out ? a.found.code("") : a.found.code(value.text));
    } else if (left_out) {
      c.codes.push_back(0);
    } else {
      const auto found = a.codes.find(value.text);
      if (found == a.codes.end()) {
        fail(value.column, column_text(column, c.name) + ": the value " + shown(value.text) + " is not declared" +
                               suggestion(value.text, c.categories));
      }
      c.codes.push_back(found->second);
    }
  }

  Table table_;
  std::vector<Attribute> attributes_;
  std::string relation_;
  std::string file_;
  std::string_view line_;
  int64_t number_ = 0;  // of the line
  size_t at_ = 0;       // in the line
  std::vector<Token> row_;
};

}  // namespace

Table read_arff(const std::vector<fs::path>& files) {
  return ArffReader(files).read();
}

}  // namespace espalier
