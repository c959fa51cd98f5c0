// The memory that large tensors on the CPU lie in: no two share a byte, neighbours are joined, the rest is given back.
#include "system/tensor_memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

constexpr int64_t mebibyte = 1 << 20;

bool in_use() {
  keep_tensor_memory();
  restart_peak_tensor_memory();
  const at::Tensor large = at::empty({mebibyte}, at::kByte);
  return peak_tensor_memory() >= mebibyte;
}

// The process's memory in pages of 4 KiB.
int64_t resident_pages() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident;
}

void take_and_free(uint32_t seed, int64_t steps) {
  std::mt19937 draw(seed);
  std::vector<at::Tensor> held;
  const auto whole = [](const at::Tensor& t) {
    const auto* p = t.const_data_ptr<uint8_t>();
    return std::all_of(p, p + t.numel(), [&](uint8_t v) { return v == p[0]; });
  };
  for (int64_t i = 0; i < steps; ++i) {
    if (held.size() > 20 || (!held.empty() && draw() % 3 == 0)) {
      const size_t at = draw() % held.size();
      ASSERT_TRUE(whole(held[at])) << "another tensor wrote into step " << i << "'s";
      std::swap(held[at], held.back());
      held.pop_back();
    } else {
      const int64_t bytes = 1 + static_cast<int64_t>(draw() % (draw() % 4 == 0 ? 3 * mebibyte : 200'000));
      held.push_back(at::full({bytes}, static_cast<int64_t>(draw() % 256), at::kByte));
      ASSERT_EQ(reinterpret_cast<uintptr_t>(held.back().const_data_ptr()) % 64, 0u);
    }
  }
  for (const at::Tensor& t : held) ASSERT_TRUE(whole(t));
}

TEST(TensorMemory, NoTwoTensorsShareAByteAlsoOfTwoThreads) {
  keep_tensor_memory();
  std::thread other([] { take_and_free(1, 1500); });
  take_and_free(2, 1500);
  other.join();
}

TEST(TensorMemory, WhatIsFreedIsTakenAgainAndNeighboursAreJoined) {
  if (!in_use()) GTEST_SKIP() << "this build leaves tensors in the C library's memory";
  at::Tensor a = at::empty({mebibyte}, at::kByte), b = at::empty({mebibyte}, at::kByte);
  const at::Tensor last = at::empty({mebibyte}, at::kByte);
  const void* place = a.const_data_ptr();
  const auto distance = static_cast<const uint8_t*>(b.const_data_ptr()) - static_cast<const uint8_t*>(place);
  ASSERT_GE(distance, mebibyte);
  ASSERT_LT(distance, mebibyte + 4096) << "not side by side";
  EXPECT_NE(distance % 4096, 0) << "both would begin at the same place of a page";
  a.reset();
  a = at::empty({mebibyte}, at::kByte);
  EXPECT_EQ(a.const_data_ptr(), place);
  b.reset();
  a.reset();
  const at::Tensor both = at::empty({2 * mebibyte}, at::kByte);
  EXPECT_EQ(both.const_data_ptr(), place);
}

TEST(TensorMemory, PeakCountsWhatWasHeldAtOneTime) {
  if (!in_use()) GTEST_SKIP() << "this build leaves tensors in the C library's memory";
  const at::Tensor held = at::empty({8 * mebibyte}, at::kByte);
  restart_peak_tensor_memory();
  const int64_t before = peak_tensor_memory();
  for (int i = 0; i < 3; ++i) (void)at::empty({4 * mebibyte}, at::kByte);
  EXPECT_GE(peak_tensor_memory() - before, 4 * mebibyte);
  EXPECT_LT(peak_tensor_memory() - before, 5 * mebibyte) << "one after the other, not all three";
  restart_peak_tensor_memory();
  EXPECT_EQ(peak_tensor_memory(), before);
}

TEST(TensorMemory, WhatIsFreeGoesBackToTheSystem) {
  if (!in_use()) GTEST_SKIP() << "this build leaves tensors in the C library's memory";
  const int64_t mebibytes = 64, pages = mebibytes * mebibyte / 4096;
  at::Tensor first = at::full({mebibytes * mebibyte}, 1, at::kByte);
  const at::Tensor kept = at::full({mebibyte}, 7, at::kByte);
  at::Tensor last = at::full({mebibytes * mebibyte}, 1, at::kByte);
  const int64_t before = resident_pages();
  first.reset();  // a hole below what is kept
  last.reset();   // and the range's end
  return_free_tensor_memory();
  // A tenth for what the C library and the kernel do meanwhile.
  EXPECT_LT(resident_pages(), before - 2 * pages * 9 / 10);
  EXPECT_TRUE(kept.eq(7).all().item<bool>());
}

}  // namespace
}  // namespace espalier
