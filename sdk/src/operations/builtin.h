#pragma once

#include <cmath>
#include <vector>

#include "espalier/operation.h"
#include "espalier/operations.h"

// The SDK's own operations, one file each; registered by the Registry when it is made.
namespace espalier {

std::vector<Component> builtin_operations();

Component conv2d_operation();
Component linear_operation();
Component batch_norm_operation();
std::vector<Component> activation_operations();
std::vector<Component> pool_operations();
Component flatten_operation();
Component dropout_operation();
Component cross_entropy_operation();

}  // namespace espalier
