#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda_runtime_api.h"

// CUDA kernels on the CPU, for tests. Device memory is memory of the host, streams do nothing, and a launch returns
// when the kernel has run. Each thread is a fibre, and only one runs at a time, so that a run is the same each time.
namespace cuda_emulation {

// A kernel did what CUDA does not define: a barrier that not all threads reach, a race, a launch that no GPU takes. The
// message says the kernel, the block, the threads and the lines. launch_...() functions throw it, after the launch.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A line of a source. As the default of an argument it is the line of the call.
struct Place {
  const char* file;
  int line;
  constexpr Place(const char* in = __builtin_FILE(), int at = __builtin_LINE())  // NOLINT(google-explicit-constructor)
      : file(in), line(at) {}
};

// In which order the threads of a block run between two barriers, and the blocks of a grid. CUDA promises none, so a
// kernel's results must not depend on it.
struct Order {
  enum Kind { forward, backward, random };
  Kind kind = forward;
  uint64_t seed = 0;  // of a random order, and of what fresh shared memory holds
};

// What launches in its scope do; scopes may be nested, and the innermost counts.
class Scope {
 public:
  // Sets the order, and of how many blocks a grid has at most: a kernel with a loop over the grid then goes round
  // several times without millions of threads. 0: launches are only written down (last_launch()).
  explicit Scope(Order in_order, int64_t at_most = INT64_MAX);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Order order_before_;
  int64_t most_before_;
};

// What the last launch asked for.
struct Configuration {
  std::string source;  // the file that the compiler read
  std::string kernel;
  dim3 grid, block;
  size_t shared = 0;  // bytes of dynamic shared memory
};
const Configuration& last_launch();

// Whether this program watches the memory accesses of kernels for races (README.md).
bool watches_races();

// Calls run() once in each of several orders and returns its result, a std::vector of numbers or of such vectors.
// Throws Error if two orders give other bytes. run() must make its memory anew each time.
template <class Run>
auto in_every_order(const Run& run, int64_t most_blocks = INT64_MAX);

// A kernel of the sources that this program was made of; `place` is "file:line". Rewritten sources make one for each.
class Kernel {
 public:
  Kernel(const char* name, const char* place);
};

// A .cu file of those that this program was made of: the file that the compiler read, and the name of the source.
class Source {
 public:
  Source(const char* file, const char* name);
};

// Returns what no launch has run so far: kernels, as "kernel NAME (FILE:LINE)", and sources that have launched none, as
// "source NAME". A kernel that a header holds for several sources must be launched from each of them.
std::vector<std::string> without_a_launch();

// From here on: what rewritten sources call.

namespace detail {
void launch(const Configuration& configuration, const std::function<void()>& thread);
void* shared_memory(const void* declaration, const char* name, size_t size, size_t alignment);
}  // namespace detail

// Runs a kernel: Launch(source, name, kernel, grid, block, bytes, stream)(arguments...).
template <class Kernel>
class Launch {
 public:
  Launch(const char* source, const char* name, Kernel kernel, dim3 grid, dim3 block, size_t shared = 0,
         cudaStream_t = nullptr)
      : configuration_{source, name, grid, block, shared}, kernel_(kernel) {}
  template <class... Arguments>
  void operator()(Arguments... arguments) const {
    static_assert((std::is_trivially_copyable_v<Arguments> && ...), "arguments are copied to the GPU as bytes");
    detail::launch(configuration_, [&] { kernel_(arguments...); });
  }

 private:
  Configuration configuration_;
  Kernel kernel_;
};

// Returns the running block's memory of one declaration, which the type of the lambda names.
template <class T, size_t alignment = alignof(T), class Declaration>
T& shared(const char* name, Declaration) {
  static_assert(std::is_trivially_default_constructible_v<T>, "__shared__ memory has no initial value");
  static char declaration;  // whose address is the key
  return *static_cast<T*>(detail::shared_memory(&declaration, name, sizeof(T), alignment));
}

// Returns the running block's memory whose size the launch said.
void* dynamic_shared();

namespace detail {
template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
[[noreturn]] void orders_differ(Order which, size_t vector, size_t vectors);

template <class T>
void expect_same(Order order, const std::vector<T>& a, const std::vector<T>& b) {
  if (!same_bytes(a, b)) orders_differ(order, 0, 1);
}
template <class T>
void expect_same(Order order, const std::vector<std::vector<T>>& a, const std::vector<std::vector<T>>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!same_bytes(a[i], b[i])) orders_differ(order, i, a.size());
  }
}
}  // namespace detail

template <class Run>
auto in_every_order(const Run& run, int64_t most_blocks) {
  const auto in = [&](Order order) {
    const Scope scope(order, most_blocks);
    return run();
  };
  auto first = in({Order::forward, 1});
  for (const Order order : {Order{Order::backward, 2}, Order{Order::random, 3}})
    detail::expect_same(order, first, in(order));
  return first;
}

}  // namespace cuda_emulation
