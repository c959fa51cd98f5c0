// Tables of latencies that were not measured, so that tests do not depend on time.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "espalier/latency.h"

namespace espalier {

// The time of a kind of node as a function of its widths.
using MadeUpTime = std::function<double(const std::string& type, const std::vector<double>& widths)>;

// .001 ms for each product of widths of a layer, .01 ms for each channel of everything else: linear in each width, so
// that interpolation is exact.
inline double simple_time(const std::string& type, const std::vector<double>& widths) {
  double product = 1;
  for (const double w : widths) product *= w;
  return (type == "conv2d" || type == "linear" ? 0.001 : 0.01) * product;
}

// The function at one position, a third of each width and the whole.
inline LatencyTable made_up_table(const Graph& graph, const MadeUpTime& time = simple_time,
                                  const std::string& model = device_model("cpu")) {
  struct Kind {
    Value form;
    std::string type;
    std::vector<int64_t> most;
  };
  std::map<std::string, Kind> kinds;
  for (const Node& n : graph.nodes()) {
    const LatencyKey key = latency_key(graph, n);
    Kind& kind = kinds[to_json(key.form)];
    kind.form = key.form;
    kind.type = key.form.at("operation").as_string();
    kind.most.resize(key.widths.size(), 1);
    for (size_t w = 0; w < kind.most.size(); ++w) kind.most[w] = std::max(kind.most[w], graph.size(key.widths[w]));
  }
  std::vector<LatencyEntry> entries;
  for (const auto& [form, kind] : kinds) {
    LatencyEntry e{kind.form, {}, {}};
    std::vector<std::vector<double>> points{{}};
    for (const int64_t most : kind.most) {
      std::vector<int64_t> sizes{1};
      for (const int64_t s : {most / 3, most}) {
        if (s > sizes.back()) sizes.push_back(s);
      }
      e.widths.push_back(sizes);
      std::vector<std::vector<double>> next;
      for (const std::vector<double>& p : points) {
        for (const int64_t s : sizes) {
          next.push_back(p);
          next.back().push_back(static_cast<double>(s));
        }
      }
      points = next;
    }
    for (const std::vector<double>& p : points) e.ms.push_back(time(kind.type, p));
    entries.push_back(e);
  }
  return {Value::map({{"device", "cpu"},
                      {"model", model},
                      {"threads", 1},
                      {"precision", "float32"},
                      {"batch", 1},
                      {"date", "2026-01-02T03:04:05Z"}}),
          entries};
}

}  // namespace espalier
