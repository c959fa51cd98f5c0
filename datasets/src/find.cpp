#include "espalier/datasets/find.h"

#include <cstdlib>
#include <system_error>

#include "espalier/error.h"
#include "text.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// Anything but a folder: what is wrong with a device or an unreadable file is better said by its reader.
bool there(const fs::path& file) {
  std::error_code error;
  const fs::file_status status = fs::status(file, error);
  return fs::exists(status) && !fs::is_directory(status);
}

std::string searched(const DataPaths& paths) {
  std::string text;
  for (const fs::path& p : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(p, error);
    text += "  " + p.string();
    if (status.type() == fs::file_type::not_found)
      text += " (no such folder)";
    else if (error)
      text += " (" + error.message() + ")";
    else if (!fs::is_directory(status))
      text += " (not a folder)";
    text += "\n";
  }
  return text;
}

// The names under which a file of the catalogue may lie.
std::vector<std::string> names_of(const CatalogueEntry& entry, const CatalogueFile& file) {
  if (entry.format != "idx") return {file.name};
  // Some archives of MNIST name the file "train-images.idx3-ubyte".
  std::string dotted = file.name;
  if (const size_t at = dotted.rfind("-idx"); at != std::string::npos) dotted[at] = '.';
  return {file.name, dotted, file.name + ".gz", dotted + ".gz"};
}

// The entry's files in one folder; empty for those that are not there.
std::vector<fs::path> files_in(const CatalogueEntry& entry, const fs::path& folder) {
  std::vector<fs::path> files;
  for (const CatalogueFile& file : entry.files) {
    fs::path& found = files.emplace_back();
    for (const std::string& name : names_of(entry, file)) {
      if (found.empty() && there(folder / name)) found = folder / name;
    }
  }
  return files;
}

std::vector<fs::path> folders_of(const CatalogueEntry& entry, const DataPaths& paths) {
  std::vector<fs::path> folders;
  for (const fs::path& p : paths) {
    for (const std::string& sub : entry.folders) folders.push_back(p / sub);
    folders.push_back(p);
  }
  return folders;
}

bool has_all(const CatalogueEntry& entry, const std::vector<fs::path>& files, const std::string& part) {
  for (size_t i = 0; i < files.size(); ++i) {
    if ((part.empty() || entry.files[i].part == part) && files[i].empty()) return false;
  }
  return true;
}

// A line for each folder that holds some of the files.
std::string incomplete(const CatalogueEntry& entry, const DataPaths& paths) {
  std::string text;
  for (const fs::path& folder : folders_of(entry, paths)) {
    const std::vector<fs::path> files = files_in(entry, folder);
    std::vector<std::string> missing;
    for (size_t i = 0; i < files.size(); ++i) {
      if (files[i].empty()) missing.push_back(entry.files[i].name);
    }
    if (missing.size() < files.size()) text += folder.string() + " is incomplete: " + listed(missing) + " missing\n";
  }
  return text;
}

}  // namespace

fs::path data_cache() {
  // The XDG specification: a relative path is to be ignored.
  if (const fs::path cache = variable("XDG_CACHE_HOME"); cache.is_absolute()) return cache / "espalier" / "data";
  const fs::path home = variable("HOME");
  return home.empty() ? fs::path() : home / ".cache" / "espalier" / "data";
}

DataPaths default_data_paths(const std::vector<std::string>& from_flags) {
  DataPaths paths;
  for (const std::string& folder : from_flags) {
    std::error_code error;
    if (!fs::is_directory(folder, error)) throw InputError("", "--data " + folder + ": no such folder");
    paths.push_back(fs::absolute(folder));
  }
  const std::string list = variable("ESPALIER_DATA");
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(':', begin), list.size());
    if (end > begin) paths.push_back(fs::absolute(list.substr(begin, end - begin)));
    begin = end + 1;
  }
  if (const fs::path cache = data_cache(); !cache.empty()) paths.push_back(cache);
  paths.emplace_back("/usr/share/datasets");
  paths.emplace_back("/usr/local/share/datasets");
  return paths;
}

fs::path find_file(const DataPaths& paths, const std::vector<fs::path>& alternatives, const std::string& how_to_get) {
  for (const fs::path& p : paths) {
    for (const fs::path& name : alternatives) {
      if (there(p / name)) return p / name;
    }
  }
  std::vector<std::string> names;
  names.reserve(alternatives.size());
  for (const fs::path& name : alternatives) names.push_back(name.string());
  throw InputError("", listed(names) + (names.size() > 1 ? ": none was" : " was not") + " found. Searched in\n" +
                           searched(paths) + "How to get it:\n" + how_to_get);
}

fs::path find_folder(const DataPaths& paths, const fs::path& name, const std::string& how_to_get) {
  const DataPaths places = name.is_absolute() ? DataPaths{name.parent_path()} : paths;
  for (const fs::path& p : places) {
    std::error_code error;
    if (fs::is_directory(p / name, error)) return p / name;
  }
  throw InputError("", "the folder " + name.string() + " was not found. Searched in\n" + searched(places) +
                           "How to get it:\n" + how_to_get);
}

std::optional<FoundDataset> search_dataset(const CatalogueEntry& entry, const DataPaths& paths,
                                           const std::string& part) {
  std::optional<FoundDataset> found;
  for (const fs::path& folder : folders_of(entry, paths)) {
    const std::vector<fs::path> files = files_in(entry, folder);
    if (has_all(entry, files, "")) return FoundDataset{folder, files};
    if (!found && !part.empty() && has_all(entry, files, part)) found = FoundDataset{folder, files};
  }
  return found;
}

FoundDataset find_dataset(const CatalogueEntry& entry, const DataPaths& paths, const std::string& part) {
  if (std::optional<FoundDataset> found = search_dataset(entry, paths, part)) return *found;
  throw InputError("", "the data set " + entry.name + " was not found. Searched, in each folder and its sub-folders " +
                           listed(entry.folders) + ":\n" + searched(paths) + incomplete(entry, paths) +
                           "How to get it:\n" + entry.how_to_get());
}

}  // namespace espalier
