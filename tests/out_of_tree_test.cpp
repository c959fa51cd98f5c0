// Plugins as third parties write them: from `espalier new`, against the installed SDK, with nothing of the source tree.
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "espalier/value.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

const std::vector<std::string> kinds = {"dataset",   "backbone",   "operation", "regularizer",
                                        "optimizer", "controller", "schedule",  "augmentation"};

TEST(OutOfTree, NewPluginsOfEveryKindBuildPassTheirTestsAndRun) {
  const TempFolder folder;
  const std::string prefix = (folder / "installed").string();
  const Output install = shell("'" ESPALIER_CMAKE "' --install '" ESPALIER_BINARY_DIR "' --prefix '" + prefix + "'");
  ASSERT_EQ(install.status, 0) << install.text;
  const std::string program = "'" + prefix + "/bin/espalier' ";

  std::string all = "cmake_minimum_required(VERSION 3.25)\nproject(all LANGUAGES CXX)\nenable_testing()\n";
  for (const std::string& kind : kinds) {
    const Output made = shell(program + "new " + kind + " my-" + kind + " --into " + folder.path().string());
    ASSERT_EQ(made.status, 0) << made.text;
    all += "add_subdirectory(my-" + kind + ")\n";  // as one project: what each configures alone is the same
  }
  folder.write("CMakeLists.txt", all);
  const std::string build = (folder / "build").string();
  const Output configured = shell("'" ESPALIER_CMAKE "' -G Ninja -S " + folder.path().string() + " -B " + build +
                                  " -DCMAKE_PREFIX_PATH='" + prefix + "'");
  ASSERT_EQ(configured.status, 0) << configured.text;
  const Output built = shell("'" ESPALIER_CMAKE "' --build " + build + " --parallel 2");
  ASSERT_EQ(built.status, 0) << built.text;
  const Output tested = shell("cd " + build + " && '" + std::filesystem::path(ESPALIER_CMAKE).parent_path().string() +
                              "/ctest' --output-on-failure");
  EXPECT_EQ(tested.status, 0) << tested.text;
  EXPECT_NE(tested.text.find("100% tests passed, 0 tests failed out of 8"), std::string::npos) << tested.text;

  std::string libraries;
  for (const std::string& kind : kinds) libraries += " " + build + "/my-" + kind + "/libmy_" + kind + ".so";
  const Output checked = shell(program + "check --jobs 2" + libraries);
  EXPECT_EQ(checked.status, 0) << checked.text;

  for (const std::string& kind : kinds) {
    const std::string name = "my-" + kind;
    const Output run = shell("cd " + (folder / name).string() + " && " + program + "run " + name +
                             ".yaml --threads 2 --plugins " + build + "/" + name + " --out out");
    ASSERT_EQ(run.status, 0) << run.text;
    EXPECT_EQ(from_json(read_file(folder / name / "out" / "summary.json")).at("status").as_string(), "finished");
  }
  // The regularizer is in the loss: its penalty is in the metrics.
  const std::string metrics = read_file(folder / "my-regularizer" / "out" / "metrics.jsonl");
  EXPECT_GT(from_json(metrics.substr(0, metrics.find('\n'))).at("penalty").as_double(), 0);
  // The controller edits: the network is smaller at the end.
  const Value summary = from_json(read_file(folder / "my-controller" / "out" / "summary.json"));
  EXPECT_LT(summary.at("final").at("macs").as_int(), summary.at("base").at("macs").as_int());
}

TEST(OutOfTree, NewRefusesWhatWouldNotBuildOrWouldOverwrite) {
  const TempFolder folder;
  const std::string into = " --into " + folder.path().string();
  const auto refused = [&](const std::string& arguments, const std::string& why) {
    const Output o = espalier_command("new " + arguments + into);
    EXPECT_NE(o.status, 0) << arguments;
    EXPECT_NE(o.text.find(why), std::string::npos) << o.text;
  };
  refused("regulariser mine", "did you mean 'regularizer'");
  refused("regularizer 'My Penalty'", "no name for a plugin");
  refused("regularizer ../x", "no name for a plugin");
  refused("regularizer test", "target of CMake");
  ASSERT_EQ(espalier_command("new regularizer mine" + into).status, 0);
  refused("regularizer mine", "exists already");
}

}  // namespace
}  // namespace espalier
