#include "distributed/shared_memory.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>

#include <ATen/Dispatch.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "espalier/error.h"

namespace espalier {

namespace {

// What a process hands over at a time: small enough that all of it stays in the caches of the cores.
constexpr int64_t slot_bytes = 1 << 20;

// How long a process that waits looks before it sleeps. It is long against the way to another core and short against
// a step, so that a process which waits for a slower one leaves the core to others.
constexpr std::chrono::microseconds looking{50};

// How long it sleeps before it looks whether the others are still there.
constexpr timespec sleeping{.tv_sec = 0, .tv_nsec = 100'000'000};

using Word = std::atomic<uint32_t>;
static_assert(sizeof(Word) == sizeof(uint32_t) && Word::is_always_lock_free, "the kernel waits at it");

void wait_while(const Word& word, uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &sleeping, nullptr, 0);
}

void wake_all(const Word& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// A lock of one byte of the memory's file, which the kernel gives back when its process ends, however it ends.
struct flock lock_of(int64_t rank, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = rank;
  lock.l_len = 1;
  return lock;
}

// Says which processes the numbers of /proc belong to: those of a machine, since it was started, or of a container.
std::string who_is_here() {
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::string machine;
  std::getline(boot, machine);
  char space[64] = {};
  const ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
  return machine + std::string(space, static_cast<size_t>(std::max<ssize_t>(0, n)));
}

}  // namespace

struct SharedMemory::Layout {
  uint64_t token[2];  // of this memory, and of no other
  // At which call a process is: two that are at different ones must not add what they have.
  struct alignas(64) Call {
    int64_t bytes;
    int64_t how;
  };
  static constexpr int64_t most = 1024;
  Call calls[most];
  alignas(64) Word arrived;  // processes at the present meeting
  alignas(64) Word meetings;
  alignas(64) Word sleepers;

