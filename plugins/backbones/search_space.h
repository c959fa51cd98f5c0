#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <espalier/error.h>

namespace espalier {

// Returns the operations that a search network has on each edge, in the order of `all`: those that `chosen` names, or
// all if it is empty. Throws Error for unknown names, for duplicates, and for a single name.
inline std::vector<std::string> operations_in_order(std::span<const char* const> all,
                                                    const std::vector<std::string>& chosen) {
  std::vector<std::string> known(all.begin(), all.end());
  if (chosen.empty()) return known;
  for (const std::string& name : chosen) {
    if (std::ranges::find(known, name) == known.end()) {
      std::string names;
      for (const std::string& k : known) names.append(names.empty() ? "" : ", ").append(k);
      throw Error("'operations' names '" + name + "', and this search space has " + names + suggestion(name, known));
    }
    if (std::ranges::count(chosen, name) > 1) throw Error("'operations' names '" + name + "' more than once");
  }
  if (chosen.size() < 2)
    throw Error("'operations' names one operation: there is nothing to choose between; name two or more");
  std::vector<std::string> in_order;
  for (const std::string& name : known) {
    if (std::ranges::find(chosen, name) != chosen.end()) in_order.push_back(name);
  }
  return in_order;
}

}  // namespace espalier
