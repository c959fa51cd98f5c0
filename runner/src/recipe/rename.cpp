#include "recipe/rename.h"

#include <cctype>

#include <re2/re2.h>

#include "espalier/error.h"

namespace espalier {

RenameRule::RenameRule(const std::string& pattern, const std::string& replacement) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  pattern_ = std::make_unique<re2::RE2>(pattern, options);
  if (!pattern_->ok()) {
    throw Error("'" + pattern + "' is no regular expression of RE2, which has no lookahead and no back-references: " +
                pattern_->error());
  }
  for (size_t i = 0; i < replacement.size(); ++i) {
    const char c = replacement[i];
    const char next = c == '$' && i + 1 < replacement.size() ? replacement[i + 1] : '\0';
    if (next == '$' || next == '&' || std::isdigit(static_cast<unsigned char>(next))) {
      replacement_ += next == '$' ? "$" : next == '&' ? "\\0" : std::string("\\") + next;
      ++i;
    } else {
      replacement_ += c == '\\' ? "\\\\" : std::string(1, c);
    }
  }
  std::string error;
  if (!pattern_->CheckRewriteString(replacement_, &error)) {
    throw Error("'" + replacement + "' refers to a group that '" + pattern + "' does not have; it has " +
                std::to_string(pattern_->NumberOfCapturingGroups()));
  }
}

RenameRule::RenameRule(RenameRule&&) noexcept = default;
RenameRule::~RenameRule() = default;

bool RenameRule::apply(std::string& name) const {
  return re2::RE2::GlobalReplace(&name, *pattern_, replacement_) > 0;
}

}  // namespace espalier
