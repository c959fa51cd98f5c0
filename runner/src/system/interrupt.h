#pragma once

#include <exception>

namespace espalier {

// A run that was asked to stop, and has saved its state.
class Interrupted : public std::exception {
 public:
  explicit Interrupted(int signal) : signal_(signal) {}
  int signal() const { return signal_; }
  const char* what() const noexcept override { return "interrupted"; }

 private:
  int signal_;
};

// From now on SIGINT (Ctrl-C) and SIGTERM only ask to stop; a second one ends the program at once.
void catch_interrupts();
// The signal that asked, or 0.
int interrupt();

}  // namespace espalier
