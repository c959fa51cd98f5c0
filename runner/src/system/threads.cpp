#include "system/threads.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <omp.h>
#include <sched.h>

#include "espalier/error.h"
#include "espalier/log.h"

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

// Those that the threads may use together. OMP_PROC_BIND and the like bind the first thread to a place of its own
// before the program begins: then the places count.
int cores_there() {
  int in_places = 0;
  for (int i = 0; i < omp_get_num_places(); ++i) in_places += omp_get_place_num_procs(i);
  return std::max(in_places, CPU_COUNT(&cores_at_first()));
}

// How many threads OpenMP makes where so many are asked for.
int given_threads(int wanted) {
  int given = 0;
#pragma omp parallel num_threads(wanted)
  {
#pragma omp single
    given = omp_get_num_threads();
  }
  return given;
}

void require_threads(int wanted) {
  const int given = given_threads(wanted);
  if (given >= wanted) return;
  std::string in_the_way;
  for (const char* name : {"OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_MAX_ACTIVE_LEVELS"}) {
    if (const char* value = std::getenv(name))
      in_the_way += (in_the_way.empty() ? "" : ", ") + std::string(name) + "=" + value;
  }
  throw Error(
      std::to_string(wanted) + " threads are needed, and OpenMP gives " + std::to_string(given) + ": " +
      (in_the_way.empty() ? "the system allows no more" : in_the_way + " in the environment stands in the way") +
      "; change that, or ask for as many as there are: --threads " + std::to_string(given));
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
  require_threads(count);
  if (const int there = cores_there(); count > there && there > 0) {
    log::warning(std::to_string(count) + " threads on " + std::to_string(there) + (there == 1 ? " core" : " cores") +
                 " wait for each other, which can make a run hundreds of times slower: --threads " +
                 std::to_string(there) + " uses them all");
  }
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
