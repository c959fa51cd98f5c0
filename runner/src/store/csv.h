#pragma once

#include <string>
#include <utility>
#include <vector>

#include "store/store.h"

namespace espalier {

// Comma-separated values as RFC 4180 has them, a first row of names. lines: maps of numbers and texts, and of such
// maps, whose keys become columns `metrics.accuracy`; lists are passed over. A column for each key of any line.
std::string runs_csv(const std::vector<Value>& lines);

// The same of lines of metrics.jsonl, with the id and the name of each one's run in front.
std::string epochs_csv(const std::vector<std::pair<const StoredRun*, Value>>& lines);

}  // namespace espalier
