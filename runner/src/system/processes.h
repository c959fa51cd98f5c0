#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace espalier {

struct ProcessCommand {
  std::filesystem::path program;
  std::vector<std::string> arguments;  // without the program's own name
  std::filesystem::path output;        // standard output and error are appended to it
  // Set: instead of the program, a copy of this process carries it out, which has all libraries loaded already, and
  // ends with the status that it returns (1 where it throws). Only while this process has no other thread.
  std::function<int()> body{};
};

// What run_processes() asks and tells; `index` counts from 0.
struct ProcessQueue {
  size_t count = 0;
  size_t at_a_time = 1;
  // The next that may begin; none where none may before another has ended. Left out: from 0 to `count`, in order.
  std::function<std::optional<size_t>()> next{};
  // Called when its turn has come.
  std::function<ProcessCommand(size_t index)> start;
  // `status`: its exit status, or 128 + the signal that ended it.
  std::function<void(size_t index, int status)> ended;
  // Four times a second and whenever something has changed.
  std::function<void(size_t running)> tick;
  // True from when on none may begin and the running ones are stopped, by SIGTERM. Left out: never.
  std::function<bool()> over{};
};

// Runs child processes, so many at a time. SIGINT, SIGTERM and SIGHUP to this process start no more, pass SIGTERM on to
// the running ones and wait for them; a second signal kills them. Returns that first signal, or 0. Children are groups
// of their own, which a terminal's Ctrl-C does not reach, and read nothing. Throws Error where one cannot be started,
// after all others have ended. Not for two threads at once.
int run_processes(const ProcessQueue& queue);

}  // namespace espalier
