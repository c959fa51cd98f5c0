#pragma once

#include <cstddef>
#include <functional>

#include <boost/context/detail/fcontext.hpp>

namespace cuda_emulation {

// A stack with a function that runs on it in turn with the caller. AddressSanitizer is told of each change of the
// stack, if the program is linked with it. The change is Boost.Context's: ucontext's costs two calls of the system. Its
// public class ends a fibre by an exception on the fibre's stack, and a fibre here is dropped as it stands.
class Fibre {
 public:
  static constexpr size_t stack_size = 256 << 10;

  // Makes a fibre that calls run() when it is resumed for the first time. run() never returns.
  explicit Fibre(std::function<void()> run);
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  // Runs it until it calls suspend().
  void resume();
  // To be called on the fibre: goes back to where resume() was called.
  void suspend();
  const void* stack_begin() const { return stack_; }
  const void* stack_end() const { return stack_ + stack_size; }

 private:
  static void enter(boost::context::detail::transfer_t from);

  std::function<void()> run_;
  char* stack_ = nullptr;
  boost::context::detail::fcontext_t own_ = nullptr, callers_ = nullptr;
  // What AddressSanitizer keeps for this fibre and for the caller's stack.
  void* fake_stack_ = nullptr;
  void* callers_fake_stack_ = nullptr;
  const void* callers_bottom_ = nullptr;
  size_t callers_size_ = 0;
};

}  // namespace cuda_emulation
