#pragma once

#include <ctime>

#include <gtest/gtest.h>

namespace espalier {

// Returns what `body` returns and expects that it took less than a second of the processor: far more than any refusal
// needs, far less than what hangs. Other programs on the machine do not count.
template <class Body>
auto within_a_second(Body body) {
  const std::clock_t begin = std::clock();
  auto result = body();
  EXPECT_LT(std::clock() - begin, CLOCKS_PER_SEC);
  return result;
}

}  // namespace espalier
