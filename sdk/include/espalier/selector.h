#pragma once

#include <string>
#include <vector>

#include "espalier/api.h"

namespace espalier {

class Graph;
struct ParamId;

// Which parameters of a network: a list of terms, each
//   weights | biases | norms | gates | architecture | convolutions | linears | all   a class of parameters, or
//   conv1, fc*, conv1.weight, layer2.*                                               a node's or parameter's name, *
//   and ? as in a shell,
// and with a leading "!" taken away again: [weights, "!fc2"]. A list that starts with "!" starts from all.
class ESPALIER_API Selector {
 public:
  Selector() = default;
  Selector(const char* term);                // NOLINT(google-explicit-constructor): the common case, a single term
  Selector(std::vector<std::string> terms);  // NOLINT(google-explicit-constructor)

  const std::vector<std::string>& terms() const { return terms_; }
  // No terms: what that means is the user's (usually everything, or nothing).
  bool empty() const { return terms_.empty(); }
  // "weights, !fc2"
  std::string str() const;

  // The trainable parameters it matches, in the graph's order.
  std::vector<ParamId> match(const Graph& graph) const;
  // Throws Error naming each term that matches nothing, with the nearest names.
  void require_matches(const Graph& graph) const;

  bool operator==(const Selector&) const = default;

 private:
  std::vector<std::string> terms_;
};

}  // namespace espalier
