#include "store/filter.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <set>

#include <fnmatch.h>

#include "espalier/error.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

std::optional<double> number_of(const std::string& text) {
  double v = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, v);
  return error == std::errc() && rest == end ? std::optional(v) : std::nullopt;
}

std::string text_of(const Value& v) {
  return v.is_string() ? v.as_string() : to_json(v);
}

}  // namespace

RunFilter::RunFilter(const std::string& text) {
  const size_t at = text.find_first_of("<>=!");
  const bool two = at != std::string::npos && at + 1 < text.size() && text[at + 1] == '=';
  if (at == std::string::npos || at == 0 || (text[at] == '!' && !two)) {
    throw InputError("--filter " + text,
                     "expected KEY=VALUE, or != < <= > >= instead of =, as in 'accuracy>=90' or 'name=003-*'");
  }
  key_ = text.substr(0, at);
  comparison_ = text.substr(at, two ? 2 : 1);
  if (comparison_ == "==") comparison_ = "=";
  value_ = text.substr(at + comparison_.size() + (two && comparison_ == "=" ? 1 : 0));
  if (comparison_ != "=" && comparison_ != "!=" && !number_of(value_))
    throw InputError("--filter " + text, "'" + value_ + "' is no number, and " + comparison_ + " compares numbers");
}

bool RunFilter::matches(const StoredRun& run) const {
  const Value found = run.value(key_);
  if (found.is_null()) return false;
  const std::optional<double> wanted = number_of(value_);
  if (found.is_number() && wanted) {
    const double v = found.as_double();
    if (comparison_ == "=") return v == *wanted;
    if (comparison_ == "!=") return v != *wanted;
    if (comparison_ == "<") return v < *wanted;
    if (comparison_ == "<=") return v <= *wanted;
    return comparison_ == ">" ? v > *wanted : v >= *wanted;
  }
  const bool same = ::fnmatch(value_.c_str(), text_of(found).c_str(), 0) == 0;
  return comparison_ == "=" ? same : comparison_ == "!=" && !same;
}

void require_known(const std::vector<StoredRun>& runs, const std::string& key) {
  std::vector<std::string> known = stored_keys();
  if (runs.empty() || std::ranges::count(known, key) > 0) return;
  std::set<std::string> more;
  for (const StoredRun& r : runs) {
    if (!r.value(key).is_null()) return;
    if (!r.summary() || !r.summary()->result) continue;
    for (const auto& [name, value] : r.summary()->result->metrics) more.insert(name);
  }
  known.insert(known.end(), more.begin(), more.end());
  throw InputError("'" + key + "'", "no run has such a value" + suggestion(key, known) +
                                        "; a path in the recipe, as --set takes it, may be given as well");
}

std::vector<StoredRun> filtered(std::vector<StoredRun> runs, const std::vector<std::string>& filters) {
  for (const std::string& text : filters) {
    const RunFilter filter(text);
    require_known(runs, filter.key());
    std::erase_if(runs, [&](const StoredRun& r) { return !filter.matches(r); });
    if (runs.empty()) break;
  }
  return runs;
}

const StoredRun& run_called(const std::vector<StoredRun>& runs, const std::string& what) {
  std::vector<const StoredRun*> found;
  const fs::path folder = fs::absolute(what).lexically_normal();
  const auto with = [&](const auto& is_meant) {
    if (!found.empty()) return;
    for (const StoredRun& r : runs) {
      if (is_meant(r)) found.push_back(&r);
    }
  };
  with([&](const StoredRun& r) { return r.folder == (folder.has_filename() ? folder : folder.parent_path()); });
  with([&](const StoredRun& r) { return r.id == what; });
  constexpr size_t shortest = 4;
  with([&](const StoredRun& r) { return what.size() >= shortest && r.id.starts_with(what); });
  with([&](const StoredRun& r) { return r.folder.filename() == what; });
  with([&](const StoredRun& r) { return r.name == what; });
  if (found.size() == 1) return *found.front();
  if (found.empty()) {
    std::set<std::string> once;
    for (const StoredRun& r : runs) once.insert(r.folder.filename().string());
    const std::vector<std::string> names(once.begin(), once.end());
    throw InputError("'" + what + "'",
                     "no run of the store is called so" +
                         (fs::is_directory(what) ? "; `espalier runs rebuild " + what + "` takes in what is there"
                                                 : suggestion(what, names)));
  }
  std::string text;
  for (const StoredRun* r : found) text += "\n  " + r->id + "  " + r->folder.string();
  throw InputError("'" + what + "'", "may be each of these runs; give the id or the folder:" + text);
}

}  // namespace espalier
