// The results of paper 003, sections 2.3 and 2.4, in numbers: on quadratic functions, whose constants are known, by the
// recursion (2.12), to which architecture_search_test.cpp compares the controller.
#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_solve.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

constexpr size_t n = 2;  // numbers of each of u, w and alpha
using Block = std::array<double, n>;
using Pair = std::array<double, 2 * n>;  // (weights, alpha)

// f(x) = x' H x / 2 + b' x
struct Quadratic {
  std::array<std::array<double, 2 * n>, 2 * n> h{};
  Pair b{};

  double value(const Pair& x) const {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      sum += b[i] * x[i];
      for (size_t j = 0; j < x.size(); ++j) sum += h[i][j] * x[i] * x[j] / 2;
    }
    return sum;
  }
  Pair gradient(const Pair& x) const {
    Pair g = b;
    for (size_t i = 0; i < x.size(); ++i) {
      for (size_t j = 0; j < x.size(); ++j) g[i] += h[i][j] * x[j];
    }
    return g;
  }
};

at::Tensor matrix(size_t rows) {
  const auto size = static_cast<int64_t>(rows);
  return at::empty({size, size}, at::kDouble).zero_();
}

std::vector<double> eigenvalues(const at::Tensor& symmetric) {
  const at::Tensor values = at::linalg_eigvalsh(symmetric).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

double lipschitz(const std::vector<double>& eigenvalues) {
  return std::max(std::abs(eigenvalues.front()), std::abs(eigenvalues.back()));
}

double lipschitz(const Quadratic& f) {
  const at::Tensor m = matrix(2 * n);
  for (size_t i = 0; i < 2 * n; ++i) {
    for (size_t j = 0; j < 2 * n; ++j) m.mutable_data_ptr<double>()[i * 2 * n + j] = f.h[i][j];
  }
  return lipschitz(eigenvalues(m));
}

// The penalty (2.38) of one vector, <softmax(z), c>.
struct Cost {
  Block c{};

  Block softmax(const Block& z) const {
    Block s{};
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += s[i] = std::exp(z[i] - *std::ranges::max_element(z));
    for (double& x : s) x /= sum;
    return s;
  }
  double value(const Block& z) const {
    const Block s = softmax(z);
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += s[i] * c[i];
    return sum;
  }
  Block gradient(const Block& z) const {
    Block g = softmax(z);
    const double mean = value(z);
    for (size_t i = 0; i < n; ++i) g[i] *= c[i] - mean;
    return g;
  }
  // With s = softmax(z) and d = c - <s, c> the second derivatives are those of diag(s d) - (s d) s' - s (s d)': of a
  // norm of at most three times the largest |d|, which is at most the range of c.
  double lipschitz() const { return 3 * (*std::ranges::max_element(c) - *std::ranges::min_element(c)); }
};

struct State {
  Block u{}, w{}, alpha{};
};

// The Lagrangian (2.11) and the iteration (2.12).
struct Problem {
  Quadratic primary, auxiliary;
  Cost cost;
  double lambda = 1, beta = 1, gamma = 0;

  static Pair join(const Block& weights, const Block& alpha) {
    Pair x{};
    for (size_t i = 0; i < n; ++i) x[i] = weights[i], x[n + i] = alpha[i];
    return x;
  }
  double value(const State& s) const {
    double distance = 0;
    for (size_t i = 0; i < n; ++i) distance += (s.u[i] - s.w[i]) * (s.u[i] - s.w[i]);
    return primary.value(join(s.u, s.alpha)) + lambda * auxiliary.value(join(s.w, s.alpha)) + beta / 2 * distance +
           gamma * cost.value(s.alpha);
  }
  Block gradient_w(const State& s) const {
    const Pair a = auxiliary.gradient(join(s.w, s.alpha));
    Block g{};
    for (size_t i = 0; i < n; ++i) g[i] = lambda * a[i] + beta * (s.w[i] - s.u[i]);
    return g;
  }
  Block gradient_u(const State& s) const {
    const Pair p = primary.gradient(join(s.u, s.alpha));
    Block g{};
    for (size_t i = 0; i < n; ++i) g[i] = p[i] + beta * (s.u[i] - s.w[i]);
    return g;
  }
  Block gradient_alpha(const State& s) const {
    const Pair a = auxiliary.gradient(join(s.w, s.alpha)), p = primary.gradient(join(s.u, s.alpha));
    const Block c = cost.gradient(s.alpha);
    Block g{};
    for (size_t i = 0; i < n; ++i) g[i] = lambda * a[n + i] + p[n + i] + gamma * c[i];
    return g;
  }
  // noise: of the gradients of u, w and alpha, as a batch has it.
  State step(State s, double rate_u, double rate_w, double rate_alpha, const State& noise = {}) const {
    const auto descend = [](Block& x, const Block& g, const Block& more, double rate) {
      for (size_t i = 0; i < n; ++i) x[i] -= rate * (g[i] + more[i]);
    };
    descend(s.w, gradient_w(s), noise.w, rate_w);
    descend(s.u, gradient_u(s), noise.u, rate_u);
    descend(s.alpha, gradient_alpha(s), noise.alpha, rate_alpha);
    return s;
  }
  // The matrix of the second derivatives in the order u, w, alpha, without the penalty.
  at::Tensor hessian() const {
    at::Tensor m = matrix(3 * n);
    auto* x = m.mutable_data_ptr<double>();
    const auto at = [&](size_t i, size_t j) -> double& { return x[i * 3 * n + j]; };
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) {
        at(i, j) += primary.h[i][j];
        at(i, 2 * n + j) += primary.h[i][n + j];
        at(2 * n + i, j) += primary.h[n + i][j];
        at(n + i, n + j) += lambda * auxiliary.h[i][j];
        at(n + i, 2 * n + j) += lambda * auxiliary.h[i][n + j];
        at(2 * n + i, n + j) += lambda * auxiliary.h[n + i][j];
        at(2 * n + i, 2 * n + j) += primary.h[n + i][n + j] + lambda * auxiliary.h[n + i][n + j];
      }
      at(i, i) += beta, at(n + i, n + i) += beta;
      at(i, n + i) -= beta, at(n + i, i) -= beta;
    }
    return m;
  }
};

