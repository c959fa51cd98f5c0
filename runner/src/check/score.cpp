// What holds for every score, on small networks with random values and data.
#include "espalier/score.h"

#include <cmath>

#include <ATen/ops/equal.h>

#include "check/check.h"
#include "check/expect.h"
#include "check/samples.h"
#include "espalier/testkit.h"

namespace espalier {

namespace {

constexpr int64_t samples_drawn = 6, classes = 3;

// What a score said of a network.
struct Judged {
  Graph graph;
  std::vector<AxisScores> scores;
};

Judged judge(const Registered& r, const SampleNetwork& network, bool verify) {
  testkit::TestRun run(network.build(), 3);
  const Graph& graph = run.graph();
  fill(graph, run.weights());
  run.batches = [&](int64_t n) {
    const uint64_t seed = RandomKey(3).with(static_cast<uint64_t>(n)).value();
    return Batch{.inputs = {{"input", testkit::input_of(graph, samples_drawn, seed)}},
                 .targets = {{"target", testkit::target_of(classes, samples_drawn, seed)}}};
  };
  const auto score = make_example<Score>(r);
  std::vector<Axis> axes;
  for (const Axis a : prunable_axes(graph, {})) {
    if (score->why_not(graph, a).empty()) axes.push_back(a);
  }
  if (axes.empty()) return {graph, {}};
  const std::vector<at::Tensor> before = copied_values(graph, run.weights());
  const std::vector<AxisScores> scores = score->scores({graph, run.weights(), RandomKey(3), &run}, axes);
  if (!verify) return {graph, scores};
  expect(scores.size() == axes.size(), "scores of " + std::to_string(axes.size()) + " widths",
         std::to_string(scores.size()));
  for (size_t i = 0; i < axes.size(); ++i) {
    const AxisInfo& axis = graph[axes[i]];
    expect(scores[i].axis == axes[i], "the scores of '" + axis.name + "' in their place", "another width");
    expect(std::ssize(scores[i].scores) == axis.size,
           std::to_string(axis.size) + " scores of '" + axis.name + "' on " + network.name,
           std::to_string(scores[i].scores.size()));
    for (const double s : scores[i].scores)
      expect(std::isfinite(s), "finite scores of '" + axis.name + "' on " + network.name, std::to_string(s));
  }
  const std::vector<at::Tensor> after = copied_values(graph, run.weights());
  for (size_t p = 0; p < after.size(); ++p)
    expect(at::equal(before[p], after[p]), "'" + graph.parameters()[p].name + "' as it was before", "other values");
  return {graph, scores};
}

std::string check_scores(const Registered& r) {
  std::string judged;
  for (const SampleNetwork& network : sample_networks()) {
    if (!judge(r, network, true).scores.empty()) judged += (judged.empty() ? "on " : ", ") + network.name;
  }
  if (judged.empty()) throw CheckSkipped("it judges no width of the networks that are tried");
  return judged;
}

std::string check_deterministic(const Registered& r) {
  for (const SampleNetwork& network : sample_networks()) {
    const Judged a = judge(r, network, false), b = judge(r, network, false);
    for (size_t i = 0; i < a.scores.size(); ++i) {
      expect(a.scores[i].scores == b.scores[i].scores,
             "the same scores of '" + a.graph[a.scores[i].axis].name + "' a second time", "others");
    }
  }
  return {};
}

}  // namespace

std::vector<Check> score_checks() {
  const std::string kind = Score::kind;
  return {{kind, "scores", "as many finite numbers as positions; no value of the network changes", check_scores},
          {kind, "deterministic", "a second time gives the same bytes", check_deterministic}};
}

}  // namespace espalier
