#include "commands/latency.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <map>
#include <memory>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <unistd.h>

#include "commands/recipe_options.h"
#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/registry.h"
#include "plan/plan.h"
#include "plan/run_network.h"
#include "recipe/overrides.h"
#include "recipe/recipe.h"
#include "recipe/yaml.h"
#include "system/files.h"
#include "system/terminal.h"
#include "system/text.h"
#include "system/threads.h"
#include "train/latency_bench.h"
#include "train/trainer.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

struct LatencyFlags {
  RecipeOptions recipe;
  std::string dataset, precision, out;
  LatencyOptions measure;
};

// What is to be timed, and where.
struct Timed {
  Graph graph;
  std::string name;
  std::string precision;
  at::Device device;
};

int64_t number_of_threads(const std::string& given) {
  int64_t threads = 0;
  const auto read = std::from_chars(given.data(), given.data() + given.size(), threads);
  if (!given.empty() && (read.ec != std::errc() || read.ptr != given.data() + given.size() || threads < 0))
    throw InputError("--threads", "'" + given + "' is no number of threads; 0 stands for all cores");
  return threads;
}

Timed of_run(const LatencyFlags& f) {
  const RecipeOptions& options = f.recipe;
  options.load_plugins();
  const at::Device device = choose_device(options.device.empty() ? "auto" : options.device);
  use_threads(number_of_threads(options.threads));
  const fs::path folder = fs::absolute(options.recipe).lexically_normal();
  return {read_run_network(folder, "last").graph, folder.filename().string(), "float32", device};
}

Timed of_recipe(const Recipe& recipe) {
  const at::Device device = choose_device(recipe.device);
  use_threads(recipe.threads);
  return {planned_network(recipe), recipe.name, recipe.precision, device};
}

// A network that is named: `resnet20`, or `{use: resnet20, width: 2}`.
Recipe named(const LatencyFlags& f) {
  const RecipeOptions& options = f.recipe;
  if (f.dataset.empty()) {
    throw InputError(options.recipe,
                     "there is no such run and no such recipe. If it is the name of a network, say for what data: "
                     "--dataset cifar10, or --dataset '{use: image_folder, folder: photos, size: 224}'");
  }
  options.load_plugins();
  Value network = parse_yaml(options.recipe, "the network", /*with_lines=*/false);
  if (network.is_string()) network = Value::map({{"use", network}});
  if (!network.is_map()) throw InputError(options.recipe, "expected the name of a network, or {use: NAME, ...}");
  Value tree = Value::map({{"espalier", 1}, {"name", "latency"}});
  if (const Value* use = network.find("use"); use && use->is_string()) tree["name"] = use->as_string();
  tree["data"] = parse_yaml(f.dataset, "--dataset", /*with_lines=*/false);
  tree["network"] = network;
  tree["stages"] = Value(Value::List{Value::map({{"name", "none"}, {"epochs", 0}})});
  std::vector<std::string> overrides = options.overrides;
  if (!options.device.empty()) overrides.push_back("device=" + options.device);
  if (!options.threads.empty()) overrides.push_back("threads=" + options.threads);
  for (const std::string& o : overrides) apply_override(tree, o);
  return check_recipe(tree, Registry::instance());
}

Timed timed(const LatencyFlags& f) {
  const std::string& what = f.recipe.recipe;
  if (fs::is_directory(what)) return of_run(f);
  return of_recipe(fs::exists(what) ? f.recipe.load_one() : named(f));
}

