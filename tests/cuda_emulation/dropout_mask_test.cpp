// The kernel of dropout masks against the loop of the CPU: the same bytes, wherever a part of a mask begins.
#include "weights/dropout_mask.h"

#include <cstdint>
#include <string>
#include <vector>

#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include "cuda/random_fill.h"
#include "cuda_emulation.h"
#include "test_values.h"

namespace espalier {
namespace {

using cuda_emulation::in_every_order;

constexpr uint32_t threshold = 0x60000000;  // 3 / 8
constexpr double kept = 1.6;

template <class T>
std::vector<T> on_cpu(int64_t first, int64_t n, RandomKey key) {
  std::vector<T> mask(static_cast<size_t>(n), T(7));
  dropout_mask_on_cpu(mask.data(), first, n, threshold, kept, key);
  return mask;
}

template <class T>
std::vector<T> by_kernel(int64_t first, int64_t n, RandomKey key) {
  std::vector<T> mask(static_cast<size_t>(n), T(7));
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    cuda::launch_dropout_mask_bf16(mask.data(), first, n, threshold, kept, key.value(), nullptr);
  } else {
    cuda::launch_dropout_mask(mask.data(), first, n, threshold, static_cast<T>(kept), key.value(), nullptr);
  }
  return mask;
}

template <class T>
class DropoutMaskKernel : public testing::Test {};
using Types = testing::Types<float, double, c10::BFloat16>;
TYPED_TEST_SUITE(DropoutMaskKernel, Types);

TYPED_TEST(DropoutMaskKernel, EqualsTheCpu) {
  const RandomKey key(5);
  for (const int64_t n : odd_sizes) {
    for (const int64_t first : {0, 1, 2, 3, 4, 1001}) {
      const auto expected = on_cpu<TypeParam>(first, n, key);
      for (const int64_t blocks : {INT64_MAX, int64_t{1}}) {
        const auto got = in_every_order([&] { return by_kernel<TypeParam>(first, n, key); }, blocks);
        expect_same_bytes(expected, got, std::to_string(n) + " elements from " + std::to_string(first));
      }
    }
  }
}

TEST(DropoutMaskKernel, GridsFitTheMask) {
  const cuda_emulation::Scope only_written_down({}, 0);
  const auto blocks_of = [](int64_t first, int64_t n) {
    cuda::launch_dropout_mask<float>(nullptr, first, n, threshold, 1, 0, nullptr);
    EXPECT_EQ(cuda_emulation::last_launch().block.x, 256U);
    return cuda_emulation::last_launch().grid.x;
  };
  // A thread draws for four elements, which begin at a multiple of four.
  EXPECT_EQ(blocks_of(0, 1), 1U);
  EXPECT_EQ(blocks_of(0, 1024), 1U);
  EXPECT_EQ(blocks_of(0, 1025), 2U);
  EXPECT_EQ(blocks_of(3, 1022), 2U);
  EXPECT_EQ(blocks_of(0, int64_t{1} << 40), 4096U);
  EXPECT_EQ(blocks_of(0, 0), 4096U);  // nothing is launched
}

}  // namespace
}  // namespace espalier