// The rates that (2.15) bounds, where it prints eta_y for eta_u (003-X1), and c_4 of (2.20).
struct Bounds {
  double u, w, alpha;

  Bounds(const Problem& p, double l)
      : u(1 / (2 * (p.beta / 2 + l))),
        w(1 / (2 * (p.beta / 2 + p.lambda * l))),
        alpha(1 / (2 * (1 + p.lambda + p.gamma / 2) * l)) {}
  double c4() const { return std::min({1 / u, 1 / w, 1 / alpha}) / 2; }
};

double distance2(const State& a, const State& b) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i)
    sum += (a.u[i] - b.u[i]) * (a.u[i] - b.u[i]) + (a.w[i] - b.w[i]) * (a.w[i] - b.w[i]) +
           (a.alpha[i] - b.alpha[i]) * (a.alpha[i] - b.alpha[i]);
  return sum;
}

class RartsTheory : public ::testing::Test {
 protected:
  double draw() { return normal_(random_); }
  Block block() {
    Block b{};
    for (double& x : b) x = draw();
    return b;
  }
  Pair pair() { return Problem::join(block(), block()); }
  State state() { return {block(), block(), block()}; }
  // rank: of a matrix that is positive semidefinite; 0: any symmetric one.
  Quadratic quadratic(size_t rank, double linear = 1) {
    Quadratic f;
    if (rank == 0) {
      for (size_t i = 0; i < 2 * n; ++i) {
        for (size_t j = 0; j <= i; ++j) f.h[i][j] = f.h[j][i] = draw();
      }
    }
    for (size_t r = 0; r < rank; ++r) {
      const Pair v = pair();
      for (size_t i = 0; i < 2 * n; ++i) {
        for (size_t j = 0; j < 2 * n; ++j) f.h[i][j] += v[i] * v[j];
      }
    }
    for (double& x : f.b) x = linear * draw();
    return f;
  }
  double positive() { return std::exp(draw()); }

