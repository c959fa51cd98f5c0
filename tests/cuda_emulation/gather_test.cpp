// The kernel that makes a batch of bytes against the loop of the CPU: the same bytes.
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cuda_emulation.h"
#include "data/gather_cuda.h"
#include "data/gather_kernels.h"
#include "test_values.h"

namespace espalier {
namespace {

template <class T>
class GatherKernel : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(GatherKernel, Types);

TYPED_TEST(GatherKernel, EqualsTheCpu) {
  using T = TypeParam;
  constexpr int64_t images = 9;
  const std::vector<int64_t> order{7, 0, 8, 8, 3};
  struct Size {
    int channels, height, width;
  };
  // One pixel, fewer pixels than a block has threads, as many, one more, and several rounds of the block.
  const Size sizes[] = {{1, 1, 1}, {3, 5, 7}, {1, 16, 16}, {2, 257, 1}, {3, 23, 31}, {max_channels, 3, 2}};
  const ImageTransform transforms[] = {{},
                                       {.crop = 2},
                                       {.flip = 0.5F},
                                       {.rotate = 0.4F},
                                       {.cutout = 3},
                                       {.crop = 1, .flip = 0.5F, .rotate = 1, .cutout = 4}};
  Normalization normalization{};
  for (int c = 0; c < max_channels; ++c) {
    normalization.scale[c] = 1.F / static_cast<float>(250 + c);
    normalization.shift[c] = -0.1F * static_cast<float>(c);
  }
  for (const Size& s : sizes) {
    for (const ImageTransform& transform : transforms) {
      for (const bool gathered : {false, true}) {
        const int64_t count = std::ssize(order), image = int64_t{s.channels} * s.height * s.width;
        const std::vector<uint8_t> bytes = numbers<uint8_t>((gathered ? count : images) * image, 3, 0, 256);
        const GatherArguments arguments{bytes.data(), order.data(), count,     gathered,      s.channels,
                                        s.height,     s.width,      transform, normalization, RandomKey(11)};
        std::vector<T> expected(static_cast<size_t>(count * image));
        gather_on_cpu(arguments, expected.data());
        const auto got = cuda_emulation::in_every_order([&] {
          std::vector<T> out(static_cast<size_t>(count * image));
          launch_gather(arguments, out.data(), 0);
          return out;
        });
        expect_same_bytes(expected, got,
                          std::to_string(s.channels) + " x " + std::to_string(s.height) + " x " +
                              std::to_string(s.width) + ", gathered: " + std::to_string(gathered));
      }
    }
  }
}

TEST(GatherKernel, LaunchesABlockForEachImageAndNoneForNone) {
  const cuda_emulation::Scope only_written_down({}, 0);
  GatherArguments a{};
  a.count = 3;
  launch_gather<float>(a, nullptr, 0);
  a.count = 0;
  launch_gather<float>(a, nullptr, 0);
  EXPECT_EQ(cuda_emulation::last_launch().grid.x, 3U);
}

}  // namespace
}  // namespace espalier
