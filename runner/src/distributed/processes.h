#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/error.h"
#include "espalier/parts.h"

namespace espalier {

// Which of the processes of one run this is, and where they meet: what torchrun or srun says in the environment.
struct ProcessPlace {
  int64_t rank = 0;        // of this process among all
  int64_t count = 1;       // of processes
  int64_t local_rank = 0;  // of this process on its machine
  int64_t threads = 0;     // that the environment leaves to it; 0: it says nothing, or OMP_NUM_THREADS says it
  std::string address;     // of the process 0
  int64_t port = 0;
  bool agent = false;  // torchrun itself serves the port

  // From RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and LOCAL_RANK, or from what srun sets. One process where neither
  // is there. Throws InputError at the variable where one is wrong or missing.
  static ProcessPlace from_environment();
};

// The first host of a list as Slurm writes it: "node[03-05,9],other" is node03. Throws Error where it is none.
std::string first_host(std::string_view list);

// Another process of the run has ended or does not answer. No component is to blame, and no place of the run.
class ProcessLost : public LocatedError {
 public:
  using LocatedError::LocatedError;
};

// The processes that train one network together, each with a part of every batch. All call the same functions in the
// same order; each call waits for all of them. With one process nothing is sent and every function returns what it was
// given. Any of them throws ProcessLost, naming the processes, where one is gone, and Error where the processes do
// different things.
class Processes {
 public:
  // One process.
  Processes();
  // Meets the others. device: of the tensors that are summed most, and how they travel: NCCL on GPUs, else Gloo.
  Processes(const ProcessPlace& place, at::Device device);
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  int64_t rank() const { return place_.rank; }
  int64_t count() const { return place_.count; }
  bool several() const { return place_.count > 1; }
  // Whether this is the process that decides and writes.
  bool leads() const { return place_.rank == 0; }

  // Adds a contiguous tensor over all processes, in place; all get the same bits.
  void sum(const at::Tensor& tensor) const;
  // The same as a function, for forward passes.
  const SumOverParts& summing() const { return summing_; }
  // The largest of each of these over all processes, at most max_values of them. purpose: of the call; where another
  // process is at another purpose, Error says so.
  std::vector<int64_t> largest(std::string_view purpose, std::initializer_list<int64_t> values) const;
  // Whether any process says so.
  bool any(std::string_view purpose, bool mine) const { return largest(purpose, {mine ? 1 : 0})[0] != 0; }
  // Throws Error naming the processes whose text differs from that of the process 0. what: "the recipe", for the
  // message; advice: what to do about it.
  void require_same(std::string_view what, std::string_view text, std::string_view advice) const;
  // The text of the process 0.
  std::string from_leader(std::string_view purpose, const std::string& text) const;

  // Tells the others why this process ends, so that they need not wait for it.
  void give_up(const std::string& why) const noexcept;

  static constexpr size_t max_values = 4;

 private:
  struct Group;
  template <class Body>
  void with_others(const Body& body) const;
  [[noreturn]] void lost(const std::string& why) const;

  ProcessPlace place_;
  mutable std::unique_ptr<Group> group_;  // null: one process, or the connection is broken
  SumOverParts summing_;
};

}  // namespace espalier