 private:
  std::mt19937_64 random_{7};
  std::normal_distribution<double> normal_;
};

// f(x) - f(y) <= <grad f(y), x - y> + L / 2 |x - y|^2. Rounding: 1e-12 of what is compared.
TEST_F(RartsTheory, Lemma21BoundsAFunctionByItsTangent) {
  for (int trial = 0; trial < 200; ++trial) {
    const Quadratic f = quadratic(0);
    const double l = lipschitz(f);
    const Pair x = pair(), y = pair(), g = f.gradient(y);
    double tangent = 0, squares = 0;
    for (size_t i = 0; i < x.size(); ++i) tangent += g[i] * (x[i] - y[i]), squares += (x[i] - y[i]) * (x[i] - y[i]);
    EXPECT_LE(f.value(x) - f.value(y), tangent + l / 2 * squares + 1e-12 * (1 + l * squares));
    const Cost r{block()};
    const Block a = block(), b = block(), gr = r.gradient(b);
    tangent = squares = 0;
    for (size_t i = 0; i < n; ++i) tangent += gr[i] * (a[i] - b[i]), squares += (a[i] - b[i]) * (a[i] - b[i]);
    EXPECT_LE(r.value(a) - r.value(b), tangent + r.lipschitz() / 2 * squares + 1e-12);
  }
}

// f(x) - f* <= |grad f(x)|^2 / (2 mu). The minimum of a quadratic is -b' H^-1 b / 2.
TEST_F(RartsTheory, Lemma25BoundsWhatIsLeftByTheGradient) {
  for (int trial = 0; trial < 200; ++trial) {
    const Quadratic f = quadratic(6);
    const at::Tensor h = matrix(2 * n), b = at::empty({2 * n}, at::kDouble);
    for (size_t i = 0; i < 2 * n; ++i) {
      b.mutable_data_ptr<double>()[i] = f.b[i];
      for (size_t j = 0; j < 2 * n; ++j) h.mutable_data_ptr<double>()[i * 2 * n + j] = f.h[i][j];
    }
    const double mu = eigenvalues(h).front(), least = -b.dot(at::linalg_solve(h, b)).item<double>() / 2;
    const Pair x = pair(), g = f.gradient(x);
    double squares = 0;
    for (const double v : g) squares += v * v;
    EXPECT_LE(f.value(x) - least, squares / (2 * mu) * (1 + 1e-9) + 1e-9);
  }
}

// The Lagrangian descends in every step, convex or not, with and without a penalty, for rates just below (2.15); and by
// at least c_4 times the square of the step (2.20).
TEST_F(RartsTheory, Theorem22DescendsBelowTheBoundsOfTheRates) {
  for (int trial = 0; trial < 100; ++trial) {
    Problem p{.primary = quadratic(0),
              .auxiliary = quadratic(0),
              .cost = {block()},
              .lambda = positive(),
              .beta = positive(),
              .gamma = trial % 2 == 0 ? 0 : positive()};
    const double l = std::max({lipschitz(p.primary), lipschitz(p.auxiliary), p.cost.lipschitz()});
    const Bounds c(p, l);
    State s = state();
    for (int t = 0; t < 20; ++t) {
      const State next = p.step(s, 0.999 * c.u, 0.999 * c.w, 0.999 * c.alpha);
      const double fallen = p.value(s) - p.value(next);
      ASSERT_GE(fallen, 0) << trial << ", step " << t;
      ASSERT_GE(fallen, c.c4() * distance2(s, next) * (1 - 1e-9)) << trial << ", step " << t;
      s = next;
    }
  }
}

// That the bounds matter: ten times these rates are too much for a convex problem.
TEST_F(RartsTheory, Theorem22NeedsItsBounds) {
  int ascended = 0;
  for (int trial = 0; trial < 100; ++trial) {
    const Problem p{.primary = quadratic(4), .auxiliary = quadratic(4), .cost = {}, .lambda = 1, .beta = 1, .gamma = 0};
    const Bounds c(p, std::max(lipschitz(p.primary), lipschitz(p.auxiliary)));
    State s = state();
    bool up = false;
    for (int t = 0; t < 20; ++t) {
      const State next = p.step(s, 10 * c.u, 10 * c.w, 10 * c.alpha);
      up = up || p.value(next) > p.value(s);
      s = next;
    }
    ascended += up;
  }
  EXPECT_GT(ascended, 50);
}

