#pragma once

#include <chrono>

#include <gtest/gtest.h>

namespace espalier {

// Returns what `body` returns and expects that it took less than a second: far more than any refusal needs, far less
// than what hangs.
template <class Body>
auto within_a_second(Body body) {
  const auto begin = std::chrono::steady_clock::now();
  auto result = body();
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), 1);
  return result;
}

}  // namespace espalier
