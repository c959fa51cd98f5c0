// The emulation itself: right kernels give what arithmetic says, and each mistake is found.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "cuda_bf16.h"
#include "cuda_emulation.h"
#include "samples.h"

namespace cuda_emulation {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// Every kernel of the tree is tested: no .cu file can be added without a test here.
class EveryKernel final : public testing::Environment {
  void TearDown() override {
    if (testing::GTEST_FLAG(filter) != "*") return;
    for (const std::string& name : without_a_launch()) {
      // Of the samples, each program launches those whose mistake it can find.
      if (name.find("(tests/cuda_emulation/samples.cu:") != std::string::npos) continue;
      ADD_FAILURE() << "no test runs the " << name << ": add one to tests/cuda_emulation";
    }
  }
};
[[maybe_unused]] testing::Environment* const every_kernel =
    testing::AddGlobalTestEnvironment(new EveryKernel);  // which owns it

// Returns the message of the error that run() throws; empty if it throws none.
template <class Run>
std::string error_of(const Run& run) {
  try {
    run();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::vector<int> counted(int n) {
  std::vector<int> x(static_cast<size_t>(n));
  std::iota(x.begin(), x.end(), 1);
  return x;
}

TEST(Emulation, SumsByBlocksWithSharedMemoryOfTheLaunch) {
  for (const int n : {1, 31, 64, 65, 1000}) {
    for (const unsigned threads : {32U, 64U, 1024U}) {
      const std::vector<int> x = counted(n);
      const auto sums = in_every_order([&] {
        std::vector<int> total(1);
        samples::sum(x.data(), n, total.data(), threads);
        return total;
      });
      EXPECT_EQ(sums[0], n * (n + 1) / 2);
      EXPECT_EQ(last_launch().grid.x, (static_cast<unsigned>(n) + threads - 1) / threads);
      EXPECT_EQ(last_launch().shared, threads * sizeof(int));
    }
  }
}

TEST(Emulation, ShufflesGiveTheSumOfTheWarpToEveryLane) {
  std::vector<double> x(96);
  std::iota(x.begin(), x.end(), 0.0);
  for (int way = 0; way < 4; ++way) {
    const auto sums = in_every_order([&] {
      std::vector<double> out(x.size());
      samples::warp_sums(x.data(), out.data(), 3, way);
      return out;
    });
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(sums[i], 496 + 1024 * (i / 32)) << way;
  }
}

TEST(Emulation, VotesCountTheLanes) {
  std::vector<int> x(128, 0);
  x[3] = x[31] = x[32] = 1;
  std::fill(x.begin() + 96, x.end(), 1);
  std::vector<unsigned> ballots(4);
  std::vector<int> any(4), all(4);
  samples::votes(x.data(), ballots.data(), any.data(), all.data(), 4);
  EXPECT_THAT(ballots, ElementsAre(0x80000008U, 1U, 0U, 0xffffffffU));
  EXPECT_THAT(any, ElementsAre(1, 1, 0, 1));
  EXPECT_THAT(all, ElementsAre(0, 0, 0, 1));
}

TEST(Emulation, TurnsAMatrixByTilesOfThreadsInTwoDimensions) {
  constexpr size_t rows = 19, columns = 13;
  std::vector<float> x(rows * columns);
  std::iota(x.begin(), x.end(), 0.F);
  const auto turned = in_every_order([&] {
    std::vector<float> out(x.size());
    samples::transpose(x.data(), out.data(), static_cast<int>(rows), static_cast<int>(columns));
    return out;
  });
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) EXPECT_EQ(turned[c * rows + r], x[r * columns + c]);
  }
}

TEST(Emulation, SyncwarpOrdersTheLanesOfAWarp) {
  const std::vector<int> x = counted(128);
  const auto passed = in_every_order([&] {
    std::vector<int> out(x.size());
    samples::pass_on(x.data(), out.data(), 4);
    return out;
  });
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(passed[i], x[i / 32 * 32 + (i + 1) % 32]);
}

TEST(Emulation, AtomicsOfManyBlocksAreNoRace) {
  std::vector<int> x = counted(200);
  x[77] = -5;
  int largest = 0, smallest = 0;
  samples::extremes(x.data(), 200, &largest, &smallest);
  EXPECT_EQ(largest, 200);
  EXPECT_EQ(smallest, -5);
}

TEST(Emulation, RoundsToBfloat16AsItsDefinitionSays) {
  EXPECT_EQ(__bfloat162float(__float2bfloat16(1.F)), 1.F);
  // Spacing 2^-7 at 1: halfway goes to the even mantissa.
  EXPECT_EQ(__bfloat162float(__float2bfloat16(1.F + 0x1p-8F)), 1.F);
  EXPECT_EQ(__bfloat162float(__float2bfloat16(1.F + 0x3p-8F)), 1.F + 0x2p-7F);
  EXPECT_EQ(__bfloat162float(__float2bfloat16(1.F + 0x1p-8F + 0x1p-20F)), 1.F + 0x1p-7F);
  EXPECT_TRUE(std::isnan(__bfloat162float(__float2bfloat16(NAN))));
  EXPECT_EQ(__bfloat162float(__float2bfloat16(INFINITY)), INFINITY);
}

// A kernel whose results are the order in which its threads ran.
TEST(Emulation, RunsThreadsAndBlocksInTheOrderOfTheScope) {
  const std::vector<int> x = counted(100);
  const auto in = [&](Order order) {
    const Scope scope(order);
    std::vector<int> out(100);
    int count = 0;
    samples::takes_places_by_chance(x.data(), 100, out.data(), &count);
    EXPECT_EQ(count, 100);
    return out;
  };
  EXPECT_EQ(in({Order::forward, 0}), x);
  EXPECT_EQ(in({Order::backward, 0}), std::vector<int>(x.rbegin(), x.rend()));
  const std::vector<int> random = in({Order::random, 1});
  EXPECT_THAT(random, testing::UnorderedElementsAreArray(x));
  EXPECT_EQ(random, in({Order::random, 1}));
  EXPECT_NE(random, in({Order::random, 2}));
  EXPECT_NE(random, x);
}

TEST(Emulation, LaunchesAreWrittenDownAndNotRunWhereNoBlockMay) {
  const Scope scope({}, 0);
  samples::launches(7, 96, 12);
  EXPECT_EQ(last_launch().kernel, "launches_kernel");
  EXPECT_EQ(last_launch().grid.x, 7U);
  EXPECT_EQ(last_launch().block.x, 96U);
  EXPECT_EQ(last_launch().shared, 12U);
}

TEST(Mistakes, ABarrierThatSomeThreadsDoNotReach) {
  EXPECT_THAT(error_of([] { samples::barrier_in_a_branch(); }),
              AllOf(HasSubstr("'barrier_in_a_branch_kernel', block (0, 0, 0)"),
                    HasSubstr("16 threads (0, 1, 2, 3, ...) wait at __syncthreads in tests/cuda_emulation/samples.cu:"),
                    HasSubstr("48 threads (16, 17, 18, 19, ...) have ended")));
  EXPECT_THAT(error_of([] { samples::return_before_a_barrier(); }),
              AllOf(HasSubstr("16 threads (48, 49, 50, 51, ...) have ended"), HasSubstr("48 threads")));
  EXPECT_THAT(error_of([] { samples::two_barriers_for_one(); }),
              AllOf(HasSubstr("32 threads (0, 1, 2, 3, ...)"), HasSubstr("32 threads (32, 33, 34, 35, ...)")));
}

// After an error everything goes on as before.
TEST(Mistakes, LeaveTheEmulationWhole) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE(error_of([] { samples::barrier_in_a_branch(); }), "");
    const std::vector<int> x = counted(100);
    int total = 0;
    samples::sum(x.data(), 100, &total, 64);
    EXPECT_EQ(total, 5050);
  }
}

