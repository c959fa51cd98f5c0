#include "formats/zip_files.h"

#include <algorithm>
#include <memory>

#include <minizip/unzip.h>

#include "espalier/error.h"

namespace espalier {

ZipFiles::ZipFiles(const std::filesystem::path& path) {
  const std::unique_ptr<void, int (*)(void*)> archive(unzOpen64(path.c_str()), [](void* a) { return unzClose(a); });
  if (!archive) throw Error("it is no whole zip archive");
  const auto left = std::filesystem::file_size(path);
  uint64_t total = 0;
  int status = unzGoToFirstFile(archive.get());
  for (; status == UNZ_OK; status = unzGoToNextFile(archive.get())) {
    unz_file_info64 info;
    char given[4096];
    if (unzGetCurrentFileInfo64(archive.get(), &info, given, sizeof given, nullptr, 0, nullptr, 0) != UNZ_OK)
      throw Error("its list of parts is damaged");
    given[std::min<size_t>(info.size_filename, sizeof given - 1)] = '\0';
    const std::string name = given;
    const size_t folder = name.find('/');
    if (folder == std::string::npos) continue;
    if (info.uncompressed_size > left || (total += info.uncompressed_size) > left)
      throw Error("its parts are larger than the file");
    std::string& content = files_[name.substr(folder + 1)];
    content.resize(info.uncompressed_size);
    const auto damaged = [&](const std::string& why) { return Error("its part '" + name + "' " + why); };
    if (unzOpenCurrentFile(archive.get()) != UNZ_OK) throw damaged("cannot be read");
    constexpr size_t most = size_t{1} << 30;  // at a time
    for (size_t have = 0; have < content.size();) {
      const int n = unzReadCurrentFile(archive.get(), content.data() + have,
                                       static_cast<unsigned>(std::min(most, content.size() - have)));
      if (n <= 0) throw damaged("is cut short or damaged");
      have += static_cast<size_t>(n);
    }
    if (unzCloseCurrentFile(archive.get()) != UNZ_OK) {
      throw damaged(
          "has another CRC-32 than the archive says: bytes were changed after it was written (or "
          "torch.serialization.set_crc32_options(False) was in force; then load it in PyTorch and save it again)");
    }
  }
  if (status != UNZ_END_OF_LIST_OF_FILE) throw Error("its list of parts is damaged");
}

const std::string* ZipFiles::find(const std::string& name) const {
  const auto found = files_.find(name);
  return found == files_.end() ? nullptr : &found->second;
}

}  // namespace espalier
