#include "espalier/datasets/idx.h"

#include <cstdio>
#include <string>

#include "content_reader.h"
#include "espalier/error.h"
#include "text.h"

namespace espalier {
namespace {

// The third byte of the magic number.
constexpr int unsigned_bytes = 0x08;

std::string type_name(int type) {
  switch (type) {
    case 0x09:
      return "signed bytes";
    case 0x0b:
      return "16-bit integers";
    case 0x0c:
      return "32-bit integers";
    case 0x0d:
      return "32-bit floats";
    case 0x0e:
      return "64-bit floats";
    default:
      return "an unknown type";
  }
}

std::string hex(const uint8_t* bytes, size_t n) {
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    char digits[4];
    std::snprintf(digits, sizeof digits, "%02x", bytes[i]);
    text += (i > 0 ? " " : "") + std::string(digits);
  }
  return text;
}

}  // namespace

IdxArray read_idx(const std::filesystem::path& file) {
  ContentReader content(file);
  const auto fail = [&](const std::string& what) { throw InputError(file.string(), what); };

  uint8_t magic[4];
  const size_t got = content.read(magic, sizeof magic);
  if (got < sizeof magic) fail("is not an IDX file: it holds " + grouped(static_cast<int64_t>(got)) + " bytes");
  if (magic[0] != 0 || magic[1] != 0) {
    fail("is not an IDX file: it begins with " + hex(magic, 4) + "; expected 00 00 08 and the number of dimensions");
  }
  if (magic[2] != unsigned_bytes) {
    fail("holds " + type_name(magic[2]) + " (IDX type " + hex(magic + 2, 1) + "); only unsigned bytes (08) are read");
  }
  const int dimensions = magic[3];
  if (dimensions != 1 && dimensions != 3) {
    fail("has " + std::to_string(dimensions) + " dimensions; expected 1 (labels) or 3 (images)");
  }

  IdxArray array;
  std::string sizes;
  int64_t elements = 1;
  bool overflow = false;
  for (int d = 0; d < dimensions; ++d) {
    uint8_t s[4];
    if (content.read(s, sizeof s) < sizeof s) fail("is cut short within its header");
    const int64_t size = int64_t{s[0]} << 24 | s[1] << 16 | s[2] << 8 | s[3];
    array.sizes.push_back(size);
    sizes += (d > 0 ? " x " : "") + grouped(size);
    overflow = overflow || __builtin_mul_overflow(elements, size, &elements);
  }
  if (elements == 0) fail("holds nothing: its header says " + sizes);
  const int64_t header = 4 + 4 * int64_t{dimensions};
  // Before memory is taken on the header's word: deflate packs no more than 1032 bytes into one.
  const int64_t most = content.compressed() ? content.file_size() * 1032 : content.file_size();
  if (overflow || elements > INT64_MAX - header || (content.compressed() && header + elements > most)) {
    fail("its header says " + sizes + " bytes, more than a file of " + grouped(content.file_size()) +
         " bytes can hold");
  }
  const int64_t total = header + elements;
  const auto cut_short = [&](int64_t held) {
    fail("is cut short: it holds " + grouped(held) + " of " + grouped(total) + " bytes (" + sizes + " and its header)");
  };
  if (!content.compressed() && total > most) cut_short(content.file_size());

  array.bytes.resize(static_cast<size_t>(elements));
  const size_t held = content.read(array.bytes.data(), array.bytes.size());
  if (held < array.bytes.size()) cut_short(header + static_cast<int64_t>(held));
  // One read past the end checks gzip's checksum, too.
  uint8_t extra;
  if (content.read(&extra, 1) > 0) {
    fail("holds more than the " + grouped(total) + " bytes that its header says (" + sizes + ")");
  }
  return array;
}

}  // namespace espalier
