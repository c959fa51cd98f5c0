#include "train/threads.h"

#include <vector>

#include <ATen/Parallel.h>
#include <omp.h>
#include <sched.h>

namespace espalier {

namespace {

// Those that the process began with, before any thread was bound. Empty where the system does not say.
const cpu_set_t& cores_at_first() {
  static const cpu_set_t cores = [] {
    cpu_set_t all;
    CPU_ZERO(&all);
    if (sched_getaffinity(0, sizeof all, &all) != 0) CPU_ZERO(&all);
    return all;
  }();
  return cores;
}

}  // namespace

void use_any_core() {
  const cpu_set_t& cores = cores_at_first();
  if (CPU_COUNT(&cores) > 0) sched_setaffinity(0, sizeof cores, &cores);
}

void use_threads(int64_t threads) {
  if (threads > 0) at::set_num_threads(static_cast<int>(threads));
  cores_at_first();
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  std::vector<int> cores;
  for (int c = 0; c < CPU_SETSIZE; ++c) {
    if (CPU_ISSET(c, &allowed)) cores.push_back(c);
  }
  const int count = at::get_num_threads();
  if (count < 2 || count != static_cast<int>(cores.size())) return;
#pragma omp parallel num_threads(count)
  {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cores[static_cast<size_t>(omp_get_thread_num())], &one);
    sched_setaffinity(0, sizeof one, &one);  // where it is refused, the thread stays as it was
  }
}

}  // namespace espalier
