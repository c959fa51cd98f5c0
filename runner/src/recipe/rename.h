#pragma once

#include <memory>
#include <string>

namespace re2 {
class RE2;
}

namespace espalier {

// One entry of `rename`: a regular expression in the dialect of RE2 (github.com/google/re2/wiki/Syntax), which needs
// time in proportion to the name whatever the pattern, and has neither lookahead nor back-references. In the
// replacement $1 to $9 are what the groups matched, $& is the whole match, $$ a dollar.
class RenameRule {
 public:
  // Throws Error saying what is wrong with the pattern or the replacement.
  RenameRule(const std::string& pattern, const std::string& replacement);
  RenameRule(RenameRule&&) noexcept;
  ~RenameRule();
  // Replaces every match in the name; false where there is none.
  bool apply(std::string& name) const;

 private:
  std::unique_ptr<re2::RE2> pattern_;
  std::string replacement_;  // as RE2 writes it
};

}  // namespace espalier
