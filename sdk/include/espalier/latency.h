#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "espalier/api.h"
#include "espalier/graph.h"
#include "espalier/value.h"

namespace espalier {

// Under what a table of latencies knows a node, and what may differ between nodes that it knows under the same.
struct LatencyKey {
  // The operation, its options, and the shapes of its inputs and outputs without the batch, in which letters stand for
  // widths and numbers for all else: {"operation": "conv2d", "options": {...}, "inputs": ["a, 32, 32"], "outputs":
  // ["b, 32, 32"]}. What an operation holds by position along a width (an index, kernel sizes) is not part of it.
  Value form;
  // What the letters stand for, in order; their sizes are what latencies are interpolated between.
  std::vector<Dim> widths;
};

// Returns the key of a node. At most three widths may differ by themselves; where there are more, or where inputs stand
// side by side (a concatenation), all that changes is one width, that of the output.
ESPALIER_API LatencyKey latency_key(const Graph& graph, const Node& node);

// Returns what a device is, as tables are marked with it: the processor's name of "cpu", the GPU's name of others.
ESPALIER_API std::string device_model(const std::string& device);

// How long an operation takes for some sizes of its widths.
struct LatencyEntry {
  Value form;                                // LatencyKey::form
  std::vector<std::vector<int64_t>> widths;  // of each letter the sizes that were measured, ascending
  std::vector<double> ms;                    // milliseconds for each combination of sizes; the last letter runs fastest
};

// What operations take on one device, measured by `espalier latency`: a file in JSON. The latency of a network is the
// sum over its nodes, each interpolated linearly between the sizes that were measured. It is a function of graph and
// table alone, so methods can count with it as with multiply-accumulates:
//
//   const LatencyTable table = LatencyTable::read("resnet20.latency.json");
//   const double cost = table.ms(graph, graph.node("layer1.0.conv1"));
class ESPALIER_API LatencyTable {
 public:
  // Makes a table. origin: what was measured on and how: {device, model, threads, precision, batch, date, ...}. Throws
  // InputError if an entry has not one finite time of at least 0 for each combination of ascending sizes, or if two
  // entries are of the same form.
  LatencyTable(Value origin, std::vector<LatencyEntry> entries);
  // Reads a file. Throws InputError naming it if there is none or if it holds something else.
  static LatencyTable read(const std::string& file);
  // Returns the table as read() reads it.
  Value to_value() const;

  // Returns what the table was measured on and how.
  const Value& origin() const { return origin_; }
  // Returns this in words: "Intel(R) Xeon(R), 1 thread, float32, batch 1, 2026-11-29".
  std::string str() const;
  // Throws Error naming both devices if the table was measured on a device that this machine does not have.
  void require_device() const;
  // Returns a number that differs between tables that differ.
  int64_t checksum() const;

  // Returns the entry of this form. Throws Error with the node's name if there is none.
  const LatencyEntry& entry(const LatencyKey& key, const std::string& node) const;
  // Returns the milliseconds of a node. Throws Error if the table does not know it, or only with smaller widths.
  double ms(const Graph& graph, const Node& node) const;
  // Returns the milliseconds of a network, the sum over its nodes.
  double ms(const Graph& graph) const;

 private:
  Value origin_;
  std::vector<LatencyEntry> entries_;
  std::map<std::string, size_t> by_form_;
};

// The latency of a network whose widths change and whose nodes stay: each node is looked up once.
class ESPALIER_API LatencyCounter {
 public:
  // The table must live as long as the counter. Throws Error if it does not know a node, or only with smaller widths.
  LatencyCounter(const LatencyTable& table, const Graph& graph);
  // Returns the milliseconds with the sizes of the axes that `sized` has, a graph of the same nodes.
  double ms(const Graph& sized) const;

 private:
  struct Part {
    const LatencyEntry* entry;
    std::vector<Dim> widths;
    std::string name;
  };
  std::vector<Part> parts_;
};

}  // namespace espalier
