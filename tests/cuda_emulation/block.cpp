#include "block.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "cuda_runtime.h"

namespace cuda_emulation {

namespace {

Block* block = nullptr;

// Fibres that have no thread at the moment, for all blocks.
std::vector<std::unique_ptr<Fibre>>& idle_fibres() {
  static std::vector<std::unique_ptr<Fibre>> all;
  return all;
}
// Those that run a thread, or wait in one.
std::vector<std::unique_ptr<Fibre>>& busy_fibres() {
  static std::vector<std::unique_ptr<Fibre>> all;
  return all;
}

bool is_same(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

std::string line_of(const std::source_location& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line());
}

// "3 threads (0, 1, 2)"
std::string list_of(const std::vector<size_t>& threads) {
  std::string text = std::to_string(threads.size()) + (threads.size() == 1 ? " thread (" : " threads (");
  for (size_t i = 0; i < threads.size() && i < 4; ++i) text += (i ? ", " : "") + std::to_string(threads[i]);
  return text + (threads.size() > 4 ? ", ...)" : ")");
}

}  // namespace

Block::Block(const Configuration& configuration, int64_t number, Order order, std::mt19937_64& random,
             const std::function<void()>& thread)
    : configuration_(configuration), number_(number), order_(order), random_(random), body_(thread) {
  const auto n = static_cast<uint64_t>(number);
  blockIdx = {static_cast<unsigned>(n % gridDim.x), static_cast<unsigned>(n / gridDim.x % gridDim.y),
              static_cast<unsigned>(n / gridDim.x / gridDim.y)};
  threads_.resize(size_t{blockDim.x} * blockDim.y * blockDim.z);
  for (size_t i = 0; i < threads_.size(); ++i) {
    Thread& t = threads_[i];
    t.lane = static_cast<int>(i) % Moment::lanes;
    t.warp = static_cast<int>(i) / Moment::lanes;
    t.moment.block = number;
    t.moment.thread = static_cast<int>(i);
    t.moment.clock[t.lane] = 1;
  }
  sequence_.resize(threads_.size());
  std::iota(sequence_.begin(), sequence_.end(), size_t{0});
  if (order.kind == Order::backward) std::ranges::reverse(sequence_);
  block = this;
}

Block::~Block() {
  // After an error some threads will never end.
  busy_fibres().clear();
  become(nullptr);
  block = nullptr;
}

Block& Block::current() {
  if (!block) throw Error("a function of kernels was called outside of a kernel");
  return *block;
}

void Block::become(Thread* thread) {
  running_ = thread;
  if (!thread) return watch_accesses_of(nullptr, nullptr, nullptr);
  const auto n = static_cast<unsigned>(thread->moment.thread);
  threadIdx = {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
  watch_accesses_of(&thread->moment, thread->fibre->stack_begin(), thread->fibre->stack_end());
}

void Block::run_fibre() {
  for (;;) {
    Block& now = current();
    Fibre* own = now.running_->fibre;
    now.run_fresh();
    std::vector<std::unique_ptr<Fibre>>& busy = busy_fibres();
    const auto place = std::ranges::find(busy, own, &std::unique_ptr<Fibre>::get);
    idle_fibres().push_back(std::move(*place));
    busy.erase(place);
    own->suspend();
  }
}

void Block::run_fresh() {
  Fibre* own = running_->fibre;
  for (;;) {
    become(running_);
    body_();
    running_->state = Thread::ended;
    Thread* following = nullptr;
    while (!following && next_ < sequence_.size()) {
      Thread& t = threads_[sequence_[next_]];
      if (t.state == Thread::ready) break;
      ++next_;
      if (t.state == Thread::fresh) following = &t;
    }
    become(nullptr);
    if (!following) return;
    running_ = following;
    running_->fibre = own;
  }
}

void Block::resume(Thread& thread) {
  if (thread.state == Thread::fresh) {
    std::vector<std::unique_ptr<Fibre>>& idle = idle_fibres();
    if (idle.empty()) idle.push_back(std::make_unique<Fibre>(run_fibre));
    thread.fibre = idle.back().get();
    busy_fibres().push_back(std::move(idle.back()));
    idle.pop_back();
  }
  thread.state = Thread::ready;
  running_ = &thread;
  thread.fibre->resume();
  become(nullptr);
}

void Block::run() {
  for (;;) {
    if (order_.kind == Order::random) std::ranges::shuffle(sequence_, random_);
    bool any = false;
    for (next_ = 0; next_ < sequence_.size();) {
      Thread& t = threads_[sequence_[next_++]];
      if (t.state != Thread::fresh && t.state != Thread::ready) continue;
      any = true;
      resume(t);
      if (!error_.empty()) throw Error(error_);
    }
    if (any) continue;
    if (std::ranges::all_of(threads_, [](const Thread& t) { return t.state == Thread::ended; })) return;
    if (!release_block()) fail_waiting();
  }
}

void Block::wait(unsigned mask, uint64_t value, const char* what, std::source_location where) {
  Thread* const own = running_;
  become(nullptr);
  own->state = Thread::waiting;
  own->mask = mask;
  own->given = value;
  own->what = what;
  own->where = where;
  if (mask != 0) release_warp(*own);
  own->fibre->suspend();
  become(own);
}

void Block::wait_for_block(std::source_location where) {
  wait(0, 0, "__syncthreads", where);
}

const uint64_t* Block::wait_for_lanes(unsigned mask, uint64_t value, const char* what, std::source_location where) {
  const Thread& own = *running_;
  if (!(mask >> own.lane & 1)) {
    fail(std::string(what) + " in " + line_of(where) + ": lane " + std::to_string(own.lane) + " of warp " +
         std::to_string(own.warp) + " calls it with a mask that does not name this lane");
  }
  wait(mask, value, what, where);
  return own.got;
}

void Block::fail(const std::string& why) {
  Thread* const own = running_;
  become(nullptr);
  error_ = in_words() + ": " + why;
  for (;;) own->fibre->suspend();
}

bool Block::release_block() {
  const Thread& first = threads_.front();
  for (const Thread& t : threads_) {
    if (t.state != Thread::waiting || t.mask != 0 || !is_same(t.where, first.where)) return false;
  }
  for (Thread& t : threads_) {
    t.state = Thread::ready;
    ++t.moment.barriers;
  }
  return true;
}

void Block::release_warp(const Thread& last) {
  const size_t begin = static_cast<size_t>(last.warp) * Moment::lanes;
  Thread* const lanes = threads_.data() + begin;
  const int count = static_cast<int>(std::min<size_t>(Moment::lanes, threads_.size() - begin));
  uint32_t clock[Moment::lanes] = {};
  for (int i = 0; i < Moment::lanes; ++i) {
    if (!(last.mask >> i & 1)) continue;
    if (i >= count || lanes[i].state != Thread::waiting || lanes[i].mask != last.mask ||
        !is_same(lanes[i].where, last.where))
      return;
    for (int j = 0; j < Moment::lanes; ++j) clock[j] = std::max(clock[j], lanes[i].moment.clock[j]);
  }
  const bool orders = std::strcmp(last.what, "__syncwarp") == 0;
  for (int i = 0; i < count; ++i) {
    if (!(last.mask >> i & 1)) continue;
    Thread& t = lanes[i];
    t.state = Thread::ready;
    for (int j = 0; j < count; ++j) t.got[j] = lanes[j].given;
    if (!orders) continue;
    std::ranges::copy(clock, t.moment.clock);
    ++t.moment.clock[i];
  }
}

void Block::fail_waiting() const {
  std::map<std::pair<std::string, bool>, std::vector<size_t>> places;  // and whether they wait there
  for (size_t i = 0; i < threads_.size(); ++i) {
    const Thread& t = threads_[i];
    const bool waits = t.state == Thread::waiting;
    places[{waits ? std::string(t.what) + " in " + line_of(t.where) : "", waits}].push_back(i);
  }
  std::string text;
  for (const auto& [place, threads] : places) {
    text += (text.empty() ? "" : "; ") + list_of(threads) +
            (place.second ? " wait at " + place.first : std::string(" have ended"));
  }
  throw Error(in_words() + ": threads wait for others that do not come: " + text +
              ". All threads of a block must come to the same __syncthreads, and all lanes of a mask, which must exist,"
              " to the same function of the warp.");
}

std::string Block::in_words() const {
  return "kernel '" + configuration_.kernel + "', block (" + std::to_string(blockIdx.x) + ", " +
         std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + ")";
}

void* Block::shared_memory(const void* declaration, const char* name, size_t size, size_t alignment) {
  const auto found = std::ranges::find(memory_, declaration, &Memory::declaration);
  if (found != memory_.end()) return found->bytes.get();
  size_t all = size;
  for (const Memory& m : memory_) all += m.size;
  if (all > most_shared_memory) {
    fail("with '" + std::string(name) + "' it has " + std::to_string(all) +
         " bytes of shared memory, and a block has " + std::to_string(most_shared_memory));
  }
  void* bytes = nullptr;
  if (posix_memalign(&bytes, std::max(alignment, sizeof(void*)), std::max<size_t>(size, 1)) != 0)
    throw std::bad_alloc();
  // What was there before is anybody's guess, so it is another in each order.
  std::memset(bytes, static_cast<int>(0x35 + 0x11 * (order_.seed % 8)), size);
  forget_accesses(bytes, size);
  memory_.push_back({declaration, name, size, {bytes, std::free}});
  return bytes;
}

std::string Block::name_of(const void* address) const {
  for (const Memory& m : memory_) {
    const auto offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(m.bytes.get());
    if (offset < m.size) return "byte " + std::to_string(offset) + " of the shared memory '" + m.name + "'";
  }
  return "global memory";
}

std::string name_of_memory(const void* address) {
  return Block::current().name_of(address);
}

void* detail::shared_memory(const void* declaration, const char* name, size_t size, size_t alignment) {
  return Block::current().shared_memory(declaration, name, size, alignment);
}

void* dynamic_shared() {
  static const char declaration = 0;
  Block& now = Block::current();
  return now.shared_memory(&declaration, "dynamic", last_launch().shared, 16);
}

}  // namespace cuda_emulation
