#include "espalier/latency.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>
#include <sstream>

#include "espalier/error.h"
#include "espalier/operation.h"

namespace espalier {

namespace {

// More widths than these are measured together: a grid of four has too many points.
constexpr size_t most_widths = 3;
// The version of the file.
constexpr int64_t version = 1;

bool changes(const Graph& graph, const Factor& f) {
  return f.axis.id >= 0 && !graph[f.axis].fixed;
}
bool changes(const Graph& graph, const Dim& dim) {
  return std::ranges::any_of(dim.segments, [&](const Segment& s) {
    return std::ranges::any_of(s.factors, [&](const Factor& f) { return changes(graph, f); });
  });
}

// Writes shapes with letters for widths, and keeps what the letters stand for.
class Letters {
 public:
  // together: one letter for all.
  Letters(const Graph& graph, bool together) : graph_(graph), together_(together) {}

  std::string text(const Shape& shape) {
    std::string text;
    for (const Dim& d : shape) text += (text.empty() ? "" : ", ") + this->text(d);
    return text;
  }
  const std::vector<Dim>& widths() const { return widths_; }

 private:
  std::string text(const Dim& dim) {
    if (!changes(graph_, dim)) return std::to_string(graph_.size(dim));
    if (dim.segments.size() > 1) return letter(dim);
    int64_t constant = 1;
    std::string text;
    for (const Factor& f : dim.segments[0].factors) {
      if (changes(graph_, f)) {
        if (!together_ || text.empty()) text += (text.empty() ? "" : "*") + letter(Dim::of(f.axis));
      } else {
        constant *= f.axis.id < 0 ? f.constant : graph_[f.axis].size;
      }
    }
    return text + (constant == 1 ? "" : "*" + std::to_string(constant));
  }
  std::string letter(const Dim& dim) {
    if (together_) return "a";
    auto at = std::ranges::find(widths_, dim);
    if (at == widths_.end()) at = widths_.insert(widths_.end(), dim);
    const auto n = static_cast<size_t>(at - widths_.begin());
    return n < 26 ? std::string(1, static_cast<char>('a' + n)) : "w" + std::to_string(n);
  }

