#include "content_reader.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "espalier/error.h"
#include "text.h"

namespace espalier {

struct ContentReader::State {
  std::filesystem::path file;
  int descriptor = -1;
  int64_t size = 0;
  bool compressed = false;
  std::vector<uint8_t> buffer;  // bytes of the file that are not given out yet: [next, end)
  size_t next = 0;
  size_t end = 0;
  z_stream stream{};
  bool between_members = false;  // one gzip member has ended; another may follow
  bool at_end = false;

  ~State() {
    if (descriptor >= 0) ::close(descriptor);
    if (compressed) inflateEnd(&stream);
  }

  [[noreturn]] void fail(const std::string& what) const { throw InputError(file.string(), what); }

  // Reads from the file itself.
  size_t raw(uint8_t* to, size_t n) const {
    size_t done = 0;
    while (done < n) {
      const ssize_t got = ::read(descriptor, to + done, n - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(std::string("cannot be read: ") + std::strerror(errno));
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  void refill() {
    next = 0;
    end = raw(buffer.data(), buffer.size());
  }

  size_t unpack(uint8_t* to, size_t n) {
    size_t done = 0;
    while (done < n && !at_end) {
      if (next == end) refill();
      if (between_members) {
        if (next == end) {
          at_end = true;
          break;
        }
        if (buffer[next] != 0x1f) {
          fail("holds " + grouped(static_cast<int64_t>(end - next)) + " or more bytes after the end of its gzip data");
        }
        inflateReset(&stream);
        between_members = false;
      } else if (next == end) {
        fail("is cut short: its gzip data do not end");
      }
      const size_t room = std::min<size_t>(n - done, 1U << 30);
      stream.next_in = buffer.data() + next;
      stream.avail_in = static_cast<uInt>(end - next);
      stream.next_out = to + done;
      stream.avail_out = static_cast<uInt>(room);
      const int result = inflate(&stream, Z_NO_FLUSH);
      next = end - stream.avail_in;
      done += room - stream.avail_out;
      if (result == Z_STREAM_END) {
        between_members = true;
      } else if (result != Z_OK && result != Z_BUF_ERROR) {
        fail(std::string("its gzip data are damaged: ") + (stream.msg ? stream.msg : zError(result)));
      }
    }
    return done;
  }
};

ContentReader::ContentReader(const std::filesystem::path& file, Unpack unpack) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.file = file;
  s.descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (s.descriptor < 0) s.fail(std::string("cannot be opened: ") + std::strerror(errno));
  struct stat status {};
  if (::fstat(s.descriptor, &status) != 0) s.fail(std::string("cannot be read: ") + std::strerror(errno));
  if (S_ISDIR(status.st_mode)) s.fail("is a folder, not a file");
  if (!S_ISREG(status.st_mode)) s.fail("is not a regular file");
  s.size = status.st_size;
  if (s.size == 0) s.fail("is empty");
  s.buffer.resize(1U << 18);
  if (unpack == Unpack::nothing) return;
  s.refill();
  if (s.end >= 2 && s.buffer[0] == 0x1f && s.buffer[1] == 0x8b) {
    // 15: the largest window; 16: the gzip format, with its checksum.
    if (inflateInit2(&s.stream, 15 + 16) != Z_OK) throw Error("zlib cannot be initialised");
    s.compressed = true;
  }
}

ContentReader::~ContentReader() = default;

const std::filesystem::path& ContentReader::file() const {
  return state_->file;
}
int64_t ContentReader::file_size() const {
  return state_->size;
}
bool ContentReader::compressed() const {
  return state_->compressed;
}

size_t ContentReader::read(void* to, size_t n) {
  State& s = *state_;
  auto* bytes = static_cast<uint8_t*>(to);
  if (s.compressed) return s.unpack(bytes, n);
  const size_t buffered = std::min(n, s.end - s.next);
  std::memcpy(bytes, s.buffer.data() + s.next, buffered);
  s.next += buffered;
  return buffered + s.raw(bytes + buffered, n - buffered);
}

}  // namespace espalier
