#include "recipe/schema.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "espalier/error.h"
#include "recipe/recipe.h"
#include "recipe/yaml.h"
#include "sweep/matrix.h"
#include "temp_folder.h"
#include "test_components.h"

namespace espalier {
namespace {

// As much of JSON Schema as recipe_schema() uses; a keyword that it does not know fails the test.
class Validator {
 public:
  explicit Validator(Value root) : root_(std::move(root)) {}

  bool accepts(const Value& v) const { return fits(root_, v); }

 private:
  static bool is_type(const std::string& type, const Value& v) {
    if (type == "null") return v.is_null();
    if (type == "boolean") return v.is(Value::Kind::boolean);
    if (type == "string") return v.is_string();
    if (type == "array") return v.is_list();
    if (type == "object") return v.is_map();
    if (type == "number") return v.is_number();
    return type == "integer" && v.is_number() && std::nearbyint(v.as_double()) == v.as_double();
  }

  bool fits(const Value& schema, const Value& v) const {
    bool ok = true;
    for (const Value::Entry& e : schema.as_map()) ok = keyword(schema, e.key, e.value, v) && ok;
    return ok;
  }

  bool keyword(const Value& schema, const std::string& key, const Value& rule, const Value& v) const {
    if (key == "$schema" || key == "title" || key == "description" || key == "default" || key == "definitions" ||
        key == "then" || key == "else")
      return true;
    if (key == "$ref") {
      EXPECT_EQ(schema.size(), 1u) << "keys beside $ref are ignored";
      return fits(root_.at("definitions").at(rule.as_string().substr(std::string("#/definitions/").size())), v);
    }
    if (key == "type") return is_type(rule.as_string(), v);
    if (key == "const") return v == rule;
    if (key == "enum") return any(rule, [&](const Value& e) { return e == v; });
    if (key == "anyOf") return any(rule, [&](const Value& s) { return fits(s, v); });
    if (key == "allOf") return !any(rule, [&](const Value& s) { return !fits(s, v); });
    if (key == "if") {
      const Value* branch = schema.find(fits(rule, v) ? "then" : "else");
      return !branch || fits(*branch, v);
    }
    if (key == "minimum") return !v.is_number() || v.as_double() >= rule.as_double();
    if (key == "maximum") return !v.is_number() || v.as_double() <= rule.as_double();
    if (key == "exclusiveMinimum") return !v.is_number() || v.as_double() > rule.as_double();
    if (key == "exclusiveMaximum") return !v.is_number() || v.as_double() < rule.as_double();
    if (key == "maxItems") return !v.is_list() || v.size() <= static_cast<size_t>(rule.as_int());
    if (key == "minItems") return !v.is_list() || v.size() >= static_cast<size_t>(rule.as_int());
    if (key == "minProperties") return !v.is_map() || v.size() >= static_cast<size_t>(rule.as_int());
    if (key == "uniqueItems") {
      if (!v.is_list()) return true;
      const Value::List& items = v.as_list();
      for (auto i = items.begin(); i != items.end(); ++i) {
        if (std::find(items.begin(), i, *i) != i) return false;
      }
      return true;
    }
    if (key == "items") return !v.is_list() || !any(v, [&](const Value& e) { return !fits(rule, e); });
    if (key == "required")
      return !v.is_map() || !any(rule, [&](const Value& name) { return !v.find(name.as_string()); });
    if (key == "properties") {
      if (!v.is_map()) return true;
      for (const Value::Entry& e : v.as_map()) {
        const Value* property = rule.find(e.key);
        if (property && !fits(*property, e.value)) return false;
      }
      return true;
    }
    if (key == "patternProperties") {
      if (!v.is_map()) return true;
      for (const Value::Entry& e : v.as_map()) {
        for (const Value::Entry& pattern : rule.as_map()) {
          if (matches(e.key, pattern.key) && !fits(pattern.value, e.value)) return false;
        }
      }
      return true;
    }
    if (key == "additionalProperties") {
      if (!v.is_map()) return true;
      for (const Value::Entry& e : v.as_map()) {
        if (schema.find("properties") && schema.at("properties").find(e.key)) continue;
        const Value* patterns = schema.find("patternProperties");
        if (patterns && std::ranges::any_of(patterns->as_map(), [&](const auto& p) { return matches(e.key, p.key); }))
          continue;
        if (!rule.is_map() || !fits(rule, e.value)) return false;
      }
      return true;
    }
    ADD_FAILURE() << "unknown keyword " << key;
    return false;
  }

  static bool matches(const std::string& key, const std::string& pattern) {
    return std::regex_search(key, std::regex(pattern));
  }

  template <class Predicate>
  static bool any(const Value& list, Predicate predicate) {
    for (const Value& e : list.as_list()) {
      if (predicate(e)) return true;
    }
    return false;
  }

