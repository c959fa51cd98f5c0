#pragma once

#include <functional>
#include <memory>

#include "espalier/registry.h"

namespace espalier {

// A component made from the recipe, with what labels its errors.
template <class T>
struct Made {
  std::unique_ptr<T> object;
  const Registered* component = nullptr;
  Location where;

  static Made make(const Value& spec) {
    const Registry& registry = Registry::instance();
    return {registry.create<T>(spec), &registry.at(T::kind, name_of(spec, T::kind), spec.location), spec.location};
  }
  void call(const std::function<void(T&)>& body) const {
    labelled(*component, where, [&] { body(*object); });
  }
};

}  // namespace espalier
