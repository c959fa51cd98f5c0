#include "system/tensor_memory.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#include <unistd.h>

namespace espalier {

namespace {

constexpr size_t page = 4096;
constexpr size_t line = 64;  // of the cache, and what vector instructions and LibTorch expect
// Smaller tensors are many and live long (statistics, counters); the C library's memory is made for them.
constexpr size_t least = 64 << 10;

class TensorMemory : public c10::Allocator {
 public:
  // The range that is reserved is twice the machine's memory: holes between blocks cost addresses, not memory.
  TensorMemory() {
    const auto pages = static_cast<size_t>(sysconf(_SC_PHYS_PAGES));
    size_ = 2 * pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) / page * page;
    void* range = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range != MAP_FAILED) base_ = static_cast<std::byte*>(range);
  }

  bool reserved() const { return base_ != nullptr; }

  c10::DataPtr allocate(size_t bytes) override {
    void* data = get(bytes);
    return {data, data, &TensorMemory::put, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &TensorMemory::put; }

  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }

  void return_free() {
    const std::lock_guard lock(mutex_);
    for (const auto& [at, bytes] : free_) give_back(at, at + bytes);
    give_back(end_, touched_);
    touched_ = end_;
  }

  size_t peak() const {
    const std::lock_guard lock(mutex_);
    return peak_;
  }

  void restart_peak() {
    const std::lock_guard lock(mutex_);
    peak_ = in_use_;
  }

  static TensorMemory& instance() {
    static auto* memory = new TensorMemory;  // tensors that are destroyed at the program's end still need it
    return *memory;
  }

 private:
  // The whole pages of it.
  void give_back(size_t begin, size_t end) {
    begin = (begin + page - 1) / page * page;
    end = end / page * page;
    if (begin < end) madvise(base_ + begin, end - begin, MADV_DONTNEED);
  }

  void* get(size_t bytes) {
    if (bytes < least) return c10::alloc_cpu(bytes);
    // A line more, so that tensors whose sizes are powers of two do not all begin at the same place of a page: reading
    // one and writing another would then wait for each other.
    const size_t wanted = (bytes + line - 1) / line * line + line;
    {
      const std::lock_guard lock(mutex_);
      if (wanted >= bytes && wanted <= size_) {
        if (const auto fits = by_size_.lower_bound({wanted, 0}); fits != by_size_.end()) {
          const auto [found, at] = *fits;
          forget(at, found);
          if (found > wanted) remember(at + wanted, found - wanted);
          use(at, wanted);
          return base_ + at;
        }
        if (size_ - end_ >= wanted) {
          const size_t at = end_;
          end_ += wanted;
          touched_ = std::max(touched_, end_);
          use(at, wanted);
          return base_ + at;
        }
      }
    }
    return c10::alloc_cpu(bytes);  // which says what was asked for if there is none
  }

  void use(size_t at, size_t bytes) {
    used_.emplace(at, bytes);
    in_use_ += bytes;
    peak_ = std::max(peak_, in_use_);
  }

  static void put(void* data) {
    TensorMemory& m = instance();
    const auto* given = static_cast<std::byte*>(data);
    if (given < m.base_ || given >= m.base_ + m.size_) return c10::free_cpu(data);
    m.release(static_cast<size_t>(given - m.base_));
  }

  void release(size_t at) {
    const std::lock_guard lock(mutex_);
    const auto mine = used_.find(at);
    size_t bytes = mine->second;
    used_.erase(mine);
    in_use_ -= bytes;
    const auto after = free_.lower_bound(at);
    if (after != free_.begin()) {
      if (const auto [start, size] = *std::prev(after); start + size == at) {
        forget(start, size);
        at = start;
        bytes += size;
      }
    }
    if (const auto next = free_.find(at + bytes); next != free_.end()) {
      const size_t size = next->second;
      forget(at + bytes, size);
      bytes += size;
    }
    if (at + bytes == end_) {
      end_ = at;
    } else {
      remember(at, bytes);
    }
  }

  void remember(size_t at, size_t bytes) {
    free_.emplace(at, bytes);
    by_size_.emplace(bytes, at);
  }

  void forget(size_t at, size_t bytes) {
    free_.erase(at);
    by_size_.erase({bytes, at});
  }

  mutable std::mutex mutex_;
  std::byte* base_ = nullptr;
  size_t size_ = 0;
  size_t end_ = 0;  // all beyond is free
  size_t in_use_ = 0;
  size_t peak_ = 0;
  size_t touched_ = 0;                           // what of it may be in memory ends here
  std::map<size_t, size_t> free_;                // start -> bytes, below end_, never side by side
  std::set<std::pair<size_t, size_t>> by_size_;  // (bytes, start) of the same
  std::unordered_map<size_t, size_t> used_;      // start -> bytes
};

}  // namespace

void keep_tensor_memory() {
#ifndef __SANITIZE_ADDRESS__  // which finds what is read beyond a tensor's end only where it lies by itself
  if (TensorMemory::instance().reserved()) c10::SetCPUAllocator(&TensorMemory::instance(), 1);
#endif
}

void return_free_tensor_memory() {
  TensorMemory::instance().return_free();
}

int64_t peak_tensor_memory() {
  return static_cast<int64_t>(TensorMemory::instance().peak());
}

void restart_peak_tensor_memory() {
  TensorMemory::instance().restart_peak();
}

}  // namespace espalier
