#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/maximum.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/share.h"
#include "distributed/processes.h"
#include "distributed/shared_memory.h"

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

// As many threads as processes: each has its own view of the memory, and its own lock.
void among(int64_t count, const std::function<void(int64_t rank, std::unique_ptr<SharedMemory> memory)>& body) {
  std::mutex mutex;
  std::condition_variable changed;
  std::string address;
  const auto tell = [&](const std::string& text) {
    const std::lock_guard lock(mutex);
    address = text;
    changed.notify_all();
  };
  const auto told = [&] {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !address.empty(); });
    return address;
  };
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < count; ++rank)
    threads.emplace_back([&, rank] { body(rank, SharedMemory::meet(rank, count, tell, told)); });
  for (std::thread& t : threads) t.join();
}

// What process `rank` has: numbers whose sums depend on their order in float32.
at::Tensor values_of(int64_t rank, int64_t n, at::ScalarType type) {
  return at::arange(n, at::kDouble)
      .mul_(7919 * (rank + 1))
      .remainder_(101)
      .sub_(50)
      .div_(type == at::kLong ? 1 : 3)
      .to(type);
}

TEST(SharedMemory, AddsInTheOrderOfTheProcessesAndGivesAllTheSameBits) {
  for (const int64_t count : {2, 3, 5}) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kLong, at::kBFloat16}) {
      // Fewer elements than processes, and more than go over at a time.
      for (const int64_t n : {0, 1, 4, 1000, 300'007}) {
        at::Tensor sum = values_of(0, n, type), largest = sum;
        for (int64_t r = 1; r < count; ++r) {
          sum = sum + values_of(r, n, type);
          largest = at::maximum(largest, values_of(r, n, type));
        }
        std::atomic<int> right = 0;
        among(count, [&](int64_t rank, std::unique_ptr<SharedMemory> memory) {
          const at::Tensor x = values_of(rank, n, type), y = x.clone();
          memory->reduce(x, SharedMemory::How::sum);
          memory->reduce(y, SharedMemory::How::largest);
          if (at::equal(x, sum) && at::equal(y, largest)) ++right;
        });
        EXPECT_EQ(right, count) << count << " processes, " << n << " elements of type " << type;
      }
    }
  }
}

TEST(SharedMemory, ManyCallsOneAfterAnotherDoNotMix) {
  std::atomic<int64_t> wrong = 0;
  among(3, [&](int64_t rank, std::unique_ptr<SharedMemory> memory) {
    for (int64_t i = 0; i < 2000; ++i) {
      const at::Tensor x = at::arange(i % 7 + 1, at::kLong) + i * (rank + 1);
      memory->reduce(x, SharedMemory::How::sum);
      if (!at::equal(x, 3 * at::arange(i % 7 + 1, at::kLong) + 6 * i)) ++wrong;
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(SharedMemory, SaysWhoIsGoneAndWhereTheCallsDiffer) {
  std::atomic<int> gone = 0, differ = 0;
  among(3, [&](int64_t rank, std::unique_ptr<SharedMemory> memory) {
    if (rank == 1) return;  // and closes what it shares
    try {
      memory->reduce(at::arange(5, at::kFloat), SharedMemory::How::sum);
    } catch (const Error&) {
    } catch (const std::runtime_error& e) {
      // Of the two that are left, the one which notices first is gone for the other.
      if (std::string(e.what()).ends_with(" is gone")) ++gone;
    }
  });
  EXPECT_EQ(gone, 2);
  among(3, [&](int64_t rank, std::unique_ptr<SharedMemory> memory) {
    try {
      memory->reduce(at::arange(rank == 2 ? 6 : 5, at::kFloat), SharedMemory::How::sum);
    } catch (const Error& e) {
      if (std::string(e.what()).find("different things") != std::string::npos) ++differ;
    }
  });
  EXPECT_EQ(differ, 3) << "none of them goes on with a wrong sum";
}

TEST(SharedMemory, IsNoneWhereTheOtherIsOnAnotherMachine) {
  std::string address;
  const auto first = SharedMemory::meet(0, 2, [&](const std::string& text) { address = text; }, {});
  ASSERT_TRUE(first);
  const auto meet = [&](const std::string& text) { return SharedMemory::meet(1, 2, {}, [&] { return text; }); };
  EXPECT_TRUE(meet(address));
  EXPECT_FALSE(meet("none"));
  EXPECT_FALSE(meet("another-machine" + address.substr(address.find(' '))));
  EXPECT_FALSE(meet(address + "0")) << "the same place, but not the same memory";
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
