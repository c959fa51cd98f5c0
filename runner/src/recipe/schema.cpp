#include "recipe/schema.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "espalier/augmentation.h"
#include "recipe/schedule.h"
#include "recipe/sections.h"

namespace espalier {

namespace {

Value ref(const std::string& definition) {
  return Value::map({{"$ref", "#/definitions/" + definition}});
}

Value list_of(std::initializer_list<Value> items) {
  return Value(Value::List(items));
}

Value number_schema(const ParameterInfo& p, const char* type) {
  Value s = Value::map({{"type", type}});
  if (std::isfinite(p.least)) s[p.open_below ? "exclusiveMinimum" : "minimum"] = p.least;
  if (std::isfinite(p.most)) s[p.open_above ? "exclusiveMaximum" : "maximum"] = p.most;
  return s;
}

// A single item where a list is meant is a list of one.
Value list_schema(const Value& item) {
  return Value::map({{"anyOf", list_of({item, Value::map({{"type", "array"}, {"items", item}})})}});
}

// An object of these options and no others.
Value options_schema(const std::vector<ParameterInfo>& options);

Value type_schema(const ParameterInfo& p) {
  const Value text = Value::map({{"type", "string"}});
  switch (p.type) {
    case ParameterType::boolean:
      return Value::map({{"type", "boolean"}});
    case ParameterType::integer:
      return number_schema(p, "integer");
    case ParameterType::number:
      return number_schema(p, "number");
    case ParameterType::string:
    case ParameterType::path:
      return text;
    case ParameterType::choice:
      return Value::map({{"enum", p.choices}});
    case ParameterType::integers:
      return list_schema(number_schema(p, "integer"));
    case ParameterType::numbers:
      return list_schema(number_schema(p, "number"));
    case ParameterType::strings:
      return list_schema(Value::map({{"anyOf", list_of({text, Value::map({{"type", "integer"}})})}}));
    case ParameterType::selector:
      return list_schema(text);
    case ParameterType::per_selector: {
      const Value number = number_schema(p, "number");
      return Value::map(
          {{"anyOf", list_of({number, Value::map({{"type", "object"}, {"additionalProperties", number}})})}});
    }
    case ParameterType::component:
      return ref(p.component_kind);
    case ParameterType::components:
      return list_schema(ref(p.component_kind));
    case ParameterType::options: {
      const Value map = options_schema(p.options);
      return p.choices.empty() ? map : Value::map({{"anyOf", list_of({map, Value::map({{"enum", p.choices}})})}});
    }
  }
  return Value::map();
}

Value parameter_schema(const ParameterInfo& p) {
  Value type = type_schema(p);
  // What has no default may be null: none.
  if (!p.required && p.fallback.is_null())
    type = Value::map({{"anyOf", list_of({Value::map({{"type", "null"}}), type})}});
  // Beside a $ref everything else is ignored.
  Value s = type.find("$ref") ? Value::map({{"allOf", list_of({type})}}) : std::move(type);
  const std::string unit = p.unit.empty() ? "" : " [" + p.unit + "]";
  if (!p.doc.empty() || !unit.empty()) s["description"] = p.doc + unit;
  if (!p.required && !p.fallback.is_null()) s["default"] = p.fallback;
  return s;
}

// An object of these keys and no others.
struct ObjectSchema {
  Value properties = Value::map();
  Value required = Value::list();

