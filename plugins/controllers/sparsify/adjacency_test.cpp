// The operation `adjacency_competition`: thresholds of rows and columns, Sinkhorn, and its gradients.
#include <array>
#include <memory>

#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/registry.h>
#include <espalier/regularizer.h>

#include "coefficients_by_hand.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;

constexpr double rounding = 1e-13;  // of twenty Sinkhorn iterations over a few numbers of float64

// A square matrix in plain loops.
struct Matrix {
  size_t n;
  Numbers values;
  explicit Matrix(size_t size, double value = 0) : n(size), values(size * size, value) {}
  double& at(size_t i, size_t j) { return values[i * n + j]; }
  double at(size_t i, size_t j) const { return values[i * n + j]; }
  double row(size_t i) const {
    double sum = 0;
    for (size_t j = 0; j < n; ++j) sum += at(i, j);
    return sum;
  }
  double column(size_t j) const {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += at(i, j);
    return sum;
  }
};

struct Setting {
  std::string gamma = "sigmoid", thresholds = "min", normalize = "sequential";
  int64_t iterations = 20;
  bool symmetric = false;
  std::string more{};
  std::string json(size_t size) const {
    return R"({"size": )" + std::to_string(size) + R"(, "gamma": ")" + gamma + R"(", "thresholds": ")" + thresholds +
           R"(", "normalize": ")" + normalize + R"(", "iterations": )" + std::to_string(iterations) +
           R"(, "symmetric": )" + (symmetric ? "true" : "false") + more + "}";
  }
};

// Sinkhorn's normalisation as the paper describes it; nothing is divided by an empty sum.
Matrix normalised(Matrix a, const Setting& s) {
  const auto over = [](double x, double sum) { return sum > 0 ? x / sum : x; };
  for (int64_t t = 0; t < s.iterations && s.normalize != "none"; ++t) {
    Matrix b = a;
    for (size_t i = 0; i < a.n; ++i) {
      for (size_t j = 0; j < a.n; ++j) {
        if (s.normalize == "balanced") {
          const double r = a.row(i) > 0 ? a.row(i) : 1, c = a.column(j) > 0 ? a.column(j) : 1;
          b.at(i, j) = a.at(i, j) / std::sqrt(r * c);
        } else {
          b.at(i, j) = over(a.at(i, j), a.row(i));
        }
      }
    }
    a = b;
    if (s.normalize != "sequential") continue;
    for (size_t i = 0; i < a.n; ++i) {
      for (size_t j = 0; j < a.n; ++j) b.at(i, j) = over(a.at(i, j), a.column(j));
    }
    a = b;
  }
  return a;
}

struct AdjacencyByHand {
  Matrix gamma, row_above, column_above, above;  // above: gamma less both thresholds
  Matrix unscaled, values;
};

AdjacencyByHand by_hand(const Setting& s, const Matrix& alpha, const Matrix& mask, const Numbers& beta_row,
                        const Numbers& beta_column) {
  const size_t n = alpha.n;
  AdjacencyByHand h{Matrix(n), Matrix(n), Matrix(n), Matrix(n), Matrix(n), Matrix(n)};
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      const double x = s.symmetric ? (alpha.at(i, j) + alpha.at(j, i)) / 2 : alpha.at(i, j);
      h.gamma.at(i, j) = mask.at(i, j) * (s.gamma == "exp" ? std::exp(x) : sigmoid_of(x));
    }
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      if (mask.at(i, j) == 0) continue;
      const auto chances = [](double count) { return -std::log(count * count + count - 1); };
      const double r = sigmoid_of(chances(mask.row(i)) + beta_row[i]) * h.gamma.row(i);
      const double c =
          sigmoid_of(chances(mask.column(j)) + (s.symmetric ? beta_row : beta_column)[j]) * h.gamma.column(j);
      const double g = h.gamma.at(i, j);
      h.row_above.at(i, j) = g - r;
      h.column_above.at(i, j) = g - c;
      h.above.at(i, j) = g - r - c;
      const double above_row = std::max(g - r, 0.0), above_column = std::max(g - c, 0.0);
      h.unscaled.at(i, j) = s.thresholds == "sum"   ? std::max(g - r - c, 0.0)
                            : s.thresholds == "min" ? std::min(above_row, above_column)
                                                    : above_row * above_column;
    }
  }
  h.values = normalised(h.unscaled, s);
  return h;
}