  const Graph& graph_;
  bool together_;
  std::vector<Dim> widths_;
};

std::set<Axis> axes_of(const Graph& graph, const Dim& dim) {
  std::set<Axis> axes;
  for (const Segment& s : dim.segments) {
    for (const Factor& f : s.factors) {
      if (changes(graph, f)) axes.insert(f.axis);
    }
  }
  return axes;
}

// Whether each width can change by itself.
bool independent(const Graph& graph, const std::vector<Dim>& widths) {
  std::set<Axis> seen;
  for (const Dim& d : widths) {
    for (const Axis a : axes_of(graph, d)) {
      if (!seen.insert(a).second) return false;
    }
  }
  return widths.size() <= most_widths;
}

// All that changes of some edges, side by side.
Dim all_of(const Graph& graph, const std::vector<Edge>& edges) {
  Dim all;
  for (const Edge e : edges) {
    for (const Dim& d : graph[e].shape) {
      if (changes(graph, d)) all.segments.insert(all.segments.end(), d.segments.begin(), d.segments.end());
    }
  }
  return all;
}

// The options that an operation holds by position: those that change where a width loses its last position.
std::set<std::string> options_by_position(const Graph& graph, const Node& node) {
  std::set<Axis> axes;
  for (const std::vector<Edge>* edges : {&node.inputs, &node.outputs})
    axes.merge(axes_of(graph, all_of(graph, *edges)));
  std::set<std::string> names;
  for (const Axis a : axes) {
    if (graph[a].size < 2) continue;
    AxisChange change{a, Indices(static_cast<size_t>(graph[a].size - 1))};
    std::iota(change.from.begin(), change.from.end(), 0);
    const auto op = node.op->follow(graph, node, {change});
    if (!op) continue;
    const Value before = node.op->options(), after = op->options();
    for (const Value::Entry& e : before.as_map()) {
      const Value* now = after.find(e.key);
      if (!now || !(*now == e.value)) names.insert(e.key);
    }
  }
  return names;
}

// The place of `size` among the sizes that were measured: the first of two neighbours, and how far it is from it.
std::pair<size_t, double> place(const std::vector<int64_t>& sizes, int64_t size) {
  if (size <= sizes.front() || sizes.size() == 1) return {0, 0};
  size_t i = 0;
  while (i + 2 < sizes.size() && sizes[i + 1] < size) ++i;
  return {i, static_cast<double>(size - sizes[i]) / static_cast<double>(sizes[i + 1] - sizes[i])};
}

double interpolate(const LatencyEntry& e, const Graph& graph, const std::vector<Dim>& widths, const std::string& node) {
  // Of the corners of the cell that the sizes lie in: their place in `ms`, and how much each counts.
  std::vector<std::pair<size_t, double>> corners{{0, 1}};
  for (size_t w = 0; w < widths.size(); ++w) {
    const std::vector<int64_t>& sizes = e.widths[w];
    const int64_t size = graph.size(widths[w]);
    if (size > sizes.back()) {
      throw Error("the table of latencies knows '" + node + "' (" + e.form.at("operation").as_string() +
                  ") up to a width of " + std::to_string(sizes.back()) + ", and it has " + std::to_string(size));
    }
    const auto [first, part] = place(sizes, size);
    std::vector<std::pair<size_t, double>> next;
    for (const auto& [at, weight] : corners) {
      next.emplace_back(at * sizes.size() + first, weight * (1 - part));
      if (part > 0) next.emplace_back(at * sizes.size() + first + 1, weight * part);
    }
    corners = std::move(next);
  }
  double ms = 0;
  for (const auto& [at, weight] : corners) ms += weight * e.ms[at];
  return ms;
}

std::string name_of(const Value& form) {
  const auto list = [](const Value& shapes) {
    std::string text;
    for (const Value& s : shapes.as_list()) text += (text.empty() ? "[" : ", [") + s.as_string() + "]";
    return text;
  };
  return form.at("operation").as_string() + " " + list(form.at("inputs")) + " -> " + list(form.at("outputs"));
}

void check_entry(const LatencyEntry& e) {
  const auto wrong = [&](const std::string& why) {
    throw InputError(e.form.location.str(), "the latencies of " + name_of(e.form) + ": " + why);
  };
  size_t points = 1;
  for (const std::vector<int64_t>& sizes : e.widths) {
    const bool rising = std::ranges::adjacent_find(sizes, std::greater_equal<>()) == sizes.end();
    if (sizes.empty() || sizes.front() < 1 || !rising) wrong("the sizes of a width must be positive and rise");
    points *= sizes.size();
  }
  if (e.ms.size() != points)
    wrong("there are " + std::to_string(e.ms.size()) + " times for " + std::to_string(points) +
          " combinations of widths");
  if (!std::ranges::all_of(e.ms, [](double t) { return std::isfinite(t) && t >= 0; }))
    wrong("a time is no finite number that is at least 0");
}

}  // namespace

LatencyKey latency_key(const Graph& graph, const Node& node) {
  const auto shapes = [&](Letters& letters, const std::vector<Edge>& edges) {
    Value list = Value::list();
    for (const Edge e : edges) list.push_back(letters.text(graph[e].shape));
    return list;
  };
  Letters letters(graph, false);
  Value inputs = shapes(letters, node.inputs), outputs = shapes(letters, node.outputs);
  std::vector<Dim> widths = letters.widths();
  if (!widths.empty() && (node.op->joins_inputs() || !independent(graph, widths))) {
    Letters one(graph, true);
    inputs = shapes(one, node.inputs);
    outputs = shapes(one, node.outputs);
    widths = {all_of(graph, node.outputs)};
    if (widths[0].segments.empty()) widths = {all_of(graph, node.inputs)};
  }
  Value options = node.op->options();
  Value form = Value::map({{"operation", node.op->type()}});
  const std::set<std::string> held = options_by_position(graph, node);
  for (const std::string& name : held) options.erase(name);
  form["options"] = options;
  if (!held.empty()) form["by_position"] = std::vector<std::string>(held.begin(), held.end());
  form["inputs"] = inputs;
  form["outputs"] = outputs;
  return {std::move(form), std::move(widths)};
}

std::string device_model(const std::string& device) {
  const auto after_colon = [](const std::string& line) {
    const size_t at = line.find_first_not_of(" \t", line.find(':') + 1);
    return at == std::string::npos ? std::string() : line.substr(at);
  };
  const auto value_in = [&](const std::filesystem::path& file, const char* key) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
      if (line.starts_with(key)) return after_colon(line);
    }
    return std::string("unknown");
  };
  if (device == "cpu") return value_in("/proc/cpuinfo", "model name");
  std::error_code none;
  for (const auto& gpu : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", none))
    return value_in(gpu.path() / "information", "Model");
  return "unknown";
}

LatencyTable::LatencyTable(Value origin, std::vector<LatencyEntry> entries)
    : origin_(std::move(origin)), entries_(std::move(entries)) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    check_entry(entries_[i]);
    if (!by_form_.emplace(to_json(entries_[i].form), i).second)
      throw InputError(entries_[i].form.location.str(), "there are two entries of " + name_of(entries_[i].form));
  }
}

