#include "espalier/selector.h"

#include <algorithm>

#include <fnmatch.h>

#include "espalier/error.h"
#include "espalier/graph.h"
#include "espalier/value.h"

namespace espalier {

namespace {

const std::vector<std::string> classes = {"weights",      "biases",       "norms",   "gates",
                                          "architecture", "convolutions", "linears", "all"};

bool in_class(const Parameter& p, const std::string& name) {
  if (name == "all") return true;
  if (name == "weights") return p.kind == "weight";
  if (name == "convolutions") return p.kind == "weight" && p.shape.size() == 4;
  if (name == "linears") return p.kind == "weight" && p.shape.size() == 2;
  if (name == "biases") return p.kind == "bias";
  if (name == "norms") return p.kind.starts_with("norm_");
  if (name == "gates") return p.kind == "gate";
  return p.role == Role::architecture;
}

bool matches(const Graph& g, const Parameter& p, const std::string& term) {
  if (std::ranges::find(classes, term) != classes.end()) return in_class(p, term);
  const std::string& node = g.nodes()[static_cast<size_t>(p.node)].name;
  return fnmatch(term.c_str(), p.name.c_str(), 0) == 0 || fnmatch(term.c_str(), node.c_str(), 0) == 0;
}

std::string_view positive(const std::string& term) {
  return term.starts_with('!') ? std::string_view(term).substr(1) : term;
}

}  // namespace

Selector::Selector(const char* term) : Selector(std::vector<std::string>{term}) {}

Selector::Selector(std::vector<std::string> terms) {
  // "weights, !fc2" in one string is the same as a list.
  for (const std::string& t : terms) {
    size_t from = 0;
    while (from <= t.size()) {
      const size_t comma = std::min(t.find(',', from), t.size());
      const size_t first = t.find_first_not_of(' ', from);
      if (first < comma) terms_.push_back(t.substr(first, t.find_last_not_of(' ', comma - 1) - first + 1));
      from = comma + 1;
    }
  }
}

std::string Selector::str() const {
  std::string s;
  for (const std::string& t : terms_) s += (s.empty() ? "" : ", ") + t;
  return s;
}

std::vector<ParamId> Selector::match(const Graph& graph) const {
  std::vector<ParamId> result;
  const bool all = terms_.empty() || terms_.front().starts_with('!');
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const Parameter& p = graph.parameters()[i];
    if (p.role == Role::buffer) continue;
    bool selected = all;
    for (const std::string& t : terms_) {
      if (matches(graph, p, std::string(positive(t)))) selected = !t.starts_with('!');
    }
    if (selected) result.push_back({static_cast<int32_t>(i)});
  }
  return result;
}

void Selector::require_matches(const Graph& graph) const {
  for (const std::string& t : terms_) {
    const std::string term(positive(t));
    const bool any = std::ranges::any_of(
        graph.parameters(), [&](const Parameter& p) { return p.role != Role::buffer && matches(graph, p, term); });
    if (any) continue;
    std::vector<std::string> known = classes;
    for (const Node& n : graph.nodes()) {
      if (!n.parameters.empty()) known.push_back(n.name);
    }
    for (const Parameter& p : graph.parameters()) {
      if (p.role != Role::buffer) known.push_back(p.name);
    }
    const std::string near = nearest(term, known);
    std::string hint = near.empty() ? "" : " (did you mean '" + near + "'?)";
    if (near.empty() || near == term) {
      hint = "; its layers are";
      for (const Node& n : graph.nodes()) {
        if (!n.parameters.empty()) hint += " " + n.name;
      }
    }
    if (term == "architecture") {
      hint =
          ", which has no architecture parameters: search networks have some, and the option 'gates' of a search makes "
          "some, for example `gates: norms`";
    }
    throw Error("the selector '" + t + "' matches no parameter of the network" + hint);
  }
  if (!terms_.empty() && match(graph).empty())
    throw Error("the selector '" + str() + "' matches no parameter of the network: its terms cancel out");
}

}  // namespace espalier
