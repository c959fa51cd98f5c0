#pragma once

#include <string>

#include "espalier/controller.h"
#include "espalier/registry.h"
#include "recipe/recipe.h"

namespace espalier {

// Calls `make` for a component; what goes wrong is said at its place in the recipe.
template <class Make>
auto at_recipe(const Value& spec, const std::string& kind, Make make) {
  const Registered& c = Registry::instance().at(kind, name_of(spec, kind), spec.location);
  decltype(make()) result;
  labelled(c, spec.location, [&] { result = make(); });
  return result;
}

// Calls `body` for each controller of the stage, in their order; what goes wrong is said at its place in the recipe.
template <class Body>
void for_controllers(const StageSection& stage, const Body& body) {
  for (const Value& spec : stage.controllers) {
    at_recipe(spec, "controller", [&] {
      const auto controller = Registry::instance().create<Controller>(spec);
      body(*controller, spec);
      return 0;
    });
  }
}

}  // namespace espalier
