#include "sweep/draws.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>

#include "espalier/error.h"
#include "espalier/random.h"
#include "recipe/overrides.h"
#include "sweep/matrix.h"

namespace espalier {

namespace {

enum class Kind { uniform, log_uniform, integer, log_integer, choice };

struct KnownDistribution {
  const char* name;
  Kind kind;
  const char* example;
};

constexpr KnownDistribution known[] = {
    {"uniform", Kind::uniform, "{uniform: [0, 1]}"}, {"log_uniform", Kind::log_uniform, "{log_uniform: [1e-5, 1e-2]}"},
    {"int", Kind::integer, "{int: [1, 5]}"},         {"log_int", Kind::log_integer, "{log_int: [20, 5000]}"},
    {"choice", Kind::choice, "{choice: [a, b, c]}"},
};

// Bounds of integers are so small that their distance and all between them are doubles.
constexpr double largest_integer = 1e15;
// What a person would write of a number: of one that is drawn by its logarithm so many digits, of another so many that
// there are at least this many steps from bound to bound.
constexpr int digits_written = 4;
constexpr double least_steps = 1e4;

struct Distribution {
  std::string path;
  Kind kind = Kind::uniform;
  double low = 0, high = 0;  // integers: both can be drawn
  Value choices;
  RandomKey key;
  Location path_location, location;
};

double bound(const Value& v, const KnownDistribution& d) {
  if (!v.is_number()) {
    throw InputError(v.location.str(), std::string("'") + d.name + "' needs two numbers as its bounds, as in " +
                                           d.example + ", got " + v.describe());
  }
  const double x = v.as_double();
  const bool whole = d.kind == Kind::integer || d.kind == Kind::log_integer;
  if (whole && x != std::floor(x)) {
    throw InputError(v.location.str(), std::string("'") + d.name + "' draws integers, and a bound is " + to_json(v));
  }
  if (whole && std::abs(x) > largest_integer)
    throw InputError(v.location.str(), std::string("a bound of '") + d.name + "' is beyond 1e15");
  if (d.kind == Kind::log_uniform && x <= 0) {
    throw InputError(v.location.str(), "'log_uniform' draws by the logarithm, which " + to_json(v) +
                                           " has not: its bounds must be above 0");
  }
  if (d.kind == Kind::log_integer && x < 1) {
    throw InputError(v.location.str(), "'log_int' draws by the logarithm, and " + to_json(v) +
                                           " is no integer that has one: its bounds must be at least 1");
  }
  return x;
}

void read_bounds(const Value& v, const KnownDistribution& d, Distribution& result) {
  if (!v.is_list() || v.size() != 2) {
    const std::string got = v.is_list() ? "a list of " + std::to_string(v.size()) : v.describe();
    throw InputError(v.location.str(),
                     std::string("'") + d.name + "' needs its two bounds, as in " + d.example + ", got " + got);
  }
  const Value& low = v.as_list()[0];
  const Value& high = v.as_list()[1];
  result.low = bound(low, d);
  result.high = bound(high, d);
  if (result.low > result.high) {
    throw InputError(v.location.str(), std::string("the bounds of '") + d.name + "' are in the wrong order: write [" +
                                           to_json(high) + ", " + to_json(low) + "]");
  }
  if (result.low == result.high) {
    throw InputError(v.location.str(), std::string("the bounds of '") + d.name + "' are the same: nothing is drawn; " +
                                           "set '" + result.path + "' in the recipe instead");
  }
}

void read_choices(const Value& v, Distribution& result) {
  if (!v.is_list()) {
    throw InputError(v.location.str(), "'choice' needs a list of values for '" + result.path +
                                           "', as in {choice: [a, b, c]}, got " + v.describe());
  }
  const Value::List& values = v.as_list();
  if (values.empty())
    throw InputError(v.location.str(), "the list of choices for '" + result.path + "' is empty: nothing can be drawn");
  for (auto i = values.begin(); i != values.end(); ++i) {
    if (std::find(values.begin(), i, *i) != i)
      throw InputError(i->location.str(), "the choices for '" + result.path + "' have " + i->describe() + " twice");
  }
  result.choices = v;
}

Distribution read_distribution(const Value::Entry& e, RandomKey key) {
  std::vector<std::string> names;
  for (const KnownDistribution& k : known) names.emplace_back(k.name);
  if (!e.value.is_map() || e.value.size() != 1) {
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
    throw InputError(e.value.location.str(),
                     "'" + e.key + "' needs one distribution, as in " + known[1].example + " (known: " + all +
                         "), got " + (e.value.is_map() ? std::to_string(e.value.size()) : e.value.describe()));
  }
  const Value::Entry& given = e.value.as_map().front();
  const auto* found = std::ranges::find(known, std::string_view(given.key), &KnownDistribution::name);
  if (found == std::end(known)) {
    throw InputError(given.key_location.str(),
                     "no distribution is called '" + given.key + "'" + suggestion(given.key, names));
  }
  Distribution d;
  d.path = e.key;
  d.kind = found->kind;
  d.key = key.with(e.key);
  d.path_location = e.key_location;
  d.location = e.value.location;
  if (d.kind == Kind::choice) {
    read_choices(given.value, d);
  } else {
    read_bounds(given.value, *found, d);
  }
  return d;
}

const Value& required(const Value& matrix, const char* key, const std::string& why) {
  const Value* v = matrix.find(key);
  if (!v) throw InputError(matrix.location.str(), why);
  return *v;
}

int64_t whole_number(const Value& v, const std::string& what, int64_t least, int64_t most) {
  const bool whole = v.is_number() && v.as_double() == std::floor(v.as_double());
  if (!whole || v.as_double() < static_cast<double>(least) || v.as_double() > static_cast<double>(most)) {
    throw InputError(v.location.str(), what + ", got " + v.describe());
  }
  return v.as_int();
}

// Of x, as a decimal number, which is exact to its last digit on every machine.
double rounded(double x, std::chars_format format, int precision) {
  char text[800];  // 309 digits before the point and as many behind it
  const char* end = std::to_chars(text, text + sizeof text, x, format, precision).ptr;
  double result = x;
  std::from_chars(text, end, result);
  return result == 0 ? 0 : result;  // no -0
}

double to_digits(double x, int digits) {
  return rounded(x, std::chars_format::scientific, digits - 1);
}

// low * (high / low)^u for u in [0, 1), by products and square roots alone: IEEE 754 says how these are rounded, and of
// exp and log it does not.
double by_logarithm(double low, double high, double u) {
  double x = low;
  double root = std::sqrt(high) / std::sqrt(low);  // of the quotient, which may be too large itself
  for (; u > 0; root = std::sqrt(root)) {
    u *= 2;
    if (u >= 1) {
      x *= root;
      u -= 1;
    }
  }
  return x;
}

double draw_uniform(const Distribution& d, double u) {
  int decimals = 0;
  for (double scale = 1; (d.high - d.low) * scale < least_steps; scale *= 10) ++decimals;
  // fma, since a compiler may make one of a product and a sum, or not.
  const double x = std::fma(u, d.high, std::fma(-u, d.low, d.low));
  return rounded(x, std::chars_format::fixed, decimals);
}

double draw_log_uniform(const Distribution& d, double u) {
  int digits = digits_written;
  for (double share = d.high / d.low - 1; share < 1 && digits < std::numeric_limits<double>::max_digits10; share *= 10)
    ++digits;
  return to_digits(by_logarithm(d.low, d.high, u), digits);
}

Value draw(const Distribution& d, int64_t number) {
  const Random4 words = philox(d.key.with(static_cast<uint64_t>(number)).value(), 0);
  const double u = unit_double(words.v[0], words.v[1]);
  // A bound that has more digits than what is drawn may be nearer than the next step.
  const auto within = [&](double x) { return std::clamp(x, d.low, d.high); };
  Value result;
  switch (d.kind) {
    case Kind::uniform:
      result = within(draw_uniform(d, u));
      break;
    case Kind::log_uniform:
      result = within(draw_log_uniform(d, u));
      break;
    case Kind::integer:
      result = static_cast<int64_t>(within(d.low + std::floor(u * (d.high - d.low + 1))));
      break;
    case Kind::log_integer:
      result = static_cast<int64_t>(
          within(to_digits(within(std::floor(by_logarithm(d.low, d.high + 1, u))), digits_written)));
      break;
    case Kind::choice:
      return d.choices.as_list()[below(words.v[0], static_cast<uint32_t>(d.choices.size()))];  // with its own place
  }
  result.location = d.location;
  return result;
}

}  // namespace

bool is_random(const Value& matrix) {
  return matrix.is_map() && (matrix.find("random") || matrix.find("draw"));
}

std::vector<RandomDraw> random_draws(const Value& matrix) {
  const std::string draw_example = "draw: {stages.0.optimizer.lr: {log_uniform: [1e-4, 1]}}";
  const std::vector<std::string> keys = {"random", "seed", "draw"};
  for (const Value::Entry& e : matrix.as_map()) {
    if (std::ranges::find(keys, e.key) != keys.end()) continue;
    const bool listed = e.value.is_list() || e.key == "grid";
    throw InputError(e.key_location.str(),
                     "a matrix of random draws has no key '" + e.key + "'" +
                         (listed ? " (known: random, seed, draw): what it varies stands in `draw`, lists too, as "
                                   "KEY: {choice: [VALUE, VALUE]}"
                                 : suggestion(e.key, keys)));
  }
  const Value& count = required(matrix, "random", "the matrix has `draw` and no number of runs: write random: 50");
  const int64_t runs = whole_number(
      count, "'random' must be the number of runs, an integer from 1 to " + std::to_string(max_matrix_runs), 1,
      static_cast<int64_t>(max_matrix_runs));
  int64_t seed = 0;
  if (const Value* given = matrix.find("seed")) {
    seed =
        whole_number(*given,
                     "'seed' of a matrix of random draws is that of the draws, an integer >= 0 (the seed of the runs "
                     "is varied by draw: {seed: {choice: [0, 1]}})",
                     0, static_cast<int64_t>(largest_integer));
  }
  const Value& all =
      required(matrix, "draw", "the matrix has `random` and says not what is drawn: write " + draw_example);
  if (!all.is_map() || all.size() == 0) {
    throw InputError(all.location.str(), "'draw' must be a map of paths to distributions, as in " + draw_example +
                                             ", got " + (all.is_map() ? "an empty one" : all.describe()));
  }
  std::vector<Distribution> distributions;
  const RandomKey key = RandomKey(static_cast<uint64_t>(seed)).with("draw");
  for (const Value::Entry& e : all.as_map()) distributions.push_back(read_distribution(e, key));
  // The order in which they are written does not count. What lies within something has a longer path, and is set later.
  std::ranges::sort(distributions, [](const Distribution& a, const Distribution& b) {
    return std::pair(steps_of(a.path).size(), a.path) < std::pair(steps_of(b.path).size(), b.path);
  });

  std::vector<RandomDraw> draws;
  for (int64_t n = 0; n < runs; ++n) {
    Value values = Value::map();
    for (const Distribution& d : distributions) values.as_map().push_back({d.path, draw(d, n), d.path_location});
    if (std::ranges::find(draws, values, &RandomDraw::values) == draws.end()) draws.push_back({n, std::move(values)});
  }
  return draws;
}

std::string repeated_draws(const Value* matrix, size_t runs) {
  if (!matrix || !is_random(*matrix)) return "";
  const auto drawn = static_cast<size_t>(matrix->at("random").as_int());
  if (drawn <= runs) return "";
  const size_t repeated = drawn - runs;
  return std::to_string(repeated) + " of the " + std::to_string(drawn) + " draws " +
         (repeated == 1 ? "repeats an earlier one and is" : "repeat earlier ones and are") + " left out";
}

}  // namespace espalier
