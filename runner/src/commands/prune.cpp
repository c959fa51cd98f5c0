#include "commands/prune.h"

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/plugin_options.h"
#include "commands/training_options.h"
#include "espalier/error.h"
#include "espalier/log.h"
#include "espalier/registry.h"
#include "plan/plan.h"
#include "plugins/builtin.h"
#include "recipe/overrides.h"
#include "recipe/recipe.h"
#include "recipe/yaml.h"
#include "record/run_folder.h"
#include "system/files.h"
#include "train/trainer.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

struct PruneFlags {
  std::string from, which = "last", target, score, scope, normalize, protect, round_to, table, dataset, network, out,
                    seed, device, threads;
  std::vector<std::string> on, overrides;
  int64_t finetune = 0;
  double lr = 0.01;
  bool plan = false, any_device = false;
  PluginOptions plugins;
  TrainingOptions training;
};

// What is written behind a flag, as YAML: its place is the flag.
Value given(const std::string& text, const char* flag) {
  return parse_yaml(text, flag, /*with_lines=*/false);
}

// "macs=0.5" -> {macs: 0.5}
Value target_of(const std::string& text) {
  const size_t at = text.find('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size())
    throw InputError("--target", "expected NAME=VALUE, such as macs=0.5, got '" + text + "'");
  Value target = given("{" + text.substr(0, at) + ": " + text.substr(at + 1) + "}", "--target");
  if (!target.is_map()) throw InputError("--target", "expected NAME=VALUE, such as macs=0.5, got '" + text + "'");
  return target;
}

Value controller_of(const PruneFlags& f) {
  Value c = Value::map({{"use", "prune"}, {"target", target_of(f.target)}});
  if (!f.table.empty()) c["target"]["table"] = fs::absolute(f.table).lexically_normal().string();
  if (f.any_device) c["target"]["any_device"] = true;
  c.location = given("{a: 1}", "--target").location;
  const auto add = [&](const char* key, const std::string& text, const char* flag) {
    if (!text.empty()) c[key] = given(text, flag);
  };
  add("score", f.score, "--score");
  add("scope", f.scope, "--scope");
  add("normalize", f.normalize, "--normalize");
  add("protect", f.protect, "--protect");
  add("round_to", f.round_to, "--round-to");
  if (!f.on.empty()) c["on"] = f.on;
  return c;
}

// The data that the run was trained with: those of the recipe, or of the last stage that has others.
void take_from_run(const PruneFlags& f, const fs::path& run, Value& recipe) {
  const fs::path file = run / "recipe.yaml";
  if (!fs::exists(file)) {
    throw InputError(run.string(),
                     "is no folder of a run: it holds no recipe.yaml. Of a file of values say which "
                     "network it belongs to and what data: --network resnet18 --dataset cifar10");
  }
  const Value of_run = read_recipe(file, {});
  Value data = of_run.at("data");
  for (const Value& stage : of_run.at("stages").as_list()) {
    if (const Value* own = stage.find("data"); own && own->is_map()) data = merge(data, *own);
  }
  recipe["name"] = of_run.at("name").as_string() + "-pruned";
  for (const char* key : {"precision", "metrics"}) {
    if (const Value* v = of_run.find(key)) recipe[key] = *v;
  }
  recipe["data"] = f.dataset.empty() ? data : given(f.dataset, "--dataset");
  recipe["network"] = Value::map({{"from", run.string()}, {"which", f.which}});
  if (!f.network.empty())
    throw InputError("--network", "the folder of a run says itself what its network is; leave it out");
}

// A file of values belongs to a network that must be named.
void take_from_file(const PruneFlags& f, const fs::path& file, Value& recipe) {
  if (f.network.empty())
    throw InputError("--network",
                     "a file of values does not say which network it belongs to: --network resnet18, or "
                     "--network '{use: resnet18, stem: cifar}'");
  if (f.dataset.empty())
    throw InputError("--dataset",
                     "say what data the network was trained with: --dataset cifar10, or --dataset "
                     "'{use: image_folder, folder: photos, size: 224}'");
  Value network = given(f.network, "--network");
  if (network.is_string()) network = Value::map({{"use", network}});
  if (!network.is_map()) throw InputError("--network", "expected the name of a backbone, or {use: NAME, ...}");
  network["from"] = file.string();
  recipe["name"] = file.stem().string() + "-pruned";
  recipe["data"] = given(f.dataset, "--dataset");
  recipe["network"] = network;
}

Value recipe_of(const PruneFlags& f) {
  const fs::path from = fs::absolute(f.from).lexically_normal();
  if (!fs::exists(from)) throw InputError(f.from, "there is no such run and no such file");
  Value recipe = Value::map({{"espalier", 1}, {"name", ""}});
  if (fs::is_directory(from)) {
    take_from_run(f, from, recipe);
  } else {
    take_from_file(f, from, recipe);
  }
  Value stage = Value::map({{"name", "prune"}, {"epochs", f.finetune}});
  if (f.finetune > 0) {
    stage["optimizer"] = Value::map({{"use", "sgd"}, {"lr", f.lr}, {"momentum", 0.9}, {"weight_decay", 5e-4}});
    stage["schedule"] = Value::map({{"use", "cosine"}});
  }
  stage["controller"] = controller_of(f);
  recipe["stages"] = Value(Value::List{stage});
  std::vector<std::string> overrides = f.overrides;
  const auto add = [&](const char* key, const std::string& text) {
    if (!text.empty()) overrides.push_back(key + ("=" + text));
  };
  add("seed", f.seed);
  add("device", f.device);
  add("threads", f.threads);
  for (const std::string& o : overrides) apply_override(recipe, o);
  return recipe;
}

void prune(const PruneFlags& f) {
  register_builtin(Registry::instance());
  f.plugins.load();
  const Value tree = recipe_of(f);
  const Recipe recipe = check_recipe(tree, Registry::instance());
  const Value plan = plan_recipe(recipe);
  if (f.plan) {
    std::cout << plan_text(plan);
    return;
  }
  for (const Value& note : plan.at("notes").as_list()) log::warning(note.as_string());
  choose_device(recipe.device);
  TrainerOptions training = f.training.of_run(f.plugins);
  const NewRunFolder folder(f.out, recipe.name, recipe.seed);
  training.out = folder.path();
  write_file(training.out / "prune.yaml",
             "# What `espalier prune` ran; `espalier run` does the same.\n" + to_yaml(tree));
  Trainer(recipe, training).run();
}

}  // namespace

