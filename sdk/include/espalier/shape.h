#pragma once

#include <cstdint>
#include <vector>

namespace espalier {

// Handles into a Graph; they hold until its next edit, names for good.
struct Axis {
  int32_t id = -1;
  bool operator==(const Axis&) const = default;
  auto operator<=>(const Axis&) const = default;  // NOLINT(modernize-use-nullptr): the 0 it compares with
};
struct Edge {
  int32_t id = -1;
  bool operator==(const Edge&) const = default;
};
struct ParamId {
  int32_t id = -1;
  bool operator==(const ParamId&) const = default;
  auto operator<=>(const ParamId&) const = default;  // NOLINT(modernize-use-nullptr)
};

using Indices = std::vector<int64_t>;

// How an edit changes an axis: the old position of each new one, -1: it is new.
struct AxisChange {
  Axis axis;
  Indices from;
};

// One factor of a segment: a constant (axis.id < 0), or an axis.
struct Factor {
  Axis axis;
  int64_t constant = 1;
  bool operator==(const Factor&) const = default;
};

// A product of factors, the first varying slowest: heads x head dimension, channels x pixels after a flatten.
struct Segment {
  std::vector<Factor> factors;
  bool operator==(const Segment&) const = default;
};

// One dimension of a tensor: segments one after the other (several follow a concat).
struct Dim {
  std::vector<Segment> segments;

  static Dim of(Axis axis) { return {{{{{axis, 1}}}}}; }
  static Dim of(int64_t constant) { return {{{{{Axis{}, constant}}}}}; }
  bool operator==(const Dim&) const = default;
  // The axis that it consists of, whole; id -1: it is made up otherwise.
  Axis whole() const {
    return segments.size() == 1 && segments[0].factors.size() == 1 ? segments[0].factors[0].axis : Axis{};
  }
  // Whether it is a width, rather than a number of pixels or tokens.
  bool has_axis() const {
    for (const Segment& s : segments) {
      for (const Factor& f : s.factors) {
        if (f.axis.id >= 0) return true;
      }
    }
    return false;
  }
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

// Which dimension of an activation holds its channels: the first of an image [channels, height, width] or of
// [features], the last of tokens, [tokens, channels] or [height, width, channels].
inline size_t channel_dim(const Shape& shape) {
  return shape.empty() || shape.front().has_axis() ? 0 : shape.size() - 1;
}

}  // namespace espalier
