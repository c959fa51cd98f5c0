// Whether programs that are started by tests/starter do what they do when they are started as usual.
#include <filesystem>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "subprocess.h"
#include "system/files.h"
#include "system/scratch_folder.h"

namespace espalier {
namespace {

class Start : public testing::Test {
 protected:
  void SetUp() override {
#ifndef ESPALIER_STARTER_CLIENT
    GTEST_SKIP() << "a sanitizer must be loaded first, so programs are started as usual";
#endif
    program_word();
  }
#ifdef ESPALIER_STARTER_CLIENT
  const std::string start_ = "'" ESPALIER_STARTER_CLIENT "' ";
#else
  const std::string start_;
#endif
  const std::string itself_ = "'" ESPALIER_PROGRAM "' ";
};

TEST_F(Start, GivesTheSameTextAndStatus) {
  const std::string quickstart = ESPALIER_SOURCE_DIR "/recipes/quickstart.yaml";
  for (const std::string& arguments :
       {"plan " + quickstart, std::string("describe lenet5"), std::string("plam"), std::string("plan none.yaml"),
        "run " + quickstart + " --set data.nothing=1", std::string("plugins --plugins /nowhere")}) {
    const Output served = shell(program_word() + " " + arguments), usual = shell(itself_ + arguments);
    EXPECT_EQ(served.status, usual.status) << arguments;
    EXPECT_EQ(served.text, usual.text) << arguments;
  }
}

// A program that is not the server's tells who carried it out.
TEST_F(Start, IsAsUsualWhereACopyWouldDiffer) {
  const std::string echo = start_ + "/bin/echo itself";
  EXPECT_THAT(shell(echo).text, testing::HasSubstr("no command 'itself'"));
  EXPECT_THAT(shell("ESPALIER_STORE=none HOME=/ " + echo).text, testing::HasSubstr("no command 'itself'"));
  for (const char* before : {"OMP_NUM_THREADS=7 ", "ATEN_CPU_CAPABILITY=none ", "ulimit -n 99; ", "umask 0123; ",
                             "trap '' USR1; ", "nice -n 3 ", "taskset 1 ", "ESPALIER_STARTER=/nowhere "}) {
    const bool alone = std::string(before).starts_with("taskset") && std::thread::hardware_concurrency() == 1;
    if (alone) continue;
    EXPECT_EQ(shell(before + echo).text, "itself\n") << before;
  }
}

TEST_F(Start, HasTheClientsVariablesFolderAndFiles) {
  const ScratchFolder folder;
  const std::string recipe = (folder.path() / "r.yaml").string();
  write_file(recipe,
             "espalier: 1\nname: here\ndata: {use: synthetic, count: 64}\nnetwork: {use: lenet5}\n"
             "stages: [{name: a, epochs: 1, optimizer: sgd}]\n");
  const Output o = shell("cd '" + folder.path().string() + "' && ESPALIER_STORE='" + folder.path().string() +
                         "/store' " + program_word() + " run -q r.yaml --out out >said 2>errors </dev/null");
  EXPECT_EQ(o.status, 0) << read_file(folder.path() / "errors");
  EXPECT_EQ(o.text, "");
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "out" / "summary.json"));
  EXPECT_FALSE(std::filesystem::is_empty(folder.path() / "store"));
}

// `kill` ends the shell's command, which begins a run that would take hours, when the run has begun.
TEST_F(Start, PassesSignalsOn) {
  const ScratchFolder folder;
  const std::string at = folder.path().string();
  write_file(at + "/r.yaml",
             "espalier: 1\nname: long\ndata: {use: synthetic, count: 4096}\nnetwork: {use: lenet5}\n"
             "stages: [{name: a, epochs: 10000, optimizer: sgd}]\n");
  for (const auto& [signal, status] : {std::pair{"TERM", 143}, std::pair{"KILL", 137}}) {
    const std::string out = at + "/" + signal;
    const Output o = shell("ESPALIER_STORE=none " + program_word() + " run -q '" + at + "/r.yaml' --out '" + out +
                           "' & pid=$!; until [ -s '" + out + "/metrics.jsonl' ]; do sleep .02; done; kill -" + signal +
                           " $pid; wait $pid; echo status $?; sleep .2; pgrep -af -- '[-]-out " + out + "'");
    EXPECT_THAT(o.text, testing::HasSubstr("status " + std::to_string(status))) << signal;
    EXPECT_EQ(o.status, 1) << "a process goes on:\n" << o.text;  // pgrep found none
  }
}

}  // namespace
}  // namespace espalier
