#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <espalier/declare.h>

// Groups of options of the controller `prune`.
namespace espalier {

// The option `target`: what is to be reached.
struct Target {
  std::optional<double> macs{};
  std::optional<double> params{};
  std::optional<double> share{};
  std::optional<double> quantile{};
  std::optional<double> threshold{};
  std::optional<double> latency{};
  std::optional<double> latency_ms{};
  std::string table;
  bool any_device = false;

  static void declare(Declare<Target>& p) {
    p("macs", &Target::macs, above(0),
      "Multiply-accumulates of a sample that stay: up to 1 a share of those at the stage's beginning, above 1 their "
      "number.");
    p("params", &Target::params, above(0),
      "Parameters that stay: up to 1 a share of those at the stage's beginning, above 1 their number.");
    p("share", &Target::share, above(0), below(1),
      "Share of all positions of the widths that goes, rounded down to a whole number.");
    p("quantile", &Target::quantile, above(0), below(1),
      "Share of all scores: what is not greater than this quantile of them goes, that is the score behind this share, "
      "rounded down, of all in order (network slimming, Liu et al. 2017). Unlike 'share', widths that may lose no more "
      "make no others lose more.");
    p("threshold", &Target::threshold, at_least(0),
      "Score up to which positions go; 0: those whose scores are exactly zero, as a proximal step makes them.");
    p("latency", &Target::latency, above(0), at_most(1),
      "Share of the time of a pass that stays, counted by a table of latencies.");
    p("latency_ms", &Target::latency_ms, above(0), unit("ms"),
      "Time of a pass that stays, counted by a table of latencies.");
    p("table", &Target::table, path(),
      "Table of latencies, which `espalier latency` measures on the device that the network is for.");
    p("any_device", &Target::any_device, "Whether the table may be of a device that this machine does not have.");
  }
};
inline Target half_of_the_macs() {
  Target t;
  t.macs = 0.5;
  return t;
}
// The option `schedule`.
struct Rounds {
  int64_t steps = 5;
  int64_t every = 1;
  std::string curve = "linear";

  static void declare(Declare<Rounds>& p) {
    p("steps", &Rounds::steps, at_least(1), at_most(1e6), "Number of steps in which the target is reached.");
    p("every", &Rounds::every, at_least(1), unit("epochs"), "Epochs from one step to the next.");
    p("curve", &Rounds::curve, one_of({"linear", "cubic"}),
      "Share of the removal that is done after t of T steps; linear: t / T; cubic: 1 - (1 - t / T)^3, so that much "
      "goes at first (Zhu and Gupta 2017).");
  }
};

// The share of a removal that is done after step `done` of `steps`: linear, or cubic, fast at first (Zhu and Gupta
// 2017, eq. (1)).
inline double share_done(const std::string& curve, int64_t done, int64_t steps) {
  const double t = static_cast<double>(done) / static_cast<double>(steps);
  return curve == "cubic" ? 1 - (1 - t) * (1 - t) * (1 - t) : t;
}

}  // namespace espalier
