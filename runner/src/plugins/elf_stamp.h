#pragma once

#include <cstdint>
#include <filesystem>
#include <istream>
#include <string>

#include "espalier/stamp.h"

namespace espalier {

struct StampInFile {
  Stamp stamp;
  uint64_t offset = 0;  // of the stamp's first byte in the file
  // The library of the address sanitizer that the plugin was built with, "libasan.so.8"; empty: without it.
  std::string sanitizer{};
};

// Reads the build stamp of a plugin without loading the library, so that nothing of it runs. Throws Error where it is
// no plugin or where loading it would crash the process (a truncated library), in words to put after the file's path:
// "is truncated". Every offset is checked against the size of the file; no input may crash this.
StampInFile find_stamp(std::istream& library);
StampInFile find_stamp(const std::filesystem::path& library);
Stamp read_stamp(const std::filesystem::path& library);

}  // namespace espalier
