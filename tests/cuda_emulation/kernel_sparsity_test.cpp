// The kernels of the penalties of groups against their passes on the CPU.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cuda_emulation.h"
#include "regularizers/kernel_sparsity/kernel_passes.h"
#include "regularizers/kernel_sparsity/kernel_sparsity_cuda.h"
#include "test_values.h"

namespace espalier {
namespace {

using cuda_emulation::in_every_order;

// Filters of several layers, as ChainTables lays them out: whole filters of odd sizes, kernels with nested groups, and
// filters that lie in two parts. Each layer has three filters: one of zeros, and one whose elements have equal sizes.
struct Filters {
  std::vector<ChainFamily> families;
  std::vector<ChainRow> rows;
  std::vector<int32_t> piece_of, order, starts;
  std::vector<double> factors;
  int64_t elements = 0, longest = 0;
  std::vector<int64_t> zeros, equals;  // rows

  Filters() {
    for (const int64_t channels : {1, 33, 127, 128, 129, 300}) add(1, channels, 1);
    for (const int side : {2, 3}) add(side, 17, 1);
    add(1, 75, 2);
  }

  void add(int side, int64_t channels, int parts) {
    constexpr int filters = 3;
    const int positions = side * side, groups = side;
    const auto begin = [](const auto& list) { return static_cast<int32_t>(list.size()); };
    const int64_t part = channels * positions, stride = parts == 1 ? part : filters * part;
    families.push_back({.channels = channels,
                        .stride = stride,
                        .parts = parts,
                        .positions = positions,
                        .groups = groups,
                        .piece_of = begin(piece_of),
                        .starts = begin(starts),
                        .factors = begin(factors)});
    // Piece m: row m and column m of what is left.
    int32_t place = 0;
    for (int p = 0; p < positions; ++p) piece_of.push_back(std::min(p / side, p % side));
    for (int m = 0; m < groups; ++m) {
      starts.push_back(place);
      for (int p = 0; p < positions; ++p) {
        if (std::min(p / side, p % side) != m) continue;
        order.push_back(p);
        ++place;
      }
    }
    starts.push_back(place);
    // For each size of the kernel, N factors; a group of a cropped kernel may be empty.
    for (int size = 0; size <= side; ++size) {
      for (int m = 0; m < groups; ++m) factors.push_back(size == 1 && m == 0 && side > 1 ? 0 : 0.5 + 0.25 * (m + size));
    }
    for (int k = 0; k < filters; ++k) {
      const auto row = static_cast<int64_t>(rows.size());
      const bool has_norm = row % 4 != 3;  // one that counts; its scale may be missing
      rows.push_back({.offset = elements + k * part,
                      .scale_at = has_norm && k != 2 ? row : -1,
                      .variance_at = has_norm ? row : -1,
                      .eps = 1e-5,
                      .family = begin(families) - 1,
                      .size = k == 0 ? side : 1});
      if (k == 1) equals.push_back(row);
      if (k == 2) zeros.push_back(row);
    }
    longest = std::max(longest, part * parts);
    elements += (filters * part * parts + 63) / 64 * 64;
  }

  Chains chains() const {
    return {families.data(), rows.data(), piece_of.data(), order.data(), starts.data(), factors.data()};
  }
  int64_t count() const { return static_cast<int64_t>(rows.size()); }

