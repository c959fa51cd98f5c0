#include "espalier/datasets/npz.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include <ATen/ops/empty.h>
#include <minizip/unzip.h>

#include "espalier/error.h"
#include "espalier/value.h"
#include "table_text.h"
#include "text.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view ending = ".npy";

// The header of an array: a dictionary as Python writes it, {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
struct Header {
  std::optional<std::string> type;
  std::optional<bool> fortran;
  std::optional<std::vector<int64_t>> sizes;
};

class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : rest_(text) {}

  // None where the text is something else.
  std::optional<Header> read() {
    Header h;
    if (!take("{")) return std::nullopt;
    while (!take("}")) {
      const std::optional<std::string> key = string();
      if (!key || !take(":")) return std::nullopt;
      if (*key == "descr" && !h.type) {
        h.type = rest_.starts_with('[') ? std::optional<std::string>("a record") : string();
        if (!h.type || *h.type == "a record") return h.type ? std::optional(h) : std::nullopt;
      } else if (*key == "fortran_order" && !h.fortran) {
        if (take("True")) {
          h.fortran = true;
        } else if (take("False")) {
          h.fortran = false;
        } else {
          return std::nullopt;
        }
      } else if (*key == "shape" && !h.sizes) {
        if (!(h.sizes = tuple())) return std::nullopt;
      } else {
        return std::nullopt;
      }
      if (!take(",") && !rest_.starts_with('}')) return std::nullopt;
    }
    if (!h.type || !h.fortran || !h.sizes || !rest_.empty()) return std::nullopt;
    return h;
  }

 private:
  bool take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    skip_spaces();
    return true;
  }
  void skip_spaces() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \n"), rest_.size())); }

  std::optional<std::string> string() {
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) return std::nullopt;
    const size_t end = rest_.find(rest_.front(), 1);
    if (end == std::string_view::npos) return std::nullopt;
    std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    skip_spaces();
    return text;
  }

  std::optional<std::vector<int64_t>> tuple() {
    if (!take("(")) return std::nullopt;
    std::vector<int64_t> sizes;
    while (!take(")")) {
      int64_t size = 0;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), size);
      if (error != std::errc() || size < 0) return std::nullopt;
      rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
      skip_spaces();
      sizes.push_back(size);
      if (!take(",") && !rest_.starts_with(')')) return std::nullopt;
    }
    return sizes;
  }

  std::string_view rest_;
};

std::optional<at::ScalarType> type_of(const std::string& name) {
  static const std::pair<const char*, at::ScalarType> known[] = {
      {"|b1", at::kBool}, {"|u1", at::kByte}, {"|i1", at::kChar},  {"<i2", at::kShort}, {"<i4", at::kInt},
      {"<i8", at::kLong}, {"<f2", at::kHalf}, {"<f4", at::kFloat}, {"<f8", at::kDouble}};
  for (const auto& [text, type] : known) {
    if (name == text) return type;
  }
  return std::nullopt;
}

std::string why_not(const std::string& type) {
  if (type == "a record") return "is made of records; save each field as an array of its own";
  if (type.find('O') != std::string::npos) return "holds Python objects, which would run code; save numbers";
  if (type.starts_with('>')) {
    return "is of the type '" + type +
           "', whose bytes are in the order of other machines (big endian); save x.astype('<" + type.substr(1) + "')";
  }
  return "is of the type '" + type + "'; bool, uint8, int8, int16, int32, int64, float16, float32 and float64 are read";
}

struct Closer {
  void operator()(void* archive) const { unzClose(archive); }
};
using Archive = std::unique_ptr<void, Closer>;

Archive opened(const fs::path& file) {
  std::error_code error;
  if (fs::is_directory(file, error)) throw InputError(file.string(), "is a folder, not a file");
  if (!fs::exists(file, error)) throw InputError(file.string(), "there is no such file");
  Archive archive(unzOpen64(file.c_str()));
  if (!archive) {
    throw InputError(file.string(),
                     "is no .npz file: it is no whole zip archive (a single array in an .npy file is "
                     "saved with its name by numpy.savez)");
  }
  return archive;
}

}  // namespace

