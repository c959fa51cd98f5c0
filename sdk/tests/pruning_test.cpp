#include "espalier/pruning.h"

#include <algorithm>
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/error.h"
#include "espalier/selector.h"

namespace espalier {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

// Widths of 3, 4 and 2.
Graph three_widths() {
  GraphBuilder g({5, 0, 0});
  Edge x = g.linear("a", g.input(), {.features = 3});
  x = g.linear("b", g.relu(x), {.features = 4});
  x = g.linear("c", g.relu(x), {.features = 2});
  return g.output(g.linear("d", x, {.features = 3}));
}

TEST(SmallestOverall, TakesTheSmallestOfAllLayersTogether) {
  const Graph g = three_widths();
  const std::vector<AxisScores> scores{{g.axis("a"), {5, 1, 6}}, {g.axis("b"), {2, 9, 0.5, 8}}, {g.axis("c"), {7, 10}}};
  // A third of nine positions: 0.5, 1 and 2.
  EXPECT_THAT(smallest_overall(g, scores, 1.0 / 3),
              ElementsAre(Pair(g.axis("a"), ElementsAre(1)), Pair(g.axis("b"), ElementsAre(0, 2))));
}

TEST(SmallestOverall, LeavesSomeOfEachWidthAndTakesTheNextInstead) {
  const Graph g = three_widths();
  const std::vector<AxisScores> scores{{g.axis("a"), {0, 0, 0}}, {g.axis("b"), {1, 2, 3, 4}}, {g.axis("c"), {0, 0}}};
  // Four of nine: three of the zeros may go (one of "a" and one of "c" stay), then the 1.
  EXPECT_THAT(smallest_overall(g, scores, 4.0 / 9, 1),
              ElementsAre(Pair(g.axis("a"), ElementsAre(0, 1)), Pair(g.axis("b"), ElementsAre(0)),
                          Pair(g.axis("c"), ElementsAre(0))));
  EXPECT_THAT(smallest_overall(g, scores, 0.99, 2),
              ElementsAre(Pair(g.axis("a"), ElementsAre(0)), Pair(g.axis("b"), ElementsAre(0, 1))));
}

// 0.29 times 100 is a little less than 29 in float64.
TEST(SmallestOverall, RoundsAShareDownOnlyWhereItIsNoWholeNumber) {
  GraphBuilder b({5, 0, 0});
  const Graph g = b.output(b.linear("b", b.linear("a", b.input(), {.features = 100}), {.features = 2}));
  std::vector<double> scores;
  for (int i = 0; i < 100; ++i) scores.push_back(i);
  const auto gone = smallest_overall(g, {{g.axis("a"), scores}}, 0.29);
  ASSERT_EQ(gone.size(), 1);
  EXPECT_EQ(gone[0].second.size(), 29);
}

TEST(SmallestOverall, WantsAScoreForEachPosition) {
  const Graph g = three_widths();
  try {
    smallest_overall(g, {{g.axis("b"), {1, 2, 3}}}, 0.5);
    FAIL() << "three scores for four units";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'b' has 4 positions and 3 scores"));
  }
}

// What is left of each width after so many steps.
std::vector<int64_t> left(const RemovalOrder& order, int64_t steps) {
  return order.left_after(steps);
}

std::vector<AxisScores> scores_of_three(const Graph& g) {
  return {{g.axis("a"), {5, 1, 6}}, {g.axis("b"), {2, 9, 0.5, 8}}, {g.axis("c"), {7, 10}}};
}

TEST(RemovalOrder, OfAllPositionsTogetherTakesTheSmallestThatMayGo) {
  const Graph g = three_widths();
  const RemovalOrder order(g, scores_of_three(g), {1, 1, 1}, {});
  EXPECT_EQ(order.positions(), 9);
  EXPECT_EQ(order.steps(), 6) << "one of each width stays";
  EXPECT_THAT(left(order, 1), ElementsAre(3, 3, 2));
  EXPECT_THAT(left(order, 3), ElementsAre(2, 2, 2));
  EXPECT_THAT(left(order, 6), ElementsAre(1, 1, 1));
  EXPECT_THAT(order.gone(left(order, 3)),
              ElementsAre(Pair(g.axis("a"), ElementsAre(1)), Pair(g.axis("b"), ElementsAre(0, 2))));
  EXPECT_EQ(RemovalOrder(g, scores_of_three(g), {0, 0, 0}, {}).steps(), 6) << "also where nothing is protected";
  const RemovalOrder guarded(g, scores_of_three(g), {3, 3, 2}, {});
  EXPECT_EQ(guarded.steps(), 1);
}

TEST(RemovalOrder, WithinLayersAllLoseTheSameShare) {
  const Graph g = three_widths();
  const RemovalOrder order(g, scores_of_three(g), {1, 1, 1}, {.scope = "layer"});
  // Thirds, quarters and halves of the widths, as they are passed: 1/4, 1/3, 1/2 of b, 1/2 of c, 2/3 of a, 3/4.
  EXPECT_THAT(left(order, 2), ElementsAre(2, 3, 2));
  EXPECT_THAT(left(order, 4), ElementsAre(2, 2, 1));
  EXPECT_THAT(order.gone(left(order, 4)),
              ElementsAre(Pair(g.axis("a"), ElementsAre(1)), Pair(g.axis("b"), ElementsAre(0, 2)),
                          Pair(g.axis("c"), ElementsAre(0))));
}

TEST(RemovalOrder, ComparesNormalizedScores) {
  const Graph g = three_widths();
  const std::vector<AxisScores> scores{
      {g.axis("a"), {100, 110, 190}}, {g.axis("b"), {1, 1, 1, 2}}, {g.axis("c"), {5, 15}}};
  // None: all of b goes first. mean: .75, .825, 1.425; .8, .8, .8, 1.6; .5, 1.5. max: .53, .58; .5; .33.
  EXPECT_THAT(left(RemovalOrder(g, scores, {1, 1, 1}, {.normalize = "none"}), 3), ElementsAre(3, 1, 2));
  EXPECT_THAT(left(RemovalOrder(g, scores, {1, 1, 1}, {.normalize = "mean"}), 3), ElementsAre(2, 3, 1));
  EXPECT_THAT(left(RemovalOrder(g, scores, {1, 1, 1}, {.normalize = "max"}), 4), ElementsAre(3, 1, 1));
  // gaussian: a -.83, -.58, 1.41; b -.58 (three times), 1.73; c -1, 1.
  EXPECT_THAT(left(RemovalOrder(g, scores, {1, 1, 1}, {.normalize = "gaussian"}), 2), ElementsAre(2, 4, 1));
  // Scores below zero keep their order: a -.75, -.825, -1.425; b -.8 (three times), -1.6; c -.5, -1.5.
  std::vector<AxisScores> negative = scores;
  for (AxisScores& a : negative) {
    for (double& s : a.scores) s = -s;
  }
  EXPECT_THAT(left(RemovalOrder(g, negative, {1, 1, 1}, {.normalize = "mean"}), 4), ElementsAre(1, 3, 1));
}

TEST(RemovalOrder, LeavesMultiples) {
  GraphBuilder b({5, 0, 0});
  Edge x = b.linear("a", b.input(), {.features = 10});
  x = b.linear("b", b.relu(x), {.features = 4});
  const Graph g = b.output(b.linear("c", x, {.features = 2}));
  std::vector<double> first, second;
  for (int i = 0; i < 10; ++i) first.push_back(i);
  for (int i = 0; i < 4; ++i) second.push_back(100 + i);
  const RemovalOrder order(g, {{g.axis("a"), first}, {g.axis("b"), second}}, {3, 1}, {.round_to = 4});
  // 10, 8, 4 and no less than 3; 4 and no less.
  EXPECT_EQ(order.steps(), 2);
  EXPECT_THAT(left(order, 1), ElementsAre(8, 4));
  EXPECT_THAT(left(order, 2), ElementsAre(4, 4));
  EXPECT_EQ(order.steps_for(5), 1);
  EXPECT_EQ(order.steps_for(6), 2);
}

TEST(RemovalOrder, TakesTheSameShareOfEachBlock) {
  GraphBuilder b({2, 6, 6});
  Edge x = b.conv("stem", b.input(), {.filters = 4, .padding = 1});
  for (const char* name : {"one", "two"}) {
    const auto scope = b.scope(name);
    const Edge y = b.relu(b.conv("conv1", x, {.filters = 6, .padding = 1}));
    x = b.add(b.conv("conv2", y, {.filters = 4, .padding = 1}), x);
  }
  const Graph g = b.output(b.linear("fc", b.global_avg_pool(x), {.features = 3}));
  const std::vector<double> small{1, 2, 3, 4, 5, 6}, large{10, 20, 30, 40, 50, 60};
  const std::vector<AxisScores> scores{{g.axis("one.conv1"), small}, {g.axis("two.conv1"), large}};
  EXPECT_THAT(left(RemovalOrder(g, scores, {1, 1}, {.scope = "block"}), 6), ElementsAre(3, 3));
  EXPECT_THAT(left(RemovalOrder(g, scores, {1, 1}, {.scope = "global"}), 5), ElementsAre(1, 6));
}

TEST(RemovalOrder, RefusesWhatIsNoNumber) {
  const Graph g = three_widths();
  try {
    RemovalOrder(g, {{g.axis("c"), {1, std::nan("")}}}, {1}, {});
    FAIL() << "a score that is no number";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("a score of 'c' is no finite number"));
  }
}

