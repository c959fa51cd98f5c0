#include "store/csv.h"

#include <algorithm>
#include <map>

namespace espalier {

namespace {

using Row = std::map<std::string, std::string>;

std::string cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

void add(const Value& v, const std::string& name, Row& row, std::vector<std::string>& columns) {
  if (v.is_map()) {
    for (const Value::Entry& e : v.as_map()) add(e.value, name.empty() ? e.key : name + "." + e.key, row, columns);
    return;
  }
  if (v.is_list()) return;
  if (std::ranges::find(columns, name) == columns.end()) columns.push_back(name);
  row[name] = v.is_null() ? "" : v.is_string() ? v.as_string() : to_json(v);
}

std::string text_of(const std::vector<Row>& rows, const std::vector<std::string>& columns) {
  std::string text;
  for (size_t i = 0; i < columns.size(); ++i) text += (i ? "," : "") + cell(columns[i]);
  text += "\r\n";
  for (const Row& row : rows) {
    for (size_t i = 0; i < columns.size(); ++i) {
      const auto found = row.find(columns[i]);
      text += (i ? "," : "") + (found == row.end() ? std::string() : cell(found->second));
    }
    text += "\r\n";
  }
  return text;
}

}  // namespace

std::string runs_csv(const std::vector<Value>& lines) {
  std::vector<std::string> columns;
  std::vector<Row> rows;
  for (const Value& line : lines) add(line, "", rows.emplace_back(), columns);
  return text_of(rows, columns);
}

std::string epochs_csv(const std::vector<std::pair<const StoredRun*, Value>>& lines) {
  std::vector<std::string> columns{"id", "run", "seed"};
  std::vector<Row> rows;
  for (const auto& [run, line] : lines) {
    Row& row = rows.emplace_back();
    row = {{"id", run->id}, {"run", run->name}, {"seed", std::to_string(run->seed)}};
    add(line, "", row, columns);
  }
  return text_of(rows, columns);
}

}  // namespace espalier
