#pragma once

#include <string>
#include <vector>

#include "store/store.h"

namespace espalier {

// A condition on runs: "accuracy>=90", "name=003-*", "stages.train.epochs!=3". A number is compared as such; a text may
// hold * and ?.
class RunFilter {
 public:
  // Throws InputError where the text is no condition.
  explicit RunFilter(const std::string& text);
  // False, too, where the run has no such value.
  bool matches(const StoredRun& run) const;
  const std::string& key() const { return key_; }

 private:
  std::string key_, comparison_, value_;
};

// Those that all conditions hold for. Throws InputError, with the nearest name, where no run at all knows a key.
std::vector<StoredRun> filtered(std::vector<StoredRun> runs, const std::vector<std::string>& filters);

// Throws InputError, with the nearest name, where there are runs and none knows the key.
void require_known(const std::vector<StoredRun>& runs, const std::string& key);

// The run that a person means by its folder, its id or the beginning of that, or its name where only one has it. Throws
// InputError with the nearest names, or with all that it may be.
const StoredRun& run_called(const std::vector<StoredRun>& runs, const std::string& what);

}  // namespace espalier
