#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/share.h"
#include "distributed/processes.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

// The environment of a process that torchrun or srun started.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& variables) {
    for (const char* name : known) {
      if (const char* value = std::getenv(name)) before_[name] = value;
      unsetenv(name);
    }
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const char* name : known) unsetenv(name);
    for (const auto& [name, value] : before_) setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  static constexpr const char* known[] = {
      "RANK",         "WORLD_SIZE",    "LOCAL_RANK",          "LOCAL_WORLD_SIZE",     "MASTER_ADDR",
      "MASTER_PORT",  "SLURM_PROCID",  "SLURM_NTASKS",        "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID",
      "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST",   "TORCHELASTIC_USE_AGENT_STORE"};
  std::map<std::string, std::string> before_;
};

std::string refusal(const std::map<std::string, std::string>& variables) {
  const Environment environment(variables);
  try {
    ProcessPlace::from_environment();
  } catch (const InputError& e) {
    return e.what();
  }
  return "";
}

TEST(ProcessPlace, ReadsTorchrunsEnvironment) {
  const Environment environment(
      {{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "node7"}, {"MASTER_PORT", "29500"}});
  const ProcessPlace p = ProcessPlace::from_environment();
  EXPECT_EQ(p.rank, 3);
  EXPECT_EQ(p.count, 4);
  EXPECT_EQ(p.local_rank, 1);
  EXPECT_EQ(p.address, "node7");
  EXPECT_EQ(p.port, 29500);
}

TEST(ProcessPlace, ReadsSlurmsEnvironmentOfAStepAlone) {
  std::map<std::string, std::string> variables{
      {"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}, {"SLURM_JOB_ID", "17"}, {"SLURM_JOB_NODELIST", "gpu[03-05,9]"}};
  {
    const Environment batch_script(variables);
    EXPECT_EQ(ProcessPlace::from_environment().count, 1) << "a batch script is one process, however many it may start";
  }
  variables["SLURM_STEP_NUM_TASKS"] = "4";
  variables["SLURM_PROCID"] = "2";
  variables["SLURM_STEP_NODELIST"] = "gpu[04-05]";
  const Environment step(variables);
  const ProcessPlace p = ProcessPlace::from_environment();
  EXPECT_EQ(p.rank, 2);
  EXPECT_EQ(p.count, 4);
  EXPECT_EQ(p.address, "gpu04");
  EXPECT_GT(p.port, 1024);
}

TEST(ProcessPlace, IsOneProcessWhereNothingIsSaid) {
  const Environment none({});
  EXPECT_EQ(ProcessPlace::from_environment().count, 1);
}

TEST(ProcessPlace, SaysWhatIsWrongWithTheEnvironment) {
  EXPECT_THAT(refusal({{"WORLD_SIZE", "two"}}), HasSubstr("WORLD_SIZE: 'two' is no whole number"));
  EXPECT_THAT(refusal({{"WORLD_SIZE", "2"}}), HasSubstr("RANK: is not set"));
  EXPECT_THAT(refusal({{"WORLD_SIZE", "2"}, {"RANK", "0"}}), HasSubstr("MASTER_ADDR: is not set"));
  EXPECT_THAT(refusal({{"WORLD_SIZE", "2"}, {"RANK", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "1"}}),
              HasSubstr("process 2 of 2 there is none"));
}

TEST(ProcessPlace, FindsTheFirstHostOfSlurmsLists) {
  EXPECT_EQ(first_host("node"), "node");
  EXPECT_EQ(first_host("node3,node4"), "node3");
  EXPECT_EQ(first_host("node[03-05,9],other"), "node03");
  EXPECT_EQ(first_host("rack[1,4]-a"), "rack1-a");
  EXPECT_THROW(first_host(""), Error);
  EXPECT_THROW(first_host("node["), Error);
}

TEST(Share, PiecesOfAllProcessesAreTheBatch) {
  for (const int64_t count : {2, 3, 5}) {
    for (int64_t samples = 0; samples < 20; ++samples) {
      int64_t next = 0;
      for (int64_t rank = 0; rank < count; ++rank) {
        const Share s{rank, count};
        if (!s.divides(samples)) {
          EXPECT_EQ(s.before(samples), 0);
          EXPECT_EQ(s.own(samples), samples) << "too few to divide: each has all";
          continue;
        }
        EXPECT_EQ(s.before(samples), next);
        EXPECT_GE(s.own(samples), 1);
        next += s.own(samples);
      }
      if (samples >= count) {
        EXPECT_EQ(next, samples);
      }
    }
  }
}

// With one process nothing is sent, and everything is as it was given.
TEST(Processes, AreOneUnlessOthersAreMet) {
  const Processes one;
  EXPECT_TRUE(one.leads());
  EXPECT_FALSE(one.several());
  EXPECT_EQ(one.largest("a test", {3, -1}), (std::vector<int64_t>{3, -1}));
  EXPECT_EQ(one.from_leader("a test", "text"), "text");
  one.require_same("anything", "text", "nothing to do");
}

}  // namespace
}  // namespace espalier
