#include "store/sqlite.h"

#include <sqlite3.h>

namespace espalier {

DamagedDatabase::~DamagedDatabase() = default;

Database::Database(const std::filesystem::path& file, bool create) : file_(file) {
  const int flags = SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0);
  const int code = sqlite3_open_v2(file.c_str(), &handle_, flags, nullptr);
  if (code != SQLITE_OK) {
    const std::string reason = handle_ ? sqlite3_errmsg(handle_) : "out of memory";
    sqlite3_close(handle_);
    throw InputError(file.string(), "cannot be opened: " + reason);
  }
  constexpr int patience = 30'000;  // milliseconds
  sqlite3_busy_timeout(handle_, patience);
}

Database::~Database() {
  sqlite3_close(handle_);
}

void Database::fail(int code) const {
  const std::string reason = sqlite3_errmsg(handle_);
  const int kind = code & 0xff;  // without what SQLite adds to it
  if (kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB) throw DamagedDatabase(file_.string(), "is damaged: " + reason);
  throw InputError(file_.string(), reason);
}

void Database::execute(const std::string& sql) {
  const int code = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) fail(code);
}

int64_t Database::last_row() const {
  return sqlite3_last_insert_rowid(handle_);
}

Statement::Statement(Database& database, std::string_view sql) : database_(database) {
  const int code =
      sqlite3_prepare_v2(database_.handle_, sql.data(), static_cast<int>(sql.size()), &statement_, nullptr);
  if (code != SQLITE_OK) database_.fail(code);
}

Statement::~Statement() {
  sqlite3_finalize(statement_);
}

void Statement::bind(int parameter, const Value& value) {
  int code = SQLITE_OK;
  switch (value.kind()) {
    case Value::Kind::null:
      code = sqlite3_bind_null(statement_, parameter);
      break;
    case Value::Kind::boolean:
      code = sqlite3_bind_int(statement_, parameter, value.as_bool() ? 1 : 0);
      break;
    case Value::Kind::integer:
      code = sqlite3_bind_int64(statement_, parameter, value.as_int());
      break;
    case Value::Kind::number:
      code = sqlite3_bind_double(statement_, parameter, value.as_double());
      break;
    default: {
      const std::string text = value.is_string() ? value.as_string() : to_json(value);
      code = sqlite3_bind_text(statement_, parameter, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
    }
  }
  if (code != SQLITE_OK) database_.fail(code);
}

bool Statement::next() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) database_.fail(code);
  sqlite3_reset(statement_);
  return false;
}

void Statement::run() {
  while (next()) {
  }
}

bool Statement::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}
int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(statement_, column);
}
double Statement::number(int column) const {
  return sqlite3_column_double(statement_, column);
}
std::string Statement::text(int column) const {
  const unsigned char* bytes = sqlite3_column_text(statement_, column);
  return bytes ? std::string(reinterpret_cast<const char*>(bytes),
                             static_cast<size_t>(sqlite3_column_bytes(statement_, column)))
               : std::string();
}

void Transaction::commit() {
  database_.execute("COMMIT");
  done_ = true;
}

Transaction::~Transaction() {
  if (done_) return;
  try {
    database_.execute("ROLLBACK");
  } catch (const Error&) {  // SQLite has rolled back by itself; the first error is the one that counts
  }
}

}  // namespace espalier