TEST(Mistakes, ShufflesWhoseLanesAreNotThere) {
  std::vector<int> out(32);
  EXPECT_THAT(error_of([&] { samples::shuffle_of_half_a_warp(out.data()); }),
              AllOf(HasSubstr("16 threads (0, 1, 2, 3, ...) wait at __shfl_down_sync"), HasSubstr("have ended")));
  EXPECT_THAT(error_of([&] { samples::shuffle_from_outside_the_mask(out.data()); }),
              HasSubstr("lane 15 reads from lane 16, which the mask does not name"));
  EXPECT_THAT(error_of([] { samples::mask_without_the_caller(); }), HasSubstr("a mask that does not name this lane"));
  EXPECT_THAT(error_of([] { samples::mask_beyond_the_block(); }), HasSubstr("1 thread (32) wait"));
}

TEST(Mistakes, LaunchesThatNoGpuTakes) {
  EXPECT_THAT(error_of([] { samples::launches(0, 32, 0); }), HasSubstr("has no threads"));
  EXPECT_THAT(error_of([] { samples::launches(1, 1025, 0); }), HasSubstr("a block has at most 1024 threads"));
  EXPECT_THAT(error_of([] { samples::launches(2147483648U, 1, 0); }), HasSubstr("a grid has at most 2147483647"));
  EXPECT_THAT(error_of([] { samples::launches(1, 32, 49153); }), HasSubstr("49153 bytes of shared memory"));
  EXPECT_THAT(error_of([] { samples::too_much_shared_memory(); }),
              HasSubstr("with 'second' it has 65536 bytes of shared memory, and a block has 49152"));
}

