#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <espalier/declare.h>

#include "competition.h"

// The options of the controller `sparsify`.
namespace espalier {

// The option `adjacency`.
struct AdjacencyGroupOptions {
  std::string candidates = "given";
  bool self_loops = true;
  std::string thresholds = "min";
  std::string normalize = "sequential";
  int64_t iterations = 20;
  bool symmetric = false;

  static void declare(Declare<AdjacencyGroupOptions>& p) {
    p("candidates", &AdjacencyGroupOptions::candidates, one_of({"given", "all"}),
      "Entries that may be other than zero; given: those of the graph's own adjacency; all: every pair of nodes.");
    p("self_loops", &AdjacencyGroupOptions::self_loops, "Whether nodes may be connected with themselves.");
    p("thresholds", &AdjacencyGroupOptions::thresholds, one_of({"min", "sum", "product"}),
      "How the thresholds of an entry's row and column combine, as `describe adjacency_competition` says.");
    p("normalize", &AdjacencyGroupOptions::normalize, one_of({"sequential", "balanced", "none"}),
      "Sinkhorn normalisation: rows and columns by turns, both at once, or none.");
    p("iterations", &AdjacencyGroupOptions::iterations, at_least(0), at_most(10000), "Iterations of it.");
    p("symmetric", &AdjacencyGroupOptions::symmetric, "Whether an entry and its mirror image are one.");
  }
};

struct SparsifyOptions : SparseForm {
  std::string groups = "blocks";
  std::vector<std::string> on;
  bool first_block = true;
  std::string coefficients = "competition";
  bool null = false;
  std::string scale = "one";
  std::optional<double> alpha;
  std::optional<double> beta;
  AdjacencyGroupOptions adjacency;
  std::string remove = "training";
  int64_t patience = 100;
  int64_t every = 10;
  std::vector<int64_t> keep;
  std::string rank = "magnitude";
  bool fold = true;

  static void declare(Declare<SparsifyOptions>& p) {
    p("groups", &SparsifyOptions::groups, one_of({"blocks", "branches", "connections", "adjacency", "sums"}),
      "What competes with each other; blocks: the residual blocks of each stage; branches: the groups of each "
      "grouped convolution; connections: what each densely connected layer reads; adjacency: the entries of each row "
      "and each column of the adjacency that graph convolutions share; sums: the terms of each sum that `on` names.");
    p("on", &SparsifyOptions::on,
      "Names of groups, with * and ?: stages (layer1), grouped convolutions (layer1.0.conv2), layers (dense1.*) or "
      "sums. Left out: all, and of sums none.");
    p("first_block", &SparsifyOptions::first_block,
      "Whether the block that changes the width or the size of a stage competes, too. What its shortcut gives is "
      "then the input of the stage.");
    p("coefficients", &SparsifyOptions::coefficients, one_of({"competition", "softmax", "sampled", "free", "none"}),
      "What multiplies the components; competition: coefficients that become exactly zero by gradients; softmax: of "
      "free parameters, of which the largest are kept at the end; sampled: each step draws `keep` components, and "
      "the largest are kept; free: free parameters, for proximal steps; none: nothing, and components are judged by "
      "their weights.");
    declare_sparse_form(p);
    p("null_component", &SparsifyOptions::null,
      "Whether a null component competes, too: what falls below the threshold.");
    p("scale", &SparsifyOptions::scale, one_of({"one", "count"}),
      "What the coefficients are multiplied by: 1, so that a component is weighed by about one over their number at "
      "first, or the number of components.");
    p("alpha", &SparsifyOptions::alpha, "What the free parameters begin with. Left out: as `coefficients` has it.");
    p("beta", &SparsifyOptions::beta,
      "What the parameter of the threshold begins with. Left out: equal chances for each component and for none.");
    p("adjacency", &SparsifyOptions::adjacency, "How an adjacency is made, for `groups: adjacency`.");
    p("remove", &SparsifyOptions::remove, one_of({"training", "end", "never"}),
      "When a component that is exactly zero leaves the network; training: once it has been zero for `patience` "
      "steps, and at the end; end: when the stage ends; never: it stays and is multiplied by zero.");
    p("patience", &SparsifyOptions::patience, at_least(0), unit("steps"),
      "Steps for which a coefficient must be zero before its component leaves. A look at it counts as the steps "
      "since the look before.");
    p("every", &SparsifyOptions::every, at_least(1), unit("steps"), "Steps between two looks at the coefficients.");
    p("keep", &SparsifyOptions::keep, at_least(0),
      "How many components each group keeps when the stage ends, in the order of the groups; one number stands for "
      "all. Of an adjacency: how many entries. Left out: those that are not zero.");
    p("rank", &SparsifyOptions::rank, one_of({"magnitude", "random"}),
      "Which components `keep` keeps where there are no coefficients; magnitude: those with the largest mean square "
      "of their weights; random: any.");
    p("fold", &SparsifyOptions::fold,
      "Whether the coefficients become part of the layers when the stage ends, which changes no output.");
  }
};

}  // namespace espalier
