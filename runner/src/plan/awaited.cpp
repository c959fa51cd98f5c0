#include "plan/awaited.h"

#include <algorithm>

#include "espalier/declare.h"
#include "recipe/references.h"

namespace espalier {

bool Awaited::covers(const std::filesystem::path& path) const {
  return std::ranges::any_of(missing_, [&](const MissingRun& m) { return lies_in(path, m.folder); });
}

bool Awaited::names_run(const Value& spec) const {
  if (spec.is_string()) return covers(spec.as_string());
  if (spec.is_list()) return std::ranges::any_of(spec.as_list(), [&](const Value& v) { return names_run(v); });
  return spec.is_map() && std::ranges::any_of(spec.as_map(), [&](const Value::Entry& e) { return names_run(e.value); });
}

bool Awaited::concerns(const Value& spec) const {
  return has_reference(spec) || names_run(spec);
}

}  // namespace espalier
