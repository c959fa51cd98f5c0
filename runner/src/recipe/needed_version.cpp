#include "recipe/needed_version.h"

#include <array>
#include <charconv>
#include <compare>
#include <optional>
#include <string_view>

#include "espalier/build_config.h"
#include "espalier/error.h"
#include "system/text.h"

namespace espalier {

namespace {

using Version = std::array<int64_t, 3>;

std::string_view trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

std::optional<Version> parsed(std::string_view text) {
  Version v{};
  for (size_t i = 0;; ++i) {
    if (i == v.size()) return std::nullopt;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v[i]);
    if (error != std::errc() || v[i] < 0) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (text.empty()) return v;
    if (!text.starts_with('.')) return std::nullopt;
    text.remove_prefix(1);
  }
}

bool holds(const Version& version, std::string_view condition) {
  const size_t digits = condition.find_first_of("0123456789");
  const std::string_view sign = trimmed(condition.substr(0, digits));
  const std::optional<Version> than =
      digits == std::string_view::npos ? std::nullopt : parsed(trimmed(condition.substr(digits)));
  if (!than || (sign != ">=" && sign != ">" && sign != "<=" && sign != "<" && sign != "==")) {
    throw Error("'" + std::string(condition) +
                "' is no condition on a version; expected >=, >, <=, < or == and a version, such as \">= 1.2\" or "
                "\">= 1.2, < 2\"");
  }
  const auto order = version <=> *than;
  if (sign == ">=") return order >= 0;
  if (sign == ">") return order > 0;
  if (sign == "<=") return order <= 0;
  if (sign == "<") return order < 0;
  return order == 0;
}

}  // namespace

bool fits_version(const std::string& version, const std::string& conditions) {
  const std::optional<Version> v = parsed(version);
  if (!v) throw Error("'" + version + "' is no version");
  bool fits = true;
  std::string_view rest = conditions;
  while (true) {
    const size_t comma = rest.find(',');
    fits = holds(*v, trimmed(rest.substr(0, comma))) && fits;
    if (comma == std::string_view::npos) return fits;
    rest.remove_prefix(comma + 1);
  }
}

void check_needed_sdk(const Value& recipe) {
  const Value* needed = recipe.is_map() ? recipe.find("needs_sdk") : nullptr;
  if (!needed || needed->is_null() || (needed->is_string() && needed->as_string().empty())) return;
  const std::string where = needed->location.str();
  if (needed->is_number())
    throw InputError(where, "'needs_sdk' must be a string, in quotes: needs_sdk: \">= " + to_json(*needed) + "\"");
  if (!needed->is_string()) return;  // which the check of all keys says
  const std::string& conditions = needed->as_string();
  try {
    if (fits_version(ESPALIER_VERSION, conditions)) return;
  } catch (const InputError&) {
    throw;
  } catch (const Error& e) {
    throw InputError(where, std::string("'needs_sdk': ") + e.what());
  }
  throw InputError(where, "this recipe needs Espalier " + conditions +
                              " (needs_sdk), and this is Espalier " ESPALIER_VERSION
                              ": use a version of Espalier that fits, or a version of the recipe for this one");
}

}  // namespace espalier
