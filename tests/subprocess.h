#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include <sys/wait.h>

#include "starter/start_server.h"

namespace espalier {

struct Output {
  int status = -1;
  std::string text;  // standard output and error
};

// Runs a shell command.
inline Output shell(const std::string& command) {
  Output o;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) return o;
  char buffer[4096];
  while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) o.text.append(buffer, n);
  const int status = pclose(pipe);
  o.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return o;
}

// The built program as a word of a shell command, quoted. It begins in a copy of a process that has loaded its
// libraries already where that comes to the same (starter/README.md).
inline std::string program_word() {
  static const std::string word = start_server(ESPALIER_PROGRAM);
  return word;
}

// The built program with arguments. What tests run is no run of the user's: it is in no store unless a test names one.
inline Output espalier_command(const std::string& arguments) {
  setenv("ESPALIER_STORE", "none", /*overwrite=*/0);
  return shell(program_word() + " " + arguments);
}

}  // namespace espalier
