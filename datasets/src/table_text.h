#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "espalier/datasets/table.h"

// What the readers of tables share.
namespace espalier {

// A text file as a whole, unpacked, without a byte order mark. Throws InputError with line and column where it is no
// UTF-8, or holds a zero byte.
std::string read_table_text(const std::filesystem::path& file);

// Lines of a text, without their ends (LF, CR LF or CR).
class Lines {
 public:
  explicit Lines(std::string_view text) : rest_(text) {}
  // Returns whether there is another line, which is then in `line`.
  bool next(std::string_view& line);
  // The number of that line, from 1.
  int64_t number() const { return number_; }

 private:
  std::string_view rest_;
  int64_t number_ = 0;
};

// Without spaces and tabs at both ends.
std::string_view trimmed(std::string_view text);
// A text for messages, in quotes and cut where it is long.
std::string shown(std::string_view text);
// "a, b, c and 7 more"
std::string some_of(const std::vector<std::string>& names);

// Numbers for texts as they come, and then sorted.
class Categories {
 public:
  int32_t code(std::string_view text);
  // Puts the categories into the column, sorted, and its codes, which are of this object, into their order.
  void finish(TableColumn& column) const;

 private:
  std::map<std::string, int32_t, std::less<>> codes_;
};

// Throws InputError if a table that sparse rows stand for would take more memory than is sensible.
void check_cells(const std::filesystem::path& file, int64_t rows, int64_t columns);

// Throws InputError if two columns have the same name.
void check_names(const std::string& where, const std::vector<TableColumn>& columns, const std::string& advice);

}  // namespace espalier
