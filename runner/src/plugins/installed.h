#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace espalier {

// Where `espalier install` puts plugins, and every command looks for them: plugins/ of user_data_folder().
std::optional<std::filesystem::path> user_plugin_folder();

struct InstalledPlugin {
  std::string name, version;  // of the plugin, as its stamp says
  std::filesystem::path file;
  std::string sha256;
  bool replaces = false;  // another file of the plugin was there
};

// Copies the plugins of a library, of a folder (its own libraries, or those of the folder build in it) or of a tar
// archive into the user's folder. Nothing of them runs. Throws InputError where there is none, where one is for another
// Espalier, or where two have one name; nothing is installed then.
std::vector<InstalledPlugin> install_plugins(const std::filesystem::path& source);

// Removes the plugin of this name from the user's folder and returns its file. Throws InputError with the nearest name
// where there is none.
std::filesystem::path uninstall_plugin(const std::string& name);

// Why nobody should load this library: someone else can have written it. Empty: nothing is known against it.
std::string open_to_others(const std::filesystem::path& library);

}  // namespace espalier
