#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace espalier {

// The content of an IDX file (the format of MNIST): unsigned bytes in one (labels) or three (images) dimensions.
struct IdxArray {
  std::vector<int64_t> sizes;
  std::vector<uint8_t> bytes;
};

// Reads it plain or compressed with gzip, whatever its name. Throws InputError naming the file and what is wrong with
// it.
IdxArray read_idx(const std::filesystem::path& file);

}  // namespace espalier