at::Tensor read_npy(const std::string& bytes, const std::string& where, const std::string& what) {
  const auto fail = [&](const std::string& why) { throw InputError(where, what + " " + why); };
  constexpr std::string_view magic("\x93NUMPY", 6);
  if (!bytes.starts_with(magic) || bytes.size() < 12) fail("is no array of NumPy: it does not begin as one");
  const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(bytes[i])); };
  const size_t version = byte(6);
  if (version < 1 || version > 3 || byte(7) != 0) {
    fail("is of version " + std::to_string(version) + "." + std::to_string(byte(7)) +
         " of the format; 1.0, 2.0 and 3.0 are read");
  }
  const size_t begin = version == 1 ? 10 : 12;
  const size_t length = byte(8) | byte(9) << 8 | (version == 1 ? 0 : byte(10) << 16 | byte(11) << 24);
  if (length > bytes.size() - begin) fail("is cut short within its header");
  const std::optional<Header> header = HeaderReader(std::string_view(bytes).substr(begin, length)).read();
  if (!header) fail("has a header that NumPy does not write: " + shown(std::string_view(bytes).substr(begin, length)));
  const std::optional<at::ScalarType> type = type_of(*header->type);
  if (!type) fail(why_not(*header->type));

  constexpr size_t most_dimensions = 16;
  const std::vector<int64_t>& sizes = *header->sizes;
  if (sizes.size() > most_dimensions) fail("has " + std::to_string(sizes.size()) + " dimensions");
  auto total = static_cast<int64_t>(at::elementSize(*type));
  bool overflow = false;
  std::string text;
  for (const int64_t size : sizes) {
    overflow = overflow || __builtin_mul_overflow(total, size, &total);
    text += (text.empty() ? "" : " x ") + std::to_string(size);
  }
  const auto held = static_cast<int64_t>(bytes.size() - begin - length);
  if (overflow || total != held) {
    fail("holds " + grouped(held) + " bytes, and " + (text.empty() ? "a single value" : text) + " values of '" +
         *header->type + "' are " + (overflow ? "more than any file holds" : grouped(total)));
  }
  std::vector<int64_t> stored = sizes;
  if (*header->fortran) std::ranges::reverse(stored);
  at::Tensor array = at::empty(stored, *type);
  if (total > 0) std::memcpy(array.mutable_data_ptr(), bytes.data() + begin + length, static_cast<size_t>(total));
  if (*type == at::kBool) {
    // Other bytes than 0 and 1 are no values of C++.
    auto* values = static_cast<uint8_t*>(array.mutable_data_ptr());
    for (int64_t i = 0; i < total; ++i) {
      if (values[i] > 1) fail("holds the byte " + std::to_string(values[i]) + " as a boolean");
    }
  }
  if (!*header->fortran) return array;
  std::vector<int64_t> order(sizes.size());
  for (size_t d = 0; d < order.size(); ++d) order[d] = static_cast<int64_t>(order.size() - 1 - d);
  return array.permute(order).contiguous();
}

NpzFile::NpzFile(const fs::path& file) : file_(file) {
  const Archive archive = opened(file);
  int status = unzGoToFirstFile(archive.get());
  for (; status == UNZ_OK; status = unzGoToNextFile(archive.get())) {
    std::array<char, 4096> given{};
    unz_file_info64 about;
    if (unzGetCurrentFileInfo64(archive.get(), &about, given.data(), given.size() - 1, nullptr, 0, nullptr, 0) !=
        UNZ_OK)
      break;
    std::string name = given.data();
    if (name.ends_with(ending)) name.resize(name.size() - ending.size());
    names_.push_back(std::move(name));
  }
  if (status != UNZ_END_OF_LIST_OF_FILE) throw InputError(file.string(), "its list of arrays is damaged");
  if (names_.empty()) throw InputError(file.string(), "holds no arrays");
}

NpzFile::~NpzFile() = default;

at::Tensor NpzFile::read(const std::string& name) const {
  const std::string what = "the array '" + name + "'";
  const auto fail = [&](const std::string& why) { throw InputError(file_.string(), what + " " + why); };
  if (std::ranges::find(names_, name) == names_.end()) {
    throw InputError(file_.string(), "there is no array '" + name + "'; there are " + some_of(names_));
  }
  const Archive archive = opened(file_);
  unz_file_info64 about;
  if ((unzLocateFile(archive.get(), (name + std::string(ending)).c_str(), 1) != UNZ_OK &&
       unzLocateFile(archive.get(), name.c_str(), 1) != UNZ_OK) ||
      unzGetCurrentFileInfo64(archive.get(), &about, nullptr, 0, nullptr, 0, nullptr, 0) != UNZ_OK ||
      unzOpenCurrentFile(archive.get()) != UNZ_OK) {
    fail("cannot be read: the archive is damaged");
  }
  // Before memory is taken on the archive's word: deflate packs no more than 1032 bytes into one.
  if (about.uncompressed_size / 1032 > fs::file_size(file_)) fail("is said to be larger than the archive can hold");
  std::string bytes(about.uncompressed_size, '\0');
  constexpr size_t most = size_t{1} << 30;  // at a time
  for (size_t have = 0; have < bytes.size();) {
    const int n = unzReadCurrentFile(archive.get(), bytes.data() + have,
                                     static_cast<unsigned>(std::min(most, bytes.size() - have)));
    if (n <= 0) fail("is cut short or damaged");
    have += static_cast<size_t>(n);
  }
  // The checksum is compared only once the end was read.
  char beyond = 0;
  if (unzReadCurrentFile(archive.get(), &beyond, 1) != 0 || unzCloseCurrentFile(archive.get()) != UNZ_OK)
    fail("has another checksum than the archive says: the file is damaged");
  return read_npy(bytes, file_.string(), what);
}

}  // namespace espalier
