#pragma once

#include <string>

#include "espalier/graph.h"
#include "espalier/selector.h"
#include "espalier/value.h"

namespace espalier {

// The parameters that a selector matches.
Value names_of(const Graph& g, const Selector& s);

// Adds {where, selector, matches} to `out` for every selector among the options of a component, nested ones too. Throws
// InputError for one that matches nothing.
void add_selectors(const Graph& g, const std::string& kind, const Value& spec, const std::string& where, Value& out);

}  // namespace espalier
