#pragma once

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "espalier/value.h"
#include "system/files.h"

namespace espalier {

// The maps of a JSON-lines file.
inline std::vector<Value> lines_of(const std::filesystem::path& file) {
  std::vector<Value> lines;
  std::istringstream text(read_file(file));
  for (std::string line; std::getline(text, line);) lines.push_back(from_json(line));
  return lines;
}

// Without the fields that depend on time and machine.
inline Value without_time(Value v) {
  for (const char* key : {"seconds", "images_per_second", "peak_memory_mb", "tensor_memory_mb"}) v.erase(key);
  return v;
}
inline std::vector<Value> timeless_lines(const std::filesystem::path& file) {
  std::vector<Value> lines = lines_of(file);
  for (Value& line : lines) line = without_time(std::move(line));
  return lines;
}

}  // namespace espalier
