#include "commands/recorded.h"

#include "espalier/error.h"
#include "output/files.h"

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

void require_run(const fs::path& run) {
  if (fs::exists(run) && !fs::is_directory(run)) throw InputError(run.string(), "this is a file; a run is a folder");
  if (!fs::is_directory(run)) throw InputError(run.string(), "there is no such run folder");
  if (!fs::exists(run / "recipe.yaml"))
    throw InputError(
        run.string(),
        "this is no run folder: it has no recipe.yaml (runs are kept in runs/ unless --out says otherwise)");
}

}  // namespace espalier