  ObjectSchema& add(const std::vector<ParameterInfo>& parameters) {
    for (const ParameterInfo& p : parameters) {
      properties[p.name] = parameter_schema(p);
      if (p.required) required.push_back(p.name);
    }
    return *this;
  }
  ObjectSchema& add(const std::string& name, Value schema) {
    properties[name] = std::move(schema);
    return *this;
  }
  Value value(bool whole = true) const {
    Value s = Value::map({{"type", "object"}, {"properties", properties}, {"additionalProperties", false}});
    if (whole && required.size() > 0) s["required"] = required;
    return s;
  }
};

Value options_schema(const std::vector<ParameterInfo>& options) {
  return ObjectSchema().add(options).value();
}

Value described(Value schema, const std::string& doc) {
  schema["description"] = doc;
  return schema;
}

Value names_schema(const Registry& registry, const std::string& kind) {
  Value names = Value::list();
  for (const std::string& name : registry.names(kind)) {
    names.push_back(described(Value::map({{"const", name}}), registry.find(kind, name)->component.doc));
  }
  // anyOf nothing is no schema.
  if (names.size() == 0) return Value::map({{"enum", Value::list()}});
  return Value::map({{"anyOf", names}});
}

// A component: its name, or {use: NAME, ...}. One `if` for each name gives editors that component's keys and errors
// only.
Value component_schema(const Registry& registry, const std::string& kind, const ObjectSchema& more,
                       bool use_required = true) {
  Value object = Value::map({{"type", "object"}, {"properties", Value::map({{"use", names_schema(registry, kind)}})}});
  if (use_required) object["required"] = std::vector<std::string>{"use"};
  Value cases = Value::list();
  for (const std::string& name : registry.names(kind)) {
    ObjectSchema own = more;
    own.add(registry.find(kind, name)->component.parameters).add("use", Value::map({{"const", name}}));
    const Value with_name = Value::map({{"required", std::vector<std::string>{"use"}},
                                        {"properties", Value::map({{"use", Value::map({{"const", name}})}})}});
    cases.push_back(Value::map({{"if", with_name}, {"then", own.value()}}));
  }
  if (cases.size() > 0) object["allOf"] = cases;
  return Value::map(
      {{"if", Value::map({{"type", "string"}})}, {"then", names_schema(registry, kind)}, {"else", object}});
}

ObjectSchema data_keys(const Registry& registry) {
  ObjectSchema keys;
  keys.add(Declare<DataKeys>().parameters());
  // {NAME: VALUE}: the first parameter of each.
  Value amounts = Value::map();
  for (const std::string& name : registry.names(Augmentation::kind)) {
    const std::vector<ParameterInfo>& parameters = registry.find(Augmentation::kind, name)->component.parameters;
    if (parameters.empty()) continue;
    ParameterInfo amount = parameters.front();
    amount.fallback = Value();  // null: the default
    amounts[name] = parameter_schema(amount);
  }
  const Value short_form = Value::map({{"type", "object"}, {"properties", amounts}, {"additionalProperties", false}});
  const Value step = Value::map({{"anyOf", list_of({component_schema(registry, Augmentation::kind, {}), short_form})}});
  keys.add("augment", described(list_schema(step), data_subsections()[0].doc));
  const Value one =
      Value::map({{"anyOf", list_of({Value::map({{"type", "boolean"}}), Value::map({{"const", "standardize"}}),
                                     ObjectSchema().add(Declare<NormalizeKeys>().parameters()).value()})}});
  const Value normalize = list_of({one, Value::map({{"type", "object"}, {"additionalProperties", one}})});
  keys.add("normalize", described(Value::map({{"anyOf", normalize}, {"default", true}}), data_subsections()[2].doc));
  const Value resize =
      list_of({Value::map({{"type", "integer"}, {"minimum", 1}}),
               ObjectSchema().add(Declare<ResizeKeys>().parameters()).value(), Value::map({{"type", "null"}})});
  keys.add("resize", described(Value::map({{"anyOf", resize}}), data_subsections()[1].doc));
  return keys;
}

Value one_key(const std::string& name, Value value, const std::string& doc) {
  ObjectSchema object;
  object.add(name, described(std::move(value), doc));
  object.required.push_back(name);
  return object.value();
}

// A `matrix` of random draws.
Value random_schema() {
  const auto integer = [](double least) { return Value::map({{"type", "integer"}, {"minimum", least}}); };
  const auto bounds = [](Value of_each) {
    return Value::map({{"type", "array"}, {"items", std::move(of_each)}, {"minItems", 2}, {"maxItems", 2}});
  };
  const Value number = Value::map({{"type", "number"}});
  const Value values = Value::map({{"type", "array"}, {"minItems", 1}, {"uniqueItems", true}});
  const Value distribution = list_of({
      one_key("uniform", bounds(number), "Numbers between two bounds."),
      one_key("log_uniform", bounds(Value::map({{"type", "number"}, {"exclusiveMinimum", 0.0}})),
              "Numbers whose logarithms are uniform between those of two bounds."),
      one_key("int", bounds(Value::map({{"type", "integer"}})), "Integers from one bound to the other."),
      one_key("log_int", bounds(integer(1)),
              "Integers from one bound to the other, the logarithms of which are about uniform."),
      one_key("choice", values, "Any of the values, each as often."),
  });
  Value runs = integer(1), seed = integer(0);
  seed["default"] = 0;
  runs["maximum"] = 1000.0;
  const Value draw = Value::map(
      {{"type", "object"}, {"minProperties", 1}, {"additionalProperties", Value::map({{"anyOf", distribution}})}});
  ObjectSchema random;
  random.add("random", described(runs, "Number of runs. More of them leave the first as they are."))
      .add("seed", described(seed, "Seed of the draws."))
      .add("draw", described(draw, "What is drawn for each run: paths as --set takes them, with distributions."));
  random.required = std::vector<std::string>{"random", "draw"};
  return random.value();
}

// A recipe's networks take more keys than backbones elsewhere.
std::vector<ParameterInfo> with_network(std::vector<ParameterInfo> keys) {
  for (ParameterInfo& p : keys) {
    if (p.component_kind == "backbone") p.component_kind = "network";
  }
  return keys;
}

}  // namespace

Value recipe_schema(const Registry& registry) {
  Value definitions = Value::map();
  for (const char* kind :
       {"backbone", "regularizer", "controller", Schedule::kind, "operation", "loss", "metric", "score"}) {
    definitions[kind] = component_schema(registry, kind, {});
  }
  const Value single = Value::map({{"type", "string"}});
  const Value replacement = Value::map(
      {{"anyOf", Value(Value::List{single, Value::map({{"type", "array"}, {"items", single}, {"minItems", 1}})})}});
  const Value replacements = Value::map({{"type", "object"}, {"additionalProperties", replacement}});
  ObjectSchema values;
  values.add(Declare<NetworkKeys>().parameters()).add("rename", described(replacements, network_subsections()[0].doc));
  // Without `use` the structure is that of the run in `from`.
  Value of_run = values.value();
  of_run["required"] = std::vector<std::string>{"from"};
  definitions["network"] = Value::map({{"if", Value::map({{"required", std::vector<std::string>{"use"}}})},
                                       {"then", component_schema(registry, "backbone", values)},
                                       {"else", of_run}});
  definitions["optimizer"] =
      component_schema(registry, "optimizer", ObjectSchema().add(Declare<OptimizerKeys>().parameters()));
  definitions["dataset"] = component_schema(registry, "dataset", {});
  definitions["data"] = component_schema(registry, "dataset", data_keys(registry));
  definitions["data_changes"] = component_schema(registry, "dataset", data_keys(registry), false);

  ObjectSchema stage;
  stage.add(with_network(Declare<StageKeys>().parameters()));
  stage.add("data", described(Value::map({{"allOf", list_of({ref("data_changes")})}}), stage_subsections()[0].doc));
  const auto stage_section = [&](const char* name, const std::vector<ParameterInfo>& keys) {
    const auto info = std::ranges::find(stage_subsections(), name, &SubsectionInfo::name);
    const Value no_section = Value::map({{"type", "null"}});
    stage.add(name,
              described(Value::map({{"anyOf", list_of({ObjectSchema().add(keys).value(), no_section})}}), info->doc));
  };
  stage_section("ema", Declare<EmaKeys>().parameters());
  stage_section("early_stop", Declare<EarlyStopKeys>().parameters());
  stage_section("stop_below", Declare<StopBelowKeys>().parameters());
  definitions["stage"] = stage.value();
  definitions["stage_changes"] = stage.value(false);

  const auto& sections = recipe_subsections();
  const Value text = Value::map({{"type", "string"}});
  ObjectSchema recipe;
  recipe.add(with_network(Declare<RecipeKeys>().parameters()));
  recipe.properties["espalier"] = Value::map({{"const", 1}, {"description", "version of the recipe format"}});
  recipe.add("extends", described(list_schema(text), "recipes that this one is laid over, relative to its own folder"));
  recipe.add("data", described(Value::map({{"allOf", list_of({ref("data")})}}), sections[0].doc));
  const Value stages = Value::map({{"type", "array"}, {"items", ref("stage")}, {"minItems", 1}});
  const Value by_name = Value::map({{"type", "object"}, {"additionalProperties", ref("stage_changes")}});
  recipe.add("stages", described(Value::map({{"anyOf", list_of({stages, by_name})}}), sections[1].doc));
  definitions["base"] =
      component_schema(registry, "backbone", ObjectSchema().add(Declare<BaseCostKeys>().parameters()));
  const Value base = list_of({ObjectSchema().add(Declare<BaseKeys>().parameters()).value(), ref("base")});
  recipe.add("base", described(Value::map({{"anyOf", base}}), sections[2].doc));
  const Value metric = ObjectSchema().add(Declare<ExpectKeys>().parameters()).value();
  ObjectSchema metrics;
  for (const std::string& name : expected_of_every_run()) metrics.add(name, metric);
  for (const std::string& name : registry.names("metric")) metrics.add(name, metric).add(name + "_best", metric);
  Value expect = metrics.value();
  expect["patternProperties"] = Value::map({{"^[^.]+[.].+$", metric}});  // STAGE.NAME
  recipe.add("expect", described(expect, sections[3].doc));
  const Value never = Value::map({{"enum", Value::list()}});
  const Value grid =
      Value::map({{"type", "object"},
                  {"minProperties", 1},
                  {"properties", Value::map({{"random", never}, {"draw", never}})},
                  {"additionalProperties", Value::map({{"type", "array"}, {"minItems", 1}, {"uniqueItems", true}})}});
  const Value points = Value::map({{"type", "array"},
                                   {"items", Value::map({{"type", "object"}, {"minProperties", 1}})},
                                   {"minItems", 1},
                                   {"uniqueItems", true}});
  const Value no_matrix = Value::map({{"type", "null"}});
  recipe.add("matrix",
             described(Value::map({{"anyOf", list_of({grid, points, random_schema(), no_matrix})}}), sections[4].doc));

  const Value changes =
      Value::map({{"anyOf", list_of({Value::map({{"type", "object"}}), Value::map({{"type", "null"}})})}});
  recipe.add("scales", described(Value::map({{"type", "object"}, {"additionalProperties", changes}}), sections[5].doc));

  Value schema = recipe.value(false);
  schema.as_map().insert(schema.as_map().begin(), {{"$schema", "http://json-schema.org/draft-07/schema#", {}},
                                                   {"title", "Espalier recipe", {}}});
  Value whole = recipe.required;
  for (const SubsectionInfo& s : sections) {
    if (s.required) whole.push_back(s.name);
  }
  // A recipe that extends another may leave out whatever that one has, and change its stages by their names.
  schema["if"] = Value::map({{"required", std::vector<std::string>{"extends"}}});
  schema["then"] = Value::map();
  schema["else"] = Value::map({{"required", whole}, {"properties", Value::map({{"stages", stages}})}});
  schema["definitions"] = definitions;
  return schema;
}

}  // namespace espalier
