// Plugins as third parties write them: from `espalier new`, against the installed SDK, with nothing of the source tree.
#include <cstring>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "espalier/value.h"
#include "plugins/elf_stamp.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

const std::vector<std::string> kinds = {"dataset",   "backbone",   "operation", "regularizer",
                                        "optimizer", "controller", "schedule",  "augmentation",
                                        "loss",      "metric",     "score"};

// The line of a text that holds this, without the blanks before it.
std::string line_with(const std::string& text, const std::string& what) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what << " in: " << text;
  if (at == std::string::npos) return "false";
  const size_t begin = text.find_first_not_of(' ', text.rfind('\n', at) + 1);
  return text.substr(begin, text.find('\n', at) - begin);
}

// Makes a plugin one that was built with another SDK.
void make_older(const std::filesystem::path& library) {
  std::string bytes = read_file(library);
  std::istringstream in(bytes);
  StampInFile found = find_stamp(in);
  --found.stamp.sdk_abi;
  std::memcpy(bytes.data() + found.offset, &found.stamp, sizeof found.stamp);
  write_file(library, bytes);
}

// What `new` and the message about a plugin of another SDK advise is what is done here.
TEST(OutOfTree, NewPluginsOfEveryKindBuildPassTheirTestsAndRun) {
  const TempFolder folder;
  const std::string prefix = (folder / "installed").string();
  const Output install = shell("'" ESPALIER_CMAKE "' --install '" ESPALIER_BINARY_DIR "' --prefix '" + prefix + "'");
  ASSERT_EQ(install.status, 0) << install.text;
  const std::string program = "'" + prefix + "/bin/espalier' ";

  // Not optimised, which takes a third of the time.
  std::string all =
      "cmake_minimum_required(VERSION 3.25)\nproject(all LANGUAGES CXX)\nenable_testing()\n"
      "set(CMAKE_BUILD_TYPE Debug)\nset(CMAKE_CXX_FLAGS_DEBUG -O0)\n";
  Output made;
  for (const std::string& kind : kinds) {
    made = shell(program + "new " + kind + " my-" + kind + " --into " + folder.path().string());
    ASSERT_EQ(made.status, 0) << made.text;
    all += "add_subdirectory(my-" + kind + ")\n";  // as one project: what each configures alone is the same
  }
  // One that hands on what it found, ranks over all layers, acts after the update, and brings an augmentation and a
  // schedule: doors_test.cpp trains with it.
  folder.write("doors/doors.cpp", read_file(ESPALIER_SOURCE_DIR "/tests/fixtures/plugins/doors.cpp"));
  folder.write("doors/CMakeLists.txt",
               "find_package(Espalier REQUIRED)\nespalier_add_plugin(doors SOURCES doors.cpp)\n");
  all += "add_subdirectory(doors)\n";
  folder.write("CMakeLists.txt", all);
  const std::string build = (folder / "build").string();
  const auto in_folder = [&](const std::string& command) {
    return shell("cd " + folder.path().string() + " && PATH='" +
                 std::filesystem::path(ESPALIER_CMAKE).parent_path().string() + "':$PATH && export PATH && " +
                 "export CMAKE_GENERATOR=Ninja CMAKE_BUILD_PARALLEL_LEVEL=2 && " +
                 // Where the same was compiled before, nothing is compiled.
                 "export CMAKE_CXX_COMPILER_LAUNCHER=$(command -v ccache) CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=" +
                 folder.path().string() + " ; " + command);
  };
  const Output configured = in_folder(line_with(made.text, "cmake -B build -DCMAKE_PREFIX_PATH=" + prefix));
  ASSERT_EQ(configured.status, 0) << configured.text;
  const Output tested = in_folder(line_with(made.text, "cmake --build build && ctest"));
  ASSERT_EQ(tested.status, 0) << tested.text;
  EXPECT_NE(tested.text.find("100% tests passed, 0 tests failed out of 11"), std::string::npos) << tested.text;

  const std::filesystem::path older = folder / "build/my-regularizer/libmy_regularizer.so";
  make_older(older);
  const std::string use = program + "describe my_regularizer --plugins " + older.parent_path().string();
  const Output rejected = shell(use);
  EXPECT_NE(rejected.status, 0);
  EXPECT_NE(rejected.text.find("built for another Espalier"), std::string::npos) << rejected.text;
  std::filesystem::remove(older);  // to the build it looks new
  const std::string line = line_with(rejected.text, "cmake -B build");
  const Output again = in_folder(line.substr(line.find("cmake -B build")));
  EXPECT_EQ(again.status, 0) << again.text;
  EXPECT_EQ(shell(use).status, 0);

  std::string libraries;
  for (const std::string& kind : kinds) libraries += " " + build + "/my-" + kind + "/libmy_" + kind + ".so";
  libraries += " " + build + "/doors/libdoors.so";
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
  refused("loss mse", "there is loss 'mse' already");
  refused("backbone lenet5", "there is backbone 'lenet5' of plugin lenet5");
  ASSERT_EQ(espalier_command("new regularizer mine" + into).status, 0);
  for (const char* file : {".gitignore", ".clang-format", "LICENSE", ".gitlab-ci.yml", ".github/workflows/build.yml",
                           ".vscode/tasks.json", ".vscode/launch.json", "ci.sh"}) {
    EXPECT_TRUE(std::filesystem::exists(folder / "mine" / file)) << file;
  }
  for (const char* file : {".vscode/tasks.json", ".vscode/launch.json"})
    EXPECT_GT(from_json(read_file(folder / "mine" / file)).size(), 0U) << file;
  EXPECT_EQ(shell("grep -rl '@[A-Z]*@' '" + (folder / "mine").string() + "'").text, "") << "all names are filled in";
  refused("regularizer mine", "exists already");
}

}  // namespace
}  // namespace espalier
