#include "fibre.h"

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include <sys/mman.h>

// There in a program that is linked with AddressSanitizer, and null elsewhere.
extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* save, const void** bottom, size_t* size);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* address, size_t size);
}

namespace cuda_emulation {

namespace {

constexpr size_t guard_size = 4096;

void start_switch(void** save, const void* bottom, size_t size) {
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(save, bottom, size);
}

void finish_switch(void* save, const void** bottom, size_t* size) {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(save, bottom, size);
}

}  // namespace

Fibre::Fibre(std::function<void()> run) : run_(std::move(run)) {
  // The guard stops a stack that grows too large.
  void* memory = mmap(nullptr, guard_size + stack_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "no memory for a fibre's stack");
  mprotect(memory, guard_size, PROT_NONE);
  stack_ = static_cast<char*>(memory) + guard_size;
  own_ = boost::context::detail::make_fcontext(stack_ + stack_size, stack_size, enter);
}

Fibre::~Fibre() {
  // What the functions that never returned have poisoned must not trouble whoever gets this memory next.
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(stack_, stack_size);
  munmap(stack_ - guard_size, guard_size + stack_size);
}

void Fibre::enter(boost::context::detail::transfer_t from) {
  auto* self = static_cast<Fibre*>(from.data);
  self->callers_ = from.fctx;
  finish_switch(nullptr, &self->callers_bottom_, &self->callers_size_);
  self->run_();
}

void Fibre::resume() {
  start_switch(&callers_fake_stack_, stack_, stack_size);
  own_ = boost::context::detail::jump_fcontext(own_, this).fctx;
  finish_switch(callers_fake_stack_, nullptr, nullptr);
}

void Fibre::suspend() {
  start_switch(&fake_stack_, callers_bottom_, callers_size_);
  callers_ = boost::context::detail::jump_fcontext(callers_, nullptr).fctx;
  finish_switch(fake_stack_, &callers_bottom_, &callers_size_);
}

}  // namespace cuda_emulation
