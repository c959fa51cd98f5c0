// How long changes of structure take, and what they gain: edits of large networks, and convolutions whose filters have
// kernels of different sizes. Run by `scripts/bench structure`; `scripts/bench structure edits` and `kernels` run one
// of the two. With `prune THREADS` it times one ranking and removal of a ResNet-50 instead, for
// `scripts/check-pruning`.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>
#include <malloc.h>

#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/execute.h"
#include "espalier/operation.h"
#include "espalier/pruning.h"
#include "espalier/registry.h"
#include "espalier/score.h"
#include "espalier/selector.h"
#include "espalier/testkit.h"

namespace espalier {
namespace {

double milliseconds(const std::function<void()>& body) {
  const auto began = std::chrono::steady_clock::now();
  body();
  return 1e3 * std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

double median(std::vector<double> v) {
  std::ranges::sort(v);
  return v[v.size() / 2];
}

// The third edit of a run, with the moments of Adam: before it, two small ones. Of every width that edits may change
// and that `on` accepts, the last `share` goes.
void edits(const char* title, const char* backbone, const InputSpec& input, double share,
           const std::function<bool(const AxisInfo&)>& on) {
  std::vector<double> first, second, third;
  int64_t parameters = 0, left = 0;
  for (int repeat = 0; repeat < 3; ++repeat) {
    Graph graph = testkit::build(backbone, input, {.outputs = 100});
    Weights weights(graph, at::kFloat, at::kCPU);
    weights.initialize(graph, RandomKey(1));
    weights.add_state(graph, {.name = "adam.m"});
    weights.add_state(graph, {.name = "adam.v"});
    parameters = graph.parameter_count();
    const auto shorter = [&](double by) {
      Edits all;
      for (size_t i = 0; i < graph.axes().size(); ++i) {
        const AxisInfo& axis = graph.axes()[i];
        if (axis.fixed || !on(axis)) continue;
        const auto gone = std::max<int64_t>(1, std::llround(by * static_cast<double>(axis.size)));
        if (axis.size - gone < 1) continue;
        // Spread over the width, as pruning is.
        Indices keep;
        for (int64_t k = 0; k < axis.size; ++k) {
          if ((k + 1) * gone / axis.size == k * gone / axis.size) keep.push_back(k);
        }
        all.push_back(shrink(graph, {static_cast<int32_t>(i)}, keep));
      }
      return all;
    };
    first.push_back(milliseconds([&] { apply(graph, {&weights}, shorter(0)); }));
    second.push_back(milliseconds([&] { apply(graph, {&weights}, shorter(0)); }));
    third.push_back(milliseconds([&] { apply(graph, {&weights}, shorter(share)); }));
    left = graph.parameter_count();
  }
  std::printf("%-28s %11lld -> %11lld parameters   first %6.1f ms, second %6.1f ms, third %6.1f ms\n", title,
              static_cast<long long>(parameters), static_cast<long long>(left), median(first), median(second),
              median(third));
}

// The time that the process itself took, so that other programs disturb a single thread less.
double cpu_milliseconds(const std::function<void()>& body) {
  const auto began = std::clock();
  body();
  return 1e3 * static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
}

// A layer of 64 filters of 5x5, all whole and with sizes spread evenly over 0 to 5, alternating.
void kernel_sizes(int64_t channels, int64_t side, int64_t batch, int threads) {
  GraphBuilder b({.channels = channels, .height = side, .width = side});
  const Edge x = b.conv("conv", b.input(), {.filters = 64, .kernel = 5, .padding = 2, .bias = false});
  Graph whole = b.output(b.linear("fc", b.global_avg_pool(x), {.features = 2}));
  whole.add_output("x", x);
  Graph cropped = whole;
  Indices sizes;
  for (int64_t f = 0; f < 64; ++f) sizes.push_back(f % 6);
  Weights w(whole, at::kFloat, at::kCPU), v(whole, at::kFloat, at::kCPU);
  w.initialize(whole, RandomKey(1));
  v.initialize(whole, RandomKey(1));
  apply(cropped, {&v}, Edit{CropKernels{"conv", sizes}});
  const at::Tensor images = testkit::input_of(whole, batch, 1, at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor input = images.detach().set_requires_grad(true);
  // Forward alone, as in an evaluation, or forward and backward.
  const auto pass = [&](const Graph& g, const Weights& weights, bool training) {
    return (threads == 1 ? cpu_milliseconds : milliseconds)([&] {
      const c10::AutoGradMode grad(training);
      const at::Tensor y = run(g, weights, {{"input", input}}, {"x"}, {.training = training, .key = RandomKey(1)})[0];
      if (training) y.sum().backward();
    });
  };
  at::set_num_threads(threads);
  for (const bool training : {false, true}) {
    std::vector<double> full, less, ratio;
    for (int i = 0; i < 18; ++i) {
      const double a = pass(whole, w, training), c = pass(cropped, v, training);
      if (i < 3) continue;
      full.push_back(a), less.push_back(c), ratio.push_back(c / a);
    }
    std::ranges::sort(ratio);
    const double macs =
        static_cast<double>(cropped.macs(cropped.node("conv"))) / static_cast<double>(whole.macs(whole.node("conv")));
    std::printf("%8lld %5lldx%-2lld %6lld %8d  %-20s %9.2f %9.2f %6.2f (%.2f to %.2f) %5.2f\n",
                static_cast<long long>(channels), static_cast<long long>(side), static_cast<long long>(side),
                static_cast<long long>(batch), threads, training ? "forward and backward" : "forward", median(full),
                median(less), ratio[ratio.size() / 2], ratio.front(), ratio.back(), macs);
    std::fflush(stdout);
  }
}

// One ranking of all widths of a ResNet-50 by their l2 norms and the removal of the smallest up to half of the
// multiply-accumulates, as the controller `prune` does it, with weights that have gradients: a list in JSON, with the
// time of the processor beside that of the clock, since only this says much on a busy machine.
int ranking_and_removal(const std::string& plugins, int threads) {
  at::set_num_threads(threads);
  testkit::load_plugin(plugins + "/libresnet.so");
  const auto score = Registry::instance().create<Score>(from_json(R"({"use": "l2"})"));
  const Graph network = testkit::build(R"({"use": "resnet50"})", {3, 224, 224}, {.outputs = 10});
  Value results = Value::list();
  for (int repeat = 0; repeat < 5; ++repeat) {
    Graph graph = network;
    Weights weights(graph, at::kFloat, at::kCPU);
    weights.initialize(graph, RandomKey(1));
    Value times = Value::map();
    double whole = 0, whole_cpu = 0;
    const auto part = [&](const char* name, const std::function<void()>& body) {
      const std::clock_t began = std::clock();
      whole += milliseconds(body);
      const double cpu = 1e3 * static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
      times[std::string(name) + "_cpu_ms"] = cpu;
      whole_cpu += cpu;
    };
    std::vector<AxisScores> scores;
    part("rank", [&] { scores = score->scores({graph, weights}, prunable_axes(graph, {})); });
    Edits removal;
    part("choose", [&] {
      std::vector<int64_t> keep;
      for (const AxisScores& s : scores) keep.push_back(std::max<int64_t>(1, graph[s.axis].size / 10));
      const RemovalOrder order(graph, std::move(scores), keep, {});
      const double wanted = wanted_cost({"macs", 0.5}, {graph.parameter_count(), graph.macs()});
      removal = removal_of(graph, order.gone(meet_cost(order, CostCounter(graph), "macs", wanted).left));
    });
    part("remove", [&] { apply(graph, {&weights}, removal); });
    times["ms"] = whole;
    times["cpu_ms"] = whole_cpu;
    results.push_back(times);
  }
  std::printf("%s\n", to_json(results).c_str());
  return 0;
}

void all_edits(const std::string& plugins) {
  std::printf("%d threads, float32\n\nEdits under Adam (values, gradients, two moments):\n", at::get_num_threads());
  testkit::load_plugin(plugins + "/libpreresnet.so");
  testkit::load_plugin(plugins + "/libswin.so");
  edits("PreResNet-164, 40 % of all", R"({"use": "preresnet164"})", {3, 32, 32}, 0.4,
        [](const AxisInfo&) { return true; });
  edits("Swin-T, 20 % of all", R"({"use": "swin_t"})", {3, 224, 224}, 0.2,
        [](const AxisInfo& a) { return a.name.find("head") == std::string::npos || a.size > 24; });
}

void all_kernel_sizes() {
  const int most = at::get_num_threads();
  std::printf(
      "\n64 filters of 5x5, whole and with sizes from 0 to 5; ms (of one thread its own time), medians of alternating "
      "pairs:\n"
      "channels  images  batch  threads  pass                     whole     sizes  ratio              MACs\n");
  for (int threads = 1; threads <= std::min(2, most); ++threads) {
    kernel_sizes(64, 32, 64, threads);
    kernel_sizes(16, 32, 128, threads);
    kernel_sizes(64, 16, 64, threads);
  }
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  // As the program does.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 64 << 20);
  const std::string only = argc > 2 ? argv[2] : "";
  if (argc == 4 && only == "prune") return espalier::ranking_and_removal(argv[1], std::max(1, std::atoi(argv[3])));
  if (argc < 2 || argc > 3 || (!only.empty() && only != "edits" && only != "kernels")) {
    std::fprintf(stderr, "usage: %s FOLDER_OF_THE_PLUGINS [edits|kernels|prune THREADS]\n", argv[0]);
    return 2;
  }
  if (only != "kernels") espalier::all_edits(argv[1]);
  if (only != "edits") espalier::all_kernel_sizes();
  return 0;
}
