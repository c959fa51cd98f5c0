#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "espalier/value.h"

namespace espalier {

// Reads a YAML file. Every value and key knows its line and column. What YAML programs disagree on, or what makes a
// small file large, is an InputError at "file:line:column" that says what to write instead: `yes`, `010`, duplicate
// keys, tags, alias bombs.
Value read_yaml(const std::filesystem::path& file);

// The same for a text. `name` stands for the file in locations; without lines (a value on the command line) it is all
// they say.
Value parse_yaml(std::string_view text, const std::string& name, bool with_lines = true);

// For the error that a YAML file is not there: " (did you mean 'quickstart.yaml'?)", or "".
std::string file_suggestion(const std::filesystem::path& file);

// YAML text that read_yaml() reads as the same value.
std::string to_yaml(const Value& value);

}  // namespace espalier
