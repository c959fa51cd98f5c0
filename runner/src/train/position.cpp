#include "train/position.h"

namespace espalier {

namespace {

// The one list of the fields: what is written is read.
template <class Position, class Visit>
void fields(Position& p, const Visit& visit) {
  visit("stage", p.stage);
  visit("stage_begun", p.stage_begun);
  visit("ended", p.ended);
  visit("ended_by", p.ended_by);
  visit("epoch", p.epoch);
  visit("epoch_begun", p.epoch_begun);
  visit("step", p.step);
  visit("epochs_done", p.epochs_done);
  visit("steps_done", p.steps_done);
  visit("steps_total", p.steps_total);
  visit("lr_factor", p.lr_factor);
  visit("train_loss", p.train_loss);
  visit("macs_sum", p.macs_sum);
  visit("base_macs", p.base_macs);
  visit("best_score", p.best_score);
  visit("best_selection", p.best_selection);
  visit("best_watched", p.best_watched);
  visit("waited", p.waited);
  visit("stages", p.stages);
}

struct Writer {
  Value& to;
  void operator()(const char* name, size_t v) const { to[name] = static_cast<int64_t>(v); }
  void operator()(const char* name, const std::optional<double>& v) const { to[name] = v ? Value(*v) : Value(); }
  void operator()(const char* name, const std::vector<StageSummary>& v) const {
    Value& list = to[name] = Value::list();
    for (const StageSummary& s : v) list.push_back(s.to_value());
  }
  template <class T>
  void operator()(const char* name, const T& v) const {
    to[name] = v;
  }
};

struct Reader {
  const Value& from;
  void operator()(const char* name, size_t& v) const { v = static_cast<size_t>(from.at(name).as_int()); }
  void operator()(const char* name, std::string& v) const { v = from.at(name).as_string(); }
  void operator()(const char* name, bool& v) const { v = from.at(name).as_bool(); }
  void operator()(const char* name, int64_t& v) const { v = from.at(name).as_int(); }
  void operator()(const char* name, double& v) const { v = from.at(name).as_double(); }
  void operator()(const char* name, std::optional<double>& v) const {
    const Value& given = from.at(name);
    v = given.is_null() ? std::nullopt : std::optional(given.as_double());
  }
  void operator()(const char* name, std::vector<StageSummary>& v) const {
    v.clear();
    for (const Value& s : from.at(name).as_list()) v.push_back(StageSummary::from_value(s));
  }
};

}  // namespace

void Position::write(Value& progress) const {
  fields(*this, Writer{progress});
}

void Position::read(const Value& progress) {
  fields(*this, Reader{progress});
}

}  // namespace espalier