struct Adjacency {
  Graph graph;
  Weights weights;
  explicit Adjacency(const std::string& options, int64_t n, at::ScalarType dtype = at::kDouble)
      : graph(network(options, n)), weights(graph, dtype, at::kCPU) {
    weights.initialize(graph, RandomKey(1));
  }
  static Graph network(const std::string& options, int64_t n) {
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsparsify.so");
    GraphBuilder b({.channels = 2, .nodes = n});
    const Edge a = b.node("adjacency_competition", "c", {}, from_json(options));
    Graph g = b.output(b.graph_conv("conv", b.input(), a, 3));
    g.add_output("a", a);
    return g;
  }
  void set(const std::string& name, const Numbers& values) { assign(graph, weights, "c." + name, values); }
  at::Tensor values() const { return run(graph, weights, {}, {"a"})[0][0]; }
  at::Tensor gradient(const std::string& name) const { return weights.gradient(graph.parameter("c." + name)); }
  bool finite_gradients() const {
    for (const ParamId p : graph.node("c").parameters) {
      if (graph[p].role != Role::buffer && !at::isfinite(weights.gradient(p)).all().item<bool>()) return false;
    }
    return true;
  }
};

// Values of both sides of the thresholds, none of them near one.
constexpr size_t side = 4;
Matrix some_alpha() {
  Matrix a(side);
  a.values = {1.1, -3.2, 0.3, -0.4, -2.9, 0.9, 0.2, 0.7, 0.4, 0.6, -3.6, 1.5, 0.8, -0.2, 0.5, -4.1};
  return a;
}
const Numbers beta_row{0.3, -0.2, 0.1, 0.4}, beta_column{-0.1, 0.2, 0.5, -0.3};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const char* thresholds : {"min", "sum", "product"}) {
    for (const char* normalize : {"sequential", "balanced", "none"}) {
      for (const char* gamma : {"sigmoid", "exp"}) {
        for (const bool symmetric : {false, true}) {
          if (symmetric && std::string(normalize) == "sequential") continue;
          all.push_back({.gamma = gamma, .thresholds = thresholds, .normalize = normalize, .symmetric = symmetric});
        }
      }
    }
  }
  return all;
}

void set_all(Adjacency& a, const Setting& s, const Matrix& mask) {
  a.set("alpha", some_alpha().values);
  a.set("mask", mask.values);
  a.set("beta_row", beta_row);
  if (!s.symmetric) a.set("beta_column", beta_column);
}

std::vector<Matrix> masks() {
  Matrix some(side, 1);
  some.at(0, 2) = some.at(3, 1) = some.at(2, 0) = 0;
  return {Matrix(side, 1), some};
}

TEST(Adjacency, HasTheValuesOfItsFormulas) {
  for (const Setting& s : settings()) {
    for (const Matrix& mask : masks()) {
      SCOPED_TRACE(s.json(side));
      Adjacency a(s.json(side), side);
      set_all(a, s, mask);
      const AdjacencyByHand h = by_hand(s, some_alpha(), mask, beta_row, beta_column);
      const Numbers values = numbers_of(a.values());
      size_t zeros = 0;
      for (size_t k = 0; k < values.size(); ++k) {
        EXPECT_NEAR(values[k], h.values.values[k], rounding) << k;
        EXPECT_EQ(values[k] == 0, h.values.values[k] == 0) << k;
        zeros += values[k] == 0;
      }
      EXPECT_GT(zeros, 0U);
      EXPECT_LT(zeros, 12U);
    }
  }
}

