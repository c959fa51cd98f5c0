#include "espalier/testkit.h"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>

#include <ATen/core/Tensor.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <boost/dll/shared_library.hpp>
#include <c10/core/GradMode.h>
#include <dlfcn.h>
#include <unistd.h>

#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/plugin.h"
#include "espalier/random_fill.h"

namespace espalier::testkit {

void load_plugin(const std::filesystem::path& library) {
  static auto* loaded = new std::set<std::filesystem::path>;
  if (!loaded->insert(std::filesystem::canonical(library)).second) return;
  namespace dll = boost::dll;
  // Never closed: LibTorch does not survive unloading.
  static auto* handles = new std::vector<std::unique_ptr<dll::shared_library>>;
  handles->push_back(
      std::make_unique<dll::shared_library>(library.string(), dll::load_mode::rtld_now | dll::load_mode::rtld_local));
  const auto& handle = handles->back();
  const PluginDescriptor* plugin = handle->get<const PluginDescriptor*()>(plugin_entry)();
  for (const Component& c : plugin->components)
    Registry::instance().add(c, {plugin->name, plugin->version, library.string()});
}

Graph build(const std::string& spec, const InputSpec& input, const TargetSpec& target) {
  return Registry::instance().create<Backbone>(from_json(spec))->build(input, target);
}

at::Tensor input_of(const Graph& graph, int64_t batch, uint64_t seed, at::ScalarType dtype) {
  std::vector<int64_t> sizes = graph.sizes(graph[graph.inputs().front().edge].shape);
  sizes.insert(sizes.begin(), batch);
  return normal(sizes, 1, RandomKey(seed).with("input")).to(dtype);
}

at::Tensor target_of(int64_t classes, int64_t batch, uint64_t seed) {
  return uniform({batch}, 0, static_cast<double>(classes), RandomKey(seed).with("target")).to(at::kLong);
}

at::Tensor cross_entropy(const Graph& graph, const Weights& weights, const at::Tensor& input, const at::Tensor& target,
                         const Pass& pass) {
  NamedTensors inputs;
  for (const Port& port : graph.inputs()) {
    std::vector<int64_t> sizes = graph.sizes(graph[port.edge].shape);
    sizes.insert(sizes.begin(), input.size(0));
    inputs.emplace_back(port.name,
                        port.name == "input"
                            ? input
                            : normal(sizes, 1, RandomKey(1).with(port.name)).to(input.device(), input.scalar_type()));
  }
  const at::Tensor logits = espalier::run(graph, weights, inputs, {"logits"}, pass)[0];
  return at::cross_entropy_loss(logits.flatten(0, -2), target.flatten());
}

double gradient_error(Regularizer& regularizer, const Graph& graph, Weights& weights, double step) {
  regularizer.attach(graph, weights);
  const auto value_at = [&] {
    at::Tensor value = uniform({}, 0, 0, RandomKey());
    weights.zero_gradients();
    regularizer.add(graph, weights, value);
    return value.item<double>();
  };
  value_at();
  std::vector<at::Tensor> gradients;
  double largest = 0;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    gradients.push_back(graph[id].role == Role::buffer ? at::Tensor() : weights.gradient(id).clone());
    if (gradients.back().defined()) largest = std::max(largest, gradients.back().abs().max().item<double>());
  }
  const c10::NoGradGuard no_grad;
  double error = 0;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    if (!gradients[i].defined()) continue;
    const at::Tensor w = weights[{static_cast<int32_t>(i)}].detach();
    const int64_t n = w.numel();
    // Some elements of each parameter: all of a small one, 20 of a large one.
    for (int64_t e = 0; e < n; e += std::max<int64_t>(1, n / 20)) {
      Indices at;
      for (int64_t d = w.dim(), rest = e; d-- > 0; rest /= w.size(d)) at.insert(at.begin(), rest % w.size(d));
      at::Tensor element = w;
      at::Tensor gradient = gradients[i];
      for (const int64_t k : at) element = element.select(0, k), gradient = gradient.select(0, k);
      const double centre = element.item<double>();
      element.fill_(centre + step);
      double difference = 0;
      {
        const c10::AutoGradMode grad(true);
        difference = value_at();
      }
      element.fill_(centre - step);
      {
        const c10::AutoGradMode grad(true);
        difference -= value_at();
      }
      element.fill_(centre);
      error = std::max(error, std::abs(difference / (2 * step) - gradient.item<double>()));
    }
  }
  return largest > 0 ? error / largest : error;
}

double autograd_error(Regularizer& regularizer, const Graph& graph, Weights& weights,
                      const std::function<at::Tensor(const Graph&, const Weights&)>& penalty) {
  regularizer.attach(graph, weights);
  at::Tensor value = uniform({}, 0, 0, RandomKey());
  weights.zero_gradients();
  regularizer.add(graph, weights, value);
  std::vector<at::Tensor> ours;
  const auto gradient = [&](size_t i) {
    const ParamId id{static_cast<int32_t>(i)};
    return graph[id].role == Role::buffer ? at::Tensor() : weights.gradient(id).clone();
  };
  for (size_t i = 0; i < graph.parameters().size(); ++i) ours.push_back(gradient(i));
  weights.zero_gradients();
  const at::Tensor theirs = penalty(graph, weights);
  theirs.backward();
  double largest = 0, error = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    if (!ours[i].defined()) continue;
    const at::Tensor expected = gradient(i);
    largest = std::max(largest, expected.abs().max().item<double>());
    error = std::max(error, (ours[i] - expected).abs().max().item<double>());
  }
  if (largest > 0) error /= largest;
  const double wanted = theirs.item<double>(), apart = std::abs(value.item<double>() - wanted);
  return std::max(error, wanted == 0 ? apart : apart / std::abs(wanted));
}

namespace {

std::string shell_quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// Runs a command and returns what it printed. Throws Error with what it said if it fails; errors of it go to a file of
// their own, so that warnings are not taken for what it printed.
std::string output_of(const std::string& command, const std::string& what) {
  const std::string errors =
      std::filesystem::temp_directory_path() / ("espalier-test-" + std::to_string(getpid()) + ".err");
  FILE* pipe = popen((command + " 2> " + shell_quoted(errors)).c_str(), "r");
  if (!pipe) throw Error("cannot run " + command);
  std::string output;
  char buffer[4096];
  while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, n);
  const int status = pclose(pipe);
  std::ostringstream complaint;
  complaint << std::ifstream(errors).rdbuf();
  std::filesystem::remove(errors);
  if (status != 0) throw Error(what + " failed: " + complaint.str() + output);
  return output;
}

// PREFIX/lib/libespalier.so -> PREFIX/lib
std::filesystem::path library_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&load_plugin), &info) == 0 || !info.dli_fname)
    throw Error("cannot find out where libespalier lies");
  return std::filesystem::canonical(info.dli_fname).parent_path();
}

}  // namespace

std::filesystem::path plugins_folder() {
  return library_folder() / "espalier" / "plugins";
}

std::string run_espalier(const std::vector<std::string>& arguments) {
  const std::filesystem::path program = library_folder().parent_path() / "bin" / "espalier";
  if (!std::filesystem::exists(program)) throw Error("there is no program " + program.string());
  std::string command = shell_quoted(program);
  for (const std::string& a : arguments) command += " " + shell_quoted(a);
  return output_of(command, "espalier " + (arguments.empty() ? "" : arguments.front()));
}

}  // namespace espalier::testkit
