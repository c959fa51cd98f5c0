#include "record/summary.h"

#include <cmath>
#include <cstdio>
#include <limits>

#include "espalier/error.h"
#include "system/files.h"
#include "system/text.h"

namespace espalier {

namespace {

constexpr char file_name[] = "summary.json";

Value to_value(const NetworkSize& size) {
  return Value::map({{"params", size.params}, {"macs", size.macs}});
}

// JSON has no infinity and no NaN: null.
Value number(double v) {
  return std::isfinite(v) ? Value(v) : Value();
}

double number_of(const Value& v) {
  return v.is_null() ? std::numeric_limits<double>::quiet_NaN() : v.as_double();
}

Value to_value(const MetricValues& metrics) {
  Value v = Value::map();
  for (const auto& [name, value] : metrics) v[name] = number(value);
  return v;
}

// Of a run or a stage; those of version 1 had accuracies alone.
MetricValues metrics_of(const Value& v) {
  MetricValues metrics;
  if (const Value* all = v.find("metrics")) {
    for (const Value::Entry& e : all->as_map()) metrics.emplace_back(e.key, number_of(e.value));
    return metrics;
  }
  metrics.emplace_back("accuracy", v.at("accuracy").as_double());
  if (const Value* top5 = v.find("top5")) metrics.emplace_back("top5", top5->as_double());
  return metrics;
}

NetworkSize size_of(const Value& v) {
  return {v.at("params").as_int(), v.at("macs").as_int()};
}

void add(Value& to, const RunResult& r) {
  to["metrics"] = to_value(r.metrics);
  to["metric"] = Value::map({{"name", r.leading.name},
                             {"unit", r.leading.unit},
                             {"larger_is_better", r.leading.larger_is_better},
                             {"best", number(r.best)}});
  if (r.validation) to["metric"]["validation"] = number(*r.validation);
  to["loss"] = number(r.loss);
  if (r.train_loss) to["train_loss"] = number(*r.train_loss);
  to["sparsity"] = r.sparsity;
  to["base"] = to_value(r.base);
  to["final"] = to_value(r.final);
  to["train_cost"] = r.train_cost;
  if (r.train_macs) to["train_macs"] = *r.train_macs;
  to["seconds"] = r.seconds;
  to["device"] = r.device;
  to["precision"] = r.precision;
  to["threads"] = r.threads;
}

RunResult result_of(const Value& v) {
  RunResult r;
  r.metrics = metrics_of(v);
  if (const Value* leading = v.find("metric")) {
    r.leading = {leading->at("name").as_string(), leading->at("unit").as_string(),
                 leading->at("larger_is_better").as_bool()};
    r.best = number_of(leading->at("best"));
    if (const Value* validation = leading->find("validation")) r.validation = number_of(*validation);
  } else {
    r.best = v.at("accuracy_best").as_double();
  }
  r.loss = number_of(v.at("loss"));
  if (const Value* loss = v.find("train_loss")) r.train_loss = number_of(*loss);
  if (const Value* sparsity = v.find("sparsity")) r.sparsity = sparsity->as_double();
  r.base = size_of(v.at("base"));
  r.final = size_of(v.at("final"));
  r.train_cost = v.at("train_cost").as_double();
  if (const Value* macs = v.find("train_macs")) r.train_macs = macs->as_double();
  r.seconds = v.at("seconds").as_double();
  r.device = v.at("device").as_string();
  r.precision = v.at("precision").as_string();
  r.threads = v.at("threads").as_int();
  return r;
}

}  // namespace

std::string metric_text(double value, const std::string& unit) {
  if (unit == "%") return fixed(value, 2) + " %";
  char text[40];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text + (unit.empty() ? "" : " " + unit);
}

Value StageSummary::to_value() const {
  Value v = Value::map({{"name", name},
                        {"epochs", epochs},
                        {"metrics", espalier::to_value(metrics)},
                        {"before", espalier::to_value(before)},
                        {"after", espalier::to_value(after)},
                        {"seconds", seconds}});
  if (!measured.empty()) v["measured"] = espalier::to_value(measured);
  return v;
}

StageSummary StageSummary::from_value(const Value& v) {
  StageSummary s{v.at("name").as_string(), v.at("epochs").as_int(), metrics_of(v),
                 size_of(v.at("before")),  size_of(v.at("after")),  v.at("seconds").as_double()};
  if (const Value* measured = v.find("measured")) {
    for (const Value::Entry& e : measured->as_map()) s.measured.emplace_back(e.key, number_of(e.value));
  }
  return s;
}

std::optional<double> Summary::metric(std::string_view metric_name) const {
  for (const StageSummary& stage : stages) {
    for (const auto& [measured, value] : stage.measured) {
      if (metric_name == stage.name + "." + measured) return value;
    }
  }
  if (!result) return std::nullopt;
  for (const auto& [name_of_metric, value] : result->metrics) {
    if (metric_name == name_of_metric) return value;
  }
  if (metric_name == result->leading.name + "_best") return result->best;
  if (metric_name == "loss") return result->loss;
  if (metric_name == "train_loss") return result->train_loss;
  if (metric_name == "sparsity") return result->sparsity;
  if (metric_name == "params") return static_cast<double>(result->final.params);
  if (metric_name == "macs") return static_cast<double>(result->final.macs);
  if (metric_name == "train_cost") return result->train_cost;
  if (metric_name == "seconds") return result->seconds;
  return std::nullopt;
}

Value Summary::to_value() const {
  Value v = Value::map({{"version", version}, {"name", name}, {"seed", seed}, {"status", status}});
  if (!error.empty()) v["error"] = error;
  if (result) add(v, *result);
  Value& list = v["stages"] = Value::list();
  for (const StageSummary& s : stages) list.push_back(s.to_value());
  if (!expect.is_null()) v["expect"] = expect;
  return v;
}

Summary Summary::from_value(const Value& v) {
  const Value* written = v.find("version");  // runs of before there were versions have the same fields
  if (written && written->as_int() > version) {
    throw InputError("", "it is of version " + std::to_string(written->as_int()) +
                             ", this program reads versions up to " + std::to_string(version));
  }
  Summary s;
  s.name = v.at("name").as_string();
  s.seed = v.at("seed").as_int();
  s.status = v.at("status").as_string();
  if (const Value* e = v.find("error")) s.error = e->as_string();
  if (s.status == "finished") s.result = result_of(v);
  if (const Value* list = v.find("stages")) {
    for (const Value& stage : list->as_list()) s.stages.push_back(StageSummary::from_value(stage));
  }
  if (const Value* e = v.find("expect")) s.expect = *e;
  return s;
}

void Summary::write(const std::filesystem::path& run) const {
  write_file(run / file_name, to_json(to_value(), 1) + "\n");
}

std::optional<Summary> Summary::read(const std::filesystem::path& run) {
  const std::filesystem::path file = run / file_name;
  if (!std::filesystem::exists(file)) return std::nullopt;
  try {
    return from_value(from_json(read_file(file), file.string()));
  } catch (const InputError& e) {
    throw InputError(file.string(), std::string("is no summary of a run: ") + e.what());
  }
}

}  // namespace espalier