TEST(Adjacency, GradientsAreThoseOfFiniteDifferences) {
  Numbers direction;
  for (size_t k = 0; k < side * side; ++k) direction.push_back(std::sin(static_cast<double>(3 * k + 1)));
  for (Setting s : settings()) {
    s.iterations = 6;
    SCOPED_TRACE(s.json(side));
    const Matrix mask = masks()[1];
    Adjacency a(s.json(side), side);
    set_all(a, s, mask);
    // Away from the kinks: no candidate is within a thousand steps of a threshold, and no two are equal for `min`.
    const AdjacencyByHand h = by_hand(s, some_alpha(), mask, beta_row, beta_column);
    for (size_t k = 0; k < side * side; ++k) {
      if (mask.values[k] == 0) continue;
      for (const Matrix* m : {&h.row_above, &h.column_above, &h.above}) ASSERT_GT(std::abs(m->values[k]), 1e-3) << k;
      // On the diagonal of a symmetric one the two are the same function, and so is the smaller.
      const bool same = s.symmetric && k % (side + 1) == 0;
      ASSERT_TRUE(same || std::abs(h.row_above.values[k] - h.column_above.values[k]) > 1e-3) << k;
    }
    expect_gradients(a.graph, a.weights, "c", [&] { return (a.values().flatten() * tensor_of(direction)).sum(); });
  }
  for (const char* form : {"softmax", "free"}) {
    Adjacency a(R"({"size": 4, "form": ")" + std::string(form) + "\"}", side);
    a.set("alpha", some_alpha().values);
    a.set("mask", masks()[1].values);
    expect_gradients(a.graph, a.weights, "c", [&] { return (a.values().flatten() * tensor_of(direction)).sum(); });
  }
}

TEST(Adjacency, BeginsWithEqualEntriesOfEachRowAndColumn) {
  for (const char* thresholds : {"min", "sum", "product"}) {
    for (const int64_t n : {2, 7, 30}) {
      const Adjacency a(Setting{.thresholds = thresholds}.json(static_cast<size_t>(n)), n);
      for (const double v : numbers_of(a.values())) EXPECT_NEAR(v, 1 / static_cast<double>(n), rounding);
    }
  }
}

TEST(Adjacency, SoftmaxIsOfTheRowAndFreeOfItself) {
  const Matrix alpha = some_alpha(), mask = masks()[1];
  Adjacency s(R"({"size": 4, "form": "softmax"})", side), f(R"({"size": 4, "form": "free", "symmetric": true})", side);
  for (Adjacency* a : {&s, &f}) {
    a->set("alpha", alpha.values);
    a->set("mask", mask.values);
  }
  const Numbers of_s = numbers_of(s.values()), of_f = numbers_of(f.values());
  for (size_t i = 0; i < side; ++i) {
    double sum = 0;
    for (size_t j = 0; j < side; ++j) sum += mask.at(i, j) * std::exp(alpha.at(i, j));
    for (size_t j = 0; j < side; ++j) {
      EXPECT_NEAR(of_s[i * side + j], mask.at(i, j) * std::exp(alpha.at(i, j)) / sum, rounding);
      EXPECT_NEAR(of_f[i * side + j], mask.at(i, j) * (alpha.at(i, j) + alpha.at(j, i)) / 2, rounding);
    }
  }
}

// Facts 5: on a random positive 8 x 8, by turns 1e-4 after 5 iterations and 1e-13 after 20; balanced 4e-2, 1.4e-3 and
// 3e-11 after 5, 20 and 100. Other random matrices differ from that by a factor of a hundred at most.
TEST(Adjacency, SinkhornMakesRowsAndColumnsOne) {
  struct Case {
    const char* normalize;
    int64_t iterations;
    double at_most, at_least;
  };
  for (const Case& c :
       {Case{"sequential", 5, 1e-2, 1e-6}, Case{"sequential", 20, 1e-6, 0}, Case{"balanced", 5, 3e-1, 1e-3},
        Case{"balanced", 20, 5e-2, 1e-6}, Case{"balanced", 100, 1e-6, 0}}) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
      Adjacency a(Setting{.gamma = "exp", .normalize = c.normalize, .iterations = c.iterations}.json(8), 8);
      a.set("alpha", numbers_of(uniform({64}, -1.8, 1, RandomKey(seed))));
      ASSERT_GT(a.values().min().item<double>(), 0);
      const at::Tensor m = a.values().detach();
      const double worst =
          std::max((m.sum(0) - 1).abs().max().item<double>(), (m.sum(1) - 1).abs().max().item<double>());
      EXPECT_LE(worst, c.at_most) << c.normalize << " " << c.iterations;
      EXPECT_GE(worst, c.at_least) << c.normalize << " " << c.iterations << ": so few iterations are not enough";
    }
  }
}

