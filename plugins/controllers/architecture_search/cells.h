#pragma once

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <espalier/error.h>
#include <espalier/value.h>

namespace espalier {

// An operation of a cell, applied to the output of an earlier node.
struct CellEdge {
  std::string operation;
  int64_t input = 0;  // the node that it reads, from 0
};

// A cell: the edges into each node behind the input, whose sum the node is. Nodes are counted from 1, the input is 0.
using Cell = std::vector<std::vector<CellEdge>>;

// Reads a cell as NAS-Bench-201 writes it (Dong and Yang 2020), with any number of nodes and any operations:
// |op~0|+|op~0|op~1|+|op~0|op~1|op~2|. Throws Error with what is wrong.
inline Cell read_cell(std::string_view text) {
  const auto fail = [&](const std::string& why) {
    throw Error(std::string("'").append(text).append("' is no cell of the form |op~0|+|op~0|op~1|+...: ").append(why));
  };
  Cell cell;
  std::string_view rest = text;
  const auto take = [&](std::string_view token) {
    if (!rest.starts_with(token))
      fail(std::string("'").append(token).append("' is missing before '").append(rest).append("'"));
    rest.remove_prefix(token.size());
  };
  do {
    if (!cell.empty()) take("+");
    take("|");
    std::vector<CellEdge> edges;
    for (int64_t input = 0; input <= static_cast<int64_t>(cell.size()); ++input) {
      const std::string operation(rest.substr(0, rest.find('~')));
      if (operation.empty() || operation.find_first_of("|+") != std::string::npos)
        fail(std::string("node ")
                 .append(std::to_string(cell.size() + 1))
                 .append(" has no operation on node ")
                 .append(std::to_string(input)));
      rest.remove_prefix(operation.size());
      take(std::string("~").append(std::to_string(input)).append("|"));
      edges.push_back({operation, input});
    }
    cell.push_back(std::move(edges));
  } while (!rest.empty());
  return cell;
}

// Returns a text that two cells of NAS-Bench-201 have in common if and only if they are the same function, whatever
// their convolutions and poolings are: a node is the sum over the terms that reach it, where `none` and operations on
// nothing are left out, skip_connect hands the terms of its node on, and the order of the terms does not matter. The
// 15,625 cells are 4,930 functions in this sense. (Pooling is linear. If the pooling of a sum is counted as the sum of
// the poolings, too, 4,660 are left.)
inline std::string function_of(const Cell& cell) {
  const auto joined = [](const std::vector<std::string>& terms) {
    std::string sum;
    for (const std::string& term : terms) sum.append(sum.empty() ? "" : "+").append(term);
    return sum;
  };
  std::vector<std::vector<std::string>> nodes{{"0"}};  // the sorted terms of each
  for (const std::vector<CellEdge>& edges : cell) {
    std::vector<std::string> terms;
    for (const CellEdge& e : edges) {
      const std::vector<std::string>& from = nodes[static_cast<size_t>(e.input)];
      if (e.operation == "none" || from.empty()) continue;
      if (e.operation == "skip_connect") {
        terms.insert(terms.end(), from.begin(), from.end());
      } else {
        terms.push_back(std::string(e.operation).append("(").append(joined(from)).append(")"));
      }
    }
    std::ranges::sort(terms);
    nodes.push_back(std::move(terms));
  }
  return joined(nodes.back());
}

// Returns the operations of all edges that a text names: a cell as NAS-Bench-201 writes it, or one edge of a genotype
// of DARTS, OPERATION<-INPUT. Other texts name none.
inline std::vector<std::string> operations_of(const std::string& text) {
  std::vector<std::string> operations;
  if (const size_t arrow = text.find("<-"); arrow != std::string::npos) operations.push_back(text.substr(0, arrow));
  if (text.starts_with("|")) {
    for (const std::vector<CellEdge>& edges : read_cell(text)) {
      for (const CellEdge& e : edges) operations.push_back(e.operation);
    }
  }
  return operations;
}

// Returns the operations of all edges that a genotype names, the options of a network as Run::derive gives them.
inline std::vector<std::string> operations_of(const Value& genotype) {
  if (genotype.is_string()) return operations_of(genotype.as_string());
  std::vector<std::string> operations;
  const auto add = [&](const Value& part) {
    for (std::string& operation : operations_of(part)) operations.push_back(std::move(operation));
  };
  if (genotype.is_list()) {
    for (const Value& item : genotype.as_list()) add(item);
  } else if (genotype.is_map()) {
    for (const Value::Entry& entry : genotype.as_map()) add(entry.value);
  }
  return operations;
}

}  // namespace espalier
