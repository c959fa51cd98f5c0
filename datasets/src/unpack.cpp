#include "unpack.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <set>

#include <archive.h>
#include <archive_entry.h>

#include "espalier/datasets/unpack.h"
#include "espalier/error.h"
#include "text.h"

namespace espalier {

namespace {

// Unpacks each file that is wanted, by its name without the folder: names are compared, never used as paths, so that an
// archive cannot write outside of the folder. wanted: whether a file is unpacked; more: whether there is more to look
// for.
void unpack(const std::filesystem::path& archive, const std::filesystem::path& folder,
            const std::function<bool(const std::string& name)>& wanted, const std::function<bool()>& more) {
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
  std::vector<char> buffer(1U << 18);
  archive_entry* entry = nullptr;
  while (more() && check(archive_read_next_header(reader.get(), &entry)) != ARCHIVE_EOF) {
    const char* path = archive_entry_pathname(entry);
    const std::string name = path ? std::filesystem::path(path).filename().string() : "";
    if (archive_entry_filetype(entry) != AE_IFREG || !wanted(name)) continue;
    std::ofstream out(folder / name, std::ios::binary);
    while (const la_ssize_t n = check(archive_read_data(reader.get(), buffer.data(), buffer.size()))) {
      out.write(buffer.data(), n);
    }
    out.close();
    if (!out) throw Error((folder / name).string() + " cannot be written: " + std::strerror(errno));
  }
}

}  // namespace

void unpack_archive(const std::filesystem::path& archive, const std::vector<std::string>& names,
                    const std::filesystem::path& folder) {
  std::set<std::string> missing(names.begin(), names.end());
  unpack(
      archive, folder, [&](const std::string& name) { return missing.erase(name) > 0; },
      [&] { return !missing.empty(); });
  if (!missing.empty()) {
    throw InputError(archive.string(), "the archive does not hold " + listed({missing.begin(), missing.end()}));
  }
}

std::vector<std::string> unpack_ending(const std::filesystem::path& archive, const std::string& ending,
                                       const std::filesystem::path& folder) {
  std::vector<std::string> found;
  unpack(
      archive, folder,
      [&](const std::string& name) {
        if (!name.ends_with(ending)) return false;
        if (std::ranges::find(found, name) != found.end())
          throw InputError(archive.string(), "the archive holds two files called " + name);
        found.push_back(name);
        return true;
      },
      [] { return true; });
  return found;
}

}  // namespace espalier
