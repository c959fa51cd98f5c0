#include "plugins/installed.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

#include "espalier/datasets/checksum.h"
#include "espalier/datasets/unpack.h"
#include "espalier/error.h"
#include "espalier/value.h"
#include "plugins/compatibility.h"
#include "plugins/elf_stamp.h"
#include "system/files.h"
#include "system/program_paths.h"
#include "system/scratch_folder.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

fs::path required_folder() {
  const std::optional<fs::path> folder = user_plugin_folder();
  if (!folder) throw Error("the environment names no home: set HOME or XDG_DATA_HOME to install plugins");
  return *folder;
}

std::vector<fs::path> libraries_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, none)) {
    if (entry.path().extension() == ".so") found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

// What of a source may be a plugin; an archive is unpacked into `scratch`.
std::vector<fs::path> candidates(const fs::path& source, const fs::path& scratch) {
  if (!fs::exists(source)) throw InputError(source.string(), "there is no such file or folder");
  if (fs::is_directory(source)) {
    std::vector<fs::path> found = libraries_in(source);
    if (found.empty()) found = libraries_in(source / "build");
    return found;
  }
  if (source.extension() == ".so") return {source};
  unpack_ending(source, ".so", scratch);
  return libraries_in(scratch);
}

Stamp fitting_stamp(const fs::path& library, const fs::path& source) {
  const std::string where = fs::is_regular_file(source) && source != library
                                ? source.string() + ", " + library.filename().string()
                                : library.string();
  try {
    const Stamp stamp = read_stamp(library);
    if (const auto different = differences(stamp, program_stamp()); !different.empty())
      throw Error(rejection(stamp, different));
    return stamp;
  } catch (const Error& e) {
    throw InputError(where, e.what());
  }
}

// The libraries of the user's folder, by the names of their plugins; what is no plugin is left alone.
std::vector<std::pair<std::string, fs::path>> plugins_in(const fs::path& folder) {
  std::vector<std::pair<std::string, fs::path>> found;
  for (const fs::path& library : libraries_in(folder)) {
    try {
      found.emplace_back(read_stamp(library).name, library);
    } catch (const Error&) {
      continue;
    }
  }
  return found;
}

}  // namespace

std::optional<fs::path> user_plugin_folder() {
  const std::optional<fs::path> data = user_data_folder();
  return data ? std::optional(*data / "plugins") : std::nullopt;
}

std::vector<InstalledPlugin> install_plugins(const fs::path& source) {
  const ScratchFolder scratch;
  const fs::path folder = required_folder();
  std::vector<std::pair<fs::path, InstalledPlugin>> all;
  for (const fs::path& library : candidates(source, scratch.path())) {
    const Stamp stamp = fitting_stamp(library, source);
    for (const auto& [other, plugin] : all) {
      if (plugin.name == stamp.name) {
        throw InputError(source.string(), "holds two plugins called '" + plugin.name + "': " +
                                              other.filename().string() + " and " + library.filename().string());
      }
    }
    InstalledPlugin plugin;
    plugin.name = stamp.name;
    plugin.version = stamp.version;
    all.emplace_back(library, std::move(plugin));
  }
  if (all.empty()) {
    throw InputError(source.string(),
                     "holds no plugin: a library (libNAME.so), a folder of them or of a built plugin, or a .tar.gz");
  }
  fs::create_directories(folder);
  fs::permissions(folder, fs::perms::group_write | fs::perms::others_write, fs::perm_options::remove);
  const auto there = plugins_in(folder);
  std::vector<InstalledPlugin> installed;
  for (auto& [library, plugin] : all) {
    // Called by its plugin's name, so that a new version takes the place of the old one.
    plugin.file = folder / ("lib" + plugin.name + ".so");
    AtomicFile file(plugin.file);
    file.write(read_file(library));
    file.commit();
    fs::permissions(plugin.file,
                    fs::perms::owner_read | fs::perms::owner_write | fs::perms::group_read | fs::perms::others_read);
    for (const auto& [name, old] : there) {
      if (name != plugin.name) continue;
      plugin.replaces = true;
      if (old != plugin.file) fs::remove(old);
    }
    plugin.sha256 = file_checksum(plugin.file, "sha256");
    installed.push_back(std::move(plugin));
  }
  return installed;
}

fs::path uninstall_plugin(const std::string& name) {
  const fs::path folder = required_folder();
  std::vector<std::string> names;
  for (const auto& [known, library] : plugins_in(folder)) {
    if (known == name) {
      fs::remove(library);
      return library;
    }
    names.push_back(known);
  }
  throw InputError(name, "no plugin of this name is installed in " + folder.string() +
                             (names.empty() ? "; nothing is" : suggestion(name, names)));
}

std::string open_to_others(const fs::path& library) {
  struct stat file {
  }, folder{};
  if (::stat(library.c_str(), &file) != 0 || ::stat(library.parent_path().c_str(), &folder) != 0) return "";
  const auto advice = [](const fs::path& path) {
    return ": everybody may write to it, so that someone else's code would run as you; chmod o-w " + path.string();
  };
  if ((file.st_mode & S_IWOTH) != 0) return "is not loaded" + advice(library);
  // In a folder like /tmp others may add files, but not replace those of their owner.
  const bool mine = file.st_uid == ::geteuid() || file.st_uid == 0;
  const bool sticky = (folder.st_mode & S_ISVTX) != 0;
  if ((folder.st_mode & S_IWOTH) != 0 && !(sticky && mine))
    return "is not loaded because of its folder" + advice(library.parent_path());
  return "";
}

}  // namespace espalier
