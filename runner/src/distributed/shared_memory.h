#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <ATen/core/Tensor.h>

namespace espalier {

// Adds tensors over processes of one machine, through memory that all of them see. It is there because Gloo sends
// through sockets, with threads of its own, and those take the cores that compute: a step of LeNet-5 loses a fifth.
class SharedMemory {
 public:
  enum class How { sum, largest };

  // Process 0 makes the memory and tells the others where it is, by `tell`; they take it from `told`. Returns null in a
  // process that cannot reach it, such as one on another machine or in another container. So all of them have to agree
  // before they use it.
  static std::unique_ptr<SharedMemory> meet(int64_t rank, int64_t count,
                                            const std::function<void(const std::string&)>& tell,
                                            const std::function<std::string()>& told);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Replaces each element of a contiguous tensor of the CPU by the sum, in the order of the processes, or the largest,
  // over all processes; all get the same bits. Throws std::runtime_error where another process has ended, and Error
  // where one is at another call.
  void reduce(const at::Tensor& tensor, How how);

 private:
  struct Layout;
  SharedMemory(int file, void* memory, int64_t rank, int64_t count);

  template <class T>
  void reduce(T* values, int64_t n, How how);
  // Returns when all processes have come here.
  void meet_all();
  bool is_there(int64_t rank) const;
  char* slot(int64_t rank) const;

  int file_;
  Layout* shared_;
  int64_t rank_, count_;
};

}  // namespace espalier