TEST(Mistakes, ResultsThatDependOnTheOrderOfThreads) {
  const std::vector<int> x = counted(100);
  EXPECT_THAT(error_of([&] {
                in_every_order([&] {
                  std::vector<int> out(100), count(1);
                  samples::takes_places_by_chance(x.data(), 100, out.data(), count.data());
                  return std::vector<std::vector<int>>{count, out};
                });
              }),
              AllOf(HasSubstr("'takes_places_by_chance_kernel' depend on the order"), HasSubstr("vector 2 of 2")));
  EXPECT_THAT(error_of([] {
                in_every_order([] {
                  std::vector<int> out(32);
                  samples::reads_fresh_shared_memory(out.data());
                  return out;
                });
              }),
              HasSubstr("depend on the order"));
}

TEST(Mistakes, RacesBetweenBarriersWarpsAndBlocks) {
  if (!watches_races()) GTEST_SKIP() << "this program watches memory, and cuda_emulation_races_tests watches races";
  std::vector<int> x = counted(64), out(64);
  EXPECT_THAT(error_of([&] { samples::sum_without_barrier(x.data(), out.data()); }),
              AllOf(HasSubstr("of the shared memory 'partial'"), HasSubstr("of block 0 (which writes)"),
                    HasSubstr("of block 0 (which reads)")));
  EXPECT_THAT(error_of([&] { samples::pass_on_without_syncwarp(x.data(), out.data()); }),
              HasSubstr("byte 4 of the shared memory 'given': thread 0 of block 0 (which reads)"));
  EXPECT_THAT(error_of([&] { samples::blocks_overlap(out.data()); }),
              HasSubstr("global memory: thread 31 of block 0 (which writes)"));
  EXPECT_THAT(error_of([&] { samples::counts_without_atomic(out.data()); }), HasSubstr("of block 1 (which reads)"));
}

// Without the watch for races, the orders of the threads still find those that change a result.
TEST(Mistakes, AMissingBarrierIsSeenInTheResults) {
  if (watches_races()) GTEST_SKIP() << "this program finds the race itself";
  const std::vector<int> x = counted(64);
  EXPECT_THAT(error_of([&] {
                in_every_order([&] {
                  std::vector<int> total(1);
                  samples::sum_without_barrier(x.data(), total.data());
                  return total;
                });
              }),
              HasSubstr("depend on the order"));
  EXPECT_THAT(error_of([&] {
                in_every_order([&] {
                  std::vector<int> out(64);
                  samples::pass_on_without_syncwarp(x.data(), out.data());
                  return out;
                });
              }),
              HasSubstr("depend on the order"));
}

TEST(MistakesDeathTest, AccessesBeyondTheMemory) {
  if (watches_races()) GTEST_SKIP() << "this program watches races, and cuda_emulation_memory_tests watches memory";
  std::vector<float> x(33), out(33);
  EXPECT_DEATH(samples::tail_without_guard(x.data(), 33), "heap-buffer-overflow.*samples\\.cu");
  EXPECT_DEATH(samples::reads_the_element_before(x.data(), out.data(), 33), "heap-buffer-overflow.*samples\\.cu");
  std::vector<int> whole(32);
  EXPECT_DEATH(samples::shared_index_too_large(whole.data()), "heap-buffer-overflow.*samples\\.cu");
  EXPECT_DEATH(samples::shifts_too_far(whole.data(), 32), "shift exponent 32 is too large");
}

// What rewrite.py says of a source that it cannot rewrite.
std::string rewriting(const std::string& text) {
  char folder[] = "/tmp/cuda_emulation_XXXXXX";
  if (!mkdtemp(folder)) return "no folder";
  const std::string source = std::string(folder) + "/bad.cu", output = std::string(folder) + "/out.cpp";
  std::ofstream(source) << text;
  std::string said;
  if (FILE* pipe = popen((CUDA_EMULATION_REWRITE " " + source + " bad.cu " + output + " 2>&1").c_str(), "r")) {
    char line[512];
    while (std::fgets(line, sizeof line, pipe)) said += line;
    pclose(pipe);
  }
  std::remove(source.c_str());
  std::remove(output.c_str());
  rmdir(folder);
  return said;
}

TEST(Rewriting, SaysWhereItCannotReadASource) {
  EXPECT_THAT(rewriting("\n\nvoid f() { k<<<1, 2>>>; }"),
              HasSubstr("bad.cu:3: '>>>' and the arguments in parentheses are missing after 'k<<<'"));
  EXPECT_THAT(rewriting("void f() {\n  (k)<<<1, 2>>>(); }"), HasSubstr("bad.cu:2: the name of a kernel must stand"));
  EXPECT_THAT(rewriting("__global__ void f() { __shared__ int x = 3; }"), HasSubstr("bad.cu:1: cannot read this decl"));
  EXPECT_THAT(rewriting("__global__ void f() { extern __shared__ int x[3]; }"), HasSubstr("declared as 'TYPE NAME[]'"));
  EXPECT_EQ(rewriting("// k<<<\nconst char* s = \"__shared__ <<<\";\nint x = 1'000'000;"), "");
}

}  // namespace
}  // namespace cuda_emulation
