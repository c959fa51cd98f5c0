#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>

namespace espalier {

// A checksum as lower-case hexadecimal digits.
class Checksum {
 public:
  // "md5" or "sha256"
  explicit Checksum(const std::string& algorithm);
  ~Checksum();
  void add(const void* bytes, size_t n);
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Of a file as it lies there. Throws InputError where it cannot be read.
std::string file_checksum(const std::filesystem::path& file, const std::string& algorithm);
// Of what a file holds, unpacked where it is compressed with gzip.
std::string content_checksum(const std::filesystem::path& file, const std::string& algorithm);

}  // namespace espalier
