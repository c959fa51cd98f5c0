#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "espalier/error.h"
#include "espalier/value.h"

struct sqlite3;
struct sqlite3_stmt;

namespace espalier {

// What is in the file is no database, or no longer one.
class DamagedDatabase : public InputError {
 public:
  using InputError::InputError;
  ~DamagedDatabase() override;
};

// A connection to an SQLite file. Writers of other processes are waited for, up to half a minute. Its functions throw
// InputError naming the file and the reason, and DamagedDatabase where the file is damaged.
class Database {
 public:
  // Without `create` the file must be there.
  Database(const std::filesystem::path& file, bool create);
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;
  ~Database();

  // Statements without parameters and results, several with ';' between them.
  void execute(const std::string& sql);
  int64_t last_row() const;
  [[noreturn]] void fail(int code) const;

 private:
  friend class Statement;
  std::filesystem::path file_;
  sqlite3* handle_ = nullptr;
};

// A statement with parameters, ?1, ?2 ...
class Statement {
 public:
  Statement(Database& database, std::string_view sql);
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  // Null, integers, numbers and strings, for parameters from 1 on.
  template <class... Values>
  Statement& with(const Values&... values) {
    int i = 0;
    (bind(++i, values), ...);
    return *this;
  }
  void bind(int parameter, const Value& value);
  // False where there is no further row.
  bool next();
  // Carries out what has no rows, and makes the statement ready for other parameters.
  void run();

  // Of the present row, columns from 0.
  bool is_null(int column) const;
  int64_t integer(int column) const;
  double number(int column) const;
  std::string text(int column) const;

 private:
  Database& database_;
  sqlite3_stmt* statement_ = nullptr;
};

// Everything between its making and commit() is written at once or not at all.
class Transaction {
 public:
  explicit Transaction(Database& database) : database_(database) { database_.execute("BEGIN IMMEDIATE"); }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction();
  void commit();

 private:
  Database& database_;
  bool done_ = false;
};

}  // namespace espalier
