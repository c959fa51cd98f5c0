#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "espalier/datasets/table_dataset.h"
#include "espalier/random_fill.h"

namespace espalier {

RowParts draw_test_rows(int64_t rows, const std::vector<int32_t>& classes, double share, uint64_t seed) {
  const RandomKey key = RandomKey(seed).with("test rows");
  std::map<int32_t, std::vector<int64_t>> by_class;
  for (int64_t row = 0; row < rows; ++row)
    by_class[classes.empty() ? 0 : classes[static_cast<size_t>(row)]].push_back(row);

  // Whole rows of each class, and what then lacks of the whole share of those with the largest remainders.
  struct Quota {
    int32_t of;
    int64_t rows, taken;
    double rest;
  };
  std::vector<Quota> quotas;
  const auto wanted = static_cast<int64_t>(std::llround(share * static_cast<double>(rows)));
  int64_t taken = 0;
  for (const auto& [c, own] : by_class) {
    const double exact = share * static_cast<double>(own.size());
    const auto whole = static_cast<int64_t>(std::floor(exact));
    quotas.push_back({c, static_cast<int64_t>(own.size()), whole, exact - static_cast<double>(whole)});
    taken += whole;
  }
  std::ranges::stable_sort(quotas, std::greater(), &Quota::rest);
  for (Quota& q : quotas) {
    if (taken >= wanted) break;
    if (q.rest == 0 || q.taken + 1 >= q.rows) continue;
    ++q.taken;
    ++taken;
  }
  std::vector<bool> is_test(static_cast<size_t>(rows));
  for (const Quota& q : quotas) {
    const std::vector<int64_t> order = permutation(q.rows, key.with(static_cast<uint64_t>(q.of)));
    for (int64_t i = 0; i < q.taken; ++i)
      is_test[static_cast<size_t>(by_class[q.of][static_cast<size_t>(order[static_cast<size_t>(i)])])] = true;
  }
  RowParts parts;
  for (int64_t row = 0; row < rows; ++row)
    (is_test[static_cast<size_t>(row)] ? parts.test : parts.train).push_back(row);
  return parts;
}

}  // namespace espalier
