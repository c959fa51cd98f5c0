#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <utility>

#include "block.h"
#include "cuda_emulation.h"
#include "cuda_runtime.h"
#include "races.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_emulation {

namespace {

Order order;
int64_t most_blocks = INT64_MAX;
Configuration last;

// Kernels with their places, or sources with their names, and which of them were launched. In a function, because
// rewritten sources add theirs before main().
struct Launches {
  std::set<std::pair<std::string, std::string>> kernels, sources;
  std::set<std::string> launched_kernels, launching_sources;
};
Launches& launches() {
  static Launches all;
  return all;
}

std::string in_words(dim3 d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

// The limits of all GPUs from compute capability 3.0 on (CUDA C++ Programming Guide, technical specifications).
void check(const Configuration& c) {
  const auto fail = [&](const std::string& what) {
    throw Error("kernel '" + c.kernel + "': a launch with a grid of " + in_words(c.grid) + " and blocks of " +
                in_words(c.block) + " " + what);
  };
  const uint64_t threads = uint64_t{c.block.x} * c.block.y * c.block.z;
  if (threads == 0 || uint64_t{c.grid.x} * c.grid.y * c.grid.z == 0)
    fail("has no threads: return before the launch where there is nothing to do");
  if (threads > 1024 || c.block.z > 64) fail("is too large: a block has at most 1024 threads, and 64 in z");
  if (c.grid.x > 2147483647U || c.grid.y > 65535 || c.grid.z > 65535)
    fail("is too large: a grid has at most 2147483647 blocks in x and 65535 in y and z");
  if (c.shared > most_shared_memory)
    fail("asks for " + std::to_string(c.shared) + " bytes of shared memory, and a block has " +
         std::to_string(most_shared_memory));
}

}  // namespace

Scope::Scope(Order in_order, int64_t at_most) : order_before_(order), most_before_(most_blocks) {
  order = in_order;
  most_blocks = at_most;
}

Scope::~Scope() {
  order = order_before_;
  most_blocks = most_before_;
}

const Configuration& last_launch() {
  return last;
}

bool watches_races() {
  return CUDA_EMULATION_RACES;
}

Kernel::Kernel(const char* name, const char* place) {
  launches().kernels.emplace(name, place);
}

Source::Source(const char* file, const char* name) {
  launches().sources.emplace(file, name);
}

std::vector<std::string> without_a_launch() {
  const Launches& all = launches();
  std::vector<std::string> names;
  for (const auto& [name, place] : all.kernels) {
    if (!all.launched_kernels.contains(name)) names.push_back("kernel " + name + " (" + place + ")");
  }
  for (const auto& [file, name] : all.sources) {
    if (!all.launching_sources.contains(file)) names.push_back("source " + name);
  }
  return names;
}

void detail::orders_differ(Order which, size_t vector, size_t vectors) {
  throw Error("the results of kernel '" + last.kernel + "' depend on the order of its threads, which CUDA does not " +
              "promise: vector " + std::to_string(vector + 1) + " of " + std::to_string(vectors) + " differs when " +
              (which.kind == Order::backward ? "the last thread runs first" : "the threads run in a random order"));
}

void detail::launch(const Configuration& configuration, const std::function<void()>& thread) {
  last = configuration;
  check(configuration);
  if (most_blocks == 0) return;
  launches().launched_kernels.insert(configuration.kernel);
  launches().launching_sources.insert(configuration.source);
  gridDim = configuration.grid;
  gridDim.x = static_cast<unsigned>(std::min<int64_t>(gridDim.x, most_blocks));
  blockDim = configuration.block;
  forget_accesses();

  const int64_t blocks = int64_t{gridDim.x} * gridDim.y * gridDim.z;
  std::mt19937_64 random(order.seed);
  std::vector<int64_t> shuffled;
  if (order.kind == Order::random) {
    shuffled.resize(static_cast<size_t>(blocks));
    std::iota(shuffled.begin(), shuffled.end(), 0);
    std::ranges::shuffle(shuffled, random);
  }
  for (int64_t i = 0; i < blocks; ++i) {
    const int64_t number = order.kind == Order::forward    ? i
                           : order.kind == Order::backward ? blocks - 1 - i
                                                           : shuffled[static_cast<size_t>(i)];
    Block(configuration, number, order, random, thread).run();
  }
  if (const std::string races = found_races(); !races.empty()) {
    throw Error("kernel '" + configuration.kernel + "': threads access the same memory without a barrier between them" +
                " (addr2line -Cfie PROGRAM ADDRESS names the line of a place):" + races);
  }
}

}  // namespace cuda_emulation
