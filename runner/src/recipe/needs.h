#pragma once

#include <string>
#include <vector>

#include "espalier/registry.h"

namespace espalier {

// A component that takes part in a stage, as its checked spec.
struct Participant {
  std::string kind;
  Value spec;
};

// Throws InputError where a component needs what none of the others (nested ones too) provides, naming components that
// would. `given`: what there is without a component.
void check_needs(const std::vector<Participant>& participants, const std::vector<std::string>& given,
                 const std::string& stage, const Registry& registry);

}  // namespace espalier
