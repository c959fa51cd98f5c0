#include "espalier/kernel_support.h"

#include <algorithm>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/error.h"
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

// The pieces' numbers in their places, row by row.
std::string picture(const KernelShrinkage& s, int64_t side) {
  std::string all(static_cast<size_t>(side * side), '?');
  for (int64_t n = 1; n <= s.count(side); ++n) {
    for (const int64_t p : s.piece(side, n)) all[static_cast<size_t>(p)] = static_cast<char>('0' + n);
  }
  return all;
}

// Figure 2 of paper 001, of which the position of piece n is what G_n has and G_(n-1) has not, for both orders of the
// corners, and the same for an even side.
TEST(KernelShrinkage, IsThePictureOfFigure2) {
  const KernelShrinkage half{}, other{KernelRings::half_ring, KernelCorner::bottom_right}, ring{KernelRings::ring, {}};
  EXPECT_EQ(picture(half, 5),
            "11111"
            "13332"
            "13542"
            "13442"
            "12222");
  EXPECT_EQ(picture(other, 5),
            "22221"
            "24431"
            "24531"
            "23331"
            "11111");
  EXPECT_EQ(picture(ring, 5),
            "11111"
            "12221"
            "12321"
            "12221"
            "11111");
  EXPECT_EQ(picture(half, 4),
            "1111"
            "1332"
            "1342"
            "1222");
  EXPECT_EQ(picture(other, 4),
            "2221"
            "2431"
            "2331"
            "1111");
  EXPECT_EQ(picture(ring, 4),
            "1111"
            "1221"
            "1221"
            "1111");
}

// |G_n| = s^2 - (s - n)^2 of half-rings, s^2 - max(0, s - 2n)^2 of rings; what is left of G_n is a kernel of size s - n
// (18) or s - 2n (19) where CropKernels cuts it.
TEST(KernelShrinkage, GroupsAreNestedAndLeaveAKernel) {
  for (int64_t side = 1; side <= 11; ++side) {
    for (const KernelRings rings : {KernelRings::half_ring, KernelRings::ring}) {
      for (const KernelCorner first : {KernelCorner::top_left, KernelCorner::bottom_right}) {
        const KernelShrinkage s{rings, first};
        EXPECT_EQ(s.count(side), rings == KernelRings::half_ring ? side : (side + 1) / 2);
        Indices before;
        for (int64_t n = 1; n <= s.count(side); ++n) {
          const int64_t left = rings == KernelRings::half_ring ? side - n : std::max<int64_t>(0, side - 2 * n);
          const Indices group = s.group(side, n);
          EXPECT_EQ(std::ssize(group), side * side - left * left) << side << " " << n;
          EXPECT_EQ(s.size_left(side, n), left);
          EXPECT_TRUE(std::ranges::includes(group, before));
          at::Tensor mask = at::ones({side * side});
          for (const int64_t p : group) mask[p] = 0;
          EXPECT_TRUE(kernel_mask({left}, side, at::kFloat, first).flatten().equal(mask)) << side << " " << n;
          before = group;
        }
      }
    }
  }
}

TEST(KernelShrinkage, KnowsItsWords) {
  EXPECT_EQ(kernel_shrinkage("ring", "top_left").rings, KernelRings::ring);
  EXPECT_EQ(kernel_shrinkage("half_ring", "bottom_right").first, KernelCorner::bottom_right);
  EXPECT_THROW(kernel_shrinkage("rings", "top_left"), Error);
  EXPECT_THROW(kernel_shrinkage("ring", "left"), Error);
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
