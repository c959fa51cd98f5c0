#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <espalier/declare.h>
#include <espalier/selector.h>

// The options of the controller `prune`.
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

struct PruneOptions {
  Nested score{Value::map({{"use", "l2"}})};
  Target target = half_of_the_macs();
  std::string what = "widths";
  std::string scope = "global";
  std::string normalize = "none";
  double protect = 0.1;
  int64_t round_to = 1;
  Selector on;
  std::optional<Rounds> schedule;
  std::string when = "begin";
  bool soft = false;
  bool fold = false;

  static void declare(Declare<PruneOptions>& p) {
    p("score", &PruneOptions::score, of_kind("score"),
      "Score of each filter, unit, head or head dimension; the smallest go first.");
    p("target", &PruneOptions::target,
      "How much stays: one of macs, params, share, quantile, threshold, latency and latency_ms.");
    p("what", &PruneOptions::what, one_of({"widths", "blocks"}),
      "What goes; widths: positions of widths; blocks: whole residual blocks whose input and output have the same "
      "shape, those with the smallest mean score of the widths within them.");
    p("scope", &PruneOptions::scope, one_of({"global", "layer", "block"}),
      "What is ranked together; global: the positions of all widths; layer: those of each width, so that all lose "
      "the same share; block: those of each residual block, so that all blocks lose the same share.");
    p("normalize", &PruneOptions::normalize, one_of({"none", "mean", "max", "gaussian"}),
      "What the scores of each width are divided by before they are compared with those of others; gaussian: their "
      "mean is taken away, and they are divided by their standard deviation.");
    p("protect", &PruneOptions::protect, at_least(0), at_most(1),
      "Share of each width, or of the blocks, that stays in any case; at least one position does.");
    p("round_to", &PruneOptions::round_to, at_least(1), at_most(1e6),
      "Number of which the width that is left is a multiple, unless nothing of the width goes.");
    p("on", &PruneOptions::on,
      "Layers whose widths may shrink. A width that others share goes from all of them. The view through which a "
      "layer reads its input shrinks with the layer's name, too, if what it reads does not. Left out: all layers.");
    p("schedule", &PruneOptions::schedule, or_word("once"), "Removal in several steps with training between them.");
    p("when", &PruneOptions::when, one_of({"begin", "end", "epochs"}),
      "Moment of the stage at which something goes; begin: before it, and with a schedule after every few epochs, "
      "too; end: after it; epochs: after every few epochs by the schedule.");
    p("soft", &PruneOptions::soft,
      "Whether the chosen filters only become zero, after every epoch or by the schedule, and go on being trained "
      "(He et al. 2018). What has the smallest scores goes at the end of the stage.");
    p("fold", &PruneOptions::fold,
      "Whether the coefficients of gates become part of the layers beside them once all has been removed, which "
      "changes no output.");
  }
};

}  // namespace espalier
