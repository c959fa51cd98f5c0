#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/component.h"
#include "espalier/registry.h"
#include "plugins/builtin.h"

// Components that do nothing, for tests of recipes: one of each kind at least, and one with a parameter of every type.
namespace espalier::test {

template <class Options>
Component toy(const char* kind, const char* name) {
  class Made final : public Object {};
  Component c;
  c.kind = kind;
  c.name = name;
  c.doc = "a toy";
  c.parameters = Declare<Options>().parameters();
  c.create = [](const Value&) -> std::unique_ptr<Object> { return std::make_unique<Made>(); };
  return c;
}

struct Images {
  int64_t samples = 100;
  static void declare(Declare<Images>& p) { p("samples", &Images::samples, at_least(1), at_most(1e6), "how many"); }
};

struct Net {
  double width = 1;
  std::vector<int64_t> hidden = {10};
  static void declare(Declare<Net>& p) {
    p("width", &Net::width, above(0), below(100), "factor of all widths");
    p("hidden", &Net::hidden, at_least(1), unit("units"), "of the hidden layers");
  }
};

struct Sgd {
  double lr = 0.1;
  double momentum = 0;
  static void declare(Declare<Sgd>& p) {
    p("lr", &Sgd::lr, above(0), "learning rate");
    p("momentum", &Sgd::momentum, at_least(0), below(1), "of the gradient");
  }
};

struct L1 {
  double weight = 0.1;
  Selector on = "weights";
  static void declare(Declare<L1>& p) {
    p("weight", &L1::weight, at_least(0), "of the penalty");
    p("on", &L1::on, "which parameters");
  }
};

struct EveryType {
  bool flag = true;
  int64_t count = 3;
  double ratio = 0.5;
  std::string label = "x";
  std::string mode = "fast";
  std::vector<int64_t> sizes = {1};
  std::vector<double> rates = {0.5};
  std::vector<std::string> words;
  Selector on;
  PerSelector tau = 0.1;
  Nested inner;
  std::vector<Nested> penalties;
  std::optional<double> limit;
  int64_t needed = 0;
  static void declare(Declare<EveryType>& p) {
    p("flag", &EveryType::flag, "a switch");
    p("count", &EveryType::count, at_least(1), at_most(9), "a number of things");
    p("ratio", &EveryType::ratio, above(0), below(1), "a fraction");
    p("label", &EveryType::label, "a text");
    p("mode", &EveryType::mode, one_of({"fast", "exact"}), "how");
    p("sizes", &EveryType::sizes, at_least(0), "some integers");
    p("rates", &EveryType::rates, at_most(1), "some numbers");
    p("words", &EveryType::words, "some words");
    p("on", &EveryType::on, "which parameters");
    p("tau", &EveryType::tau, at_least(0), "thresholds");
    p("inner", &EveryType::inner, of_kind("optimizer"), "a nested optimizer");
    p("penalties", &EveryType::penalties, of_kind("regularizer"), "nested regularizers");
    p("limit", &EveryType::limit, above(0), "may be left out");
    p("needed", &EveryType::needed, at_least(0), required(), unit("steps"), "has to be there");
  }
};

// Fills a registry of its own.
inline void register_toys(Registry& registry) {
  const Origin origin{"toys", "1.0", "libtoys.so"};
  registry.add(toy<Images>("dataset", "toy_images"), origin);
  registry.add(toy<NoOptions>("dataset", "toy_vectors"), origin);
  registry.add(toy<Net>("backbone", "toy_net").provide("groups"), origin);
  registry.add(toy<NoOptions>("backbone", "toy_plain"), origin);
  registry.add(toy<Sgd>("optimizer", "toy_sgd"), origin);
  registry.add(toy<Sgd>("optimizer", "toy_bregman").provide("state:gamma"), origin);
  registry.add(toy<L1>("regularizer", "toy_l1"), origin);
  registry.add(toy<NoOptions>("regularizer", "toy_grouped").need("groups", "it competes within them"), origin);
  registry.add(toy<EveryType>("controller", "toy_every"), origin);
  registry.add(toy<NoOptions>("controller", "toy_grow").need("state:gamma", "the support is read from it"), origin);
  registry.add(toy<L1>("operation", "toy_operation"), origin);
  if (!registry.find("metric", "accuracy")) {
    registry.add(toy<NoOptions>("metric", "accuracy"), origin);
    registry.add(toy<NoOptions>("metric", "top5"), origin);
    registry.add(toy<NoOptions>("loss", "cross_entropy"), origin);
  }
  register_builtin(registry);
}

// A registry of these alone.
inline const Registry& toys() {
  static const Registry* registry = [] {
    auto* r = new Registry;
    register_toys(*r);
    return r;
  }();
  return *registry;
}

}  // namespace espalier::test