// It converges to a point where all three gradients are zero, (2.19); of a strongly convex quadratic that is the one
// solution of a linear system.
TEST_F(RartsTheory, Corollary23ConvergesToTheEquilibrium) {
  for (int trial = 0; trial < 20; ++trial) {
    const Problem p{
        .primary = quadratic(8), .auxiliary = quadratic(8), .cost = {}, .lambda = 1.5, .beta = 2, .gamma = 0};
    const at::Tensor h = p.hessian();
    ASSERT_GT(eigenvalues(h).front(), 0);
    const Bounds c(p, std::max(lipschitz(p.primary), lipschitz(p.auxiliary)));
    State s = state();
    for (int t = 0; t < 200000; ++t) {
      const State next = p.step(s, 0.999 * c.u, 0.999 * c.w, 0.999 * c.alpha);
      if (distance2(s, next) < 1e-30) break;
      s = next;
    }
    const at::Tensor b = at::empty({3 * n}, at::kDouble);
    for (size_t i = 0; i < n; ++i) {
      b.mutable_data_ptr<double>()[i] = p.primary.b[i];
      b.mutable_data_ptr<double>()[n + i] = p.lambda * p.auxiliary.b[i];
      b.mutable_data_ptr<double>()[2 * n + i] = p.primary.b[n + i] + p.lambda * p.auxiliary.b[n + i];
    }
    const at::Tensor solution = at::linalg_solve(h, -b).contiguous();
    const auto* x = solution.const_data_ptr<double>();
    // Steps of 1e-15 are at most 1e-15 over the smallest rate times eigenvalue away.
    for (size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(s.u[i], x[i], 1e-8);
      EXPECT_NEAR(s.w[i], x[n + i], 1e-8);
      EXPECT_NEAR(s.alpha[i], x[2 * n + i], 1e-8);
    }
    for (const Block& g : {p.gradient_u(s), p.gradient_w(s), p.gradient_alpha(s)}) {
      for (const double v : g) EXPECT_NEAR(v, 0, 1e-9);
    }
  }
}

// The rates of corollary 2.6: below (2.15) and at most 1 / (3 L), where L is that of the Lagrangian, too.
struct Rates {
  double u, w, alpha, least, c4;

  explicit Rates(const Problem& p) {
    const double l =
        std::max({lipschitz(p.primary), lipschitz(p.auxiliary), lipschitz(eigenvalues(p.hessian())), 1e-9});
    const Bounds c(p, l);
    u = std::min(0.999 * c.u, 1 / (3 * l));
    w = std::min(0.999 * c.w, 1 / (3 * l));
    alpha = std::min(0.999 * c.alpha, 1 / (3 * l));
    least = std::min({u, w, alpha});
    c4 = c.c4();
  }
};

TEST_F(RartsTheory, Corollary26ConvergesLinearlyIfStronglyConvex) {
  for (int trial = 0; trial < 50; ++trial) {
    // No linear terms: the minimum is 0.
    const Problem p{.primary = quadratic(8, 0),
                    .auxiliary = quadratic(8, 0),
                    .cost = {},
                    .lambda = positive(),
                    .beta = positive(),
                    .gamma = 0};
    const double mu = eigenvalues(p.hessian()).front();
    ASSERT_GT(mu, 0);
    const Rates r(p);
    State s = state();
    for (int t = 0; t < 200; ++t) {
      const State next = p.step(s, r.u, r.w, r.alpha);
      ASSERT_LE(p.value(next), (1 - r.c4 * r.least * r.least * mu / 3) * p.value(s) * (1 + 1e-12));
      s = next;
    }
  }
}

