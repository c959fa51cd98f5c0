#include "output/files.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <unistd.h>

#include "espalier/error.h"

namespace espalier {

namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* what) {
  throw Error(path.string() + ": cannot " + what + ": " + std::strerror(errno));
}

// Owns a descriptor, so that it is closed whatever is thrown.
class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (fd_ < 0) fail(path, "write");
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(fd_); }
  void write(const std::filesystem::path& path, std::string_view content) const {
    while (!content.empty()) {
      const ssize_t n = ::write(fd_, content.data(), content.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(path, "write");
      content.remove_prefix(static_cast<size_t>(n));
    }
  }
  void sync(const std::filesystem::path& path) const {
    if (::fsync(fd_) != 0) fail(path, "write");
  }

 private:
  int fd_;
};

}  // namespace

void write_file(const std::filesystem::path& path, std::string_view content) {
  const std::filesystem::path part = path.string() + ".part";
  try {
    const Descriptor file(part, O_WRONLY | O_CREAT | O_TRUNC);
    file.write(path, content);
    file.sync(path);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(part, ignored);
    throw;
  }
  if (std::rename(part.c_str(), path.c_str()) != 0) fail(path, "write");
}

void append_line(const std::filesystem::path& path, std::string_view line) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_APPEND);
  file.write(path, std::string(line) + "\n");
}

std::string read_file(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) throw InputError(path.string(), "is a folder");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError(path.string(), std::string("cannot be read: ") + std::strerror(errno));
  std::ostringstream content;
  content << file.rdbuf();
  return std::move(content).str();
}

}  // namespace espalier
