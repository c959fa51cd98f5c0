#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// A handle to an axis of a graph. Handles hold until the next edit of the graph; names hold for good.
struct Axis {
  int32_t id = -1;  // its place in Graph::axes(); -1: none
  bool operator==(const Axis&) const = default;
  auto operator<=>(const Axis&) const = default;  // NOLINT(modernize-use-nullptr): the 0 it compares with
};
// A handle to an edge of a graph.
struct Edge {
  int32_t id = -1;  // its place in Graph::edges(); -1: none
  bool operator==(const Edge&) const = default;
};
// A handle to a parameter or buffer of a graph.
struct ParamId {
  int32_t id = -1;  // its place in Graph::parameters(); -1: none
  bool operator==(const ParamId&) const = default;
  auto operator<=>(const ParamId&) const = default;  // NOLINT(modernize-use-nullptr)
};

// Positions along an axis or a dimension.
using Indices = std::vector<int64_t>;

// On which side a kernel that shrinks by one row and one column loses them first; then it takes turns (paper 001,
// section 3.3, which leaves it open).
enum class KernelCorner { top_left, bottom_right };

// How an edit changes a width.
struct AxisChange {
  Axis axis;     // the axis, of the graph before
  Indices from;  // the old position of each new one; -1: it is new
};

// One factor of a segment: a constant (axis.id < 0), or an axis.
struct Factor {
  Axis axis;             // the axis; id -1: a constant
  int64_t constant = 1;  // the constant, if it is one
  bool operator==(const Factor&) const = default;
};

// A product of factors, the first varying slowest: heads x head dimension, channels x pixels after a flatten.
struct Segment {
  std::vector<Factor> factors;  // the slowest first
  bool operator==(const Segment&) const = default;
};

// One dimension of a tensor: segments one after the other (several follow a concat).
struct Dim {
  std::vector<Segment> segments;  // in order

  // Returns the dimension that is one whole axis.
  static Dim of(Axis axis) { return {{{{{axis, 1}}}}}; }
  // Returns the dimension of a constant size.
  static Dim of(int64_t constant) { return {{{{{Axis{}, constant}}}}}; }
  bool operator==(const Dim&) const = default;
  // Returns the axis that it is, whole; id -1 if it is made up otherwise.
  Axis whole() const {
    return segments.size() == 1 && segments[0].factors.size() == 1 ? segments[0].factors[0].axis : Axis{};
  }
  // Returns whether it is a width, rather than a number of pixels or tokens.
  bool has_axis() const {
    for (const Segment& s : segments) {
      for (const Factor& f : s.factors) {
        if (f.axis.id >= 0) return true;
      }
    }
    return false;
  }
  // Returns whether one of its factors is this axis.
  bool reads(Axis axis) const {
    for (const Segment& s : segments) {
      for (const Factor& f : s.factors) {
        if (f.axis == axis) return true;
      }
    }
    return false;
  }
};

// The dimensions of a tensor; those of activations leave out the batch.
using Shape = std::vector<Dim>;

// Returns which dimension of an activation holds its channels: the first of an image [channels, height, width] or of
// [features], the last of tokens, [tokens, channels] or [height, width, channels].
inline size_t channel_dim(const Shape& shape) {
  return shape.empty() || shape.front().has_axis() ? 0 : shape.size() - 1;
}

}  // namespace espalier
