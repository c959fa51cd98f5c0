// What holds for the parameters of every component.
#include <cmath>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/augmentation.h"
#include "espalier/backbone.h"
#include "espalier/controller.h"
#include "espalier/dataset.h"
#include "espalier/loss.h"
#include "espalier/metric.h"
#include "espalier/operation.h"
#include "espalier/optimizer.h"
#include "espalier/regularizer.h"
#include "espalier/schedule.h"
#include "espalier/score.h"

namespace espalier {

namespace {

bool is_of_kind(const Object& o, const std::string& kind) {
  return (kind == Dataset::kind && dynamic_cast<const Dataset*>(&o)) ||
         (kind == Backbone::kind && dynamic_cast<const Backbone*>(&o)) ||
         (kind == Operation::kind && dynamic_cast<const Operation*>(&o)) ||
         (kind == Regularizer::kind && dynamic_cast<const Regularizer*>(&o)) ||
         (kind == Optimizer::kind && dynamic_cast<const Optimizer*>(&o)) ||
         (kind == Controller::kind && dynamic_cast<const Controller*>(&o)) ||
         (kind == Schedule::kind && dynamic_cast<const Schedule*>(&o)) ||
         (kind == Augmentation::kind && dynamic_cast<const Augmentation*>(&o)) ||
         (kind == Loss::kind && dynamic_cast<const Loss*>(&o)) ||
         (kind == Metric::kind && dynamic_cast<const Metric*>(&o)) ||
         (kind == Score::kind && dynamic_cast<const Score*>(&o));
}

void expect_line(const std::string& what, const std::string& doc) {
  expect(!doc.empty() && doc.find('\n') == std::string::npos, "one line of documentation for " + what, "'" + doc + "'");
}

std::unique_ptr<Object> make(const Component& c, const Value& options, const std::string& with) {
  std::unique_ptr<Object> object;
  try {
    object = c.create(options);
  } catch (const std::exception& e) {
    throw CheckFailure("an object with " + with, std::string("the error \"") + e.what() + "\"");
  }
  expect(object != nullptr, "an object with " + with, "none");
  expect(is_of_kind(*object, c.kind), "an object whose class derives from that of " + with_article(c.kind),
         "one of another class");
  return object;
}

// The factory itself must refuse them, not only the recipe that is checked before.
void expect_refusal(const Component& c, Value options, const std::string& key, const Value& value,
                    const std::string& declared) {
  options[key] = value;
  const std::string given = key + " = " + to_json(value);
  try {
    c.create(options);
  } catch (const std::exception& e) {
    expect(std::string(e.what()).find(key) != std::string::npos,
           "an error for " + given + " that names '" + key + "' (" + declared + ")",
           std::string("\"") + e.what() + "\"");
    return;
  }
  throw CheckFailure("an error for " + given + " (" + declared + ")", "no error");
}

// Values that a parameter must not take: of other types, and just beyond its bounds.
std::vector<Value> forbidden(const ParameterInfo& p) {
  std::vector<Value> numbers;
  const bool whole = p.type == ParameterType::integer || p.type == ParameterType::integers;
  const auto beyond = [&](double bound, bool open, double sign) {
    if (!std::isfinite(bound)) return;
    if (open) {
      numbers.emplace_back(bound);
    } else {
      numbers.emplace_back(bound + sign * (whole ? 1 : std::max(1.0, std::abs(bound)) * 1e-6));
    }
  };
  beyond(p.least, p.open_below, -1);
  beyond(p.most, p.open_above, 1);
  if (whole) numbers.emplace_back(1.5);
  switch (p.type) {
    case ParameterType::boolean:
      return {"yes", 1};
    case ParameterType::integer:
    case ParameterType::number:
    case ParameterType::per_selector:
      numbers.emplace_back("many");
      return numbers;
    case ParameterType::integers:
    case ParameterType::numbers:
      for (Value& v : numbers) v = Value(Value::List{v});
      numbers.push_back(Value(Value::List{"many"}));
      return numbers;
    case ParameterType::string:
    case ParameterType::path:
      return {1, Value::list()};
    case ParameterType::choice:
      return {"none of these", 1};
    case ParameterType::strings:  // whole numbers may be names
      return {0.5, Value(Value::List{0.5})};
    case ParameterType::selector:
      return {1, Value(Value::List{1})};
    case ParameterType::component:
    case ParameterType::components:
      return {1, Value::map()};
    case ParameterType::options: {
      std::vector<Value> values{1, "no such word", Value::map({{"no_such_parameter", 1}})};
      for (const ParameterInfo& inner : p.options) {
        for (const Value& v : forbidden(inner)) {
          Value map = Value::map();
          map[inner.name] = v;
          values.push_back(std::move(map));
        }
      }
      return values;
    }
  }
  return {};
}

std::string check_parameters(const Registered& r) {
  const Component& c = r.component;
  expect_line(c.kind + " '" + c.name + "'", c.doc);
  for (const ParameterInfo& p : c.parameters) {
    expect_line("the parameter '" + p.name + "'", p.doc);
    expect(p.least <= p.most, "bounds of '" + p.name + "' that allow something", p.expected());
    // The defaults of objects are checked where they are made.
    if (!p.required && !p.fallback.is_null()) p.check(p.fallback);
  }
  const Value options = example_spec(r);
  const std::unique_ptr<Object> first = make(c, options, "defaults");
  expect(make(c, options, "defaults") != first, "a new object each time", "the same");
  for (const ParameterInfo& p : c.parameters) {
    if (!p.required && !p.fallback.is_null()) {
      Value given = options;
      given[p.name] = p.fallback;
      make(c, given, "its default of '" + p.name + "', " + to_json(p.fallback));
    }
    for (const Value& v : forbidden(p)) expect_refusal(c, options, p.name, v, p.expected());
  }
  expect_refusal(c, options, "no_such_parameter", 1, "there is no such parameter");
  return {};
}

}  // namespace

std::vector<Check> parameter_checks() {
  return {{"", "parameters", "documented; defaults are accepted, other types, bounds and unknown names enforced",
           check_parameters}};
}

}  // namespace espalier
