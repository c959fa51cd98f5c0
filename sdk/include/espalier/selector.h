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
  // Makes a selector without terms.
  Selector() = default;
  // Makes a selector of one term.
  Selector(const char* term);  // NOLINT(google-explicit-constructor): the common case, a single term
  // Makes a selector of several terms.
  Selector(std::vector<std::string> terms);  // NOLINT(google-explicit-constructor)

  // Returns the terms as they were written.
  const std::vector<std::string>& terms() const { return terms_; }
  // Returns whether there are no terms. What that means is up to the user of the selector: usually everything, or
  // nothing.
  bool empty() const { return terms_.empty(); }
  // Returns the terms as text: "weights, !fc2".
  std::string str() const;

  // Returns the trainable parameters that the selector matches, in the order of the graph.
  std::vector<ParamId> match(const Graph& graph) const;
  // Throws Error if a term matches nothing, naming each such term with the nearest names.
  void require_matches(const Graph& graph) const;

  // Compares the terms.
  bool operator==(const Selector&) const = default;

 private:
  std::vector<std::string> terms_;
};

}  // namespace espalier
