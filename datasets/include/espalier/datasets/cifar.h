#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace espalier {

// The binary format of CIFAR: records of some label bytes and the pixels of one image, plane by plane.
struct CifarFormat {
  std::vector<int64_t> classes;  // for each label byte, how many: {10}, or {20, 100}
  int64_t pixels = int64_t{3} * 32 * 32;

  int64_t record() const { return static_cast<int64_t>(classes.size()) + pixels; }
};

// Reads a file that must hold exactly `records` records: `images` takes their pixels, `labels` their label bytes, both
// records times as many. Throws InputError naming the file and what is wrong with it.
void read_cifar(const std::filesystem::path& file, const CifarFormat& format, int64_t records,
                std::span<uint8_t> images, std::span<uint8_t> labels);

}  // namespace espalier