// The operations that take longest, each with all its nodes.
std::string text_of(const LatencyTable& table, const Graph& graph) {
  std::map<std::string, std::pair<int64_t, double>> types;
  double sum = 0;
  for (const Node& n : graph.nodes()) {
    const double ms = table.ms(graph, n);
    ++types[n.op->type()].first;
    types[n.op->type()].second += ms;
    sum += ms;
  }
  std::vector<std::pair<std::string, std::pair<int64_t, double>>> order(types.begin(), types.end());
  std::ranges::stable_sort(order, std::ranges::greater(), [](const auto& t) { return t.second.second; });
  std::vector<std::vector<std::string>> rows{{"operation", "nodes", "ms", "of the sum"}};
  for (const auto& [type, of] : order)
    rows.push_back({type, std::to_string(of.first), fixed(of.second, 4), fixed(100 * of.second / sum, 1) + " %"});
  rows.push_back({"sum", std::to_string(graph.nodes().size()), fixed(sum, 4), ""});
  return number_table(rows) + "\na pass of the whole network takes " +
         fixed(table.origin().at("network").at("ms").as_double(), 4) + " ms (" + table.str() + ")\n";
}

void measure(LatencyFlags& f) {
  Timed what = timed(f);
  if (!f.precision.empty()) what.precision = f.precision;
  f.measure.precision = what.precision;
  const fs::path out = f.out.empty() ? fs::path(what.name + ".latency.json") : fs::path(f.out);
  if (fs::is_directory(out)) throw InputError("--out", "'" + out.string() + "' is a folder; name a file");
  if (const fs::path folder = fs::absolute(out).parent_path(); !fs::is_directory(folder))
    throw InputError("--out", "there is no folder '" + folder.string() + "'");
  Weights weights(what.graph, what.precision == "float64" ? at::kDouble : at::kFloat, what.device);
  weights.initialize(what.graph, RandomKey(1));
  const bool watched = ::isatty(STDERR_FILENO) != 0;
  const LatencyTable table = measure_latencies(what.graph, weights, f.measure, [&](size_t done, size_t of) {
    if (watched) std::cerr << "\r\033[K" << done << "/" << of << " kinds of nodes" << std::flush;
  });
  if (watched) std::cerr << "\r\033[K";
  write_file(out, to_json(table.to_value(), 1) + "\n");
  std::cout << text_of(table, what.graph) << "\nWrote " << out.string() << ", " << table.to_value().at("entries").size()
            << " kinds of nodes. Prune by it: target: {latency: 0.5, table: " << out.filename().string() << "}\n";
}

}  // namespace

void add_latency_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "latency", "Measures what the operations of a network take on this device, as a table that pruning counts with");
  auto f = std::make_shared<LatencyFlags>();
  command
      ->add_option("what", f->recipe.recipe,
                   "A recipe, the folder of a run, or a network: resnet20, or '{use: resnet20, width: 2}'")
      ->required()
      ->type_name("NETWORK_OR_RECIPE_OR_RUN");
  command->add_option("--out", f->out, "The file that is written (default: NAME.latency.json)")->type_name("FILE");
  command
      ->add_option("--dataset", f->dataset,
                   "Of a network that is named: the data that it is for, 'cifar10' or '{use: image_folder, ...}'")
      ->type_name("SPEC");
  command->add_option("--batch", f->measure.batch, "Samples of a pass (default: 1)")
      ->type_name("N")
      ->check(CLI::Range(1, 1000000));
  command
      ->add_option("--passes", f->measure.passes,
                   "Passes that are timed at each point, after a few that do not count; the median counts (default: "
                   "20)")
      ->type_name("N")
      ->check(CLI::Range(1, 1000000));
  command->add_option("--precision", f->precision, "float32, bf16 or float64 (default: the recipe's)")
      ->type_name("NAME")
      ->check(CLI::IsMember({"float32", "bf16", "float64"}));
  f->recipe.add_settings_to(*command);
  command->footer(
      "Each kind of node is timed for widths from one position up to those of the network. A method that counts with\n"
      "the table adds up its nodes and interpolates; it refuses a table of another device.\n"
      "Examples:\n"
      "  espalier latency resnet20 --dataset cifar10 --threads 1\n"
      "  espalier latency runs/resnet20-seed0 --batch 64 --out server.json\n"
      "  espalier prune runs/resnet20-seed0 --target latency=0.5 --table resnet20-seed0.latency.json\n");
  command->callback([f] { measure(*f); });
}

}  // namespace espalier
