#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include <espalier/edit.h>
#include <espalier/graph.h>
#include <espalier/weights.h>

// The components of a network that compete with each other, found in the graph of any backbone.
namespace espalier {

// What a parameter has for one component: all of it, or some positions along a dimension.
struct ComponentPart {
  ParamId parameter;
  int64_t dimension = -1;  // -1: all of the parameter
  Indices positions{};     // along the dimension, ascending
};

// One component of a group.
struct GroupComponent {
  std::string name;                    // the block, NODE[branch], or the node whose output is a connection's input
  std::vector<ComponentPart> parts{};  // the trainable weights that are this component's alone
  int64_t coefficient = -1;            // its place among the coefficients of the group; -1: it has none (yet)
  std::string gate{};                  // the gate that multiplies it; empty: there is none
  int64_t weights = 0;                 // how many numbers its parts have
};

// Components that compete.
struct ComponentGroup {
  std::string name;                        // "layer1", "layer1.0.conv2", "dense1.3"
  std::vector<GroupComponent> components;  // in the order of the network
  // How one leaves: by an edit of its own (blocks, connections, terms), or as a position of this axis (branches).
  Axis axis{};
  std::vector<Edit> without{};  // of each component; empty: the axis shrinks
  bool needs_one = true;        // whether one must stay, since nothing else is there without it
  // Where the gates of the group would stand, with an index of components; empty if they stand there already.
  std::vector<InsertGates::Place> places{};

  // Returns the edits that take some components out, by ascending places in `components`. exact: the function must
  // stay.
  Edits remove(const Graph& graph, const std::vector<size_t>& gone, bool exact) const;
};

// What competes (paper 004, applications):
//   blocks       residual blocks of a stage: all blocks whose names differ in their last part alone (A6)
//   branches     groups of a grouped convolution, each with what makes its input and what reads its output (A7)
//   connections  inputs of the concatenation in front of a densely connected layer (A8)
//   sums         terms of sums (A10)
enum class GroupKind { blocks, branches, connections, sums };

// Returns the kind of this name in recipes: blocks, branches, connections or sums.
GroupKind group_kind(const std::string& name);

// Options of component_groups().
struct GroupOptions {
  GroupKind kind = GroupKind::blocks;
  std::vector<std::string> on{};  // names of groups, with * and ?; empty: all
  bool first_block = true;        // whether a block that changes the width or the size competes, too
};

// Returns the groups that a graph has, those of one component as well. Gates that component_groups() asked for are
// found again. Groups without any other component than those that have left are left out.
std::vector<ComponentGroup> component_groups(const Graph& graph, const GroupOptions& options);

// The end of the names of gates.
inline constexpr const char* component_suffix = ".component";

// Returns the square of the l2 norm of a component's weights, a float64 scalar on their device.
at::Tensor square_of(const GroupComponent& component, const Weights& weights);

// Returns whether a name matches a pattern with * and ?.
bool matches(const std::string& pattern, const std::string& name);

}  // namespace espalier
