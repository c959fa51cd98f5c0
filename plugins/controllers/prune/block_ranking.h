#pragma once

#include <string>
#include <vector>

#include <espalier/edit.h>
#include <espalier/score.h>
#include <espalier/selector.h>

namespace espalier {

// Whole residual blocks in the order in which they go: those with the smallest mean score of the widths within them.
class BlockRanking {
 public:
  // A residual block that may go.
  struct Block {
    std::string name;
    std::vector<Axis> axes;  // the widths within it, which the score can judge
  };
  // on: the layers of the blocks that may go; empty: all. Both must live as long as this.
  BlockRanking(const Selector& on, const Score& score) : on_(on), score_(score) {}

  // Returns those that can go. others: gets a line for each of the others, with the reason; null: nobody asks.
  std::vector<Block> blocks(const Graph& graph, std::vector<std::string>* others = nullptr) const;
  // Returns the names of the blocks, the smallest mean score first.
  std::vector<std::string> ranked(const ScoreInput& in) const;
  // Returns the edits that drop blocks.
  static Edits drops(const std::vector<std::string>& names);

 private:
  const Selector& on_;
  const Score& score_;
};

}  // namespace espalier
