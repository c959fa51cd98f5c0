#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "espalier/value.h"

namespace espalier {

// A matrix of random draws: {random: 50, seed: 0, draw: {PATH: {log_uniform: [1e-5, 1e-2]}, ...}}.

// Whether a matrix is meant as one of random draws: no path of a recipe begins with `random` or `draw`.
bool is_random(const Value& matrix);

// One draw of all paths.
struct RandomDraw {
  int64_t number = 0;  // from 0
  Value values;        // a map: path -> value; a path comes behind those that it may lie within
};

// The draws of such a matrix, less those that repeat an earlier one. What is drawn for a path depends on nothing but
// the seed, the number of the draw and the path as it is written, so that more draws leave the first as they are, and
// is the same on every machine. Throws InputError where the matrix is wrong; what its paths lead to is not looked at.
std::vector<RandomDraw> random_draws(const Value& matrix);

// "3 of the 50 draws repeat earlier ones and are left out"; "" where none does, or the matrix is of another form or
// null.
std::string repeated_draws(const Value* matrix, size_t runs);

}  // namespace espalier
