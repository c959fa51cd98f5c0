#include "recipe/name_template.h"

#include <algorithm>

#include <re2/re2.h>

#include "espalier/error.h"

namespace espalier {

namespace {

// More digits are no number of a layer.
constexpr int most_digits = 6;

}  // namespace

NameTemplate::NameTemplate(const std::string& text) : text_(text) {
  static const re2::RE2 place("([0-9]{0,4})([a-z])(?:([+-])([0-9]{1,4}))?(?:<([0-9]{1,4}))?");
  std::string pattern;
  size_t at = 0;
  while (at <= text.size()) {
    const size_t open = text.find('{', at);
    Part part{.text = text.substr(at, open - at)};
    pattern += re2::RE2::QuoteMeta(part.text);
    if (part.text.find('}') != std::string::npos) throw Error("'" + text + "' has a '}' without a '{' before it");
    if (open == std::string::npos) {
      parts_.push_back(std::move(part));
      break;
    }
    const size_t close = text.find('}', open);
    if (close == std::string::npos) throw Error("'" + text + "' has a '{' without a '}' behind it");
    const std::string inside = text.substr(open + 1, close - open - 1);
    std::string factor, letter, sign, offset, below;
    if (inside == "*") {
      if (letters_.contains('*')) throw Error("'" + text + "' has {*} twice");
      part.letter = '*';
      pattern += "(.+)";
    } else if (re2::RE2::FullMatch(inside, place, &factor, &letter, &sign, &offset, &below)) {
      part.letter = letter[0];
      part.factor = factor.empty() ? 1 : std::stoll(factor);
      if (part.factor == 0) throw Error("'{" + inside + "}' in '" + text + "' is always the same number: write it");
      part.offset = offset.empty() ? 0 : (sign == "-" ? -1 : 1) * std::stoll(offset);
      if (!below.empty()) below_[part.letter] = std::stoll(below);
      pattern += "(0|[1-9][0-9]{0," + std::to_string(most_digits - 1) + "})";
    } else {
      throw Error(
          "'{" + inside + "}' in '" + text +
          "' is no place: {n} is a number, {n+1} and {2n+1} follow from it, {n<3} is one below 3, {*} is any text");
    }
    letters_.insert(part.letter);
    parts_.push_back(std::move(part));
    at = close + 1;
  }
  if (text.empty()) throw Error("a name is empty");
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_dot_nl(true);
  pattern_ = std::make_unique<re2::RE2>(pattern, options);
  if (!pattern_->ok()) throw Error("'" + text + "' is no template of names: " + pattern_->error());
}

NameTemplate::NameTemplate(NameTemplate&&) noexcept = default;
NameTemplate& NameTemplate::operator=(NameTemplate&&) noexcept = default;
NameTemplate::~NameTemplate() = default;

std::optional<NameTemplate::Filling> NameTemplate::match(const std::string& name) const {
  std::vector<std::string> found(parts_.size());
  std::vector<re2::RE2::Arg> args(parts_.size());
  std::vector<const re2::RE2::Arg*> pointers;
  const int places = pattern_->NumberOfCapturingGroups();
  for (int i = 0; i < places; ++i) {
    args[static_cast<size_t>(i)] = &found[static_cast<size_t>(i)];
    pointers.push_back(&args[static_cast<size_t>(i)]);
  }
  if (!re2::RE2::FullMatchN(name, *pattern_, pointers.data(), places)) return std::nullopt;
  Filling filling;
  size_t i = 0;
  for (const Part& part : parts_) {
    if (part.letter == 0) continue;
    const std::string& text = found[i++];
    if (part.letter == '*') {
      filling.rest = text;
      continue;
    }
    const int64_t rest = std::stoll(text) - part.offset;
    if (rest < 0 || rest % part.factor != 0) return std::nullopt;
    const auto [known, is_new] = filling.numbers.emplace(part.letter, rest / part.factor);
    if (!is_new && known->second != rest / part.factor) return std::nullopt;
  }
  if (!allows(filling)) return std::nullopt;
  return filling;
}

bool NameTemplate::allows(const Filling& filling) const {
  return std::ranges::all_of(below_, [&](const auto& bound) {
    const auto n = filling.numbers.find(bound.first);
    return n == filling.numbers.end() || n->second < bound.second;
  });
}

std::string NameTemplate::fill(const Filling& filling) const {
  std::string name;
  for (const Part& part : parts_) {
    name += part.text;
    if (part.letter == '*') {
      name += filling.rest;
    } else if (part.letter != 0) {
      name += std::to_string(part.factor * filling.numbers.at(part.letter) + part.offset);
    }
  }
  return name;
}

}  // namespace espalier