void add_prune_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "prune", "Makes a trained network smaller, up to a target, and trains it on: a run without a recipe");
  auto f = std::make_shared<PruneFlags>();
  command->add_option("from", f->from, "The folder of a run, or a file of values (safetensors, .pt, .pth)")
      ->required()
      ->type_name("RUN_OR_FILE");
  command
      ->add_option("--target", f->target,
                   "What stays: macs=0.5 or params=0.3 (up to 1 a share, above 1 the number), latency=0.5 or "
                   "latency_ms=2 by a --table, or share=0.4 of all filters and units goes")
      ->required()
      ->type_name("NAME=VALUE");
  command->add_option("--table", f->table, "The table of latencies, which `espalier latency` measures")
      ->type_name("FILE");
  command->add_flag("--any-device", f->any_device, "Counts with a table of a device that this machine does not have");
  command
      ->add_option(
          "--score", f->score,
          "What ranks filters and units: l1, l2 (default), fpgm, taylor, lamp, ..., or '{use: taylor, batches: "
          "8}'")
      ->type_name("SCORE");
  command->add_option("--finetune", f->finetune, "Epochs of training afterwards (default: 0)")
      ->type_name("EPOCHS")
      ->check(CLI::Range(0, 1000000));
  command->add_option("--lr", f->lr, "Learning rate of these epochs (default: 0.01; sgd, falling as a cosine)")
      ->type_name("RATE");
  command->add_option("--scope", f->scope, "global (default), layer or block: what is ranked together")
      ->type_name("SCOPE");
  command->add_option("--normalize", f->normalize, "none (default), mean, max or gaussian: how layers are compared")
      ->type_name("HOW");
  command->add_option("--protect", f->protect, "Share of each width that stays in any case (default: 0.1)")
      ->type_name("SHARE");
  command->add_option("--round-to", f->round_to, "Widths are multiples of it (default: 1)")->type_name("N");
  command->add_option("--on", f->on, "A term of a selector of layers, may be repeated: --on 'layer1.*'")
      ->type_name("TERM")
      ->allow_extra_args(false);
  command->add_option("--which", f->which, "Network of a run: last (default) or best")
      ->type_name("NAME")
      ->check(CLI::IsMember({"last", "best"}));
  command->add_option("--network", f->network, "Of a file: its network, 'resnet18' or '{use: resnet18, stem: cifar}'")
      ->type_name("SPEC");
  command
      ->add_option("--dataset", f->dataset,
                   "The data, 'cifar10' or '{use: cifar10, batch: 64}'; of a run those that it was trained with are "
                   "taken otherwise")
      ->type_name("SPEC");
  command->add_option("--out", f->out, "The run folder, new or empty (default: runs/NAME-pruned-seedN)")
      ->type_name("DIR");
  command->add_option("--set", f->overrides, "Overrides a key of the recipe, as often as needed: --set data.batch=64")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--plan", f->plan, "Prints what would be done, and what cannot be pruned, and does nothing");
  command->add_option("--seed", f->seed, "Seed of the run (default: 0)")->type_name("N");
  command->add_option("--device", f->device, "auto, cpu or cuda")->type_name("DEVICE");
  command->add_option("--threads", f->threads, "Number of CPU threads; 0: all cores")->type_name("N");
  f->plugins.add_to(*command);
  f->training.add_to(*command);
  command->footer(
      "The recipe that was run is prune.yaml in the run folder: `espalier run` does the same again, and it is where to "
      "go on from.\n"
      "Examples:\n"
      "  espalier prune runs/quickstart-seed0 --target macs=0.5\n"
      "  espalier prune runs/resnet20-seed0 --target macs=0.25 --score taylor --normalize mean --finetune 10\n"
      "  espalier prune runs/resnet20-seed0 --target params=100000 --round-to 8 --plan\n"
      "  espalier prune runs/resnet20-seed0 --target latency=0.5 --table resnet20.latency.json\n"
      "  espalier prune resnet18.pth --network resnet18 --dataset '{use: image_folder, folder: photos, size: 224}' "
      "--target macs=0.5\n");
  command->callback([f] { prune(*f); });
}

}  // namespace espalier
