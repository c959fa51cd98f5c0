#include "table_labels.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>

#include "table_text.h"

namespace espalier {

std::vector<int> labels_of(const TableColumn& c) {
  static const std::map<std::string, int> known = {{"0", 0}, {"1", 1}, {"no", 0}, {"yes", 1},   {"n", 0},
                                                   {"y", 1}, {"f", 0}, {"t", 1},  {"false", 0}, {"true", 1}};
  std::vector<int> labels;
  for (std::string name : c.categories) {
    for (char& letter : name) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
    const auto found = known.find(name);
    if (found == known.end()) return {};
    labels.push_back(found->second);
  }
  return labels;
}

std::optional<int64_t> no_label(const TableColumn& target) {
  if (target.is_nominal()) {
    if (!labels_of(target).empty()) return std::nullopt;
    const auto first = std::ranges::find_if(target.codes, [](int32_t code) { return code >= 0; });
    return first == target.codes.end() ? 0 : first - target.codes.begin();
  }
  for (size_t row = 0; row < target.numbers.size(); ++row) {
    const double v = target.numbers[row];
    if (!std::isnan(v) && v != 0 && v != 1) return static_cast<int64_t>(row);
  }
  return std::nullopt;
}

std::string number_text(double v) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, v).ptr};
}

std::string value_text(const TableColumn& c, int64_t row) {
  const auto r = static_cast<size_t>(row);
  if (!c.is_nominal()) return number_text(c.numbers[r]);
  return c.codes[r] < 0 ? "a missing value" : shown(c.categories[static_cast<size_t>(c.codes[r])]);
}

}  // namespace espalier
