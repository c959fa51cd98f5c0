#include "system/processes.h"

#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "../../tests/temp_folder.h"
#include "espalier/error.h"
#include "system/files.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;

// Shell scripts as processes, with what became of them.
struct Scripts {
  TempFolder folder;
  std::vector<std::string> scripts;
  std::vector<int> status;
  size_t most = 0;  // at a time
  std::function<void(size_t)> on_tick = [](size_t) {};

  explicit Scripts(std::vector<std::string> s) : scripts(std::move(s)), status(scripts.size(), -1) {
    // A shell that starts the tests in the background lets them ignore it.
    std::signal(SIGINT, SIG_DFL);
  }

  std::filesystem::path output(size_t i) const { return folder / (std::to_string(i) + ".txt"); }

  int run(size_t at_a_time) {
    ProcessQueue q;
    q.count = scripts.size();
    q.at_a_time = at_a_time;
    q.start = [this](size_t i) { return ProcessCommand{"/bin/sh", {"-c", scripts[i]}, output(i)}; };
    q.ended = [this](size_t i, int s) { status[i] = s; };
    q.tick = [this](size_t running) {
      most = std::max(most, running);
      on_tick(running);
    };
    return run_processes(q);
  }
};

TEST(Processes, RunInOrderWithTheirOutputAndStatus) {
  Scripts s({"echo out; echo err >&2", "exit 3", "kill -9 $$", "read line || echo nothing to read"});
  EXPECT_EQ(s.run(1), 0);
  EXPECT_THAT(s.status, ElementsAre(0, 3, 128 + SIGKILL, 0));
  EXPECT_EQ(read_file(s.output(0)), "out\nerr\n");
  EXPECT_EQ(read_file(s.output(3)), "nothing to read\n");
  EXPECT_EQ(s.most, 1U);
}

TEST(Processes, RunSoManyAtATime) {
  // Each waits for the next one to have begun: with fewer than two at a time none would end.
  Scripts s({});
  const std::string folder = s.folder.path().string();
  const std::string wait = "for i in $(seq 100); do test -e " + folder + "/b && exit 0; sleep .05; done; exit 1";
  s.scripts = {wait, "touch " + folder + "/b", "true", "true"};
  s.status.assign(4, -1);
  EXPECT_EQ(s.run(2), 0);
  EXPECT_THAT(s.status, ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(s.most, 2U);
}

TEST(Processes, PassASignalOnAndStartNoMore) {
  const std::string obedient = "trap 'echo told; exit 143' TERM; echo ready; while :; do sleep .05; done";
  Scripts s({obedient, obedient, "true"});
  const auto ready = [&](size_t i) { return std::filesystem::exists(s.output(i)) && !read_file(s.output(i)).empty(); };
  bool sent = false;
  s.on_tick = [&](size_t) {
    if (!sent && ready(0) && ready(1)) {
      sent = true;
      ::kill(::getpid(), SIGINT);
    }
  };
  EXPECT_EQ(s.run(2), SIGINT);
  EXPECT_THAT(s.status, ElementsAre(143, 143, -1));
  EXPECT_EQ(read_file(s.output(0)), "ready\ntold\n");
}

TEST(Processes, ASecondSignalKillsThoseThatDoNotListen) {
  Scripts s({"trap '' TERM; echo ready; while :; do sleep .05; done"});
  int sent = 0;
  s.on_tick = [&](size_t) {
    if (sent < 2 && std::filesystem::exists(s.output(0)) && !read_file(s.output(0)).empty()) {
      ++sent;
      ::kill(::getpid(), SIGTERM);
    }
  };
  EXPECT_EQ(s.run(1), SIGTERM);
  EXPECT_THAT(s.status, ElementsAre(128 + SIGKILL));
}

TEST(Processes, AProgramThatIsNotThereIsAnErrorAfterTheOthersHaveEnded) {
  const TempFolder folder;
  ProcessQueue q;
  q.count = 2;
  q.at_a_time = 2;
  std::vector<int> ended(2, -1);
  q.start = [&](size_t i) {
    return ProcessCommand{i == 0 ? "/bin/sh" : "/no/such/program", {"-c", "sleep 30"}, folder / "out.txt"};
  };
  q.ended = [&](size_t i, int status) { ended[i] = status; };
  q.tick = [](size_t) {};
  EXPECT_THROW(run_processes(q), Error);
  EXPECT_THAT(ended, ElementsAre(128 + SIGTERM, -1));
}

}  // namespace
}  // namespace espalier
