#include "recipe/rename.h"

#include <algorithm>
#include <cctype>
#include <map>

#include <re2/re2.h>

#include "espalier/error.h"
#include "espalier/graph.h"
#include "recipe/recipe.h"

namespace espalier {

namespace {

// Around what is counted, until the groups are known: no name has them.
constexpr char begin_count = '\x01', end_count = '\x02';

std::unique_ptr<re2::RE2> compiled(const std::string& pattern) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  auto result = std::make_unique<re2::RE2>(pattern, options);
  if (!result->ok()) {
    throw Error("'" + pattern +
                "' is no regular expression of RE2, which has no lookahead and no back-references: " + result->error());
  }
  return result;
}

// What RE2 calls \1 for $1.
std::string as_re2(const std::string& replacement) {
  static const re2::RE2 count("\\{([0-9]{0,4})\\$([1-9])([+-][0-9]{1,4})?\\}");
  std::string result;
  for (size_t i = 0; i < replacement.size(); ++i) {
    const char c = replacement[i];
    const char next = c == '$' && i + 1 < replacement.size() ? replacement[i + 1] : '\0';
    std::string factor, group, offset;
    re2::StringPiece rest(replacement.data() + i, replacement.size() - i);
    if (c == '{' && re2::RE2::Consume(&rest, count, &factor, &group, &offset)) {
      result += begin_count + (factor.empty() ? "1" : factor) + "*\\" + group + (offset.empty() ? "+0" : offset);
      result += end_count;
      i = replacement.size() - rest.size() - 1;
    } else if (next == '$' || next == '&' || std::isdigit(static_cast<unsigned char>(next))) {
      result += next == '$' ? "$" : next == '&' ? "\\0" : std::string("\\") + next;
      ++i;
    } else {
      result += c == '\\' ? "\\\\" : std::string(1, c);
    }
  }
  return result;
}

std::string counted(std::string name, const std::string& before) {
  static const re2::RE2 count("\x01([0-9]+)\\*(.*?)([+-][0-9]+)\x02");
  std::string factor, number, offset;
  while (re2::RE2::PartialMatch(name, count, &factor, &number, &offset)) {
    if (number.empty() || number.size() > 9 ||
        !std::ranges::all_of(number, [](unsigned char c) { return std::isdigit(c); }))
      throw Error("'rename' counts with '" + number + "' in '" + before + "', which is no number");
    const int64_t n = std::stoll(factor) * std::stoll(number) + std::stoll(offset);
    if (n < 0) throw Error("'rename' makes the number " + std::to_string(n) + " of '" + before + "'");
    re2::RE2::Replace(&name, count, std::to_string(n));
  }
  return name;
}

// PyTorch's wrappers: DataParallel and torch.compile.
NamedTensors without_wrappers(NamedTensors tensors) {
  for (bool found = true; found && !tensors.empty();) {
    found = false;
    for (const std::string prefix : {"module.", "_orig_mod."}) {
      if (!std::ranges::all_of(tensors, [&](const auto& t) { return t.first.starts_with(prefix); })) continue;
      for (auto& [name, tensor] : tensors) name.erase(0, prefix.size());
      found = true;
    }
  }
  return tensors;
}

}  // namespace

RenameRule::RenameRule(const std::string& pattern, const std::vector<std::string>& replacements)
    : pattern_(compiled(pattern)) {
  if (replacements.empty()) throw Error("'" + pattern + "' has no name to be replaced by");
  for (const std::string& replacement : replacements) {
    replacements_.push_back(as_re2(replacement));
    std::string error;
    if (!pattern_->CheckRewriteString(replacements_.back(), &error)) {
      throw Error("'" + replacement + "' refers to a group that '" + pattern + "' does not have; it has " +
                  std::to_string(pattern_->NumberOfCapturingGroups()));
    }
  }
}

RenameRule::RenameRule(RenameRule&&) noexcept = default;
RenameRule::~RenameRule() = default;

std::vector<std::string> RenameRule::apply(const std::string& name) const {
  std::vector<std::string> names;
  for (const std::string& replacement : replacements_) {
    std::string now = name;
    if (re2::RE2::GlobalReplace(&now, *pattern_, replacement) == 0) return {};
    names.push_back(counted(std::move(now), name));
  }
  return names;
}

void check_pattern(const std::string& pattern) {
  static_cast<void>(compiled(pattern));
}

NamedTensors renamed(const WarmStart& start, const NamedTensors& tensors, std::vector<std::string>& unused) {
  std::vector<RenameRule> rules;
  for (const auto& [pattern, replacements] : start.rename) rules.emplace_back(pattern, replacements);
  std::vector<std::unique_ptr<re2::RE2>> ignored;
  for (const std::string& pattern : start.ignore) ignored.push_back(compiled(pattern));
  std::vector<bool> used(rules.size(), false), met(ignored.size(), false);
  NamedTensors result;
  std::map<std::string, std::string> before;
  for (const auto& [name, tensor] : tensors) {
    // A counter that PyTorch keeps beside the running statistics.
    if (name.ends_with("num_batches_tracked")) continue;
    bool passed_over = false;
    for (size_t i = 0; i < ignored.size(); ++i) {
      if (!re2::RE2::PartialMatch(name, *ignored[i])) continue;
      met[i] = passed_over = true;
    }
    if (passed_over) continue;
    NamedTensors parts{{name, tensor}};
    for (size_t i = 0; i < rules.size(); ++i) {
      NamedTensors next;
      for (const auto& [was, part] : parts) {
        const std::vector<std::string> names = rules[i].apply(was);
        used[i] = used[i] || !names.empty();
        if (names.size() < 2) {
          next.emplace_back(names.empty() ? was : names[0], part);
          continue;
        }
        const auto n = static_cast<int64_t>(names.size());
        if (part.dim() == 0 || part.size(0) % n != 0) {
          throw Error("'rename' splits '" + was + "' into " + std::to_string(n) + " parts, and its sizes are " +
                      to_string(part.sizes().vec()));
        }
        const std::vector<at::Tensor> split = part.chunk(n, 0);
        for (size_t k = 0; k < names.size(); ++k) next.emplace_back(names[k], split[k]);
      }
      parts = std::move(next);
    }
    for (auto& [now, part] : parts) {
      if (const auto [other, is_new] = before.emplace(now, name); !is_new)
        throw Error("'rename' makes '" + now + "' of both '" + other->second + "' and '" + name + "'");
      result.emplace_back(now, part);
    }
  }
  for (size_t i = 0; i < rules.size(); ++i) {
    if (!used[i]) unused.push_back("rename: '" + start.rename[i].first + "' is in no name of the file");
  }
  for (size_t i = 0; i < ignored.size(); ++i) {
    if (!met[i]) unused.push_back("ignore: '" + start.ignore[i] + "' is in no name of the file");
  }
  return without_wrappers(std::move(result));
}

}  // namespace espalier