  static int64_t header() { return (static_cast<int64_t>(sizeof(Layout)) + 4095) / 4096 * 4096; }
  // What each process puts down, and the sums of all.
  static size_t size(int64_t count) { return static_cast<size_t>(header() + (count + 1) * slot_bytes); }
};

SharedMemory::SharedMemory(int file, void* memory, int64_t rank, int64_t count)
    : file_(file), shared_(static_cast<Layout*>(memory)), rank_(rank), count_(count) {}

SharedMemory::~SharedMemory() {
  munmap(shared_, Layout::size(count_));
  close(file_);  // and with it the lock: the others notice
}

std::unique_ptr<SharedMemory> SharedMemory::meet(int64_t rank, int64_t count,
                                                 const std::function<void(const std::string&)>& tell,
                                                 const std::function<std::string()>& told) {
  const size_t size = Layout::size(count);
  uint64_t token[2] = {};
  int file = -1;
  if (rank == 0) {
    std::random_device random;
    for (uint64_t& t : token) t = uint64_t{random()} << 32 | random();
    // All of it is taken now: memory that is missing later would be a signal instead of an error.
    if (count <= Layout::most) file = memfd_create("espalier", MFD_CLOEXEC);
    if (file >= 0 && posix_fallocate(file, 0, static_cast<off_t>(size)) != 0) {
      close(file);
      file = -1;
    }
  } else {
    std::istringstream words(told());
    std::string processes, path;
    words >> processes >> path >> token[0] >> token[1];
    if (words && processes == who_is_here()) file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  }
  std::unique_ptr<SharedMemory> memory;
  struct flock mine = lock_of(rank, F_WRLCK);
  if (file >= 0) {
    void* place = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (place == MAP_FAILED) {
      close(file);
    } else {
      memory.reset(new SharedMemory(file, place, rank, count));
      if (fcntl(file, F_OFD_SETLK, &mine) != 0) memory.reset();
    }
  }
  if (rank != 0) return memory && std::ranges::equal(memory->shared_->token, token) ? std::move(memory) : nullptr;
  std::string address = "none";
  if (memory) {
    std::ranges::copy(token, memory->shared_->token);
    address = who_is_here() + " /proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(file) + " " +
              std::to_string(token[0]) + " " + std::to_string(token[1]);
  }
  tell(address);
  return memory;
}

char* SharedMemory::slot(int64_t rank) const {
  return reinterpret_cast<char*>(shared_) + Layout::header() + rank * slot_bytes;
}

bool SharedMemory::is_there(int64_t rank) const {
  struct flock lock = lock_of(rank, F_WRLCK);
  return rank == rank_ || fcntl(file_, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void SharedMemory::meet_all() {
  const uint32_t meeting = shared_->meetings.load(std::memory_order_acquire);
  if (shared_->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(count_)) {
    shared_->arrived.store(0, std::memory_order_relaxed);
    shared_->meetings.store(meeting + 1, std::memory_order_seq_cst);
    if (shared_->sleepers.load(std::memory_order_seq_cst) > 0) wake_all(shared_->meetings);
    return;
  }
  const auto over = [&] { return shared_->meetings.load(std::memory_order_seq_cst) != meeting; };
  const auto until = std::chrono::steady_clock::now() + looking;
  do {
    for (int i = 0; i < 64; ++i) {
      if (over()) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  } while (std::chrono::steady_clock::now() < until);
  shared_->sleepers.fetch_add(1, std::memory_order_seq_cst);
  const auto awake = [&] { shared_->sleepers.fetch_sub(1, std::memory_order_seq_cst); };
  while (!over()) {
    wait_while(shared_->meetings, meeting);
    for (int64_t r = 0; r < count_; ++r) {
      if (is_there(r) || over()) continue;
      awake();
      throw std::runtime_error("process " + std::to_string(r) + " is gone");
    }
  }
  awake();
}

template <class T>
void SharedMemory::reduce(T* values, int64_t n, How how) {
  const auto begin = [&](int64_t size, int64_t rank) { return size * rank / count_; };
  const auto of = [&](int64_t rank) { return reinterpret_cast<T*>(slot(rank)); };
  constexpr int64_t at_once = slot_bytes / static_cast<int64_t>(sizeof(T));
  Layout::Call& mine = shared_->calls[rank_];
  int64_t done = 0;
  do {
    T* x = values + done;
    const int64_t size = std::min(at_once, n - done);
    const int64_t from = begin(size, rank_), to = begin(size, rank_ + 1);
    // Each process adds up one piece. It puts down what the others need, which is all but its own piece.
    std::copy_n(x, from, of(rank_));
    std::copy_n(x + to, size - to, of(rank_) + to);
    mine = {.bytes = (n - done) * static_cast<int64_t>(sizeof(T)), .how = static_cast<int64_t>(how)};
    meet_all();
    for (int64_t r = 0; r < count_; ++r) {
      const Layout::Call& other = shared_->calls[r];
      if (other.bytes != mine.bytes || other.how != mine.how)
        throw Error("the processes of this run do different things: they add tensors of different sizes");
    }
    const auto from_process = [&](int64_t rank) { return rank == rank_ ? x : of(rank); };
    // In the order of the processes. The sums have a place of their own: a process that is ahead puts down what it has
    // at the next call while others still read them.
    T* const sum = of(count_);
    std::copy(from_process(0) + from, from_process(0) + to, sum + from);
    for (int64_t r = 1; r < count_; ++r) {
      const T* other = from_process(r);
      if (how == How::sum) {
        for (int64_t i = from; i < to; ++i) sum[i] = sum[i] + other[i];
      } else {
        for (int64_t i = from; i < to; ++i) sum[i] = std::max(sum[i], other[i]);
      }
    }
    meet_all();
    std::copy_n(sum, size, x);
    done += size;
  } while (done < n);
}

void SharedMemory::reduce(const at::Tensor& tensor, How how) {
  AT_DISPATCH_ALL_TYPES_AND2(at::kHalf, at::kBFloat16, tensor.scalar_type(), "sum over processes",
                             [&] { reduce(tensor.mutable_data_ptr<scalar_t>(), tensor.numel(), how); });
}

}  // namespace espalier