TEST(Adjacency, ASymmetricOneIsItsMirrorImage) {
  for (const char* normalize : {"balanced", "none"}) {
    const Setting s{.normalize = normalize, .symmetric = true};
    Adjacency a(s.json(side), side);
    a.set("alpha", some_alpha().values);
    a.set("beta_row", beta_row);
    const at::Tensor m = a.values();
    EXPECT_LE((m - m.t()).abs().max().item<double>(), rounding);
    EXPECT_EQ(a.graph.node("c").parameters.size(), 3U) << "columns have the thresholds of rows";
  }
  try {
    const Adjacency refused(Setting{.symmetric = true}.json(side), side);
    FAIL() << "by turns the last has its way";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("`symmetric` needs `normalize: balanced`"));
  }
}

TEST(Adjacency, AnEmptyRowStaysEmptyWithoutNaN) {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    for (Setting s : settings()) {
      for (const char* revive : {"none", "leaky", "elu"}) {
        s.more = R"(, "revive": ")" + std::string(revive) + "\"";
        s.iterations = 4;
        SCOPED_TRACE(s.json(side));
        Adjacency a(s.json(side), side, dtype);
        a.set("alpha", some_alpha().values);
        // A row whose threshold is all of its sum; with all rows, nothing at all is left.
        for (const Numbers& beta : {Numbers{60, 0, 0, 0}, Numbers{60, 60, 60, 60}}) {
          a.set("beta_row", beta);
          a.weights.zero_gradients();
          const at::Tensor m = a.values();
          ASSERT_TRUE(at::isfinite(m).all().item<bool>());
          EXPECT_EQ(m[0].abs().max().item<double>(), 0);
          if (beta[1] > 0) {
            EXPECT_EQ(m.abs().max().item<double>(), 0);
          }
          (m * m).sum().backward();
          EXPECT_TRUE(a.finite_gradients());
          a.weights.zero_gradients();
          at::Tensor value = at::zeros({}, at::kDouble);
          Registry::instance()
              .create<Regularizer>(from_json(R"({"use": "competition_norm"})"))
              ->add(a.graph, a.weights, value);
          EXPECT_TRUE(a.finite_gradients());
          EXPECT_TRUE(at::isfinite(value).item<bool>());
        }
        // No candidate at all in a row.
        Matrix mask(side, 1);
        for (size_t j = 0; j < side; ++j) mask.at(1, j) = 0;
        a.set("beta_row", {0, 0, 0, 0});
        a.set("mask", mask.values);
        a.weights.zero_gradients();
        const at::Tensor m = a.values();
        ASSERT_TRUE(at::isfinite(m).all().item<bool>());
        EXPECT_EQ(m[1].abs().max().item<double>(), 0);
        (m * m).sum().backward();
        EXPECT_TRUE(a.finite_gradients());
      }
    }
  }
}

