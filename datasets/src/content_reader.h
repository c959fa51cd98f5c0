#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>

namespace espalier {

// Reads a file's content from beginning to end, unpacking gzip, which is known by its first bytes. Every function
// throws InputError naming the file.
class ContentReader {
 public:
  enum class Unpack { gzip, nothing };
  explicit ContentReader(const std::filesystem::path& file, Unpack unpack = Unpack::gzip);
  ~ContentReader();

  const std::filesystem::path& file() const;
  // Bytes on the disk.
  int64_t file_size() const;
  bool compressed() const;
  // Up to n bytes, fewer only at the end.
  size_t read(void* to, size_t n);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace espalier
