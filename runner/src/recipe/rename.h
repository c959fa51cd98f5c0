#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/safetensors.h"

namespace re2 {
class RE2;
}

namespace espalier {

struct WarmStart;

// One entry of `rename`: a regular expression in the dialect of RE2 (github.com/google/re2/wiki/Syntax), which needs
// time in proportion to the name whatever the pattern, and has neither lookahead nor back-references. In a replacement
// $1 to $9 are what the groups matched, $& is the whole match, $$ a dollar; {$1+1}, {$1-1} and {2$1+1} count with the
// number that a group matched. Several replacements make several names of one.
class RenameRule {
 public:
  // Throws Error saying what is wrong with the pattern or a replacement.
  RenameRule(const std::string& pattern, const std::vector<std::string>& replacements);
  RenameRule(RenameRule&&) noexcept;
  ~RenameRule();
  // The names that become of one, by each replacement in place of every match; empty where there is none. Throws Error
  // where a group that is counted with is no number.
  std::vector<std::string> apply(const std::string& name) const;

 private:
  std::unique_ptr<re2::RE2> pattern_;
  std::vector<std::string> replacements_;  // as RE2 writes them
};

// Whether a regular expression is one. Throws Error saying what is wrong with it.
void check_pattern(const std::string& pattern);

// The tensors of a file as `ignore` and `rename` leave them: without those that are passed over (and PyTorch's counters
// of batches), and a tensor with several names split into equal parts along its first dimension. A prefix that
// PyTorch's wrappers put in front of all names (module., _orig_mod.) is taken away. Patterns that are in no name are
// added to `unused`. Throws Error where two tensors get one name, or one cannot be split.
NamedTensors renamed(const WarmStart& start, const NamedTensors& tensors, std::vector<std::string>& unused);

}  // namespace espalier
