#include "system/interrupt.h"

#include <cerrno>
#include <csignal>
#include <string_view>

#include <unistd.h>

namespace espalier {

namespace {

volatile std::sig_atomic_t caught = 0;

constexpr int stopping[] = {SIGINT, SIGTERM};

extern "C" void on_signal(int signal) {
  const int error = errno;
  caught = signal;
  for (const int s : stopping) std::signal(s, SIG_DFL);  // the next one ends the program
  constexpr std::string_view text = "\nStopping after this step; once more to stop at once.\n";
  // Nothing can be done where it cannot be written.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  errno = error;
}

}  // namespace

void catch_interrupts() {
  // Whoever reads the output may be gone first (run ... | tee log): that is no reason to end without a checkpoint.
  std::signal(SIGPIPE, SIG_IGN);
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (const int signal : stopping) {
    struct sigaction before = {};
    // What a shell or nohup has switched off stays so.
    if (sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    sigaction(signal, &action, nullptr);
  }
}

int interrupt() {
  return caught;
}

}  // namespace espalier
