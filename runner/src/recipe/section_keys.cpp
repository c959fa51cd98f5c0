#include "recipe/section_keys.h"

#include <algorithm>
#include <filesystem>

#include "espalier/error.h"
#include "recipe/overrides.h"

namespace espalier {

namespace fs = std::filesystem;

Value absolute_path(const Value& given) {
  if (given.as_string().empty()) return given;
  const bool in_file = given.location.file && !is_from_command_line(given.location);
  const fs::path folder = in_file ? fs::path(*given.location.file).parent_path() : "";
  Value path(fs::absolute(folder / given.as_string()).lexically_normal().string());
  path.location = given.location;
  return path;
}

void refuse_unknown_keys(const Value& section, const std::string& what, const std::vector<ParameterInfo>& keys,
                         const std::vector<SubsectionInfo>& subsections, const std::vector<ParameterInfo>& more) {
  std::vector<std::string> known;
  for (const ParameterInfo& p : keys) known.push_back(p.name);
  for (const SubsectionInfo& s : subsections) known.push_back(s.name);
  for (const ParameterInfo& p : more) known.push_back(p.name);
  for (const Value::Entry& e : section.as_map()) {
    if (std::ranges::find(known, e.key) == known.end()) {
      throw InputError(e.key_location.str(), what + " has no key '" + e.key + "'" + suggestion(e.key, known));
    }
  }
}

const Value& expect_map(const Value& v, const std::string& what, const std::string& expected) {
  if (!v.is_map()) throw InputError(v.location.str(), what + " must be " + expected + ", got " + v.describe());
  return v;
}

Value read_keys(const Value& section, const std::vector<ParameterInfo>& keys, const std::string& what) {
  Value own = Value::map();
  own.location = section.location;
  for (const ParameterInfo& p : keys) {
    if (const Value* v = section.find(p.name)) own[p.name] = *v;
  }
  return check_options(keys, own, what);
}

void require_subsections(const Value& section, const std::vector<SubsectionInfo>& subsections,
                         const std::string& what) {
  for (const SubsectionInfo& s : subsections) {
    if (s.required && !section.find(s.name)) {
      throw InputError(section.location.str(), what + " needs the key '" + s.name + "': " + s.expected + ", " + s.doc);
    }
  }
}

void check_name(const Value& name) {
  const std::string& s = name.as_string();
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  if (s.empty() || s.size() > 100 || s[0] == '.' || s[0] == '-' || !std::ranges::all_of(s, allowed)) {
    throw InputError(name.location.str(),
                     "'name' must be up to 100 letters, digits, '.', '_' and '-', not beginning with '.' or '-'; got " +
                         name.describe());
  }
}

Location key_location(const Value& map, std::string_view key) {
  for (const Value::Entry& e : map.as_map()) {
    if (e.key == key) return e.key_location;
  }
  return map.location;
}

}  // namespace espalier
