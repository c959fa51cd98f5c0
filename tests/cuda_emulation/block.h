#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <source_location>
#include <string>
#include <vector>

#include "cuda_emulation.h"
#include "cuda_runtime_api.h"
#include "fibre.h"
#include "races.h"

namespace cuda_emulation {

inline constexpr size_t most_shared_memory = 48 << 10;  // bytes of a block that needs no permission for more

// One block of threads while it runs. Threads run one at a time, each until it waits for others or ends.
class Block {
 public:
  // number: in the grid. random: for the order, if it is random.
  Block(const Configuration& configuration, int64_t number, Order order, std::mt19937_64& random,
        const std::function<void()>& thread);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  // Runs all threads. Throws Error if some wait for what never comes.
  void run();

  // Returns the block that runs. Throws Error if none does.
  static Block& current();

  // For the thread that runs:
  // Waits for all threads of the block.
  void wait_for_block(std::source_location where);
  // Waits for the lanes of the mask. Returns what each lane of the warp gave; only those of the mask are meant.
  const uint64_t* wait_for_lanes(unsigned mask, uint64_t value, const char* what, std::source_location where);
  // Returns the lane, 0 to 31.
  int lane() const { return running_->lane; }
  // Ends the block with an error.
  [[noreturn]] void fail(const std::string& why);

  // Returns the memory of a declaration of shared memory, which an address names.
  void* shared_memory(const void* declaration, const char* name, size_t size, size_t alignment);
  // Returns in words which memory an address lies in.
  std::string name_of(const void* address) const;

 private:
  struct Thread {
    enum State { fresh, ready, waiting, ended };
    State state = fresh;
    int lane = 0, warp = 0;
    Moment moment;
    Fibre* fibre = nullptr;
    // What it waits for: a mask without lanes means the whole block.
    unsigned mask = 0;
    const char* what = nullptr;
    std::source_location where;
    uint64_t given = 0, got[Moment::lanes] = {};
  };
  struct Memory {
    const void* declaration;
    std::string name;
    size_t size;
    std::unique_ptr<void, void (*)(void*)> bytes;
  };

  void shuffle();
  void resume(Thread& thread);
  // What a fibre does: threads that have not begun, one after the other, as long as the sequence has one next.
  static void run_fibre();
  void run_fresh();
  // Makes a thread the one whose numbers and accesses these are; null: none.
  void become(Thread* thread);
  // Leaves the running thread's fibre until somebody has made it ready.
  void wait(unsigned mask, uint64_t value, const char* what, std::source_location where);
  bool release_block();
  // Lets the lanes go on that `last` waits for, if all have come.
  void release_warp(const Thread& last);
  // Says which threads wait where, and which have ended.
  [[noreturn]] void fail_waiting() const;
  std::string in_words() const;

  const Configuration& configuration_;
  int64_t number_;
  Order order_;
  std::mt19937_64& random_;
  const std::function<void()>& body_;
  std::vector<Thread> threads_;
  std::vector<size_t> sequence_;
  size_t next_ = 0;
  Thread* running_ = nullptr;
  std::vector<Memory> memory_;
  std::string error_;
};

}  // namespace cuda_emulation
