// The tables of docs/recipes.md and the declarations of the keys say the same, and each kind of plugin has a guide.
#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "espalier/build_config.h"
#include "plugins/loader.h"
#include "recipe/sections.h"
#include "recipe/yaml.h"
#include "system/files.h"

namespace espalier {
namespace {

// The rows of the first table behind a heading: key -> default.
std::map<std::string, std::string> table_behind(const std::string& heading) {
  std::istringstream text(read_file(ESPALIER_SOURCE_DIR "/docs/recipes.md"));
  std::map<std::string, std::string> rows;
  bool there = false, begun = false;
  for (std::string line; std::getline(text, line);) {
    if (line == heading) there = true;
    if (!there) continue;
    if (line.starts_with("|")) {
      begun = true;
      std::vector<std::string> cells;
      std::istringstream in(line.substr(1));
      for (std::string cell; std::getline(in, cell, '|');) {
        cell.erase(0, cell.find_first_not_of(' '));
        cell.erase(cell.find_last_not_of(' ') + 1);
        cells.push_back(cell);
      }
      if (cells.at(1) == "default" || cells.at(1).starts_with("---")) continue;  // the head
      // `data`, `network` share a row.
      std::istringstream keys(cells.at(0));
      for (std::string key; std::getline(keys, key, ',');) {
        std::erase_if(key, [](char c) { return c == ' ' || c == '`'; });
        rows[key] = cells.at(1);
      }
    } else if (begun) {
      break;
    }
  }
  return rows;
}

std::string default_of(const ParameterInfo& p) {
  if (p.required) return "required";
  if (p.fallback.is_null()) return "";
  if (p.fallback.is_list()) return p.fallback.size() == 0 ? "[]" : to_json(p.fallback);
  std::string text = to_yaml(p.fallback);
  text.erase(text.find_last_not_of('\n') + 1);
  if (p.fallback.is_number()) {
    std::ostringstream number;
    number << p.fallback.as_double();
    return number.str();
  }
  return text == "''" || text == "\"\"" ? "" : text;
}

struct Documented {
  const char* heading;
  std::vector<ParameterInfo> keys;
  std::vector<SubsectionInfo> subsections;
  std::vector<std::string> more;  // keys that are read before the others are
};

TEST(DocsOfRecipes, NameEveryKeyWithItsDefaultAndNoOther) {
  const std::vector<Documented> sections = {
      {"# Recipes", Declare<RecipeKeys>().parameters(), recipe_subsections(), {"extends"}},
      {"## data", Declare<DataKeys>().parameters(), data_subsections(), {}},
      {"## network", Declare<NetworkKeys>().parameters(), network_subsections(), {}},
      {"## stages", Declare<StageKeys>().parameters(), stage_subsections(), {}}};
  for (const Documented& s : sections) {
    std::map<std::string, std::string> rows = table_behind(s.heading);
    ASSERT_GT(rows.size(), 3U) << s.heading;
    for (const ParameterInfo& p : s.keys) {
      ASSERT_TRUE(rows.contains(p.name)) << s.heading << ": no row for '" << p.name << "'";
      const bool component = p.type == ParameterType::component || p.type == ParameterType::components;
      if (!component && p.type != ParameterType::strings) {
        EXPECT_EQ(rows[p.name], default_of(p)) << s.heading << ": the default of '" << p.name << "'";
      }
      rows.erase(p.name);
    }
    for (const SubsectionInfo& sub : s.subsections) {
      EXPECT_TRUE(rows.contains(sub.name)) << s.heading << ": no row for '" << sub.name << "'";
      if (sub.required) {
        EXPECT_EQ(rows[sub.name], "required") << sub.name;
      }
      rows.erase(sub.name);
    }
    for (const std::string& key : s.more) rows.erase(key);
    for (const auto& [key, fallback] : rows) ADD_FAILURE() << s.heading << ": there is no key '" << key << "'";
  }
}

// A reader looks there before rebuilding a plugin.
TEST(Compatibility, TellsTheSdkAbiOfThisProgram) {
  const std::string page = read_file(ESPALIER_SOURCE_DIR "/COMPATIBILITY.md");
  EXPECT_NE(page.find("| SDK ABI | " + std::to_string(ESPALIER_SDK_ABI) + " |"), std::string::npos);
}

// out_of_tree_test.cpp builds and runs what the guides show.
TEST(Guides, ShowForEachKindWhatEspalierNewWrites) {
  for (const std::string& kind : component_kinds()) {
    const std::string guide = read_file(ESPALIER_SOURCE_DIR "/docs/guides/" + kind + ".md");
    EXPECT_NE(guide.find("\n    espalier new " + kind + " "), std::string::npos) << kind;
    for (const std::string file : {"plugin.cpp", "plugin_test.cpp", "recipe.yaml"}) {
      const std::string path = "sdk/templates/" + kind + "/" + file;
      EXPECT_NE(guide.find("\n[" + path + "](../../" + path + ")\n"), std::string::npos)
          << "docs/guides/" << kind << ".md has no line that is a link to " << path;
    }
  }
}

}  // namespace
}  // namespace espalier