// dF/dv of any function of the values before they are normalised, by differences, and then the unit's own slope.
TEST(Adjacency, RevivalChangesGradientsAndNoValue) {
  Numbers direction;
  for (size_t k = 0; k < side * side; ++k) direction.push_back(std::sin(static_cast<double>(3 * k + 1)));
  for (const char* thresholds : {"min", "sum"}) {
    for (const auto& [revive, of] : std::vector<std::pair<std::string, double (*)(double)>>{
             {R"("none")", [](double) { return 0.0; }},
             {R"("leaky", "slope": 0.2)", [](double) { return 0.2; }},
             {R"("elu")", [](double x) { return std::exp(x); }}}) {
      const Setting none{.thresholds = thresholds, .normalize = "balanced", .iterations = 3};
      Setting s = none;
      s.more = R"(, "revive": )" + revive;
      SCOPED_TRACE(s.json(side));
      Adjacency a(s.json(side), side), plain(none.json(side), side);
      const Matrix mask(side, 1);
      set_all(a, s, mask);
      set_all(plain, none, mask);
      EXPECT_TRUE(a.values().equal(plain.values()));
      const AdjacencyByHand h = by_hand(none, some_alpha(), mask, beta_row, beta_column);
      const auto loss = [&](const Matrix& unscaled) {
        const Matrix m = normalised(unscaled, none);
        double sum = 0;
        for (size_t k = 0; k < side * side; ++k) sum += direction[k] * m.values[k];
        return sum;
      };
      Numbers of_gamma(side * side, 0), of_row(side, 0), of_column(side, 0);
      for (size_t k = 0; k < side * side; ++k) {
        Matrix up = h.unscaled, down = h.unscaled;
        up.values[k] += 1e-6;
        down.values[k] -= 1e-6;
        const double of_value = (loss(up) - loss(down)) / 2e-6;
        const auto slope = [of = of](double x) { return x > 0 ? 1 : of(x); };
        const double row = h.row_above.values[k], column = h.column_above.values[k], both = h.above.values[k];
        if (none.thresholds == "sum") {
          const double g = of_value * slope(both);
          of_gamma[k] += g;
          of_row[k / side] -= g;
          of_column[k % side] -= g;
        } else {
          // The smaller of the two; where both are zero, half of each.
          const double p = std::max(row, 0.0), q = std::max(column, 0.0);
          const double by_row = of_value * slope(row) * (p < q ? 1 : p == q ? 0.5 : 0);
          const double by_column = of_value * slope(column) * (q < p ? 1 : p == q ? 0.5 : 0);
          of_gamma[k] += by_row + by_column;
          of_row[k / side] -= by_row;
          of_column[k % side] -= by_column;
        }
      }
      (a.values().flatten() * tensor_of(direction)).sum().backward();
      const Numbers gradient = numbers_of(a.gradient("alpha"));
      const double chances = -std::log(side * side + side - 1.0);
      for (size_t k = 0; k < side * side; ++k) {
        const double g = h.gamma.values[k];
        const double expected = (of_gamma[k] + sigmoid_of(chances + beta_row[k / side]) * of_row[k / side] +
                                 sigmoid_of(chances + beta_column[k % side]) * of_column[k % side]) *
                                g * (1 - g);
        // Differences of functions of size one with a step of 1e-6.
        EXPECT_NEAR(gradient[k], expected, 1e-8) << k;
      }
    }
  }
}

TEST(Adjacency, NormIsThatOfEachRowAndOfEachColumn) {
  for (const double p : {0.5, 0.3}) {
    const Setting s;
    Adjacency a(s.json(side), side);
    const Matrix mask = masks()[1];
    set_all(a, s, mask);
    const Matrix m = by_hand(s, some_alpha(), mask, beta_row, beta_column).values;
    double expected = 0;
    for (size_t i = 0; i < side; ++i) {
      double row = 0, column = 0;
      for (size_t j = 0; j < side; ++j) {
        row += m.at(i, j) > 0 ? std::pow(m.at(i, j), p) : 0;
        column += m.at(j, i) > 0 ? std::pow(m.at(j, i), p) : 0;
      }
      expected += std::pow(row, 1 / p) + std::pow(column, 1 / p);
    }
    at::Tensor value = at::zeros({}, at::kDouble);
    const auto norm = Registry::instance().create<Regularizer>(
        from_json(R"({"use": "competition_norm", "weight": 3, "p": )" + std::to_string(p) + "}"));
    norm->add(a.graph, a.weights, value);
    EXPECT_NEAR(value.item<double>(), 3 * expected, 100 * expected * rounding);
    // As for coefficients of one group: the third derivative's error of central differences.
    EXPECT_LE(testkit::gradient_error(*norm, a.graph, a.weights), 1e-6);
  }
  // n of equal entries, 1 of one entry in each row and column.
  Adjacency equal(Setting{}.json(5), 5), one(Setting{}.json(3), 3);
  one.set("alpha", {9, -9, -9, -9, -9, 9, -9, 9, -9});
  const auto of = [&](Adjacency& a) {
    at::Tensor value = at::zeros({}, at::kDouble);
    Registry::instance()
        .create<Regularizer>(from_json(R"({"use": "competition_norm", "weight": 1})"))
        ->add(a.graph, a.weights, value);
    return value.item<double>();
  };
  EXPECT_NEAR(of(equal), 2 * 5 * 5, 1e-11);
  EXPECT_NEAR(of(one), 2 * 3, 1e-11);
}

TEST(Adjacency, RefusesSizesThatDoNotFit) {
  GraphBuilder b({.channels = 2, .nodes = 5});
  const Edge a = b.node("adjacency_competition", "c", {}, from_json(R"({"size": 4})"));
  EXPECT_THROW(b.graph_conv("conv", b.input(), a, 3), Error);
}

}  // namespace
}  // namespace espalier
