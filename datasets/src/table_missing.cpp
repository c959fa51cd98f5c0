#include "table_missing.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "table_text.h"
#include "text.h"

namespace espalier {

std::string count_text(int64_t n, const std::string& one) {
  return grouped(n) + " " + one + (n == 1 ? "" : "s");
}

std::string missing_text(const Table& table, const std::vector<size_t>& columns, const std::vector<int64_t>& rows) {
  std::vector<std::string> texts;
  int64_t all = 0;
  for (const size_t c : columns) {
    int64_t count = 0, first = 0;
    for (const int64_t row : rows) {
      if (table.columns[c].is_missing(row) && count++ == 0) first = row;
    }
    if (count > 0)
      texts.push_back(grouped(count) + " in " + column_text(c, table.columns[c].name) + ", the first at " +
                      table.place(first));
    all += count;
  }
  if (all == 0) return "";
  std::string text = count_text(all, "value") + (all == 1 ? " is" : " are") + " missing: ";
  constexpr size_t most = 10;
  for (size_t i = 0; i < std::min(most, texts.size()); ++i) text += (i > 0 ? "; " : "") + texts[i];
  return text + (texts.size() > most ? "; and in " + std::to_string(texts.size() - most) + " more columns" : "");
}

namespace {

double mean(const std::vector<double>& values, const std::vector<int64_t>& rows) {
  double mean = 0, n = 0;
  // Running, so that large values do not overflow.
  for (const int64_t row : rows) mean += (values[static_cast<size_t>(row)] - mean) / ++n;
  return mean;
}

// Of equally frequent ones the smallest.
template <class V>
V most_frequent(const std::vector<V>& values, const std::vector<int64_t>& rows) {
  std::map<V, int64_t> counts;
  for (const int64_t row : rows) ++counts[values[static_cast<size_t>(row)]];
  return std::ranges::max_element(counts, {}, [](const auto& e) { return e.second; })->first;
}

}  // namespace

Value fill_column(TableColumn& c, const std::vector<int64_t>& known, const std::string& how) {
  if (c.is_nominal()) {
    const int32_t code = most_frequent(c.codes, known);
    std::ranges::replace(c.codes, -1, code);
    return Value(c.categories[static_cast<size_t>(code)]);
  }
  const double value = how == "mean" ? mean(c.numbers, known) : most_frequent(c.numbers, known);
  for (double& v : c.numbers) v = std::isnan(v) ? value : v;
  return Value(value);
}

}  // namespace espalier
