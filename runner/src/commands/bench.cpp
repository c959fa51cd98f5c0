#include "commands/bench.h"

#include <filesystem>
#include <iostream>
#include <memory>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/data_option.h"
#include "commands/recipe_options.h"
#include "espalier/datasets/find.h"
#include "espalier/error.h"
#include "plan/plan.h"
#include "system/scratch_folder.h"
#include "system/terminal.h"
#include "system/text.h"
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

}  // namespace

void add_bench_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("bench", "Times the training step of a recipe's first stage");
  struct Flags {
    RecipeOptions recipe;
    std::vector<std::string> data;
    int64_t steps = 200;
    int64_t warmup = 20;
    bool json = false;
    std::string exported;
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
  command->footer("Example:\n  espalier bench recipes/bench/lenet5.yaml --steps 500\n");
  command->callback([f] {
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
