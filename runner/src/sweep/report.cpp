#include "sweep/report.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <utility>

#include "record/progress.h"
#include "sweep/matrix.h"
#include "system/terminal.h"
#include "system/text.h"

namespace espalier {

namespace {

using Rows = std::vector<std::vector<std::string>>;

// Of random draws the first column is the number of the draw.
void add_draws(bool drawn, Rows& rows) {
  if (drawn) rows[0].insert(rows[0].begin(), "draw");
}

// Begins a table: a column for each path that any of the runs sets.
std::vector<std::string> add_paths(const std::vector<const Value*>& all_values, Rows& rows) {
  std::vector<std::string> paths;
  for (const Value* values : all_values) {
    for (const Value::Entry& e : values->as_map()) {
      if (std::ranges::find(paths, e.key) == paths.end()) paths.push_back(e.key);
    }
  }
  rows.push_back(short_names(paths));
  return paths;
}

std::vector<std::string> cells_of(const Value& values, const std::vector<std::string>& paths) {
  std::vector<std::string> cells;
  for (const std::string& path : paths) {
    const Value* v = values.find(path);
    cells.push_back(v ? short_text(*v) : "");
  }
  return cells;
}

void append(std::vector<std::string>& row, std::initializer_list<std::string> cells) {
  row.insert(row.end(), cells);
}

std::string share(double part, double whole) {
  return whole == 0 ? "" : fixed(100 * part / whole, 1) + " %";
}

// text: of one number.
std::string mean_text(const Value& v, const std::function<std::string(double)>& text, const std::string& unit = "") {
  std::string s = text(v.at("mean").as_double());
  if (const Value& d = v.at("deviation"); !d.is_null()) s += " ± " + text(d.as_double());
  return s + (unit.empty() ? "" : " " + unit);
}

// Of the metric that leads the group.
std::string metric_mean(const Value& group) {
  const std::string& unit = group.at("unit").as_string();
  const auto text = [&](double x) { return unit == "%" ? fixed(x, 2) : metric_text(x, ""); };
  return mean_text(group.at(group.at("metric").as_string()), text, unit);
}

// The one that leads all runs; without a name where they differ.
LeadingMetric leading_of(const std::vector<SweepRun>& runs) {
  std::optional<LeadingMetric> leading;
  for (const SweepRun& r : runs) {
    if (!r.summary || !r.summary->result) continue;
    if (leading && leading->name != r.summary->result->leading.name) return {.name = "", .unit = ""};
    leading = r.summary->result->leading;
  }
  return leading.value_or(LeadingMetric());
}

Value mean_and_deviation(const std::vector<double>& numbers) {
  const auto n = static_cast<double>(numbers.size());
  double mean = 0;
  for (const double x : numbers) mean += x / n;
  double squares = 0;
  for (const double x : numbers) squares += (x - mean) * (x - mean);
  return Value::map({{"mean", mean}, {"deviation", n > 1 ? Value(std::sqrt(squares / (n - 1))) : Value()}});
}

}  // namespace

Value SweepRun::to_value() const {
  Value v = Value::map({{"name", name}});
  if (draw) v["draw"] = *draw;
  v["values"] = values;
  v["folder"] = name;
  v["recipe"] = "recipes/" + name + ".yaml";
  v["status"] = status;
  v["seconds"] = seconds;
  if (!error.empty()) v["error"] = error;
  v["summary"] = summary ? summary->to_value() : Value();
  if (summary) v["summary"].erase("stages");
  return v;
}

SweepRun SweepRun::from_value(const Value& v) {
  SweepRun r;
  r.name = v.at("name").as_string();
  r.values = v.at("values");
  if (const Value* draw = v.find("draw")) r.draw = draw->as_int();
  r.status = v.at("status").as_string();
  r.seconds = v.at("seconds").as_double();
  if (const Value* e = v.find("error")) r.error = e->as_string();
  return r;
}

std::vector<bool> pareto_front(const std::vector<SizeAndScore>& points) {
  const auto finite = [](const SizeAndScore& p) { return std::isfinite(p.size) && std::isfinite(p.score); };
  std::vector<bool> front;
  for (const SizeAndScore& p : points) {
    front.push_back(finite(p) && std::ranges::none_of(points, [&](const SizeAndScore& q) {
                      return finite(q) && q.size <= p.size && q.score >= p.score &&
                             (q.size < p.size || q.score > p.score);
                    }));
  }
  return front;
}

std::vector<std::string> front_of(const std::vector<SweepRun>& runs, int64_t NetworkSize::*size) {
  struct Point {
    std::string name;
    SizeAndScore at;
  };
  std::vector<Point> points;
  const LeadingMetric leading = leading_of(runs);
  for (const SweepRun& r : runs) {
    if (r.status != "finished" || !r.summary || !r.summary->result) continue;
    const RunResult& result = *r.summary->result;
    if (result.metrics.empty() || result.leading.name != leading.name) return {};
    points.push_back({r.name, {static_cast<double>(result.final.*size), leading.score(result.metrics.front().second)}});
  }
  if (points.size() < 2) return {};
  std::vector<SizeAndScore> places;
  for (const Point& p : points) places.push_back(p.at);
  const std::vector<bool> is_on_front = pareto_front(places);
  std::vector<Point> front;
  for (size_t i = 0; i < points.size(); ++i) {
    if (is_on_front[i]) front.push_back(points[i]);
  }
  std::ranges::stable_sort(front, {}, [](const Point& p) { return p.at.size; });
  std::vector<std::string> names;
  for (const Point& p : front) names.push_back(p.name);
  return names;
}

std::string runs_table(const std::vector<SweepRun>& runs, const std::vector<std::string>& front) {
  Rows rows;
  std::vector<const Value*> all_values;
  for (const SweepRun& r : runs) all_values.push_back(&r.values);
  const std::vector<std::string> paths = add_paths(all_values, rows);
  const bool drawn = std::ranges::any_of(runs, [](const SweepRun& r) { return r.draw.has_value(); });
  add_draws(drawn, rows);
  const std::string leading = leading_of(runs).name;
  append(rows[0],
         {"test " + (leading.empty() ? "metric" : leading), "params", "of base", "MACs", "of base", "time", "status"});
  if (!front.empty()) append(rows[0], {"front"});
  for (const SweepRun& r : runs) {
    std::vector<std::string> row = cells_of(r.values, paths);
    if (drawn) row.insert(row.begin(), r.draw ? std::to_string(*r.draw) : "");
    const RunResult* result = r.summary && r.summary->result ? &*r.summary->result : nullptr;
    append(row,
           {result && !result->metrics.empty() ? (leading.empty() ? result->leading.name + " " : "") +
                                                     metric_text(result->metrics.front().second, result->leading.unit)
                                               : ""});
    for (const auto what : {&NetworkSize::params, &NetworkSize::macs}) {
      append(row,
             {result ? count_text(result->final.*what) : "",
              result ? share(static_cast<double>(result->final.*what), static_cast<double>(result->base.*what)) : ""});
    }
    append(row, {r.seconds > 0 ? Progress::duration(r.seconds) : "", r.status});
    if (!front.empty()) append(row, {std::ranges::find(front, r.name) != front.end() ? "*" : ""});
    rows.push_back(std::move(row));
  }
  return number_table(std::move(rows));
}

Value over_seeds(const std::vector<SweepRun>& runs) {
  struct Group {
    Value values;
    std::vector<int64_t> seeds;
    LeadingMetric leading;
    std::vector<double> metric, params, macs, seconds;
  };
  std::vector<Group> groups;
  for (const SweepRun& r : runs) {
    const Value* seed = r.values.find("seed");
    if (!seed || r.status != "finished" || !r.summary || !r.summary->result) continue;
    Value rest = r.values;
    rest.erase("seed");
    auto g = std::ranges::find(groups, rest, &Group::values);
    if (g == groups.end()) g = groups.insert(groups.end(), Group{rest, {}, {}, {}, {}, {}, {}});
    g->seeds.push_back(seed->as_int());
    const RunResult& result = *r.summary->result;
    g->leading = result.leading;
    g->metric.push_back(result.metrics.front().second);
    g->params.push_back(static_cast<double>(result.final.params));
    g->macs.push_back(static_cast<double>(result.final.macs));
    g->seconds.push_back(r.seconds);
  }
  Value result = Value::list();
  for (const Group& g : groups) {
    Value line =
        Value::map({{"values", g.values}, {"seeds", g.seeds}, {"metric", g.leading.name}, {"unit", g.leading.unit}});
    line[g.leading.name] = mean_and_deviation(g.metric);
    line["params"] = mean_and_deviation(g.params);
    line["macs"] = mean_and_deviation(g.macs);
    line["seconds"] = mean_and_deviation(g.seconds);
    result.push_back(std::move(line));
  }
  return result;
}

std::string seeds_table(const Value& groups) {
  if (groups.size() == 0) return "";
  Rows rows;
  std::vector<const Value*> all_values;
  for (const Value& g : groups.as_list()) all_values.push_back(&g.at("values"));
  const std::vector<std::string> paths = add_paths(all_values, rows);
  append(rows[0], {"seeds", "test " + groups.as_list().front().at("metric").as_string(), "params", "MACs"});
  const auto whole = [](double x) { return count_text(std::llround(x)); };
  for (const Value& g : groups.as_list()) {
    std::vector<std::string> row = cells_of(g.at("values"), paths);
    append(row, {std::to_string(g.at("seeds").size()), metric_mean(g), mean_text(g.at("params"), whole),
                 mean_text(g.at("macs"), whole)});
    rows.push_back(std::move(row));
  }
  return number_table(std::move(rows));
}

std::string matrix_plan_table(const Value& plans) {
  Rows rows;
  std::vector<const Value*> all_values;
  for (const Value& run : plans.at("runs").as_list()) all_values.push_back(&run.at("values"));
  const std::vector<std::string> paths = add_paths(all_values, rows);
  const bool drawn = std::ranges::any_of(plans.at("runs").as_list(), [](const Value& run) { return run.find("draw"); });
  add_draws(drawn, rows);
  append(rows[0], {"params", "MACs"});
  for (const Value& run : plans.at("runs").as_list()) {
    std::vector<std::string> row = cells_of(run.at("values"), paths);
    if (drawn) row.insert(row.begin(), std::to_string(run.at("draw").as_int()));
    const Value& network = run.at("plan").at("network");
    if (network.is_null())
      append(row, {"not known", "not known"});  // that of a run which does not exist yet
    else
      append(row, {count_text(network.at("params").as_int()), count_text(network.at("macs").as_int())});
    rows.push_back(std::move(row));
  }
  return number_table(std::move(rows));
}

}  // namespace espalier
