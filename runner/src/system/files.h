#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace espalier {

// Owns a file descriptor. Its functions throw Error naming the file and the reason.
class Descriptor {
 public:
  // flags: of open(2). Errors name `shown` where it is given.
  Descriptor(const std::filesystem::path& path, int flags, const std::filesystem::path& shown = {});
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor();
  int number() const { return fd_; }
  void write(std::string_view content) const;
  // Waits until the disk has it.
  void sync() const;

 private:
  std::filesystem::path path_;
  int fd_;
};

// A file that appears whole or not at all: a temporary file beside it, fsync, rename.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();  // without commit(): nothing has happened
  void write(std::string_view content) const { file_->write(content); }
  // What was at the path before goes to `keep` where that is given.
  void commit(const std::filesystem::path& keep = {});

 private:
  std::filesystem::path path_, part_;
  std::unique_ptr<Descriptor> file_;
};

// Throws Error naming the file and the reason.
void write_file(const std::filesystem::path& path, std::string_view content);
// Appends bytes and hands them to the system.
void append_bytes(const std::filesystem::path& path, std::string_view bytes);
// Waits until the disk has what was appended.
void sync_file(const std::filesystem::path& path);
// Cuts off what is behind the first `size` bytes. Returns false where the file is shorter.
bool truncate_file(const std::filesystem::path& path, int64_t size);
// Throws InputError naming the file and the reason.
std::string read_file(const std::filesystem::path& path);

}  // namespace espalier