  template <class T>
  std::vector<T> weights() const {
    std::vector<T> w = numbers<T>(elements, 21);
    const auto for_elements = [&](int64_t r, const auto& body) {
      const ChainRow& row = rows[static_cast<size_t>(r)];
      const ChainFamily& f = families[static_cast<size_t>(row.family)];
      for (int64_t j = 0; j < f.parts; ++j) {
        for (int64_t i = 0; i < f.channels * f.positions; ++i)
          body(w[static_cast<size_t>(row.offset + j * f.stride + i)]);
      }
    };
    for (const int64_t r : zeros) for_elements(r, [](T& x) { x = 0; });
    for (const int64_t r : equals) for_elements(r, [](T& x) { x = x < 0 ? T(-0.75) : T(0.75); });
    // The first filter of nested groups has the largest sizes in the first piece and in the last one, so that a piece
    // between them has no gradient of largest sizes.
    for (const ChainRow& row : rows) {
      const ChainFamily& f = families[static_cast<size_t>(row.family)];
      if (f.groups == 1 || row.size != f.groups) continue;
      w[static_cast<size_t>(row.offset)] = T(1.25);
      w[static_cast<size_t>(row.offset + f.channels * f.positions - 1)] = T(-1.5);
    }
    return w;
  }
};

template <class T>
class KernelSparsityKernels : public testing::Test {
 protected:
  // A filter's norms are roots of sums of n squares. Two orders of a sum of numbers that are not negative differ by n
  // roundings of it at most, and what follows (a root, sums of norms, a square, one division) passes on no more than
  // twice the relative difference, and a few roundings of its own.
  double tolerance() const { return 2 * static_cast<double>(filters.longest + 8) * std::numeric_limits<T>::epsilon(); }
  Filters filters;
  std::vector<T> weights = filters.template weights<T>();
  // The largest scale is negative, one is zero.
  std::vector<T> scales = [this] {
    std::vector<T> s = numbers<T>(filters.count(), 31, -2, 1);
    s[1] = 0;
    return s;
  }();
  std::vector<T> variances = numbers<T>(filters.count(), 32, 0.5, 2);
};

using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(KernelSparsityKernels, Types);

// Everything that a pass writes, as float64.
template <class T>
struct Written {
  std::vector<T> g, scale_gradients;
  std::vector<double> pieces, sums, wholes, values;