TEST_F(RartsTheory, Corollary26ConvergesSublinearlyIfConvex) {
  for (int trial = 0; trial < 50; ++trial) {
    // Of rank one each: there is a space of minima, and 0 is one of them.
    const Problem p{.primary = quadratic(1, 0),
                    .auxiliary = quadratic(1, 0),
                    .cost = {},
                    .lambda = positive(),
                    .beta = positive(),
                    .gamma = 0};
    ASSERT_LT(eigenvalues(p.hessian()).front(), 1e-9) << "not strongly convex";
    const Rates r(p);
    std::vector<State> path{state()};
    for (int t = 0; t < 500; ++t) path.push_back(p.step(path.back(), r.u, r.w, r.alpha));
    double most = 0;
    for (const State& s : path) most = std::max(most, distance2(s, {}));
    for (size_t t = 1; t < path.size(); ++t)
      ASSERT_LE(p.value(path[t]), 6 * most / (r.c4 * r.least * r.least * static_cast<double>(t)));
  }
}

// Example 2.7: the solvable model is strongly convex for lambda above 1/2 and beta above 3/2, and converges linearly.
// With the rows in the order w, u, alpha, in which the thesis prints A (003-X2), det A = (4 beta lambda - beta - 2
// lambda) / 8, and the Hessian is 2 A.
TEST_F(RartsTheory, Example27ConvergesLinearly) {
  for (const double lambda : {0.6, 2.0, 10.0}) {
    for (const double beta : {1.6, 4.0, 10.0}) {
      const double d = 4 * beta * lambda - beta - 2 * lambda;
      const double w0 = (4 * beta * lambda - 2 * beta) / d, u0 = w0 - 4 * lambda / d, alpha0 = 4 * beta * lambda / d;
      const auto value = [&](double u, double w, double a) {
        return a * u - 2 * a + 1 + lambda * (w - a) * (w - a) + beta / 2 * (u - w) * (u - w);
      };
      const at::Tensor a = at::empty({3, 3}, at::kDouble);
      const std::array<double, 9> printed{lambda + beta / 2, -beta / 2, -lambda, -beta / 2, beta / 2, 0.5,
                                          -lambda,           0.5,       lambda};
      std::ranges::copy(printed, a.mutable_data_ptr<double>());
      const std::vector<double> e = eigenvalues(a);
      EXPECT_NEAR(e[0] * e[1] * e[2], d / 8, 1e-9 * e[2] * e[2] * e[2]);
      ASSERT_GT(e[0], 0);
      const double mu = 2 * e[0], l = std::max(2 * e[2], 4.0);  // of L_a 4, of L_p 1
      const double rate = std::min(
          {0.999 / (beta + 2 * l), 0.999 / (beta + 2 * lambda * l), 0.999 / (2 * (1 + lambda) * l), 1 / (3 * l)});
      const double c4 = std::min({beta + 2 * l, beta + 2 * lambda * l, 2 * (1 + lambda) * l}) / 2;
      double u = -1, w = 3, alpha = 2, before = value(u, w, alpha) - value(u0, w0, alpha0);
      for (int t = 0; t < 300; ++t) {
        w -= rate * (lambda * (2 * w - 2 * alpha) + beta * (w - u));
        u -= rate * (alpha + beta * (u - w));
        alpha -= rate * (lambda * (2 * alpha - 2 * w) + u - 2);
        const double now = value(u, w, alpha) - value(u0, w0, alpha0);
        ASSERT_LE(now, (1 - c4 * rate * rate * mu / 3) * before + 1e-12) << lambda << " " << beta << " " << t;
        before = now;
      }
    }
  }
}

