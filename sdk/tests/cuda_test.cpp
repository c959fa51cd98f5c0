#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "espalier/build_config.h"

namespace espalier {
namespace {

// `--as-needed` drops libtorch_cuda silently, and nothing notices on a machine without a GPU.
TEST(Cuda, LibtorchCudaIsLoadedExactlyWhereCudaIsOn) {
  std::ifstream maps("/proc/self/maps");
  bool loaded = false;
  for (std::string line; std::getline(maps, line);)
    loaded = loaded || line.find("/libtorch_cuda.so") != std::string::npos;
  EXPECT_EQ(loaded, ESPALIER_WITH_CUDA == 1);
}

}  // namespace
}  // namespace espalier
