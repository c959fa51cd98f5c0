#pragma once

#include <espalier/component.h>

namespace espalier {

// Returns the controller `vtp`.
Component vtp_controller();

}  // namespace espalier
