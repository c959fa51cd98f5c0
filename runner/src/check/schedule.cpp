// What holds for every schedule.
#include "espalier/schedule.h"

#include <cmath>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"

namespace espalier {

namespace {

constexpr int64_t epochs = 20;

// Goes through a stage in quarters of an epoch, with the accuracies of a training that stops rising, and gives the
// factors. saved_at: saves and goes on with another object before this quarter; -1: never.
std::vector<double> factors(const Registered& r, int saved_at) {
  std::unique_ptr<Schedule> schedule = make_example<Schedule>(r);
  std::vector<double> result;
  for (int quarter = 0; quarter < 4 * epochs; ++quarter) {
    if (quarter == saved_at) {
      const Value saved = schedule->save();
      schedule = make_example<Schedule>(r);
      schedule->load(saved);
    }
    result.push_back(schedule->factor(quarter / 4.0, epochs));
    if (quarter % 4 == 3) schedule->observe(quarter < 12 ? 50 + quarter : 60);
  }
  return result;
}

std::string check_factors(const Registered& r) {
  const std::vector<double> all = factors(r, -1);
  double largest = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const std::string at = "a finite factor of at least 0 at epoch " + std::to_string(static_cast<double>(i) / 4);
    expect(std::isfinite(all[i]) && all[i] >= 0, at, std::to_string(all[i]));
    largest = std::max(largest, all[i]);
  }
  expect(largest > 0, "a factor above 0 somewhere in a stage of 20 epochs", "0 everywhere");
  return "";
}

std::string check_saved(const Registered& r) {
  const std::vector<double> whole = factors(r, -1);
  for (const int at : {1, 30, 61}) {
    const std::vector<double> resumed = factors(r, at);
    for (size_t i = 0; i < whole.size(); ++i) {
      expect(whole[i] == resumed[i],
             "the same factor at epoch " + std::to_string(static_cast<double>(i) / 4) +
                 " after save() and load() as without, " + std::to_string(whole[i]),
             std::to_string(resumed[i]));
    }
  }
  return "";
}

}  // namespace

std::vector<Check> schedule_checks() {
  return {{Schedule::kind, "factors", "every factor of a stage is finite and at least 0", check_factors},
          {Schedule::kind, "checkpoint", "what it saves is enough to go on with", check_saved}};
}

}  // namespace espalier
