#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::fuzz {

// One reader. It is given a file with any bytes in it, and may do nothing but read it or throw Error.
struct Target {
  const char* name;
  // `file` holds the bytes, in a folder of its own.
  void (*read)(const std::filesystem::path& file);
};

const std::vector<Target>& targets();

// A damaged copy of one of the corpus's files: the same for the same seed and number.
std::string mutated(const std::vector<std::string>& corpus, uint64_t seed, uint64_t number);

}  // namespace espalier::fuzz
