// The kernels of the optimizers against their passes on the CPU, which compute the same formula for each element: the
// bytes are the same.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cuda_emulation.h"
#include "optimizers/adagrad/adagrad_cuda.h"
#include "optimizers/adagrad/adagrad_pass.h"
#include "optimizers/adam/adam_cuda.h"
#include "optimizers/adam/adam_pass.h"
#include "optimizers/lbi/lbi_cuda.h"
#include "optimizers/lbi/lbi_pass.h"
#include "optimizers/sgd/sgd_cuda.h"
#include "optimizers/sgd/sgd_pass.h"
#include "plugins/lion/lion.h"
#include "test_values.h"

namespace espalier {
namespace {

using cuda_emulation::in_every_order;

// What span_table() makes: of each 64 elements the decay, or NaN where they are not selected.
std::vector<double> table_of(int64_t n) {
  const double decays[] = {0.02, std::numeric_limits<double>::quiet_NaN(), 0};
  std::vector<double> table(static_cast<size_t>((n + 63) / 64));
  for (size_t i = 0; i < table.size(); ++i) table[i] = decays[i % 3];
  return table;
}

// Calls pass(begin, end, decay) for the elements that a table selects.
template <class Pass>
void for_spans(const std::vector<double>& table, int64_t n, const Pass& pass) {
  for (size_t i = 0; i < table.size(); ++i) {
    const int64_t begin = static_cast<int64_t>(i) * 64;
    if (!std::isnan(table[i])) pass(begin, std::min(begin + 64, n), table[i]);
  }
}

// The most blocks that grids may have: as many as they want, and so few that each thread takes several elements.
constexpr int64_t grids[] = {INT64_MAX, 2};

template <class T>
class FlatKernels : public testing::Test {
 protected:
  // launch(table, values) and pass(begin, end, decay, values) change the values: the arenas of weights and states.
  template <class Launch, class Pass>
  void expect_equal(const std::string& what, size_t arenas, const Launch& launch, const Pass& pass) {
    for (const int64_t n : odd_sizes) {
      const std::vector<double> table = table_of(n);
      std::vector<std::vector<T>> begin;
      for (size_t i = 0; i < arenas; ++i) begin.push_back(numbers<T>(n, i, i == 0 ? -1 : 0));
      auto expected = begin;
      for_spans(table, n, [&](int64_t b, int64_t e, double decay) { pass(b, e, decay, expected); });
      for (const int64_t blocks : grids) {
        const auto run = [&] {
          auto values = begin;
          launch(n, table.data(), values);
          return values;
        };
        const auto got = in_every_order(run, blocks);
        for (size_t i = 0; i < arenas; ++i) {
          expect_same_bytes(expected[i], got[i],
                            what + ", " + std::to_string(n) + " elements, arena " + std::to_string(i));
        }
      }
    }
  }
  // The gradients of the largest size.
  std::vector<T> gradients(int64_t n) const { return numbers<T>(n, 77); }
};

using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(FlatKernels, Types);

TYPED_TEST(FlatKernels, Sgd) {
  using T = TypeParam;
  const std::vector<double> scalars{0.1};
  for (const SgdFormula<T>& f :
       {SgdFormula<T>{0, false, false}, SgdFormula<T>{T(0.9), true, false}, SgdFormula<T>{T(0.9), false, true}}) {
    this->expect_equal(
        "sgd", 2,
        [&](int64_t n, const double* table, auto& v) {
          const std::vector<T> g = this->gradients(n);
          launch_sgd(n, table, scalars.data(), v[0].data(), g.data(), v[1].data(), f, 0);
        },
        [&](int64_t b, int64_t e, double decay, auto& v) {
          const std::vector<T> g = this->gradients(static_cast<int64_t>(v[0].size()));
          sgd_pass(b, e, decay, scalars[0], v[0].data(), g.data(), v[1].data(), f);
        });
  }
}

TYPED_TEST(FlatKernels, Adagrad) {
  using T = TypeParam;
  const std::vector<double> scalars{0.1};
  const AdagradFormula<T> f{T(1e-8)};
  this->expect_equal(
      "adagrad", 2,
      [&](int64_t n, const double* table, auto& v) {
        const std::vector<T> g = this->gradients(n);
        launch_adagrad(n, table, scalars.data(), v[0].data(), g.data(), v[1].data(), f, 0);
      },
      [&](int64_t b, int64_t e, double decay, auto& v) {
        const std::vector<T> g = this->gradients(static_cast<int64_t>(v[0].size()));
        adagrad_pass(b, e, decay, scalars[0], v[0].data(), g.data(), v[1].data(), f);
      });
}

TYPED_TEST(FlatKernels, Adam) {
  using T = TypeParam;
  const std::vector<double> scalars{0.01, 0.02, 0.7};
  for (const bool decoupled : {false, true}) {
    const AdamFormula<T> f{T(0.9), T(0.999), T(1e-8), decoupled};
    this->expect_equal(
        "adam", 3,
        [&](int64_t n, const double* table, auto& v) {
          const std::vector<T> g = this->gradients(n);
          launch_adam(n, table, scalars.data(), v[0].data(), g.data(), v[1].data(), v[2].data(), f, 0);
        },
        [&](int64_t b, int64_t e, double decay, auto& v) {
          const std::vector<T> g = this->gradients(static_cast<int64_t>(v[0].size()));
          adam_pass(b, e, decay, scalars.data(), v[0].data(), g.data(), v[1].data(), v[2].data(), f);
        });
  }
}

// An example, whose pass is a loop over its formula.
TYPED_TEST(FlatKernels, Lion) {
  using T = TypeParam;
  const std::vector<double> scalars{0.01};
  const LionFormula<T> f{T(0.9), T(0.99)};
  this->expect_equal(
      "lion", 2,
      [&](int64_t n, const double* table, auto& v) {
        const std::vector<T> g = this->gradients(n);
        launch_lion(n, table, scalars.data(), v[0].data(), g.data(), v[1].data(), f, 0);
      },
      [&](int64_t b, int64_t e, double decay, auto& v) {
        const std::vector<T> g = this->gradients(static_cast<int64_t>(v[0].size()));
        for (auto i = static_cast<size_t>(b); i < static_cast<size_t>(e); ++i)
          f(v[0][i], g[i], v[1][i], static_cast<T>(scalars[0]), static_cast<T>(decay));
      });
}

// Every size gets a grid that a GPU takes and that has a thread for each element, as long as there are so many.
TEST(FlatKernels, GridsFitTheArena) {
  const cuda_emulation::Scope only_written_down({}, 0);
  const SgdFormula<float> f{0, false, false};
  const auto blocks_of = [&](int64_t n) {
    launch_sgd<float>(n, nullptr, nullptr, nullptr, nullptr, nullptr, f, 0);
    EXPECT_EQ(cuda_emulation::last_launch().kernel, "pass_kernel");
    EXPECT_EQ(cuda_emulation::last_launch().block.x, 256U);
    return cuda_emulation::last_launch().grid.x;
  };
  EXPECT_EQ(blocks_of(1), 1U);
  EXPECT_EQ(blocks_of(256), 1U);
  EXPECT_EQ(blocks_of(257), 2U);
  EXPECT_EQ(blocks_of(int64_t{65535} * 256), 65535U);
  EXPECT_EQ(blocks_of(int64_t{1} << 40), 65535U);
}

TEST(FlatKernels, NothingIsLaunchedForNoElements) {
  const cuda_emulation::Scope only_written_down({}, 0);
  launch_sgd<float>(1, nullptr, nullptr, nullptr, nullptr, nullptr, {}, 0);
  const std::vector<double> scalars(3);
  launch_adam<float>(0, nullptr, scalars.data(), nullptr, nullptr, nullptr, nullptr, {}, 0);
  launch_adagrad<float>(0, nullptr, scalars.data(), nullptr, nullptr, nullptr, {}, 0);
  launch_lbi<float>(0, nullptr, scalars.data(), {}, {}, 0);
  EXPECT_EQ(cuda_emulation::last_launch().grid.x, 1U);  // the first
}

template <class T>
class LbiKernel : public testing::Test {};
TYPED_TEST_SUITE(LbiKernel, Types);

// Rows of all kinds and sizes. Weights, momentum and Z are computed element by element, so their bytes are the same.
TYPED_TEST(LbiKernel, EqualsTheCpu) {
  using T = TypeParam;
  std::vector<LbiRow> rows;
  int64_t offset = 0, state = 0, longest = 0;
  for (const LbiRow::Kind kind : {LbiRow::group, LbiRow::plain, LbiRow::elements}) {
    for (const int64_t n : odd_sizes) {
      rows.push_back({offset, state++, state % 2 ? 0.01 : 0, static_cast<int32_t>(n), kind});
      offset += (n + 63) / 64 * 64;
      longest = std::max(longest, n);
    }
  }
  const std::vector<double> lr{0.05};
  // Of w, m, z, and of the scales of groups.
  const std::vector<std::vector<T>> begin{numbers<T>(offset, 1), numbers<T>(offset, 2), numbers<T>(offset, 3),
                                          numbers<T>(state, 4, 0), std::vector<T>(static_cast<size_t>(state), T(7))};
  const std::vector<T> g = numbers<T>(offset, 5);
  const auto arenas_of = [&](std::vector<std::vector<T>>& v) {
    return LbiArenas<T>{v[0].data(), g.data(), v[1].data(), v[2].data(), v[3].data(), v[4].data()};
  };
  // momentum, nesterov, kappa, coupling, z_rate, lambda, per_weight
  for (const LbiFormula<T>& f : {LbiFormula<T>{T(0.9), false, 1, T(0.1), T(0.1), T(0.5), false},
                                 LbiFormula<T>{T(0.9), true, 2, T(0.3), T(0.15), T(0.55), true}}) {
    auto expected = begin;
    lbi_pass(rows.data(), static_cast<int64_t>(rows.size()), 1, lr[0], arenas_of(expected), f);
    const auto got = in_every_order([&] {
      auto values = begin;
      launch_lbi(static_cast<int64_t>(rows.size()), rows.data(), lr.data(), arenas_of(values), f, 0);
      return values;
    });
    const char* const names[] = {"weights", "momentum", "Z"};
    for (size_t i = 0; i < 3; ++i) expect_same_bytes(expected[i], got[i], names[i]);
    // scale = kappa (1 - lambda / ||Z||): two sums of n squares differ by n roundings at most, the root halves that,
    // and lambda / ||Z|| is below 1 where the scale is not 0.
    const double tolerance = f.kappa * static_cast<double>(longest) * std::numeric_limits<T>::epsilon();
    expect_near(as_doubles(expected[3]), as_doubles(got[3]), tolerance, "scale");
    // Shares of counts, and whether a scale is above 0.
    expect_same_bytes(expected[4], got[4], "support");
    EXPECT_TRUE(std::ranges::any_of(got[4], [](T s) { return s == 0; }));  // both cases occur
    EXPECT_TRUE(std::ranges::any_of(got[4], [](T s) { return s == 1; }));
  }
}

}  // namespace
}  // namespace espalier