LatencyTable LatencyTable::read(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError(file, "there is no such table of latencies, or it cannot be read");
  std::ostringstream text;
  text << in.rdbuf();
  Value table = from_json(text.str(), file);
  try {
    const Value* number = table.is_map() ? table.find("latency_table") : nullptr;
    if (!number) throw InputError("", "this is no table of latencies: it has no 'latency_table'");
    if (!(*number == Value(version)))
      throw InputError("", "this is a table of version " + to_json(*number) + ", and version " +
                               std::to_string(version) + " is read");
    std::vector<LatencyEntry> entries;
    for (const Value& e : table.at("entries").as_list()) {
      LatencyEntry entry{e.at("form"), {}, {}};
      for (const char* key : {"operation", "options", "inputs", "outputs"}) entry.form.at(key);
      for (const Value& sizes : e.at("widths").as_list()) {
        entry.widths.emplace_back();
        for (const Value& n : sizes.as_list()) entry.widths.back().push_back(n.as_int());
      }
      for (const Value& t : e.at("ms").as_list()) entry.ms.push_back(t.as_double());
      entries.push_back(std::move(entry));
    }
    table.erase("entries");
    table.erase("latency_table");
    for (const char* key : {"device", "model", "precision", "date"}) table.at(key).as_string();
    for (const char* key : {"threads", "batch"}) table.at(key).as_int();
    return {std::move(table), std::move(entries)};
  } catch (const Error& e) {
    const std::string what = e.what();
    throw InputError(what.starts_with(file) ? "" : file, what);
  }
}

Value LatencyTable::to_value() const {
  Value table = Value::map({{"latency_table", version}});
  for (const Value::Entry& e : origin_.as_map()) table[e.key] = e.value;
  Value list = Value::list();
  for (const LatencyEntry& e : entries_) {
    Value widths = Value::list();
    for (const std::vector<int64_t>& sizes : e.widths) widths.push_back(sizes);
    list.push_back(Value::map({{"form", e.form}, {"widths", widths}, {"ms", e.ms}}));
  }
  table["entries"] = list;
  return table;
}

std::string LatencyTable::str() const {
  const int64_t threads = origin_.at("threads").as_int();
  std::string text = origin_.at("model").as_string();
  if (origin_.at("device").as_string() == "cpu")
    text += ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
  return text + ", " + origin_.at("precision").as_string() + ", batch " + to_json(origin_.at("batch")) + ", " +
         origin_.at("date").as_string().substr(0, 10);
}

void LatencyTable::require_device() const {
  const std::string& device = origin_.at("device").as_string();
  const std::string here = device_model(device == "cpu" ? "cpu" : "cuda");
  const std::string& there = origin_.at("model").as_string();
  if (here == there) return;
  throw Error("the table of latencies was measured on '" + there + "', and this machine has " +
              (device != "cpu" && here == "unknown" ? "no such GPU" : "'" + here + "'"));
}

int64_t LatencyTable::checksum() const {
  uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  for (const char c : to_json(to_value())) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return static_cast<int64_t>(hash >> 1);
}

const LatencyEntry& LatencyTable::entry(const LatencyKey& key, const std::string& node) const {
  const auto at = by_form_.find(to_json(key.form));
  if (at == by_form_.end())
    throw Error("the table of latencies does not know '" + node + "': " + name_of(key.form) + " with the options " +
                to_json(key.form.at("options")));
  const LatencyEntry& e = entries_[at->second];
  if (e.widths.size() != key.widths.size())
    throw Error("the table of latencies has " + std::to_string(e.widths.size()) + " widths for '" + node + "', and " +
                name_of(key.form) + " has " + std::to_string(key.widths.size()));
  return e;
}

double LatencyTable::ms(const Graph& graph, const Node& node) const {
  const LatencyKey key = latency_key(graph, node);
  return interpolate(entry(key, node.name), graph, key.widths, node.name);
}

double LatencyTable::ms(const Graph& graph) const {
  return LatencyCounter(*this, graph).ms(graph);
}

LatencyCounter::LatencyCounter(const LatencyTable& table, const Graph& graph) {
  for (const Node& n : graph.nodes()) {
    LatencyKey key = latency_key(graph, n);
    const LatencyEntry& entry = table.entry(key, n.name);
    parts_.push_back({&entry, std::move(key.widths), n.name});
  }
  static_cast<void>(ms(graph));
}

double LatencyCounter::ms(const Graph& sized) const {
  double sum = 0;
  for (const Part& p : parts_) sum += interpolate(*p.entry, sized, p.widths, p.name);
  return sum;
}

}  // namespace espalier
