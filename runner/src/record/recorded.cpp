#include "record/recorded.h"

#include <algorithm>

#include "espalier/error.h"
#include "espalier/log.h"
#include "system/files.h"

namespace espalier {

namespace fs = std::filesystem;

Value recorded(const fs::path& file) {
  return fs::exists(file) ? from_json(read_file(file), file.string()) : Value::map();
}

void add_recorded(const Value& environment, const char* key, std::vector<std::string>& folders) {
  const Value* before = environment.find(key);
  if (!before) return;
  for (const Value& folder : before->as_list()) {
    if (fs::exists(folder.as_string())) folders.push_back(folder.as_string());
  }
}

void warn_of_missing_plugins(const Value& environment, const PluginReport& loaded) {
  const Value* libraries = environment.find("libraries");
  if (!libraries) return;
  for (const Value& l : libraries->as_list()) {
    const std::string prefix = "plugin ";
    const std::string& name = l.at("name").as_string();
    if (!name.starts_with(prefix)) continue;
    const auto same = [&](const LoadedPlugin& p) { return p.origin.plugin == name.substr(prefix.size()); };
    if (std::ranges::any_of(loaded.plugins, same)) continue;
    log::warning("the run used the " + name + " " + l.at("version").as_string() + ", " + l.at("path").as_string() +
                 ", which is not loaded: --plugins says where it is now");
  }
}

void require_run(const fs::path& run) {
  if (fs::exists(run) && !fs::is_directory(run)) throw InputError(run.string(), "this is a file; a run is a folder");
  if (!fs::is_directory(run)) throw InputError(run.string(), "there is no such run folder");
  if (!fs::exists(run / "recipe.yaml"))
    throw InputError(
        run.string(),
        "this is no run folder: it has no recipe.yaml (runs are kept in runs/ unless --out says otherwise)");
}

}  // namespace espalier
