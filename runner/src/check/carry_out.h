#pragma once

#include <chrono>
#include <exception>
#include <string>
#include <vector>

#include "check/suite.h"
#include "espalier/value.h"

// What the process that carries out checks and the one that starts it share.
namespace espalier {

inline double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

// Of "tau: 0.1, on: all" and the like, in one map.
Value options_of(const std::vector<std::string>& texts);

// Throws InputError where a plugin or a folder of data is not there.
void require_files(const SuiteOptions& o);

// Takes what a check finds, {status, seconds, remark | expected, got}, into its result.
void take(CheckResult& r, const Value& found);

std::string words_of(const std::exception_ptr& exception);

}  // namespace espalier
