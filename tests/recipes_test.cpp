// The recipes that come with Espalier.
#include <filesystem>

#include <gtest/gtest.h>

#include "all_plugins.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "plugins/builtin.h"
#include "recipe/extends.h"
#include "recipe/recipe.h"
#include "sweep/matrix.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;

TEST(Recipes, AreValidInEveryScale) {
  register_builtin(Registry::instance());
  load_all_plugins();
  int recipes = 0, scaled = 0;
  for (const auto& entry : fs::recursive_directory_iterator(ESPALIER_SOURCE_DIR "/recipes")) {
    const fs::path& file = entry.path();
    // What several recipes extend is none itself.
    if (file.extension() != ".yaml" || file.parent_path().filename() == "common") continue;
    std::vector<std::string> scales{""};
    const Value tree = read_extended(file);
    for (const std::string& scale : scales_of(file)) scales.push_back(scale);
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

TEST(Recipes, PathsAreRelativeToTheFileThatNamesThem) {
  register_builtin(Registry::instance());
  load_all_plugins();
  const TempFolder folder;
  folder.write("in/base.yaml", R"(
espalier: 1
name: r
data: {use: synthetic}
network: {use: recorded, graph: ../s, from: values.pt}
base: {use: recorded, graph: t/graph.json}
stages: [{name: grow, epochs: 1, optimizer: sgd, controller: {use: replay, run: ../u}}]
)");
  const auto file = folder.write("r.yaml", "extends: in/base.yaml\nscales: {small: {network.graph: v}}\n");
  const auto text = [&](const std::string& name) { return (folder / name).string(); };
  const auto resolved = [&](const std::vector<std::string>& set, const std::string& scale) {
    return check_recipe(read_recipe(file, set, scale), Registry::instance()).resolved;
  };
  const Value r = resolved({}, "");
  EXPECT_EQ(r.at("network").at("graph").as_string(), text("s"));
  EXPECT_EQ(r.at("network").at("from").as_string(), text("in/values.pt"));
  EXPECT_EQ(r.at("base").at("graph").as_string(), text("in/t/graph.json"));
  EXPECT_EQ(r.at("stages").as_list()[0].at("controller").at("run").as_string(), text("u"));
  EXPECT_EQ(resolved({}, "small").at("network").at("graph").as_string(), text("v"));
  EXPECT_EQ(resolved({"network.graph=../w"}, "").at("network").at("graph").as_string(),
            fs::absolute("../w").lexically_normal().string())
      << "what is typed is relative to where it is typed";
}

}  // namespace
}  // namespace espalier
