#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/cuda.h>

#include "data/split.h"
#include "espalier/backbone.h"
#include "espalier/error.h"
#include "espalier/log.h"
#include "export/export_checks.h"
#include "export/python_export.h"
#include "export/torchscript_export.h"
#include "formats/tensorboard.h"
#include "plan/warm_start.h"
#include "recipe/yaml.h"
#include "record/data_record.h"
#include "record/environment.h"
#include "system/files.h"
#include "system/interrupt.h"
#include "system/text.h"
#include "system/threads.h"
#include "train/report.h"
#include "train/run_events.h"

namespace espalier {

at::Device choose_device(const std::string& name) {
  const bool cuda = torch::cuda::is_available();
  if (name == "cuda" && !cuda)
    throw Error("device cuda: this machine has no usable GPU (or Espalier was built without CUDA); use --device cpu");
  return cuda && name != "cpu" ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
}

Trainer::Trainer(const Recipe& recipe, const TrainerOptions& options)
    : recipe_(recipe),
      options_(options),
      machine_{choose_device(recipe.device), recipe.precision == "float64" ? at::kDouble : at::kFloat},
      seed_(static_cast<uint64_t>(recipe.seed)),
      folder_(options.out),
      progress_(options.quiet),
      data_(machine_.device, machine_.dtype, seed_, options.data,
            {options.processes->rank(), options.processes->count()}) {
  if (machine_.device.is_cpu()) {
    use_threads(recipe.threads);
  } else if (recipe.threads > 0) {
    at::set_num_threads(static_cast<int>(recipe.threads));
  }
}

Trainer::~Trainer() = default;

void Trainer::load_data(const DataSection& section) {
  DataSection known_section = section;
  known_section.dataset = known(section.dataset);
  for (Value& spec : known_section.augment) spec = known(spec);
  data_.load(known_section, [&](const Value& record) {
    processes().require_same("its data", to_json(record), "all machines need the same files");
    keep_record(record);
  });
}

void Trainer::keep_record(const Value& record) const {
  const std::filesystem::path file = folder_.file("data.json");
  Value all = std::filesystem::exists(file) ? from_json(read_file(file), file.string()) : Value::list();
  Value* before = nullptr;
  std::vector<std::string> found;
  try {
    for (Value& r : all.as_list()) {
      if (r.at("dataset") == record.at("dataset")) before = &r;
    }
    if (before) found = data_differences(*before, record);
  } catch (const InputError& e) {
    throw InputError(file.string(), std::string("is no record of what the data were: ") + e.what());
  }
  if (before) {
    if (found.empty()) {
      // Other parts of the same data have other means.
      const Value* scaling = record.find("scaling");
      if (!scaling || (before->find("scaling") && before->at("scaling") == *scaling)) return;
      (*before)["scaling"] = *scaling;
      write_file(file, to_json(all, 1) + "\n");
      return;
    }
    std::string text = "the data are not those that the run began with";
    for (const std::string& line : found) text += "\n  " + line;
    if (!options_.changed_data) {
      throw InputError(folder_.path().string(),
                       text + "\n`espalier resume` goes on with what they are now where it is given --changed-data");
    }
    log::warning(text);
    *before = record;
  } else {
    all.push_back(record);
  }
  write_file(file, to_json(all, 1) + "\n");
}

void Trainer::build_network(const Value& spec, const WarmStart& warm, const std::string& purpose) {
  const Made<Backbone> backbone = Made<Backbone>::make(known(spec));
  backbone.call([&](Backbone& b) { network_.graph = b.build(data_.info().input, data_.info().target); });
  network_.weights = std::make_unique<Weights>(network_.graph, machine_.dtype, machine_.device);
  network_.weights->initialize(network_.graph, seed_.with(purpose));
  if (!warm.from.empty()) {
    const Loaded loaded = warm_start(warm, network_.graph, network_.weights.get());
    progress_.note("The network begins with " + loaded.str() + " of " + warm.from.string() +
                   (warm.which == "best" ? ", its best checkpoint" : "") +
                   (loaded.layout.empty() ? "" : ", in the layout " + loaded.layout));
    for (const std::string& line : loaded.left_out) progress_.note("The classifier begins anew: " + line);
    const std::string unseen = unseen_in_file(warm, network_.graph, name_of(spec, "backbone"));
    if (!unseen.empty()) progress_.note("note: " + unseen);
  }
  tested_.stale = true;
}

void Trainer::start() {
  at_work_ = true;
  folder_.cut_to({});
  rewrite_artefacts();
  std::error_code none;
  std::filesystem::remove(folder_.file("data.json"), none);
  // The recipe last: what has one can be resumed, with the plugins that the environment names.
  write_environment({});
  write_file(folder_.file("recipe.yaml"), to_yaml(recipe_.resolved));
  load_data(recipe_.data);
  build_network(recipe_.network, recipe_.warm_start, "network");
  network_.first = network_.graph;
  position_.base_macs = base_macs(recipe_, data_.info(), network_.first);
  if (recipe_.cost_with_start) position_.macs_sum = training_before(recipe_.warm_start.from);
  for (const StageSection& s : recipe_.stages)
    position_.steps_total +=
        s.epochs * steps_per_epoch(data_.train().size(), s.data ? *s.data : recipe_.data, s.accumulate);
  metrics_.make(recipe_.metrics, data_.info().target);
  folder_.add_events(events_of_start(recipe_.resolved, {"test_" + metrics_.leading().name, "params", "macs"}));
  options_.recorded(folder_.path());
}

void Trainer::run() {
  try {
    carry_out();
  } catch (const Interrupted& i) {
    write_unfinished("interrupted", "signal " + std::to_string(i.signal()));
    progress_.note("Stopped. To go on: espalier resume " + folder_.path().string());
    throw;
  } catch (const InputError& e) {
    write_unfinished("failed", e.what());
    throw;
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    fail("out of memory");
  } catch (const std::exception& e) {
    fail(e.what());
  }
}

std::string Trainer::parallel_note() const {
  return processes().several() ? ", " + std::to_string(processes().count()) + " processes" : "";
}

void Trainer::carry_out() {
  processes().require_same("the recipe", to_yaml(recipe_.resolved), "start all processes with the same command");
  processes().require_same("the device", machine_.device.str(), "each process needs a GPU of its own, or none has one");
  if (!options_.resume || !go_on()) start();
  const NetworkSize c = size();
  progress_.note(recipe_.name + ": " + name_of(recipe_.network, "backbone") + " on " +
                 name_of(recipe_.data.dataset, "dataset") + " (" + count_text(data_.train().size()) +
                 (data_.info().input.height > 0 && data_.info().input.nodes == 0 ? " images), " : " samples), ") +
                 count_text(c.params) + " params, " + count_text(c.macs) + " MACs, " + machine_.device.str() +
                 (machine_.device.is_cpu() ? " with " + std::to_string(at::get_num_threads()) + " threads" : "") +
                 parallel_note() + ", seed " + std::to_string(recipe_.seed));
  while (position_.stage < recipe_.stages.size()) run_stage();
  finish();
}

void Trainer::export_model(const std::filesystem::path& folder) const {
  save_safetensors(folder / "model.safetensors", {model_tensors(network_.graph, *network_.weights), {}});
  std::string program;
  try {
    program = python_model(
        {recipe_.name, network_.graph, *network_.weights, data_.info(), data_.scalings(), data_.section().eval_batch});
    // What it computes is written in the same expressions as the TorchScript form, which can be tried here.
    const std::vector<std::string> logits{"logits"};
    compare_torchscript(network_.graph, *network_.weights, logits,
                        export_inputs(network_.graph, *network_.weights, logits),
                        torchscript_of(network_.graph, *network_.weights, logits));
  } catch (const Error& e) {  // operations need no Python form
    log::warning(std::string("model.py is not written: ") + e.what());
    return;
  }
  write_file(folder / "model.py", program);
}

void Trainer::record(const std::string& name, const NamedTensors& tensors) {
  const std::filesystem::path folder = folder_.file("records");
  std::filesystem::create_directories(folder);
  save_safetensors(folder / (name + ".safetensors"), {tensors, {}});
}

void Trainer::finish() {
  if (!processes().leads()) return;
  count_best();
  write_file(folder_.file("graph.json"), to_json(network_.graph.to_value(), 1) + "\n");
  export_model(folder_.path());
  const Summary result = summary();
  result.write(folder_.path());
  folder_.add_events(run_end_event(wall_time()));
  options_.recorded(folder_.path());
  if (!options_.quiet) print_table(result);
}

Summary Trainer::summary() const {
  Summary s;
  s.name = recipe_.name;
  s.seed = recipe_.seed;
  s.status = "finished";
  s.stages = position_.stages;
  const auto base_epochs =
      static_cast<double>(recipe_.base_epochs.value_or(std::max<int64_t>(1, position_.epochs_done)));
  RunResult& r = s.result.emplace();
  r.metrics = tested_.result.metrics;
  r.leading = metrics_.leading();
  r.best = r.leading.score(*position_.best_score);
  if (data_.validation() && position_.best_selection) r.validation = r.leading.score(*position_.best_selection);
  r.loss = tested_.result.loss;
  r.train_loss = position_.train_loss;
  r.sparsity = sparsity_of(network_.first, network_.graph, *network_.weights);
  r.base = {network_.first.parameter_count(), network_.first.macs()};
  r.final = size();
  r.train_cost = position_.macs_sum / (base_epochs * position_.base_macs);
  r.train_macs = position_.macs_sum;
  r.seconds = watches_.run.seconds();
  r.device = machine_.device.str();
  r.precision = recipe_.precision;
  r.threads = static_cast<int64_t>(at::get_num_threads());
  if (!recipe_.expect.is_null()) s.expect = compared(recipe_.expect, s);
  return s;
}

void Trainer::print_table(const Summary& summary) const {
  std::printf("\n%s\n%s", before_and_after(network_.first, network_.graph).c_str(),
              stage_table(summary.stages, summary.result->leading).c_str());
  if (!summary.expect.is_null()) std::printf("\n%s", expectation_table(summary.expect).c_str());
  std::printf("\nRun folder: %s\n", folder_.path().c_str());
}

}  // namespace espalier
