#include "system/new_folder.h"

#include <system_error>

#include "espalier/error.h"

namespace espalier {

namespace fs = std::filesystem;

fs::path new_folder(const std::string& wanted, const std::string& stem) {
  fs::path path = wanted;
  std::error_code code;
  if (wanted.empty()) {
    path = stem;
    for (int n = 2; fs::exists(path); ++n) path = stem + "-" + std::to_string(n);
  } else if (fs::exists(path) && !fs::is_directory(path)) {
    throw InputError("--out " + wanted, "is a file; give a folder that is empty or does not exist");
  } else if (fs::exists(path) && !fs::is_empty(path, code)) {
    const bool begun = fs::exists(path / "recipe.yaml") || fs::exists(path / "sweep.json");
    throw InputError("--out " + wanted,
                     "the folder is not empty; what is in it would be overwritten. Give another folder" +
                         (begun ? ", remove this one, or go on with what was begun there: espalier resume " + wanted
                                : std::string(" or remove this one")));
  }
  fs::create_directories(path, code);
  if (code) throw Error(path.string() + ": cannot make the folder: " + code.message());
  return path;
}

}  // namespace espalier
