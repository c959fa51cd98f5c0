#pragma once

#include <functional>
#include <string>

#include <ATen/core/Tensor.h>

namespace espalier {

// Each throws CheckFailure.
void expect(bool holds, const std::string& expected, const std::string& got);
// No NaN and no infinity.
void expect_finite(const std::string& what, const at::Tensor& got);
// Bit for bit.
void expect_equal(const std::string& what, const at::Tensor& expected, const at::Tensor& got);
// Up to `tolerance` times the largest expected value.
void expect_near(const std::string& what, const at::Tensor& expected, const at::Tensor& got, double tolerance);

// Seconds that a call takes: the least of several.
double seconds_of(const std::function<void()>& call);
// For the checks of speed: "12 us, 3.1 times YARDSTICK (4 us)". Throws CheckFailure where it is a thousand times as
// slow.
std::string speed_remark(double seconds, const std::string& yardstick, double of_yardstick);

}  // namespace espalier