// Batches: L_t = L + <noise_t, (u, w, alpha)>, one noise for all three updates of a step. M and C of (2.35) for rates
// eta with eta L <= 1/3 follow from |a + b|^2 <= 2 |a|^2 + 2 |b|^2 where a gradient is taken at new values:
//   w: |g_w|^2 + s^2 n,  u: 2 |g_u|^2 + 2 s^2 n + 2/9 of that of w,  alpha: 2 |g_alpha|^2 + 2 s^2 n + 2/9 of both.
// So the factors of w are 1 + 2/9 + 2/9 + 4/81, of u 2 + 4/9, of alpha 2.
TEST_F(RartsTheory, Corollary28ComesToAPlateauThatFallsWithTheRate) {
  const Problem p{
      .primary = quadratic(8, 0), .auxiliary = quadratic(8, 0), .cost = {}, .lambda = 1.5, .beta = 2, .gamma = 0};
  const double mu = eigenvalues(p.hessian()).front();
  const double l = std::max({lipschitz(p.primary), lipschitz(p.auxiliary), lipschitz(eigenvalues(p.hessian()))});
  constexpr double sigma = 0.5, of_w = 1 + 4. / 9 + 4. / 81, of_u = 2 + 4. / 9, of_alpha = 2;
  constexpr double c = of_u, m = sigma * sigma * n * (of_w + of_u + of_alpha);
  const double largest = 1 / (4 * c * l);  // K = 1: all rates are eta
  std::array<double, 2> plateau{};
  const State start = state();
  for (size_t half = 0; half < 2; ++half) {
    const double eta = largest / (half == 0 ? 1 : 2);
    constexpr int runs = 400;
    const auto steps = static_cast<int>(8 / (mu * eta));
    std::vector<double> sum(static_cast<size_t>(steps) + 1), squares(sum.size());
    for (int r = 0; r < runs; ++r) {
      State s = start;
      for (size_t t = 0; t < sum.size(); ++t) {
        const double v = p.value(s);
        sum[t] += v, squares[t] += v * v;
        State noise = state();
        for (size_t i = 0; i < n; ++i) noise.u[i] *= sigma, noise.w[i] *= sigma, noise.alpha[i] *= sigma;
        s = p.step(s, eta, eta, eta, noise);
      }
    }
    const double level = 2 * m * l * eta / mu, first = sum[0] / runs;
    for (size_t t = 0; t < sum.size(); ++t) {
      const double mean = sum[t] / runs, error = std::sqrt(std::max(0., squares[t] / runs - mean * mean) / runs);
      ASSERT_LE(mean - level, std::pow(1 - mu * eta / 2, static_cast<double>(t)) * (first - level) + 4 * error) << t;
    }
    // The last fifth, where what is left of the beginning is below exp(-2 * 6.4).
    for (size_t t = sum.size() * 4 / 5; t < sum.size(); ++t)
      plateau[half] += sum[t] / runs / static_cast<double>(sum.size() - sum.size() * 4 / 5);
    EXPECT_LE(plateau[half], level);
    EXPECT_GT(plateau[half], 0);
  }
  // It is proportional to the rate but for terms of higher order.
  EXPECT_GT(plateau[0] / plateau[1], 1.5);
  EXPECT_LT(plateau[0] / plateau[1], 2.8);
}

// The gradient of (2.38) is Lipschitz: the derivatives of the softmax in the proof, and the constant that they give.
TEST_F(RartsTheory, Proposition29TheGradientOfSoftmaxCostsIsLipschitz) {
  for (int trial = 0; trial < 500; ++trial) {
    const Cost r{block()};
    Block a = block(), b = block();
    for (size_t i = 0; i < n; ++i) a[i] *= 3, b[i] *= 3;
    const Block ga = r.gradient(a), gb = r.gradient(b);
    double change = 0, distance = 0;
    for (size_t i = 0; i < n; ++i)
      change += (ga[i] - gb[i]) * (ga[i] - gb[i]), distance += (a[i] - b[i]) * (a[i] - b[i]);
    EXPECT_LE(std::sqrt(change), r.lipschitz() * std::sqrt(distance) * (1 + 1e-12));
    // d_k softmax_i = -s_i s_k, and s_i - s_i^2 of itself; central differences err by some h^2 = 1e-10.
    constexpr double h = 1e-5;
    for (size_t k = 0; k < n; ++k) {
      Block up = a, down = a;
      up[k] += h, down[k] -= h;
      const Block s = r.softmax(a), su = r.softmax(up), sd = r.softmax(down);
      for (size_t i = 0; i < n; ++i)
        EXPECT_NEAR((su[i] - sd[i]) / (2 * h), i == k ? s[i] - s[i] * s[i] : -s[i] * s[k], 1e-9);
      EXPECT_NEAR((r.value(up) - r.value(down)) / (2 * h), ga[k], 1e-9);
    }
  }
}

}  // namespace
}  // namespace espalier
