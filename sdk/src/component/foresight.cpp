#include "espalier/foresight.h"

namespace espalier {

Foresight::~Foresight() = default;

std::vector<std::string> Foresight::finds(const Graph&, const Weights&) const {
  return {};
}

Foreseen Foresight::foresees(const Graph&, const Weights*) const {
  return {};
}

std::vector<std::string> Foresight::idle(const Graph&, int64_t) const {
  return {};
}

}  // namespace espalier
