#pragma once

#include <chrono>

// What the header of LibTorch's process group needs of Gloo's: it only points to contexts.
namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
