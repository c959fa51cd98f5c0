#include "unpack.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <set>

#include <archive.h>
#include <archive_entry.h>

#include "espalier/error.h"
#include "text.h"

namespace espalier {

void unpack_archive(const std::filesystem::path& archive, const std::vector<std::string>& names,
                    const std::filesystem::path& folder) {
  const std::unique_ptr<struct archive, int (*)(struct archive*)> reader(archive_read_new(), archive_read_free);
  const auto check = [&](auto result) {
    if (result < ARCHIVE_WARN) {
      const char* why = archive_error_string(reader.get());
      throw InputError(archive.string(),
                       std::string("the archive cannot be unpacked: ") + (why ? why : "unknown error"));
    }
    return result;
  };
  archive_read_support_filter_gzip(reader.get());
  archive_read_support_format_tar(reader.get());
  check(archive_read_open_filename(reader.get(), archive.c_str(), 1U << 18));

  // Names are compared, never used as paths: an archive cannot write outside the folder.
  std::set<std::string> missing(names.begin(), names.end());
  std::vector<char> buffer(1U << 18);
  archive_entry* entry = nullptr;
  while (!missing.empty() && check(archive_read_next_header(reader.get(), &entry)) != ARCHIVE_EOF) {
    const char* path = archive_entry_pathname(entry);
    const auto name = missing.find(path ? std::filesystem::path(path).filename().string() : "");
    if (name == missing.end() || archive_entry_filetype(entry) != AE_IFREG) continue;
    std::ofstream out(folder / *name, std::ios::binary);
    while (const la_ssize_t n = check(archive_read_data(reader.get(), buffer.data(), buffer.size()))) {
      out.write(buffer.data(), n);
    }
    out.close();
    if (!out) throw Error((folder / *name).string() + " cannot be written: " + std::strerror(errno));
    missing.erase(name);
  }
  if (!missing.empty()) {
    throw InputError(archive.string(), "the archive does not hold " + listed({missing.begin(), missing.end()}));
  }
}

}  // namespace espalier
