#include "recipe/choose_layout.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "espalier/error.h"
#include "formats/tensor_files.h"
#include "recipe/rename.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

using Sizes = std::map<std::string, std::vector<int64_t>>;

// The names and shapes of a file; none where it cannot be read, which is said where its values are needed. What was
// read last is kept: the runs of a matrix begin with one file.
const Sizes* sizes_in(const WarmStart& start) {
  static std::string last;
  static Sizes sizes;
  std::error_code error;
  const fs::path file = fs::is_directory(start.from, error) ? tensor_file_in(start.from) : start.from;
  const auto time = fs::last_write_time(file, error);
  if (error) return nullptr;
  std::string now = file.string() + '\n' + std::to_string(time.time_since_epoch().count()) + '\n' + start.key;
  for (const std::string& pattern : start.ignore) now += '\n' + pattern;
  for (const auto& [pattern, names] : start.rename) {
    now += '\n' + pattern;
    for (const std::string& name : names) now += '\t' + name;
  }
  if (now == last) return &sizes;
  try {
    std::vector<std::string> unused;
    Sizes found;
    for (const auto& [name, tensor] : renamed(start, load_tensors(start.from, start.key).tensors, unused))
      found[name] = tensor.sizes().vec();
    sizes = std::move(found);
    last = std::move(now);
  } catch (const std::exception&) {
    return nullptr;
  }
  return &sizes;
}

// The names that a table does not know, or that are of another shape.
std::vector<std::string> unknown(const Layout& layout, const Sizes& file) {
  std::vector<std::string> names;
  for (const auto& [name, sizes] : file) {
    const auto mapped = layout.of_file(name);
    if (!mapped || !can_be(*mapped->row, sizes)) names.push_back(name);
  }
  return names;
}

// Whether all of a file's names are the network's own.
bool has_own_names(const Layout& layout, const Sizes& file) {
  return std::ranges::all_of(file, [&](const auto& e) { return layout.of_network(e.first).has_value(); });
}

// Whether two tables make the same of a file, also of the options that the recipe leaves to them.
bool same(const Layout& a, const Layout& b, const Sizes& file, const Value& given) {
  const auto options = [&](const Layout& l) {
    std::map<std::string, std::string> all;
    for (const auto& [name, value] : l.options) {
      if (!given.find(name)) all[name] = to_json(value);
    }
    return all;
  };
  if (options(a) != options(b)) return false;
  return std::ranges::all_of(file, [&](const auto& e) {
    const auto x = a.of_file(e.first), y = b.of_file(e.first);
    const LayoutRow &r = *x->row, &s = *y->row;
    return (r.computed && s.computed) || (x->own == y->own && r.along == s.along && r.blocks == s.blocks &&
                                          r.blocks_along == s.blocks_along && r.permute == s.permute);
  });
}

std::string list_of(const std::vector<std::string>& names, size_t most) {
  std::string text;
  for (size_t i = 0; i < names.size() && i < most; ++i) text += (i ? ", " : "") + names[i];
  return text + (names.size() > most ? " and " + std::to_string(names.size() - most) + " more" : "");
}

using Layouts = std::vector<std::shared_ptr<const Layout>>;

Layouts named(const std::string& word, const Layouts& all) {
  Layouts found;
  // The one of just this name first.
  for (const bool exact : {true, false}) {
    for (const auto& l : all) {
      if (l->is(word) && (l->name == word) == exact) found.push_back(l);
    }
  }
  return found;
}

}  // namespace

bool is_foreign(const fs::path& path) {
  for (const fs::path& folder : {path, path.parent_path(), path.parent_path().parent_path()}) {
    if (fs::exists(folder / "recipe.yaml") || fs::exists(folder / "graph.json")) return false;
  }
  return true;
}

LayoutChoice choose_layout(const WarmStart& start, const Value& word, const std::string& backbone,
                           const Value& options) {
  const std::string& text = word.as_string();
  if (text == layout_own) return {};
  // Only the folder of a run is known to be ours without a look into it: a recipe may lie beside anyone's files.
  const bool is_run = fs::exists(start.from / "recipe.yaml") || fs::exists(start.from / "graph.json");
  if (text == layout_auto && (is_run || !fs::exists(start.from))) return {};
  if (fs::path(text).is_absolute()) {
    if (!fs::exists(text)) throw InputError(word.location.str(), "there is no table " + text);
    const auto own = read_layout(text);
    if (!own->backbones.empty() && std::ranges::find(own->backbones, backbone) == own->backbones.end()) {
      throw InputError(word.location.str(),
                       text + " is a table for " + list_of(own->backbones, 5) + ", not for " + backbone);
    }
    return {own, ""};
  }
  const Layouts all = layouts_for(backbone);
  Layouts candidates = text == layout_auto ? all : named(text, all);
  if (text == layout_auto) std::erase_if(candidates, [](const auto& l) { return l->by_name_only; });
  if (candidates.empty() && text == layout_auto) return {};
  if (candidates.empty()) {
    std::vector<std::string> names;
    for (const auto& l : all) {
      names.push_back(l->name);
      names.insert(names.end(), l->also.begin(), l->also.end());
    }
    std::ranges::sort(names);
    throw InputError(word.location.str(), "there is no layout '" + text + "' for '" + backbone + "'" +
                                              (names.empty() ? ", nor any other" : suggestion(text, names)) +
                                              "; `layout: FILE.yaml` names a table of your own");
  }
  const Sizes* file = sizes_in(start);
  if (!file || file->empty()) return {text == layout_auto ? nullptr : candidates[0], ""};
  if (text == layout_auto && std::ranges::any_of(all, [&](const auto& l) { return has_own_names(*l, *file); }))
    return {};
  Layouts matching;
  std::shared_ptr<const Layout> nearest;
  std::vector<std::string> missed;
  std::string tried;
  for (const auto& l : candidates) {
    std::vector<std::string> names = unknown(*l, *file);
    if (names.empty()) matching.push_back(l);
    tried += (tried.empty() ? "" : ", ") + l->name + " (" + std::to_string(file->size() - names.size()) + " of " +
             std::to_string(file->size()) + " names)";
    if (!nearest || names.size() < missed.size()) {
      nearest = l;
      missed = std::move(names);
    }
  }
  if (matching.empty()) {
    if (text != layout_auto) return {nearest, ""};
    return {nullptr, "No layout of '" + backbone + "' knows all names of the file: " + tried + ". The nearest, " +
                         nearest->name + ", does not know " + list_of(missed, 3) + "; `layout: " + nearest->name +
                         "` reads it by this one, and `ignore` passes names over"};
  }
  for (const auto& l : matching) {
    if (same(*matching[0], *l, *file, options)) continue;
    throw InputError(start.location.str(), start.from.string() + " may be of '" + matching[0]->name + "' (" +
                                               matching[0]->of + ") or of '" + l->name + "' (" + l->of +
                                               "), which compute differently: say which with `layout: " +
                                               matching[0]->name + "` or `layout: " + l->name + "`");
  }
  return {matching[0], ""};
}

}  // namespace espalier
