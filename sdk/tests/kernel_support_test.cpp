#include "espalier/kernel_support.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/random_fill.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;

// Paper 001, section 3: the row and the column on the top left go first, then those on the bottom right, by turns.
TEST(HalfRing, GoesRoundTheKernelByTurns) {
  EXPECT_THAT(half_ring(3, 1), ElementsAre(0, 1, 2, 3, 6));
  EXPECT_THAT(half_ring(3, 2), ElementsAre(5, 7, 8));
  EXPECT_THAT(half_ring(3, 3), ElementsAre(4));
}

// The first n half-rings together have side^2 - (side - n)^2 positions (paper 001, eq. (21)).
TEST(HalfRing, TheFirstOfThemHaveAsManyPositionsAsTheNestedGroups) {
  for (int64_t side = 1; side <= 9; ++side) {
    int64_t together = 0;
    for (int64_t n = 1; n <= side; ++n) {
      together += std::ssize(half_ring(side, n));
      EXPECT_EQ(together, side * side - (side - n) * (side - n)) << side << " " << n;
    }
  }
}

TEST(Ring, IsWhatLiesAtOneDistanceFromTheBorder) {
  EXPECT_THAT(ring(3, 1), ElementsAre(0, 1, 2, 3, 5, 6, 7, 8));
  EXPECT_THAT(ring(3, 2), ElementsAre(4));
  EXPECT_THAT(ring(4, 2), ElementsAre(5, 6, 9, 10));
}

TEST(KernelSupport, RingsAreDisjointAndCoverTheKernel) {
  for (int64_t side = 1; side <= 11; ++side) {
    for (const bool half : {true, false}) {
      std::vector<int> times(static_cast<size_t>(side * side), 0);
      for (int64_t n = 1; n <= (half ? side : (side + 1) / 2); ++n) {
        for (const int64_t p : half ? half_ring(side, n) : ring(side, n)) ++times[static_cast<size_t>(p)];
      }
      EXPECT_THAT(times, ::testing::Each(1)) << side;
    }
  }
}

// What a smaller kernel has is what the first half-rings leave: one definition for both.
TEST(KernelSupport, MaskIsWhatTheHalfRingsLeave) {
  for (int64_t side = 1; side <= 7; ++side) {
    for (int64_t size = 0; size <= side; ++size) {
      at::Tensor left = at::zeros({side * side});
      for (int64_t n = side - size + 1; n <= side; ++n) {
        for (const int64_t p : half_ring(side, n)) left[p] = 1;
      }
      EXPECT_TRUE(kernel_mask({size}, side, at::kFloat).flatten().equal(left)) << side << " " << size;
    }
  }
}

TEST(KernelFamily, NamesEachElementOfTheArena) {
  GraphBuilder g({3, 8, 8});
  const Edge x = g.conv("one", g.input(), {.filters = 4, .kernel = 3, .padding = 1});
  const Edge y = g.conv("two", g.conv("flat", x, {.filters = 5, .kernel = 1}), {.filters = 2, .kernel = 5});
  const Graph graph = g.output(g.linear("fc", g.flatten(y), {.features = 3}));
  Weights weights(graph, at::kFloat, at::kCPU);
  weights.initialize(graph, RandomKey(1));
  const std::vector<KernelFamily> families = kernel_families(graph, weights, {});
  ASSERT_EQ(families.size(), 2U) << "kernels of side 1 have no size to learn";
  const auto* flat = weights.bank(Role::weight).values.flat().const_data_ptr<float>();
  for (const KernelFamily& k : families) {
    const at::Tensor w = weights[k.parameter].detach();
    for (int64_t f = 0; f < k.filters; ++f) {
      for (int64_t c = 0; c < k.channels; ++c) {
        for (int64_t p = 0; p < k.side * k.side; ++p) {
          ASSERT_EQ(flat[k.offset + f * k.filter + p * k.channels + c], w[f][c][p / k.side][p % k.side].item<float>());
        }
      }
    }
  }
}

}  // namespace
}  // namespace espalier
