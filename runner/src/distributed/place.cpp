// Which of the processes this is: the environments of torchrun and of srun.
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <thread>

#include "distributed/processes.h"
#include "espalier/error.h"

namespace espalier {

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// A number of the environment; none where the variable is not set.
std::optional<int64_t> number(const char* name, int64_t least) {
  const std::string text = variable(name);
  if (text.empty()) return std::nullopt;
  int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size() || n < least) {
    throw InputError(std::string("the environment variable ") + name,
                     "'" + text + "' is no whole number of at least " + std::to_string(least));
  }
  return n;
}

int64_t required(const char* name, int64_t least, const char* of) {
  if (const auto n = number(name, least)) return *n;
  throw InputError(std::string("the environment variable ") + name,
                   std::string("is not set, and ") + of +
                       " asks for several processes: start them by torchrun or srun, or unset " + of);
}

// So that the processes of a machine do not all take all of its cores. local: processes on this machine.
int64_t threads_of(int64_t local) {
  if (!variable("OMP_NUM_THREADS").empty()) return 0;
  return std::max<int64_t>(1, static_cast<int64_t>(std::thread::hardware_concurrency()) / std::max<int64_t>(1, local));
}

// Ports that Slurm's steps meet at, where none is given: one for each job and step, so that two on a machine do not
// meet.
int64_t port_of_step() {
  constexpr int64_t first = 20000, count = 20000, steps = 97;
  return first + (number("SLURM_JOB_ID", 0).value_or(0) * steps + number("SLURM_STEP_ID", 0).value_or(0)) % count;
}

}  // namespace

std::string first_host(std::string_view list) {
  const size_t end = list.find_first_of("[,");
  std::string host(list.substr(0, end));
  if (end != std::string_view::npos && list[end] == '[') {
    const std::string_view numbers = list.substr(end + 1);
    const size_t stop = numbers.find_first_of(",-]");
    const size_t close = numbers.find(']');
    if (stop == std::string_view::npos || close == std::string_view::npos || stop == 0)
      throw Error("'" + std::string(list) + "' is no list of hosts");
    host += numbers.substr(0, stop);
    const std::string_view after = numbers.substr(close + 1);
    host += after.substr(0, after.find(','));
  }
  if (host.empty()) throw Error("'" + std::string(list) + "' is no list of hosts");
  return host;
}

ProcessPlace ProcessPlace::from_environment() {
  ProcessPlace place;
  if (const auto count = number("WORLD_SIZE", 1)) {
    place.count = *count;
    if (place.count == 1) return place;
    place.rank = required("RANK", 0, "WORLD_SIZE");
    place.local_rank = number("LOCAL_RANK", 0).value_or(0);
    place.address = variable("MASTER_ADDR");
    if (place.address.empty()) {
      throw InputError("the environment variable MASTER_ADDR",
                       "is not set, and WORLD_SIZE asks for several processes: it names the machine of process 0");
    }
    place.port = required("MASTER_PORT", 1, "WORLD_SIZE");
    place.agent = variable("TORCHELASTIC_USE_AGENT_STORE") == "True";
    place.threads = threads_of(number("LOCAL_WORLD_SIZE", 1).value_or(place.count));
  } else if (const auto tasks = number("SLURM_STEP_NUM_TASKS", 1); tasks && *tasks > 1) {
    // Of srun alone: a batch script that calls the program without it sees SLURM_NTASKS, too, and is one process.
    place.count = *tasks;
    place.rank = required("SLURM_PROCID", 0, "SLURM_STEP_NUM_TASKS");
    place.local_rank = number("SLURM_LOCALID", 0).value_or(0);
    place.address = variable("MASTER_ADDR");
    if (place.address.empty()) {
      const std::string nodes = variable("SLURM_STEP_NODELIST");
      place.address = first_host(nodes.empty() ? variable("SLURM_JOB_NODELIST") : nodes);
    }
    place.port = number("MASTER_PORT", 1).value_or(port_of_step());
    // As in "2(x3),1": on three machines two, on another one.
    const int64_t local = std::atoll(variable("SLURM_STEP_TASKS_PER_NODE").c_str());
    place.threads = number("SLURM_CPUS_PER_TASK", 1).value_or(threads_of(local));
  }
  if (place.rank >= place.count) {
    throw InputError(
        "the environment variable " + std::string(variable("WORLD_SIZE").empty() ? "SLURM_PROCID" : "RANK"),
        "process " + std::to_string(place.rank) + " of " + std::to_string(place.count) +
            " there is none: they count from 0");
  }
  return place;
}

}  // namespace espalier
