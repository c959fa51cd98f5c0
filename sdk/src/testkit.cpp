#include "espalier/testkit.h"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>

#include <ATen/ops/cross_entropy_loss.h>
#include <boost/dll/shared_library.hpp>
#include <c10/core/GradMode.h>
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

TestRun::TestRun(Graph graph, uint64_t seed)
    : graph_(std::move(graph)), key_(seed), weights_(graph_, at::kDouble, at::kCPU) {
  weights_.initialize(graph_, key_);
}

void TestRun::edit(const Edits& edits) {
  std::vector<std::shared_ptr<Weights>> alive;
  std::vector<Weights*> all{&weights_};
  for (const auto& f : followers_) {
    if (auto w = f.lock()) alive.push_back(std::move(w)), all.push_back(alive.back().get());
  }
  apply(graph_, all, edits);
  edits_ += static_cast<int64_t>(edits.size());
}

Batch TestRun::draw(std::string_view, int64_t n) {
  if (!batches) throw Error("a test run has no data to draw from");
  return batches(n);
}

at::Tensor TestRun::loss(const Batch& batch, const Observer& observe) {
  const at::Tensor logits = espalier::run(graph_, weights_, batch.inputs, {"logits"}, {}, observe)[0];
  return at::cross_entropy_loss(logits.flatten(0, -2), batch.target().flatten());
}

const Artefact& TestRun::artefact(const std::string& name) const {
  const auto it = artefacts.find(name);
  if (it == artefacts.end()) throw Error("no stage published '" + name + "'");
  return it->second;
}

void TestRun::add_gradients(const Batch& batch, Weights& weights, const GradientPass& of) {
  const Pass pass{.training = true, .key = key(), .statistics = of.statistics};
  if (of.loss != "loss") return espalier::run(graph_, weights, batch.inputs, {of.loss}, pass)[0].backward();
  at::cross_entropy_loss(espalier::run(graph_, weights, batch.inputs, {"logits"}, pass)[0].flatten(0, -2),
                         batch.target().flatten())
      .backward();
}

namespace {

std::string shell_quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::string run_python(const std::string& python, const std::string& script,
                       const std::vector<std::string>& arguments) {
  const std::string file =
      std::filesystem::temp_directory_path() / ("espalier-test-" + std::to_string(getpid()) + ".py");
  std::ofstream(file) << script;
  // Threads that spin while they wait take the cores from those they wait for, where other programs run too.
  std::string command = "OMP_WAIT_POLICY=passive " + shell_quoted(python) + " " + shell_quoted(file);
  for (const std::string& a : arguments) command += " " + shell_quoted(a);
  // Warnings of PyTorch's go to a file of their own: what is returned is what the script printed.
  const std::string errors = file + ".err";
  FILE* pipe = popen((command + " 2> " + shell_quoted(errors)).c_str(), "r");
  if (!pipe) throw Error("cannot run " + command);
  std::string output;
  char buffer[4096];
  while (const size_t n = fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, n);
  const int status = pclose(pipe);
  std::ostringstream complaint;
  complaint << std::ifstream(errors).rdbuf();
  std::filesystem::remove(file);
  std::filesystem::remove(errors);
  if (status != 0) throw Error("the Python script failed: " + complaint.str());
  return output;
}

}  // namespace espalier::testkit
