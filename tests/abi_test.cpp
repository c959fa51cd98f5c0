// tests/abi: plugins that were built for this SDK ABI and earlier ones. Nobody may be left with a plugin that crashes:
// it runs, or it is refused before any of its code runs, and the message says what to do.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/build_config.h"
#include "espalier/value.h"
#include "plugins/compatibility.h"
#include "plugins/elf_stamp.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::vector<fs::path> kept_plugins() {
  std::vector<fs::path> found;
  for (const fs::directory_entry& e : fs::directory_iterator(ESPALIER_SOURCE_DIR "/tests/abi")) {
    if (e.path().extension() == ".so") found.push_back(e.path());
  }
  std::ranges::sort(found);
  return found;
}

TEST(Abi, APluginIsKeptOfTheNumberThatThisProgramHas) {
  const std::string name = "kept-" + std::to_string(ESPALIER_SDK_ABI);
  for (const fs::path& p : kept_plugins()) {
    if (p.stem() == name) return;
  }
  FAIL() << "tests/abi/" << name << ".so: make it with scripts/abi --update";
}

TEST(Abi, AKeptPluginRunsItsRecipeOrIsRefused) {
  for (const fs::path& library : kept_plugins()) {
    SCOPED_TRACE(library.filename());
    const TempFolder folder;
    fs::create_directories(folder / "plugins");
    fs::copy_file(library, folder / "plugins" / "libkept.so");
    fs::path recipe = library;
    recipe.replace_extension(".yaml");
    const std::string others = " --plugins '" + (folder / "plugins").string() + "'";
    const std::vector<std::string> apart = differences(read_stamp(library), program_stamp());
    const Output o = espalier_command("run -q '" + recipe.string() + "'" + others + " --out '" +
                                      (folder / "run").string() + "' --threads 1");
    if (!apart.empty()) {
      EXPECT_NE(o.status, 0);
      for (const std::string& difference : apart) EXPECT_THAT(o.text, HasSubstr(difference));
      EXPECT_THAT(o.text, HasSubstr("plugin kept 1.0.0 is built for another Espalier"));
      EXPECT_THAT(o.text, HasSubstr("cmake --build build"));
      continue;
    }
    ASSERT_EQ(o.status, 0) << o.text;
    const Value summary = from_json(read_file(folder / "run" / "summary.json"));
    EXPECT_EQ(summary.at("status").as_string(), "finished");
    // Which of two sides is brighter is learned soon; guessing gives 50.
    EXPECT_GE(summary.at("metrics").at("accuracy").as_double(), 90);
    // Each kind has a component that was used or can be made.
    const Output listed = espalier_command("plugins" + others);
    for (const char* kind : {"augmentation", "backbone", "controller", "dataset", "loss", "metric", "operation",
                             "optimizer", "regularizer", "schedule", "score"})
      EXPECT_THAT(listed.text, HasSubstr("kept_" + std::string(kind)));
  }
}

}  // namespace
}  // namespace espalier
