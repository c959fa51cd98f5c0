#include "espalier/own_step.h"

namespace espalier {

OwnStep::~OwnStep() = default;

}  // namespace espalier
