#include "system/files.h"

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
  const int error = errno;
  const std::filesystem::path folder = path.parent_path();
  std::error_code ignored;
  const bool lost = error == ENOENT && !folder.empty() && !std::filesystem::exists(folder, ignored);
  throw Error(path.string() + ": cannot " + what + ": " +
              (lost ? "there is no folder " + folder.string() : std::strerror(error)));
}

}  // namespace

Descriptor::Descriptor(const std::filesystem::path& path, int flags, const std::filesystem::path& shown)
    : path_(shown.empty() ? path : shown), fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
  if (fd_ < 0) fail(path_, (flags & (O_WRONLY | O_RDWR)) == 0 ? "open" : "write");
}

Descriptor::~Descriptor() {
  ::close(fd_);
}

void Descriptor::write(std::string_view content) const {
  while (!content.empty()) {
    const ssize_t n = ::write(fd_, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(path_, "write");
    content.remove_prefix(static_cast<size_t>(n));
  }
}

void Descriptor::sync() const {
  // Some file systems cannot; there is nothing to be done about that.
  if (::fsync(fd_) != 0 && errno != EINVAL) fail(path_, "write");
}

AtomicFile::AtomicFile(const std::filesystem::path& path)
    : path_(path),
      part_(path.string() + ".part"),
      file_(std::make_unique<Descriptor>(part_, O_WRONLY | O_CREAT | O_TRUNC, path)) {}

AtomicFile::~AtomicFile() {
  if (!file_) return;
  std::error_code ignored;
  std::filesystem::remove(part_, ignored);
}

void AtomicFile::commit(const std::filesystem::path& keep) {
  file_->sync();
  if (!keep.empty() && std::rename(path_.c_str(), keep.c_str()) != 0 && errno != ENOENT) fail(keep, "write");
  if (std::rename(part_.c_str(), path_.c_str()) != 0) fail(path_, "write");
  file_.reset();
  const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
  Descriptor(folder, O_RDONLY | O_DIRECTORY).sync();
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

void append_bytes(const std::filesystem::path& path, std::string_view bytes) {
  Descriptor(path, O_WRONLY | O_CREAT | O_APPEND).write(bytes);
}

void sync_file(const std::filesystem::path& path) {
  Descriptor(path, O_WRONLY | O_CREAT).sync();
}

bool truncate_file(const std::filesystem::path& path, int64_t size) {
  std::error_code code;
  const auto now = std::filesystem::file_size(path, code);
  if (code || now < static_cast<uintmax_t>(size)) return false;
  std::filesystem::resize_file(path, static_cast<uintmax_t>(size), code);
  if (code) throw Error(path.string() + ": cannot cut off its end: " + code.message());
  return true;
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