// Networks whose counts depend on more than sizes: a view that loses what it reads, kernels of several sizes.
Graph with_views() {
  GraphBuilder b({3, 8, 8});
  Edge x = b.relu(b.conv("conv1", b.input(), {.filters = 6, .padding = 1}));
  x = b.relu(b.conv("conv2", x, {.filters = 5, .kernel = 5, .padding = 2}));
  Graph g = b.output(b.linear("fc", b.global_avg_pool(x), {.features = 3}));
  apply(g, {},
        Edits{{SplitOff{.node = "conv2", .input = 0, .view = "view"}},
              {CropKernels{.node = "conv2", .sizes = {5, 3, 1, 3, 5}}}});
  return g;
}

Graph with_shared_widths() {
  GraphBuilder b({3, 8, 8});
  Edge x = b.relu(b.batch_norm("bn0", b.conv("stem", b.input(), {.filters = 12, .padding = 1})));
  Edge y = b.relu(b.batch_norm("bn1", b.conv("conv1", x, {.filters = 20, .padding = 1})));
  x = b.relu(b.add(b.conv("conv2", y, {.filters = 12, .padding = 1}), x));
  x = b.concat({x, b.relu(b.conv("conv3", x, {.filters = 9, .padding = 1, .depthwise = false}))});
  x = b.conv("depthwise", x, {.padding = 1, .depthwise = true});
  x = b.conv("grouped", b.conv("point", x, {.filters = 16, .kernel = 1}), {.filters = 24, .padding = 1, .groups = 4});
  return b.output(b.linear("fc", b.flatten(b.max_pool(x, 2)), {.features = 3}));
}

