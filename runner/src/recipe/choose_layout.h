#pragma once

#include <memory>
#include <string>
#include <vector>

#include "recipe/layout.h"
#include "recipe/recipe.h"

namespace espalier {

// The words of `layout` that are no library's.
inline constexpr char layout_auto[] = "auto", layout_own[] = "own";

// Which table a file is read by.
struct LayoutChoice {
  std::shared_ptr<const Layout> layout;  // null: the file has the network's own names
  std::string tried;                     // where none was found: which ones there are, and what they do not know
};

// Chooses by `layout` of a recipe's network (a word, or the absolute path of a user's table) and the names and shapes
// of the file. `options` are those of the backbone that the recipe gives; two tables that differ only in others of them
// are one. Throws InputError at the word's place: there is no such table, or two that match would compute differently.
LayoutChoice choose_layout(const WarmStart& start, const Value& word, const std::string& backbone,
                           const Value& options);

// Whether nothing beside a file says that it is of a run.
bool is_foreign(const std::filesystem::path& path);

}  // namespace espalier
