#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "espalier/value.h"

namespace espalier {

struct SuiteOptions {
  std::vector<std::string>
      plugins;                      // libraries or folders of them; empty: the operations and scores of Espalier itself
  std::vector<std::string> search;  // where other components are looked for first
  std::vector<std::string> with;    // options of what is checked: "tau: 0.1", or several with commas between
  std::vector<std::string> data;    // folders of data, before the usual ones
  std::string only;                 // "regularizer/my_penalty" or "my_penalty"; empty: all
  std::string check;                // empty: all
  int64_t jobs = 1;
  int64_t timeout = 60;  // seconds, of one check
};

// What one check of one component found.
struct CheckResult {
  std::string plugin;     // the library, as it was given
  std::string component;  // "regularizer/my_penalty"
  std::string check;
  std::string status;  // passed, failed, skipped
  std::string remark;  // of passed ones; why it was skipped
  std::string expected, got;
  std::string repeat;  // the command that carries out this check alone
  double seconds = 0;
};

// Carries out every check of every component, each in a process of its own, so that a crash or an endless loop ends it
// alone: a process loads the libraries for a component and makes a copy of itself for each check. Throws
// InputError where nothing fits the options, Interrupted when a signal asks to stop.
std::vector<CheckResult> run_suite(const SuiteOptions& options);

// Carries out the checks of one component (`only`), or one of them, in this process, one after the other: for a
// debugger. A crash ends the process, and nothing ends a check that takes too long. Throws InputError where nothing
// fits the options, or where several components do.
std::vector<CheckResult> run_in_this_process(const SuiteOptions& options);

// In a process that run_suite() starts: the one check that the options name, or every check of the component that they
// name, or, if they name none, the list of components. Writes what was found to `report`.
void run_in_child(const SuiteOptions& options, const std::filesystem::path& report);

}  // namespace espalier