  explicit Written(const Filters& f)
      : g(numbers<T>(f.elements, 22)),
        scale_gradients(numbers<T>(f.count(), 23)),
        pieces(static_cast<size_t>(f.count() * max_groups), 0.3),
        sums(static_cast<size_t>(f.count())),
        wholes(sums.size()),
        values(sums.size()) {}
  std::vector<std::vector<double>> all() const {
    return {as_doubles(g), as_doubles(scale_gradients), pieces, sums, wholes, values};
  }
};

TYPED_TEST(KernelSparsityKernels, ChainsEqualTheCpu) {
  using T = TypeParam;
  const Filters& f = this->filters;
  const std::vector<double> of_sums = numbers<double>(f.count(), 41), of_wholes = numbers<double>(f.count(), 42);
  const char* const names[] = {"gradient", "gradient of scales", "pieces", "sums", "wholes", "values"};
  struct Case {
    const char* name;
    ChainTask task;
    bool coupled = false;  // a penalty of many filters: pieces are kept, and derivatives come from outside
  };
  const Case cases[] = {
      {"value alone", {.weight = 0.1, .adds = false}},
      {"sum", {.weight = 0.1}},
      {"squared", {.weight = 0.1, .squared = true}},
      {"largest", {.weight = 0.1, .largest = true}},
      {"largest, squared", {.weight = 0.1, .largest = true, .squared = true}},
      {"scales alone", {.weight = 0.1, .kernels = false}},
      {"measured", {.weight = 0.1, .adds = false}, true},
      {"largest, measured", {.weight = 0.1, .largest = true, .adds = false}, true},
      {"added", {.weight = 0.1, .measures = false}, true},
      {"largest, added", {.weight = 0.1, .largest = true, .measures = false}, true},
      {"added to scales alone", {.weight = 0.1, .measures = false, .kernels = false}, true},
  };
  for (const auto& [name, task, coupled] : cases) {
    const auto arenas_of = [&, is_coupled = coupled](Written<T>& to) {
      ChainArenas<T> a{.w = this->weights.data(),
                       .g = to.g.data(),
                       .scales = this->scales.data(),
                       .scale_gradients = to.scale_gradients.data(),
                       .variances = this->variances.data()};
      if (!is_coupled) {
        a.values = to.values.data();
        return a;
      }
      a.pieces = to.pieces.data();
      a.sums = to.sums.data();
      a.wholes = to.wholes.data();
      a.of_sums = of_sums.data();
      a.of_wholes = of_wholes.data();
      return a;
    };
    // A pass that measures nothing takes the pieces of an earlier one.
    Written<T> begin(f);
    if (!task.measures) {
      ChainTask measures = task;
      measures.measures = true;
      measures.adds = false;
      chain_pass(f.chains(), arenas_of(begin), measures, f.count(), 1);
    }
    Written<T> expected = begin;
    chain_pass(f.chains(), arenas_of(expected), task, f.count(), 1);
    const auto got = in_every_order([&] {
      Written<T> written = begin;
      launch_chains(f.chains(), arenas_of(written), task, f.count(), 0);
      return written.all();
    });
    for (size_t i = 0; i < got.size(); ++i)
      expect_near(expected.all()[i], got[i], this->tolerance(), std::string(name) + ": " + names[i]);
  }
}

TYPED_TEST(KernelSparsityKernels, ProximalStepsEqualTheCpu) {
  using T = TypeParam;
  const Filters& f = this->filters;
  std::vector<double> rates = numbers<double>(std::ssize(f.families), 51, 0.1, 1);
  rates[2] = 0;  // a layer that this update left alone
  for (const auto& [largest, squared] : {std::pair{false, false}, {false, true}, {true, false}}) {
    for (const double weight : {0.05, 20.0}) {
      const ChainTask task{.weight = weight, .largest = largest, .squared = squared};
      std::vector<T> expected = this->weights;
      chain_proximal_pass(f.chains(), expected.data(), this->scales.data(), this->variances.data(), rates.data(), task,
                          f.count(), 1);
      const auto got = in_every_order([&] {
        std::vector<T> w = this->weights;
        launch_chain_proximal(f.chains(), w.data(), this->scales.data(), this->variances.data(), rates.data(), task,
                              f.count(), 0);
        return w;
      });
      const std::string what = "largest " + std::to_string(largest) + ", squared " + std::to_string(squared) +
                               ", weight " + std::to_string(weight);
      // The step of the squared form solves 2 t left(step) = step. The left side falls, so that the solution moves by
      // no more than the left side does, and what is left by no more than the norms do.
      expect_near(as_doubles(expected), as_doubles(got), this->tolerance(), what);
    }
  }
}

TYPED_TEST(KernelSparsityKernels, ScalesEqualTheCpu) {
  using T = TypeParam;
  const Filters& f = this->filters;
  std::vector<double> by = numbers<double>(f.count(), 61);
  by[0] = 0;  // gives zeros without a sign
  std::vector<T> expected = this->weights;
  chain_scale_pass(f.chains(), expected.data(), by.data(), f.count(), 1);
  const auto got = in_every_order([&] {
    std::vector<T> w = this->weights;
    launch_chain_scale(f.chains(), w.data(), by.data(), f.count(), 0);
    return w;
  });
  expect_same_bytes(expected, got, "weights");
}

TYPED_TEST(KernelSparsityKernels, ColumnsEqualTheCpu) {
  using T = TypeParam;
  for (const int64_t count : {1, 31, 33}) {
    for (const int64_t rows : {1, 31, 129, 1000}) {
      std::vector<T> w = numbers<T>(count * rows, 71);
      for (int64_t r = 0; r < rows; ++r) w[static_cast<size_t>(r * count + count / 2)] = 0;
      const std::vector<T> g = numbers<T>(count * rows, 72);
      std::vector<T> expected = g;
      std::vector<double> norms(static_cast<size_t>(count));
      double expected_total = 0.25, total = 0;
      column_pass(w.data(), expected.data(), count, rows, 0.3, norms.data(), &expected_total);
      const auto got = in_every_order([&] {
        std::vector<T> gradients = g;
        total = 0.25;
        launch_columns(w.data(), gradients.data(), count, rows, 0.3, &total, 0);
        return gradients;
      });
      // Both sum in float64, so the factors differ by a rounding of T at most, once rows roundings of float64 have
      // moved them across; the total is a sum of `count` norms in any order.
      const std::string what = std::to_string(rows) + " x " + std::to_string(count);
      const double rounding = static_cast<double>(rows + count) * std::numeric_limits<double>::epsilon();
      expect_near(as_doubles(expected), as_doubles(got), 2 * std::numeric_limits<T>::epsilon() + rounding, what);
      expect_near({expected_total}, {total}, rounding, what);
    }
  }
}

TEST(KernelSparsityKernels, NothingIsLaunchedForNoFilters) {
  const cuda_emulation::Scope only_written_down({}, 0);
  launch_chain_scale<float>({}, nullptr, nullptr, 5, 0);
  EXPECT_EQ(cuda_emulation::last_launch().kernel, "chain_scale");
  launch_chains<float>({}, {}, {}, 0, 0);
  launch_chain_proximal<float>({}, nullptr, nullptr, nullptr, nullptr, {}, 0, 0);
  launch_columns<float>(nullptr, nullptr, 0, 3, 1, nullptr, 0);
  launch_chain_scale<float>({}, nullptr, nullptr, 0, 0);
  EXPECT_EQ(cuda_emulation::last_launch().grid.x, 5U);
}

}  // namespace
}  // namespace espalier
