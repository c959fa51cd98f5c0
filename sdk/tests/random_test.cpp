#include "espalier/random.h"

#include <algorithm>
#include <set>

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "espalier/random_fill.h"

namespace espalier {
namespace {

TEST(Philox, GivesThePublishedVectors) {
  // Random123's known answers for philox4x32-10.
  const Random4 zero = philox(0, 0);
  EXPECT_EQ(zero.v[0], 0x6627e8d5U);
  EXPECT_EQ(zero.v[1], 0xe169c58dU);
  EXPECT_EQ(zero.v[2], 0xbc57ac4cU);
  EXPECT_EQ(zero.v[3], 0x9b00dbd8U);
}

TEST(RandomKey, DiffersWithEveryFieldAndOrder) {
  const RandomKey k(3);
  std::set<uint64_t> seen{k.value(),
                          k.with(1).value(),
                          k.with(2).value(),
                          k.with(1).with(2).value(),
                          k.with(2).with(1).value(),
                          k.with("a").value(),
                          k.with("b").value(),
                          RandomKey(4).value()};
  EXPECT_EQ(seen.size(), 8U);
}

TEST(Permutation, IsOneAndDependsOnTheKeyAlone) {
  const auto p = permutation(1000, RandomKey(1));
  EXPECT_EQ(p, permutation(1000, RandomKey(1)));
  EXPECT_NE(p, permutation(1000, RandomKey(2)));
  auto sorted = p;
  std::ranges::sort(sorted);
  for (int64_t i = 0; i < 1000; ++i) EXPECT_EQ(sorted[static_cast<size_t>(i)], i);
  // Every element is as likely at the front as at the back: mean position of the lower half.
  double mean = 0;
  for (size_t i = 0; i < 500; ++i) mean += static_cast<double>(p[i]) / 500;
  EXPECT_NEAR(mean, 499.5, 40);
}

TEST(DropoutMask, HasTheShareOfZerosAndKeepsTheMean) {
  at::Tensor mask = at::empty({100003}, at::kFloat);
  fill_dropout_mask(mask, 0.3, RandomKey(9));
  const double zeros = mask.eq(0).sum().item<double>() / 100003;
  EXPECT_NEAR(zeros, 0.3, 0.01);
  EXPECT_NEAR(mask.mean().item<double>(), 1, 0.01);
  at::Tensor again = at::empty({100003}, at::kFloat);
  fill_dropout_mask(again, 0.3, RandomKey(9));
  EXPECT_TRUE(mask.equal(again));
}

}  // namespace
}  // namespace espalier
