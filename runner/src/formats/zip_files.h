#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace espalier {

// The files of a zip archive, read whole. Each must have the CRC-32 that the archive says.
class ZipFiles {
 public:
  // Throws Error with what is wrong with the archive: its form, a checksum, a part that is larger than the archive,
  // which no file that holds values as they are can be.
  explicit ZipFiles(const std::filesystem::path& path);

  // By the name behind the archive's folder: "data.pkl" of "model/data.pkl". Null where there is none.
  const std::string* find(const std::string& name) const;

 private:
  std::map<std::string, std::string> files_;
};

}  // namespace espalier
