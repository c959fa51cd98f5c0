#pragma once

#include <string>
#include <vector>

#include <espalier/graph.h>
#include <espalier/score.h>
#include <espalier/selector.h>

namespace espalier {

// Which widths may shrink, and why the others may not.
class JudgedWidths {
 public:
  // on: the layers whose widths may shrink; empty: all. with_views: also of views that shrink by themselves. The
  // selector and the score must live as long as this.
  JudgedWidths(const Selector& on, const Score& score, bool with_views)
      : on_(on), score_(score), with_views_(with_views) {}

  // Returns the widths that may shrink and that the score can judge.
  std::vector<Axis> of(const Graph& graph) const;
  // Returns a line for each of the others, with the reason.
  std::vector<std::string> left_alone(const Graph& graph) const;
  // Where nothing can go: returns what stands in the way of the first width that is named.
  std::string why_nothing(const Graph& graph) const;

 private:
  // The views that shrink by themselves, because what they read does not.
  std::vector<Axis> views_of(const Graph& graph, const std::vector<Axis>& others) const;

  const Selector& on_;
  const Score& score_;
  bool with_views_;
};

}  // namespace espalier