TEST(CostCounter, CountsWhatTheEditMakes) {
  for (Graph (*build)() : {with_views, with_shared_widths, three_widths}) {
    const Graph g = build();
    std::vector<AxisScores> scores;
    std::vector<int64_t> keep;
    for (const Axis a : prunable_axes(g, {})) {
      scores.push_back({a, {}});
      keep.push_back(1);
      for (int64_t k = 0; k < g[a].size; ++k)
        scores.back().scores.push_back(static_cast<double>((k * 7 + a.id * 3) % 11) + 0.01 * static_cast<double>(k));
    }
    const RemovalOrder order(g, scores, keep, {});
    const CostCounter counter(g);
    EXPECT_EQ(counter.now().macs, g.macs());
    for (int64_t steps = 0; steps <= order.steps(); steps += 3) {
      Graph edited = g;
      apply(edited, {}, removal_of(g, order.gone(order.left_after(steps))));
      const NetworkCost cost = counter.with(order, order.left_after(steps));
      EXPECT_EQ(cost.macs, edited.macs()) << steps;
      EXPECT_EQ(cost.params, edited.parameter_count()) << steps;
    }
  }
}

TEST(MeetCost, ComesAsNearAsAnyChoiceAlongTheOrderAndNearer) {
  const Graph g = with_shared_widths();
  std::vector<AxisScores> scores;
  std::vector<int64_t> keep;
  for (const Axis a : prunable_axes(g, {})) {
    scores.push_back({a, {}});
    keep.push_back(1);
    for (int64_t k = 0; k < g[a].size; ++k) scores.back().scores.push_back(static_cast<double>((k * 5 + a.id) % 13));
  }
  const RemovalOrder order(g, scores, keep, {});
  const CostCounter counter(g);
  for (const char* what : {"macs", "params"}) {
    for (const double share : {0.9, 0.5, 0.25, 0.125}) {
      const auto cost = [&](const NetworkCost& c) { return static_cast<double>(*what == 'm' ? c.macs : c.params); };
      const double wanted = share * cost(counter.now());
      double nearest = 1e300;
      for (int64_t s = 0; s <= order.steps(); ++s)
        nearest = std::min(nearest, std::abs(cost(counter.with(order, order.left_after(s))) - wanted));
      const Selection found = meet_cost(order, counter, what, wanted);
      EXPECT_EQ(cost(found.cost), cost(counter.with(order, found.left)));
      const double off = std::abs(cost(found.cost) - wanted);
      EXPECT_TRUE(off <= 0.005 * wanted || off <= nearest) << what << " " << share << ": " << off / wanted;
      EXPECT_LE(off, 0.01 * wanted) << what << " " << share;
    }
  }
  EXPECT_EQ(meet_cost(order, counter, "macs", 1e12).left, order.left_after(0));
  try {
    meet_cost(order, counter, "macs", 10);
    FAIL() << "ten multiply-accumulates";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("at least"));
    EXPECT_THAT(e.what(), HasSubstr("stay when everything has gone that may go"));
  }
}

}  // namespace
}  // namespace espalier
