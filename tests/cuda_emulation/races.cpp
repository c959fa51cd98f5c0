#include "races.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include <dlfcn.h>

namespace cuda_emulation {

namespace {

struct Access {
  uint32_t launch = 0;  // 0: none
  uint32_t barriers = 0;
  int64_t block = 0;
  int32_t thread = 0;
  uint32_t period = 0;  // of the thread's clock
  const void* code = nullptr;
  bool atomic = false;
};

// What is remembered of a byte: the last write, and reads by two different threads, which is enough to notice that a
// writer is not the only reader.
struct Byte {
  Access write, reads[2];
};

constexpr uintptr_t page_size = 1024;
using Page = std::array<Byte, page_size>;
constexpr size_t most_pages = 4096;  // about half a gigabyte

struct Race {
  std::string memory;
  Access first, second;
  bool first_writes, second_writes;
};

std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
uintptr_t last_number = 0;
Page* last_page = nullptr;
uint32_t launch = 0;
const Moment* now = nullptr;
const char *own_begin = nullptr, *own_end = nullptr;
std::vector<Race> races;
constexpr size_t most_races = 3;

Byte& byte_at(uintptr_t address) {
  const uintptr_t number = address / page_size;
  if (number != last_number || !last_page) {
    std::unique_ptr<Page>& page = pages[number];
    if (!page) page = std::make_unique<Page>();
    last_page = page.get();
    last_number = number;
  }
  return (*last_page)[address % page_size];
}

// Whether what a thread does at a moment comes after an access.
bool comes_after(const Moment& moment, const Access& a) {
  if (a.launch != launch) return true;
  if (a.block != moment.block) return false;
  if (a.thread == moment.thread || a.barriers < moment.barriers) return true;
  return a.thread / Moment::lanes == moment.thread / Moment::lanes &&
         moment.clock[a.thread % Moment::lanes] >= a.period;
}

void meet(const Moment& moment, const void* address, const Access& earlier, const Access& own, bool earlier_writes,
          bool writes) {
  if (comes_after(moment, earlier) || (earlier.atomic && own.atomic)) return;
  const auto is_known = [&](const Race& r) { return r.first.code == earlier.code && r.second.code == own.code; };
  if (races.size() < most_races && std::ranges::none_of(races, is_known))
    races.push_back({name_of_memory(address), earlier, own, earlier_writes, writes});
}

void note(const void* at, size_t size, bool writes, bool atomic, const void* code) {
  const auto* begin = static_cast<const char*>(at);
  if (!now || (begin >= own_begin && begin < own_end)) return;
  // Nobody's accesses are watched meanwhile: functions of the standard library that a kernel's source and this one
  // share may be those that were compiled there.
  const Moment& moment = *std::exchange(now, nullptr);
  const Access own{.launch = launch,
                   .barriers = moment.barriers,
                   .block = moment.block,
                   .thread = moment.thread,
                   .period = moment.clock[moment.thread % Moment::lanes],
                   .code = code,
                   .atomic = atomic};
  for (size_t i = 0; i < size; ++i) {
    const void* address = begin + i;
    Byte& byte = byte_at(reinterpret_cast<uintptr_t>(address));
    meet(moment, address, byte.write, own, true, writes);
    if (writes) {
      for (const Access& read : byte.reads) meet(moment, address, read, own, false, true);
      byte.write = own;
    } else {
      // In the place of an earlier read of this thread, or of one that this comes after, or else in the second.
      byte.reads[comes_after(moment, byte.reads[0]) ? 0 : 1] = own;
    }
  }
  now = &moment;
}

std::string in_words(const Access& a, bool writes) {
  Dl_info info{};
  std::string text = "thread " + std::to_string(a.thread) + " of block " + std::to_string(a.block) +
                     (a.atomic ? " (atomically)"
                      : writes ? " (which writes)"
                               : " (which reads)");
  if (dladdr(a.code, &info) && info.dli_fbase) {
    char offset[32];
    std::snprintf(offset, sizeof offset, "0x%zx",
                  static_cast<size_t>(static_cast<const char*>(a.code) - static_cast<const char*>(info.dli_fbase) - 1));
    text += std::string(" at ") + offset;
  }
  return text;
}

}  // namespace

void forget_accesses() {
  ++launch;
  races.clear();
  if (pages.size() < most_pages) return;
  pages.clear();
  last_page = nullptr;
}

void forget_accesses(const void* begin, size_t size) {
#if CUDA_EMULATION_RACES
  for (size_t i = 0; i < size; ++i) byte_at(reinterpret_cast<uintptr_t>(begin) + i) = {};
#else
  static_cast<void>(begin), static_cast<void>(size);
#endif
}

void watch_accesses_of(const Moment* moment, const void* stack_begin, const void* stack_end) {
  now = moment;
  own_begin = static_cast<const char*>(stack_begin);
  own_end = static_cast<const char*>(stack_end);
}

void note_atomic_access(const void* at, size_t size, const void* code) {
#if CUDA_EMULATION_RACES
  note(at, size, true, true, code);
#else
  static_cast<void>(at), static_cast<void>(size), static_cast<void>(code);
#endif
}

std::string found_races() {
  std::string text;
  for (const Race& r : races) {
    text +=
        "\n  " + r.memory + ": " + in_words(r.first, r.first_writes) + ", then " + in_words(r.second, r.second_writes);
  }
  return text;
}

}  // namespace cuda_emulation

#if CUDA_EMULATION_RACES
// What -fsanitize=thread makes a source call, with the types that g++ knows.
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
#define CUDA_EMULATION_ACCESS(size)                                            \
  void __tsan_read##size(void* at) {                                           \
    cuda_emulation::note(at, size, false, false, __builtin_return_address(0)); \
  }                                                                            \
  void __tsan_write##size(void* at) {                                          \
    cuda_emulation::note(at, size, true, false, __builtin_return_address(0));  \
  }                                                                            \
  void __tsan_unaligned_read##size(void* at) {                                 \
    cuda_emulation::note(at, size, false, false, __builtin_return_address(0)); \
  }                                                                            \
  void __tsan_unaligned_write##size(void* at) {                                \
    cuda_emulation::note(at, size, true, false, __builtin_return_address(0));  \
  }
CUDA_EMULATION_ACCESS(1)
CUDA_EMULATION_ACCESS(2)
CUDA_EMULATION_ACCESS(4)
CUDA_EMULATION_ACCESS(8)
CUDA_EMULATION_ACCESS(16)
#undef CUDA_EMULATION_ACCESS
void __tsan_read_range(void* at, long size) {
  cuda_emulation::note(at, static_cast<size_t>(size), false, false, __builtin_return_address(0));
}
void __tsan_write_range(void* at, long size) {
  cuda_emulation::note(at, static_cast<size_t>(size), true, false, __builtin_return_address(0));
}
}
#endif
