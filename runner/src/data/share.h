#pragma once

#include <cstdint>

namespace espalier {

// Which samples of each batch a process has, where several train one network: the next piece of it after that of the
// process before. Fewer samples than processes are not divided, each process has all of them.
struct Share {
  int64_t rank = 0;   // of the process
  int64_t count = 1;  // of processes

  // Whether each process has a piece of so many samples of its own.
  bool divides(int64_t samples) const { return count > 1 && samples >= count; }
  // How many of so many samples come before the piece.
  int64_t before(int64_t samples) const { return divides(samples) ? samples * rank / count : 0; }
  // How many of so many samples are in it.
  int64_t own(int64_t samples) const {
    return divides(samples) ? samples * (rank + 1) / count - samples * rank / count : samples;
  }
};

}  // namespace espalier
