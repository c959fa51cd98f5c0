#include "train/interrupt.h"

#include <csignal>
#include <string_view>

#include <unistd.h>

namespace espalier {

namespace {

volatile std::sig_atomic_t caught = 0;

extern "C" void on_signal(int signal) {
  caught = signal;
  constexpr std::string_view text = "\nStopping after this step; once more to stop at once.\n";
  // Nothing can be done where it cannot be written.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

int interrupt() {
  return caught;
}

}  // namespace espalier
