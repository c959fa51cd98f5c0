#include "recipe/extends.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "espalier/error.h"
#include "recipe/overrides.h"
#include "recipe/yaml.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

// Recipes that extend two others each grow fast.
constexpr int max_files = 64;

struct Reader {
  std::vector<fs::path> chain;
  int files = 0;

  std::string chain_text(const fs::path& last) const {
    std::string text;
    for (const fs::path& p : chain) text += p.string() + " -> ";
    return text + last.string();
  }

  // What has no line of its own stands where the file is named.
  Value read_file(const fs::path& file, const Location& from) const {
    try {
      return read_yaml(file);
    } catch (const InputError& e) {
      if (chain.empty() || !std::string_view(e.what()).starts_with(file.string() + ": ")) throw;
      throw InputError(from.str(), std::string("extends ") + e.what());
    }
  }

  Value read(const fs::path& file, const Location& from) {
    std::error_code error;
    for (const fs::path& p : chain) {
      if (fs::equivalent(p, file, error))
        throw InputError(from.str(), "the recipe extends itself: " + chain_text(file));
    }
    if (!chain.empty() && !fs::exists(file, error))
      throw InputError(from.str(),
                       "there is no file " + file.string() + file_suggestion(file) + ": " + chain_text(file));
    if (++files > max_files) {
      throw InputError(from.str(), "extends more than " + std::to_string(max_files) + " recipes: write some into one");
    }
    Value own = read_file(file, from);
    if (!own.is_map()) throw InputError(own.location.str(), "expected a recipe (key: value), got " + own.describe());
    const Value* extends = own.find("extends");
    if (!extends) return own;

    chain.push_back(file);
    Value base = Value::map();
    for (const Value& name : extends->is_list() ? extends->as_list() : Value::List{*extends}) {
      if (!name.is_string() || name.as_string().empty()) {
        throw InputError(name.location.str(), "'extends' must be a file or a list of files, got " + name.describe());
      }
      base = merge(base, read(file.parent_path() / name.as_string(), name.location));
    }
    chain.pop_back();
    own.erase("extends");
    return merge(base, own);
  }
};

}  // namespace

Value read_extended(const fs::path& file) {
  return Reader().read(file, {});
}

}  // namespace espalier
