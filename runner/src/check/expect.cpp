#include "check/expect.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/ops/isfinite.h>

#include "check/check.h"
#include "espalier/graph.h"
#include "system/text.h"

namespace espalier {

namespace {

constexpr double slowest_factor = 1000;

std::string number(double v) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", v);
  return text;
}

std::string time_text(double seconds) {
  return seconds < 1e-3 ? fixed(seconds * 1e6, 1) + " us" : fixed(seconds * 1e3, 2) + " ms";
}

void expect_close(const std::string& what, const at::Tensor& expected, const at::Tensor& got, double tolerance) {
  if (expected.sizes() != got.sizes())
    throw CheckFailure(what + " of sizes " + to_string(expected.sizes().vec()), to_string(got.sizes().vec()));
  if (expected.numel() == 0) return;
  const at::Tensor a = expected.detach().to(at::kDouble).contiguous().reshape({-1});
  const at::Tensor b = got.detach().to(at::kDouble).contiguous().reshape({-1});
  const at::Tensor difference = (a - b).abs();  // argmax finds a NaN first
  const int64_t worst = difference.argmax().item<int64_t>();
  const double d = difference[worst].item<double>();
  if (d <= tolerance * a.abs().max().item<double>()) return;
  Indices at;
  for (int64_t k = expected.dim(), rest = worst; k-- > 0; rest /= expected.size(k))
    at.insert(at.begin(), rest % expected.size(k));
  const int64_t wrong = (difference > tolerance * a.abs().max()).sum().item<int64_t>();
  throw CheckFailure(what + ": " + number(a[worst].item<double>()) + (expected.dim() > 0 ? " at " + to_string(at) : ""),
                     number(b[worst].item<double>()) + (expected.numel() > 1 ? " (" + std::to_string(wrong) + " of " +
                                                                                   std::to_string(expected.numel()) +
                                                                                   " elements differ, this one most)"
                                                                             : ""));
}

}  // namespace

void expect(bool holds, const std::string& expected, const std::string& got) {
  if (!holds) throw CheckFailure(expected, got);
}

void expect_finite(const std::string& what, const at::Tensor& got) {
  if (!at::isfinite(got).all().item<bool>()) throw CheckFailure(what + " without NaN and infinity", "some");
}

void expect_equal(const std::string& what, const at::Tensor& expected, const at::Tensor& got) {
  expect_close(what, expected, got, 0);
}

void expect_near(const std::string& what, const at::Tensor& expected, const at::Tensor& got, double tolerance) {
  expect_close(what, expected, got, tolerance);
}

double seconds_of(const std::function<void()>& call) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); };
  call();  // memory and caches
  double least = std::numeric_limits<double>::infinity();
  const auto begin = Clock::now();
  for (int i = 0; i < 3 || (i < 200 && since(begin) < 0.05); ++i) {
    const auto start = Clock::now();
    call();
    least = std::min(least, since(start));
  }
  return least;
}

std::string speed_remark(double seconds, const std::string& yardstick, double of_yardstick) {
  const double factor = seconds / std::max(of_yardstick, 1e-9);
  const std::string remark =
      time_text(seconds) + ", " + fixed(factor, 1) + " times " + yardstick + " (" + time_text(of_yardstick) + ")";
  expect(factor <= slowest_factor, "at most " + fixed(slowest_factor, 0) + " times " + yardstick, remark);
  return remark;
}

}  // namespace espalier
