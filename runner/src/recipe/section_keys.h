#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/declare.h"
#include "espalier/value.h"
#include "recipe/sections.h"

// What the readers of all sections of a recipe do with the keys that are declared for them. Each function throws
// InputError at the recipe's place.
namespace espalier {

// The absolute path that a value of the recipe stands for. What a file says is relative to it, what the command line
// says to the working folder.
Value absolute_path(const Value& given);

// `what` names the section in messages: "the recipe", "stage 'shrink'".
void refuse_unknown_keys(const Value& section, const std::string& what, const std::vector<ParameterInfo>& keys,
                         const std::vector<SubsectionInfo>& subsections, const std::vector<ParameterInfo>& more = {});

// Returns `v`, which must be a map. expected: what it is, for the message.
const Value& expect_map(const Value& v, const std::string& what, const std::string& expected);

// The declared keys of a section, checked, with their defaults.
Value read_keys(const Value& section, const std::vector<ParameterInfo>& keys, const std::string& what);

void require_subsections(const Value& section, const std::vector<SubsectionInfo>& subsections, const std::string& what);

// Names become folders.
void check_name(const Value& name);

// Where a key is written; where the map is, if it does not have it.
Location key_location(const Value& map, std::string_view key);

}  // namespace espalier
