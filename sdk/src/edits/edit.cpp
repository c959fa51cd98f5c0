#include "espalier/edit.h"

#include <algorithm>
#include <map>

#include "edits/draft.h"
#include "espalier/rewrite.h"

namespace espalier {

namespace {

// How each kind of edit is written: its name and its fields, in one place for both ways.
template <class Visit>
void fields(Shrink& e, Visit&& v) {
  v("axis", e.axis), v("keep", e.keep);
}
template <class Visit>
void fields(Grow& e, Visit&& v) {
  v("axis", e.axis), v("count", e.count), v("init", e.init), v("seed", e.seed);
}
template <class Visit>
void fields(SplitOff& e, Visit&& v) {
  v("node", e.node), v("input", e.input), v("view", e.view);
}
template <class Visit>
void fields(Disconnect& e, Visit&& v) {
  v("node", e.node), v("input", e.input), v("exact", e.exact);
}
template <class Visit>
void fields(DropBlock& e, Visit&& v) {
  v("block", e.block), v("exact", e.exact);
}
template <class Visit>
void fields(InsertBlock& e, Visit&& v) {
  v("block", e.block), v("like", e.like), v("after", e.after), v("init", e.init), v("seed", e.seed);
}
template <class Visit>
void fields(Choose& e, Visit&& v) {
  v("node", e.node), v("input", e.input);
}
template <class Visit>
void fields(InsertGate& e, Visit&& v) {
  v("gate", e.gate), v("edge", e.edge), v("axis", e.axis), v("initial", e.initial), v("role", e.role),
      v("readers", e.readers);
}
template <class Visit>
void fields(InsertGates::Place& e, Visit&& v) {
  v("gate", e.gate), v("edge", e.edge), v("readers", e.readers), v("index", e.index);
}
template <class Visit>
void fields(InsertGates& e, Visit&& v) {
  v("coefficients", e.coefficients), v("operation", e.operation), v("count", e.count), v("places", e.places);
}
template <class Visit>
void fields(Substitute& e, Visit&& v) {
  v("edge", e.edge), v("node", e.node), v("operation", e.operation), v("readers", e.readers),
      v("keep_values", e.keep_values);
}
template <class Visit>
void fields(FoldGate& e, Visit&& v) {
  v("gate", e.gate);
}
template <class Visit>
void fields(RemoveGate& e, Visit&& v) {
  v("gate", e.gate);
}

template <class Visit>
void fields(CropKernels& e, Visit&& v) {
  v("node", e.node), v("sizes", e.sizes), v("corner", e.corner);
}

constexpr const char* kinds[] = {"shrink",       "grow",        "split_off",   "disconnect",   "drop_block",
                                 "insert_block", "choose",      "insert_gate", "insert_gates", "substitute",
                                 "fold_gate",    "remove_gate", "crop_kernels"};
static_assert(std::size(kinds) == std::variant_size_v<Change>);

// Seeds use all 64 bits, integers of JSON are signed.
Value written(uint64_t v) {
  return std::to_string(v);
}
template <class T>
Value written(const T& v) {
  return v;
}
Value written(const std::vector<InsertGates::Place>& places) {
  Value list = Value::list();
  for (InsertGates::Place p : places) {
    Value one = Value::map();
    fields(p, [&](const char* name, const auto& field) { one[name] = written(field); });
    list.push_back(std::move(one));
  }
  return list;
}

void read(const Value& v, std::string& to) {
  to = v.as_string();
}
void read(const Value& v, int64_t& to) {
  to = v.as_int();
}
void read(const Value& v, bool& to) {
  to = v.as_bool();
}
void read(const Value& v, Value& to) {
  to = v;
}
void read(const Value& v, double& to) {
  to = v.as_double();
}
void read(const Value& v, uint64_t& to) {
  const std::string& text = v.as_string();
  if (text.empty() || text.size() > 20 || text.find_first_not_of("0123456789") != std::string::npos)
    throw InputError(v.location.str(), "a seed must be a whole number, got " + v.describe());
  to = std::stoull(text);
}
void read(const Value& v, Indices& to) {
  for (const Value& i : v.as_list()) to.push_back(i.as_int());
}
void read(const Value& v, std::vector<std::string>& to) {
  for (const Value& s : v.as_list()) to.push_back(s.as_string());
}

void read(const Value& v, std::vector<InsertGates::Place>& to);

// Reads the fields of `e` from a map, whose other keys may only be `besides`.
template <class T>
void read_fields(const Value& value, T& e, const std::string& what, std::string_view besides = "") {
  for (const Value::Entry& entry : value.as_map()) {
    bool known = entry.key == besides;
    fields(e, [&](const char* name, auto&) { known = known || entry.key == name; });
    if (!known) throw InputError(entry.key_location.str(), what + " has no '" + entry.key + "'");
  }
  fields(e, [&](const char* name, auto& field) {
    if (const Value* v = value.find(name)) {
      field = {};
      read(*v, field);
    }
  });
}
void read(const Value& v, std::vector<InsertGates::Place>& to) {
  for (const Value& p : v.as_list()) read_fields(p, to.emplace_back(), "a place of the edit 'insert_gates'");
}

template <size_t I = 0>
Change read_change(const Value& value) {
  if constexpr (I < std::variant_size_v<Change>) {
    if (value.at("edit").as_string() != kinds[I]) return read_change<I + 1>(value);
    std::variant_alternative_t<I, Change> e;
    read_fields(value, e, "an edit '" + std::string(kinds[I]) + "'", "edit");
    return e;
  } else {
    std::vector<std::string> names(std::begin(kinds), std::end(kinds));
    const std::string& kind = value.at("edit").as_string();
    throw InputError(value.location.str(), "unknown edit '" + kind + "'" + suggestion(kind, names));
  }
}

std::string text(const Shrink& e) {
  return "shrink " + e.axis + " to " + std::to_string(e.keep.size());
}
std::string text(const Grow& e) {
  return "grow " + e.axis + " by " + std::to_string(e.count) + " (" + e.init + ")";
}
std::string text(const SplitOff& e) {
  return "split input " + std::to_string(e.input) + " of " + e.node + " off";
}
std::string text(const Disconnect& e) {
  return "disconnect input " + std::to_string(e.input) + " of " + e.node;
}
std::string text(const DropBlock& e) {
  return "drop the block " + e.block;
}
std::string text(const InsertBlock& e) {
  return "insert the block " + e.block + " (like " + e.like + ") behind " + e.after + " (" + e.init + ")";
}
std::string text(const Choose& e) {
  return "choose input " + std::to_string(e.input) + " of " + e.node;
}
std::string text(const InsertGate& e) {
  return "insert the gate " + e.gate + " on " + e.edge;
}
std::string text(const InsertGates& e) {
  return "insert " + std::to_string(e.places.size()) + " gates with the coefficients " + e.coefficients;
}
std::string text(const Substitute& e) {
  return "substitute " + e.node + " for " + e.edge;
}
std::string text(const FoldGate& e) {
  return "fold " + e.gate;
}
std::string text(const RemoveGate& e) {
  return "remove the gate " + e.gate;
}
std::string text(const CropKernels& e) {
  return "crop the kernels of " + e.node;
}

}  // namespace

std::string Edit::str() const {
  return std::visit([](const auto& e) { return text(e); }, what);
}

Value Edit::to_value() const {
  Value v = Value::map({{"edit", kinds[what.index()]}});
  std::visit([&](auto e) { fields(e, [&](const char* name, const auto& field) { v[name] = written(field); }); }, what);
  return v;
}

Edit Edit::from_value(const Value& value) {
  return {read_change(value)};
}

Edit shrink(const Graph& graph, Axis axis, Indices keep) {
  return {Shrink{graph[axis].name, std::move(keep)}};
}

Edit grow(const Graph& graph, Axis axis, int64_t count, std::string init, RandomKey key) {
  return {Grow{graph[axis].name, count, std::move(init), key.value()}};
}

std::optional<Indices> gather(const Graph& before, const Dim& dim, const std::vector<AxisChange>& changes) {
  Indices result;
  bool changed = false;
  int64_t start = 0;
  for (const Segment& s : dim.segments) {
    // Mixed radix: positions of the product of the factors so far.
    Indices positions{0};
    for (const Factor& f : s.factors) {
      const int64_t extent = before.size(Segment{{f}});
      const auto change = std::ranges::find(changes, f.axis, &AxisChange::axis);
      const Indices* from = f.axis.id < 0 || change == changes.end() ? nullptr : &change->from;
      changed = changed || from;
      const size_t now = from ? from->size() : static_cast<size_t>(extent);
      Indices next;
      next.reserve(positions.size() * now);
      for (const int64_t p : positions) {
        for (size_t i = 0; i < now; ++i) {
          const int64_t at = from ? (*from)[i] : static_cast<int64_t>(i);
          next.push_back(p < 0 || at < 0 ? -1 : p * extent + at);
        }
      }
      positions = std::move(next);
    }
    for (const int64_t p : positions) result.push_back(p < 0 ? -1 : start + p);
    start += before.size(s);
  }
  if (!changed) return std::nullopt;
  return result;
}

Indices positions_of(const Graph& graph, const Dim& dim, Axis axis, const Indices& positions) {
  // By what stays: a segment that does not read the axis stays whole.
  const auto kept = gather(graph, dim, {{axis, complement(positions, graph[axis].size)}});
  return kept ? complement(*kept, graph.size(dim)) : Indices{};
}

Indices axis_positions(const Graph& graph, const Dim& dim, Axis axis) {
  Indices result;
  for (const Segment& s : dim.segments) {
    const auto at = std::ranges::find(s.factors, axis, &Factor::axis);
    int64_t inner = 1;
    for (auto f = at; f != s.factors.end(); ++f) {
      if (f != at) inner *= graph.size(Segment{{*f}});
    }
    const int64_t size = graph.size(s);
    for (int64_t i = 0; i < size; ++i) result.push_back(at == s.factors.end() ? -1 : i / inner % graph[axis].size);
  }
  return result;
}

std::optional<Indices> Rewrite::gather(const Graph& before, const Dim& old, const Dim& now) const {
  Indices result;
  bool same = true;
  size_t next = 0;
  int64_t start = 0;  // of old's segment `next`
  for (const Segment& s : now.segments) {
    // As it was called before.
    Segment was = s;
    bool is_new = false;
    for (Factor& f : was.factors) {
      if (f.axis.id < 0) continue;
      f.axis = axis_origin[static_cast<size_t>(f.axis.id)];
      is_new = is_new || f.axis.id < 0;
    }
    size_t at = next;
    int64_t offset = start;
    while (at < old.segments.size() && old.segments[at] != was) offset += before.size(old.segments[at++]);
    if (is_new || at == old.segments.size()) {
      same = false;
      result.insert(result.end(), static_cast<size_t>(graph.size(s)), -1);
      continue;
    }
    same = same && at == next;
    const auto within = espalier::gather(before, Dim{{was}}, changes);
    same = same && !within;
    const int64_t size = before.size(was);
    if (within) {
      for (const int64_t i : *within) result.push_back(i < 0 ? -1 : offset + i);
    } else {
      for (int64_t i = 0; i < size; ++i) result.push_back(offset + i);
    }
    next = at + 1;
    start = offset + size;
  }
  if (same && next == old.segments.size()) return std::nullopt;
  return result;
}

Rewrite plan(const Graph& graph, const Edits& edits, size_t& first) {
  try {
    return std::visit(
        [&](const auto& e) -> Rewrite {
          using T = std::decay_t<decltype(e)>;
          if constexpr (std::is_same_v<T, Shrink> || std::is_same_v<T, Grow>) {
            return plan_widths(graph, edits, first);
          } else {
            Rewrite r = plan_change(graph, e);
            ++first;
            return r;
          }
        },
        edits[first].what);
  } catch (const EditError&) {
    throw;
  } catch (const Error& e) {  // of the graph: an unknown axis, a name that is taken
    throw EditError("cannot " + edits[std::min(first, edits.size() - 1)].str() + ": " + e.what());
  }
}

Rewrite plan(const Graph& graph, const Edit& edit) {
  size_t first = 0;
  return plan(graph, {edit}, first);
}

void carry_out(Graph& graph, const std::vector<Weights*>& weights, Rewrite rewrite) {
  std::map<const Bank*, std::shared_ptr<Bank>> done;
  std::vector<std::unique_ptr<Weights::Prepared>> prepared;
  for (Weights* w : weights) prepared.push_back(w->prepare(graph, rewrite, done));
  graph = std::move(rewrite.graph);
  for (size_t i = 0; i < weights.size(); ++i) weights[i]->commit(std::move(prepared[i]), graph);
}

void apply(Graph& graph, const std::vector<Weights*>& weights, const Edits& edits) {
  // To go back to where a later edit is impossible.
  Graph whole = graph;
  std::vector<std::unique_ptr<Weights::Prepared>> undo;
  for (const Weights* w : weights) undo.push_back(w->present());
  size_t next = 0;
  try {
    while (next < edits.size()) {
      Rewrite rewrite = plan(graph, edits, next);
      carry_out(graph, weights, std::move(rewrite));
    }
  } catch (...) {
    graph = std::move(whole);
    for (size_t i = 0; i < weights.size(); ++i) {
      if (undo[i]->banks[0] != weights[i]->present()->banks[0]) weights[i]->commit(std::move(undo[i]), graph);
    }
    throw;
  }
}

void apply(Graph& graph, const std::vector<Weights*>& weights, const Edit& edit) {
  apply(graph, weights, Edits{edit});
}

Indices indices_of(const std::vector<bool>& mask) {
  Indices result;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask[i]) result.push_back(static_cast<int64_t>(i));
  }
  return result;
}

Indices complement(const Indices& positions, int64_t size) {
  std::vector<bool> mask(static_cast<size_t>(size), true);
  for (const int64_t p : positions) {
    if (p >= 0) mask[static_cast<size_t>(p)] = false;
  }
  return indices_of(mask);
}

}  // namespace espalier