  Value root_;
};

using test::toys;

bool loads(const std::string& text) {
  static const TempFolder folder;
  try {
    load_recipe(folder.write("r.yaml", text), {}, toys());
    return true;
  } catch (const InputError&) {
    return false;
  }
}

const std::string head = "espalier: 1\nname: x\n";
const std::string tail = "stages: [{name: one, epochs: 1, optimizer: toy_sgd}]\n";

const std::string good_recipes[] = {
    head + "data: toy_images\nnetwork: toy_net\n" + tail,
    head +
        "data: {use: toy_images, samples: 3, batch: 7, augment: [crop, {rotate: 3}, flip: ], normalize: {mean: 1, std: "
        "[1]}}\nnetwork: {use: toy_net, "
        "hidden: 3}\n" +
        tail,
    head +
        "data: {use: toy_vectors, normalize: false, augment: crop}\nnetwork: {use: toy_net, hidden: [3, 4]}\nseed: "
        "1e3\nbase: {macs: 1}\n" +
        tail,
    head +
        "data: toy_images\nnetwork: toy_plain\nbase: toy_net\nexpect: {accuracy: {value: 1, within: 0}, b.found: "
        "{value: 1, within: 0}}\n"
        "description: "
        "text\n" +
        "stages:\n  - {name: a, epochs: 0, data: {batch: 3}, network: toy_net, clip_norm: }\n"
        "  - {name: b, epochs: 1, optimizers: [{use: toy_sgd, on: weights}, {use: toy_sgd, on: [norms, \"!fc\"], lr: "
        "3}], regularizers: [toy_l1], "
        "schedule: {use: step, milestones: 0.5}, controller: {use: toy_every, needed: 1, tau: {conv: 3}, penalties: "
        "[toy_l1, "
        "{use: toy_l1, weight: 3}], inner: toy_sgd}}\n",
    head + "data: toy_images\nnetwork: toy_net\nbase: {use: toy_net, epochs: 3}\nscales: {smoke: {seed: 3}}\n" + tail,
    head +
        "data: toy_images\nnetwork: {use: toy_net, from: old.pt, rename: {'^module': net}, partial: true}\nstages:\n"
        "  - {name: a, epochs: 0, network: {use: toy_plain, from: ../run}}\n",
};

TEST(RecipeSchema, AcceptsGoodRecipes) {
  const Validator schema(recipe_schema(toys()));
  for (const std::string& text : good_recipes) {
    EXPECT_TRUE(loads(text)) << text;
    EXPECT_TRUE(schema.accepts(parse_yaml(text, "r.yaml"))) << text;
  }
  // A part, to be laid over another.
  EXPECT_TRUE(schema.accepts(parse_yaml("extends: base.yaml\ndata: {use: toy_images, batch: 3}\n", "r.yaml")));
  EXPECT_FALSE(schema.accepts(parse_yaml("data: {use: toy_images, batch: 3}\n", "r.yaml")));
}

TEST(RecipeSchema, AcceptsTheResolvedRecipe) {
  const Validator schema(recipe_schema(toys()));
  const TempFolder folder;
  for (const std::string& text : good_recipes) {
    const Recipe r = load_recipe(folder.write("r.yaml", text), {}, toys());
    EXPECT_TRUE(schema.accepts(r.resolved)) << to_yaml(r.resolved);
  }
}

TEST(RecipeSchema, RefusesWhatTheReaderRefuses) {
  const Validator schema(recipe_schema(toys()));
  const auto with_stage = [](const std::string& more) {
    return head + "data: toy_images\nnetwork: toy_net\nstages: [{name: one, epochs: 1, optimizer: toy_sgd, " + more +
           "}]\n";
  };
  const auto with_data = [](const std::string& more) {
    return head + "data: {use: toy_images, " + more + "}\nnetwork: toy_net\n" + tail;
  };
  const std::string fine = head + "data: toy_images\nnetwork: toy_net\n" + tail;
  for (const std::string& text : {"espalier: 2\nname: x\ndata: toy_images\nnetwork: toy_net\n" + tail,
                                  head + "network: toy_net\n" + tail,
                                  fine + "sed: 3\n",
                                  fine + "seed: -1\n",
                                  fine + "seed: 1.5\n",
                                  fine + "device: gpu\n",
                                  head + "data: toy_imag\nnetwork: toy_net\n" + tail,
                                  head + "data: toy_images\nnetwork: toy_sgd\n" + tail,
                                  with_data("samples: 0"),
                                  with_data("bacth: 3"),
                                  with_data("validation: 1"),
                                  with_data("augment: [crp]"),
                                  with_data("augment: [flip: 2]"),
                                  with_data("normalize: {mean: 1}"),
                                  with_data("normalize: all"),
                                  with_stage("epocs: 1"),
                                  with_stage("label_smoothing: 1"),
                                  with_stage("clip_norm: 0"),
                                  with_stage("start_from: middle"),
                                  with_stage("regularizers: [toy_l2]"),
                                  with_stage("regularizers: [{use: toy_l1, weight: -1}]"),
                                  with_stage("controller: toy_l1"),
                                  with_stage("controller: {use: toy_every}"),
                                  with_stage("controller: {use: toy_every, needed: 1, mode: slow}"),
                                  with_stage("controller: {use: toy_every, needed: 1, tau: {conv: x}}"),
                                  with_stage("controller: {use: toy_every, needed: 1, inner: {use: toy_sgd, lr: 0}}"),
                                  with_stage("controller: {needed: 1}"),
                                  with_stage("schedule: {use: cosine, min_factor: 2}"),
                                  with_stage("network: {use: toy_net, width: 0}"),
                                  with_stage("network: {use: toy_net, from: 3}"),
                                  with_stage("network: {use: toy_net, from: x, rename: [a]}"),
                                  with_stage("network: {use: toy_net, from: x, rename: {a: 3}}"),
                                  fine + "base: {use: toy_net, from: x}\n",
                                  fine + "base: {use: toy_net, epochs: 0}\n",
                                  head + "data: toy_images\nnetwork: toy_net\nstages: {one: {epochs: 3}}\n",
                                  fine + "scales: [smoke]\n",
                                  head + "data: toy_images\nnetwork: toy_net\nstages: []\n",
                                  fine + "expect: {accuracy: 3}\n",
                                  fine + "expect: {one.found: 3}\n",
                                  fine + "base: {macs: 0}\n"}) {
    EXPECT_FALSE(loads(text)) << text;
    EXPECT_FALSE(schema.accepts(parse_yaml(text, "r.yaml"))) << text;
  }
}

TEST(RecipeSchema, TakesAMatrixAsTheReaderDoes) {
  const Validator schema(recipe_schema(toys()));
  const std::string fine = head + "data: toy_images\nnetwork: toy_net\n" + tail + "matrix: ";
  const auto reads = [](const std::string& text) {
    try {
      matrix_points(parse_yaml(text, "r.yaml"));
      return true;
    } catch (const InputError&) {
      return false;
    }
  };
  for (const char* matrix : {"{seed: [0, 1], network.width: [1]}", "[{seed: 0}, {seed: 1, network.width: 2}]", "~",
                             "{random: 3, draw: {seed: {int: [0, 9]}}}",
                             "{random: 3, seed: 1, draw: {a: {uniform: [0, 1.5]}, b: {log_uniform: [1e-5, 1]}, "
                             "c: {log_int: [1, 9]}, d: {choice: [u, {use: v}, ~]}}}"}) {
    EXPECT_TRUE(reads(fine + matrix)) << matrix;
    EXPECT_TRUE(schema.accepts(parse_yaml(fine + matrix, "r.yaml"))) << matrix;
  }
  for (const char* matrix : {"3",
                             "text",
                             "{}",
                             "[]",
                             "{seed: 3}",
                             "{seed: []}",
                             "{seed: [1, 1]}",
                             "[3]",
                             "[{}]",
                             "[{seed: 1}, {seed: 1}]",
                             "{random: 3}",
                             "{random: [0, 1]}",
                             "{draw: {seed: {int: [0, 9]}}}",
                             "{random: 0, draw: {seed: {int: [0, 9]}}}",
                             "{random: 1001, draw: {seed: {int: [0, 9]}}}",
                             "{random: 3, draw: {}}",
                             "{random: 3, grid: {seed: [0]}, draw: {seed: {int: [0, 9]}}}",
                             "{random: 3, draw: {seed: {itn: [0, 9]}}}",
                             "{random: 3, draw: {seed: {int: [0]}}}",
                             "{random: 3, draw: {seed: {int: [0, 1, 2]}}}",
                             "{random: 3, draw: {seed: {int: [0, 1.5]}}}",
                             "{random: 3, draw: {x: {log_uniform: [0, 1]}}}",
                             "{random: 3, draw: {x: {log_int: [0, 1]}}}",
                             "{random: 3, draw: {x: {choice: []}}}",
                             "{random: 3, draw: {x: {choice: [1, 1]}}}",
                             "{random: 3, draw: {x: {int: [0, 1], choice: [1]}}}",
                             "{random: 3, draw: {x: [1, 2]}}"}) {
    EXPECT_FALSE(reads(fine + matrix)) << matrix;
    EXPECT_FALSE(schema.accepts(parse_yaml(fine + matrix, "r.yaml"))) << matrix;
  }
}

TEST(RecipeSchema, CarriesDocsDefaultsAndRanges) {
  const Value schema = recipe_schema(toys());
  EXPECT_EQ(to_json(schema.at("definitions").at("stage").at("properties").at("epochs")),
            R"({"type":"integer","minimum":0.0,"description":"Length of the stage. [epochs]"})");
  EXPECT_EQ(to_json(schema.at("properties").at("device").at("enum")), R"(["auto","cpu","cuda"])");
}

}  // namespace
}  // namespace espalier
