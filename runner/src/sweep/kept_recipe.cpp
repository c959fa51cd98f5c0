#include "sweep/kept_recipe.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "espalier/error.h"
#include "recipe/overrides.h"
#include "system/files.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

constexpr char file_name[] = "recipe.json";

// Every place of the tree in one order.
void visit(Value& v, const std::function<void(Location&)>& place) {
  place(v.location);
  if (v.is_list()) {
    for (Value& e : v.as_list()) visit(e, place);
  } else if (v.is_map()) {
    for (Value::Entry& e : v.as_map()) {
      place(e.key_location);
      visit(e.value, place);
    }
  }
}

// What the command line says is relative to the working folder, which is another one later.
std::string absolute_name(const Location& where) {
  const fs::path name = is_from_command_line(where) ? "command line" : *where.file;
  return fs::absolute(name).lexically_normal().string();
}

}  // namespace

void keep_recipe(const fs::path& sweep, const Value& tree) {
  Value copy = tree;
  std::vector<std::string> files;
  Value places = Value::list();
  visit(copy, [&](Location& l) {
    if (!l.file) {
      places.push_back(Value());
      return;
    }
    const std::string name = absolute_name(l);
    const auto at = std::ranges::find(files, name);
    const auto file = static_cast<int64_t>(at - files.begin());
    if (at == files.end()) files.push_back(name);
    places.push_back(std::vector<int64_t>{file, l.line, l.column});
  });
  const Value all = Value::map({{"recipe", tree}, {"files", files}, {"places", places}});
  write_file(sweep / file_name, to_json(all) + "\n");
}

Value kept_recipe(const fs::path& sweep) {
  const fs::path file = sweep / file_name;
  if (!fs::exists(file)) {
    throw InputError(sweep.string(),
                     "this sweep keeps no recipe, since an older program began it: no runs can be added to it");
  }
  try {
    const Value all = from_json(read_file(file), file.string());
    std::vector<std::shared_ptr<const std::string>> files;
    for (const Value& name : all.at("files").as_list())
      files.push_back(std::make_shared<const std::string>(name.as_string()));
    const Value::List& places = all.at("places").as_list();
    Value tree = all.at("recipe");
    size_t next = 0;
    visit(tree, [&](Location& l) {
      if (next == places.size()) throw InputError("", "there are too few places");
      const Value& p = places[next++];
      l = {};
      if (p.is_null()) return;
      const Value::List& numbers = p.as_list();
      if (numbers.size() != 3) throw InputError(p.location.str(), "a place has three numbers");
      l = {files.at(static_cast<size_t>(numbers[0].as_int())), static_cast<int>(numbers[1].as_int()),
           static_cast<int>(numbers[2].as_int())};
    });
    return tree;
  } catch (const std::exception& e) {
    throw InputError(file.string(), std::string("is no recipe of a sweep: ") + e.what());
  }
}

}  // namespace espalier
