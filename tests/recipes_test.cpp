// The recipes that come with Espalier.
#include <filesystem>

#include <gtest/gtest.h>

#include "all_plugins.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "recipe/extends.h"
#include "recipe/recipe.h"
#include "schedule.h"
#include "sweep/matrix.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

TEST(Recipes, AreValidInEveryScale) {
  register_schedules(Registry::instance());
  load_all_plugins();
  int recipes = 0, scaled = 0;
  for (const auto& entry : fs::recursive_directory_iterator(ESPALIER_SOURCE_DIR "/recipes")) {
    const fs::path& file = entry.path();
    // What several recipes extend is none itself.
    if (file.extension() != ".yaml" || file.parent_path().filename() == "common") continue;
    std::vector<std::string> scales{""};
    const Value tree = read_extended(file);
    if (const Value* given = tree.find("scales")) {
      for (const Value::Entry& e : given->as_map()) scales.push_back(e.key);
    }
    const bool of_a_paper = file.string().find("/paper/") != std::string::npos;
    EXPECT_TRUE(!of_a_paper ||
                (tree.find("scales") && tree.at("scales").find("short") && tree.at("scales").find("smoke")))
        << file << " has no scales short and smoke";
    for (const std::string& scale : scales) {
      try {
        const Value read = read_recipe(file, {}, scale);
        const std::vector<MatrixPoint> points = matrix_points(read);
        if (points.empty()) check_recipe(read, Registry::instance());
        for_each_run(read, points, Registry::instance(), [](const MatrixPoint&, const Recipe&) {});
      } catch (const Error& e) {
        ADD_FAILURE() << file << " " << scale << ": " << e.what();
      }
      ++recipes;
      scaled += !scale.empty();
    }
  }
  EXPECT_GT(recipes, 80);
  EXPECT_GT(scaled, 60);
}

}  // namespace
}  // namespace espalier
