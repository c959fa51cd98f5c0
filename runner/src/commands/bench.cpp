#include "commands/bench.h"

#include <charconv>
#include <filesystem>
#include <iostream>
#include <memory>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/data_option.h"
#include "commands/recipe_options.h"
#include "espalier/datasets/find.h"
#include "espalier/error.h"
#include "espalier/loss.h"
#include "plan/plan.h"
#include "plan/run_network.h"
#include "plan/warm_start.h"
#include "record/environment.h"
#include "system/scratch_folder.h"
#include "system/terminal.h"
#include "system/text.h"
#include "system/threads.h"
#include "train/inference_bench.h"
#include "train/trainer.h"

namespace espalier {

namespace {

std::string text_of(const Value& result) {
  const double step = result.at("step_ms").as_double();
  std::vector<std::vector<std::string>> rows{{"phase", "ms", "of the step"}};
  for (const Value::Entry& e : result.at("phases_ms").as_map())
    rows.push_back({e.key, fixed(e.value.as_double(), 3), fixed(100 * e.value.as_double() / step, 1) + " %"});
  rows.push_back({"step", fixed(step, 3), ""});
  return number_table(rows) + "\n" + fixed(result.at("images_per_second").as_double(), 0) + " images/s (batch " +
         to_json(result.at("batch")) + ", " + result.at("environment").at("device").as_string() + ", median of " +
         to_json(result.at("steps")) + " steps), peak memory " + fixed(result.at("peak_memory_mb").as_double(), 0) +
         " MB\n";
}

// The network that a run ended with, or that a recipe begins with.
std::unique_ptr<FrozenNetwork> network_of(const RecipeOptions& options, std::string& precision, at::Device& device) {
  if (std::filesystem::is_directory(options.recipe)) {
    options.load_plugins();
    device = choose_device(options.device.empty() ? "auto" : options.device);
    int64_t threads = 0;
    const std::string& given = options.threads;
    const auto read = std::from_chars(given.data(), given.data() + given.size(), threads);
    if (!given.empty() && (read.ec != std::errc() || read.ptr != given.data() + given.size() || threads < 0))
      throw InputError("--threads", "'" + given + "' is no number of threads; 0 stands for all cores");
    use_threads(threads);
    const RunNetwork n = read_run_network(options.recipe, "last");
    auto network = std::make_unique<FrozenNetwork>(n.graph, at::kFloat, device);
    set_values(network->graph, network->weights, n.tensors, n.from);
    return network;
  }
  const Recipe recipe = options.load_one();
  device = choose_device(recipe.device);
  use_threads(recipe.threads);
  precision = recipe.precision;
  auto network = std::make_unique<FrozenNetwork>(planned_network(recipe),
                                                 precision == "float64" ? at::kDouble : at::kFloat, device);
  network->weights.initialize(network->graph, RandomKey(static_cast<uint64_t>(recipe.seed)));
  return network;
}

void time_inference(const RecipeOptions& options, const std::vector<int64_t>& batches, int64_t passes, bool json) {
  std::string precision = "float32";
  at::Device device = at::kCPU;
  const std::unique_ptr<FrozenNetwork> made = network_of(options, precision, device);
  const FrozenNetwork& network = *made;
  const Value results = bench_inference(network.graph, network.weights, batches, passes, precision);
  if (json) {
    std::cout << to_json(Value::map({{"params", network.graph.parameter_count()},
                                     {"macs", network.graph.macs()},
                                     {"environment", environment_of(device.str())},
                                     {"precision", precision},
                                     {"inference", results}}),
                         1)
              << "\n";
    return;
  }
  std::vector<std::vector<std::string>> rows{{"batch", "ms", "samples/s"}};
  for (const Value& r : results.as_list()) {
    rows.push_back(
        {to_json(r.at("batch")), fixed(r.at("ms").as_double(), 3), fixed(r.at("samples_per_second").as_double(), 0)});
  }
  std::cout << count_text(network.graph.parameter_count()) << " parameters, " << count_text(network.graph.macs())
            << " MACs, " << device.str() << ", medians of " << passes << " passes\n\n"
            << number_table(rows);
}

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("bench", "Times the training step of a recipe's first stage, or the inference of a run");
  struct Flags {
    RecipeOptions recipe;
    std::vector<std::string> data;
    int64_t steps = 200;
    int64_t warmup = 20;
    bool json = false;
    std::string exported;
    std::vector<int64_t> inference;
  };
  auto f = std::make_shared<Flags>();
  f->recipe.add_to(*command);
  add_data_option(*command, f->data);
  command->add_option("--steps", f->steps, "Steps that are timed (default 200)")
      ->type_name("N")
      ->check(CLI::Range(1, 1000000000));
  command->add_option("--warmup", f->warmup, "Steps before those (default 20)")
      ->type_name("N")
      ->check(CLI::Range(0, 1000000000));
  command->add_flag("--json", f->json,
                    "Prints JSON: {step_ms, images_per_second, phases_ms, peak_memory_mb, losses of 50 steps, ...}");
  command->add_option("--export", f->exported, "Leaves there what another program needs to do the same steps")
      ->type_name("DIR");
  command
      ->add_option(
          "--inference", f->inference,
          "Times the forward pass with batches of these sizes instead, of made-up inputs; FILE may then be the "
          "folder of a run: --inference 1,64")
      ->type_name("N,...")
      ->delimiter(',')
      ->check(CLI::Range(1, 1000000));
  command->footer(
      "Examples:\n"
      "  espalier bench recipes/bench/lenet5.yaml --steps 500\n"
      "  espalier bench runs/shrinknets-mnist-seed0 --inference 1,1000 --threads 1\n");
  command->callback([f] {
    if (!f->inference.empty()) return time_inference(f->recipe, f->inference, f->steps, f->json);
    if (std::filesystem::is_directory(f->recipe.recipe))
      throw InputError(f->recipe.recipe, "is a folder: give a recipe, or --inference N to time the network of a run");
    const Recipe recipe = f->recipe.load_one();
    plan_recipe(recipe, /*with_values=*/false);  // refuses what run would refuse
    choose_device(recipe.device);
    const ScratchFolder scratch;  // for what a trainer leaves
    std::filesystem::create_directory(scratch.path() / "checkpoints");
    const Value result = Trainer(recipe, {.out = scratch.path(), .data = default_data_paths(f->data), .quiet = true})
                             .bench(f->steps, f->warmup, f->exported);
    std::cout << (f->json ? to_json(result, 1) + "\n" : text_of(result));
  });
}

}  // namespace espalier
