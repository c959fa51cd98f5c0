#include "espalier/pruning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/builder.h"
#include "espalier/error.h"

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

TEST(SmallestOverall, WantsAScoreForEachPosition) {
  const Graph g = three_widths();
  try {
    smallest_overall(g, {{g.axis("b"), {1, 2, 3}}}, 0.5);
    FAIL() << "three scores for four units";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("'b' has 4 positions and 3 scores"));
  }
}

}  // namespace
}  // namespace espalier
