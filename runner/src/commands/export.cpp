#include "commands/export.h"

#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/data_option.h"
#include "commands/plugin_options.h"
#include "data/scaling.h"
#include "data/split.h"
#include "espalier/backbone.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "export/export_checks.h"
#include "export/onnx_export.h"
#include "export/python_export.h"
#include "export/torchscript_export.h"
#include "formats/safetensors.h"
#include "plan/layout_export.h"
#include "plan/run_network.h"
#include "plan/warm_start.h"
#include "plugins/builtin.h"
#include "recipe/recipe.h"
#include "record/data_record.h"
#include "record/recorded.h"
#include "sweep/sweep.h"
#include "system/files.h"
#include "system/text.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

struct ExportOptions {
  std::string run, format, out, layout, from = "last";
  int64_t opset = onnx_opset;
  PluginOptions plugins;
};

// The data in force after so many stages.
const DataSection& data_of(const Recipe& recipe, size_t stages) {
  const DataSection* data = &recipe.data;
  for (size_t i = 0; i < recipe.stages.size() && i < stages; ++i) {
    if (recipe.stages[i].data) data = &*recipe.stages[i].data;
  }
  return *data;
}

// What the data set says of itself, with the names of classes that it told the run when it was loaded.
DatasetInfo info_of(const DataSection& data, const fs::path& run) {
  DatasetInfo info = resized(Registry::instance().create<Dataset>(data.dataset)->info(), data);
  if (info.classes.empty()) info.classes = recorded_classes(recorded(run / "data.json"), data.dataset);
  return info;
}

// The values as another library names them. Returns what is to be said of it.
std::string write_layout(const ExportOptions& o, const Recipe& recipe, const RunNetwork& n, const DatasetInfo& info,
                         fs::path& file) {
  const Value backbone = backbone_of(recipe, n.stages);
  const Graph built = Registry::instance().create<Backbone>(backbone)->build(info.input, info.target);
  const auto layout = layout_for_export(o.layout, backbone, n.graph, built);
  file = o.out.empty() ? fs::path(o.run) / ("model." + layout->name + ".safetensors") : fs::path(o.out);
  if (fs::weakly_canonical(file) == fs::weakly_canonical(fs::path(o.run) / "model.safetensors"))
    throw InputError("--out", "the run's own values are in " + file.string() + ": name another file");
  // PyTorch's programs ask for the format.
  save_safetensors(file, {in_layout(*layout, n.graph, n.tensors), {{"format", "pt"}}});
  for (const std::string& line : differences(*layout, backbone)) std::cerr << "note: " << line << "\n";
  return "; in the layout " + layout->name + (layout->of.empty() ? "" : " (" + layout->of + ")") + ", with " +
         std::to_string(info.target.outputs) + " classes";
}

void write_export(ExportOptions o) {
  const fs::path run = o.run;
  if (is_sweep(run)) throw InputError(o.run, "this is a sweep: export one of its runs, a folder in it");
  require_run(run);
  const Value environment = recorded(run / "environment.json");
  add_recorded(environment, "plugins", o.plugins.folders);
  std::vector<std::string> data_folders;
  add_recorded(environment, "data", data_folders);
  search_data_in(data_folders);
  register_builtin(Registry::instance());
  warn_of_missing_plugins(environment, o.plugins.load());
  const Recipe recipe = load_recipe(run / "recipe.yaml", {}, Registry::instance());
  if (!o.layout.empty() && o.format != "safetensors")
    throw InputError("--layout", "only files of values have layouts (--to safetensors)");
  if (o.format != "onnx" && o.opset != onnx_opset) throw InputError("--opset", "only ONNX has opsets (--to onnx)");
  const RunNetwork n = read_run_network(run, o.from);
  const bool is_double = !n.tensors.empty() && n.tensors.front().second.scalar_type() == at::kDouble;
  Weights weights(n.graph, is_double ? at::kDouble : at::kFloat, at::kCPU);
  set_values(n.graph, weights, n.tensors, n.from);

  const DataSection& data = data_of(recipe, n.stages);
  const DatasetInfo info = info_of(data, run);
  const Scalings all = scalings(data.normalize, info, recorded_scalings(recorded(run / "data.json"), data.dataset));
  const TrainedNetwork network{recipe.name, n.graph, weights, info, all, data.eval_batch};
  const auto target = [&](const char* name) { return o.out.empty() ? run / name : fs::path(o.out); };
  // A file gets its name only after what it computes was compared with the network.
  const std::vector<std::string> logits{"logits"};
  const NamedTensors inputs = export_inputs(n.graph, weights, logits);
  fs::path file;
  std::string also, compared;
  if (o.format == "onnx") {
    const std::string model = onnx_model(network, o.opset);
    const auto version = compare_onnx(n.graph, weights, logits, inputs, model, o.opset);
    compared = version ? "; ONNX Runtime " + *version + " gives the same logits"
                       : "; its form was checked, its logits were not: no Python with onnxruntime was found "
                         "(ESPALIER_PYTHON names one)";
    write_file(file = target("model.onnx"), model);
  } else if (o.format == "torchscript") {
    const std::string model = torchscript_model(network);
    compare_torchscript(n.graph, weights, logits, inputs, model);
    write_file(file = target("model.pt"), model);
  } else if (o.format == "python") {
    file = target("model.py");
    const std::string text = python_model(network);
    compare_torchscript(n.graph, weights, logits, inputs, torchscript_model(network));
    const fs::path values = fs::path(file).replace_extension(".safetensors");
    if (values == file) throw InputError(o.out, "the values are written to this name; let the program end in .py");
    save_safetensors(values, {n.tensors, {}});
    write_file(file, text);
    also = " and " + values.string();
  } else if (!o.layout.empty()) {
    compared = write_layout(o, recipe, n, info, file);
  } else {
    save_safetensors(file = target("model.safetensors"), {n.tensors, {}});
  }
  const InputSpec& in = info.input;
  std::cout << file.string() << also << ": " << count_text(n.graph.parameter_count()) << " parameters, input [batch, "
            << (in.nodes > 0 ? std::to_string(in.nodes) + ", " + std::to_string(in.channels)
                : in.height > 0
                    ? std::to_string(in.channels) + ", " + std::to_string(in.height) + ", " + std::to_string(in.width)
                    : std::to_string(in.channels))
            << "]" << compared
            << (n.stages == SIZE_MAX
                    ? ""
                    : "; of " + n.from.string() + (o.from == "last" ? ", as the run has not finished" : ""))
            << "\n";
}

}  // namespace

void add_export_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("export", "Writes a run's network for programs that know nothing of Espalier");
  auto o = std::make_shared<ExportOptions>();
  command->add_option("run", o->run, "The folder of a run, finished or not (then its last checkpoint counts)")
      ->required()
      ->type_name("RUN");
  command->add_option("--to", o->format, "safetensors, python, onnx or torchscript")
      ->required()
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"safetensors", "python", "onnx", "torchscript"}));
  command
      ->add_option("--from", o->from,
                   "Which network: last (default), that of the checkpoint previous or best, or ema, the average that "
                   "a stage kept beside it")
      ->type_name("NAME")
      ->check(CLI::IsMember({"last", "previous", "best", "ema"}));
  command->add_option("--out", o->out, "The file (default: in the run's folder, model.onnx and the like)")
      ->type_name("FILE");
  command
      ->add_option("--layout", o->layout,
                   "Of safetensors: the names and the arrangement of a library (timm, torchvision, huggingface, "
                   "microsoft) that has this network, unpruned, or of a table of your own")
      ->type_name("NAME");
  command->add_option("--opset", o->opset, "Of ONNX: 13, 17 or 20, for programs that do not know the newest")
      ->type_name("N")
      ->check(CLI::IsMember(std::vector<int64_t>(std::begin(onnx_opsets), std::end(onnx_opsets))));
  o->plugins.add_to(*command);
  command->footer(
      "The input is normalised outside of the network: a pixel's byte * scale + shift, per channel (or a feature * "
      "scale "
      "+ shift), which the files say. Where targets were standardized, an output * output_scale + output_shift is what "
      "was measured. What a file computes is compared with the network before it gets its name: ONNX by the ONNX "
      "Runtime of the "
      "Python in ESPALIER_PYTHON, or of python3, where it has one.\npython writes the values beside the program, as "
      "FILE with the ending .safetensors.\n\nExamples:\n"
      "  espalier export runs/quickstart-seed0 --to onnx\n"
      "  espalier export runs/quickstart-seed0 --to onnx --from best    the best epoch's network\n"
      "  espalier export runs/quickstart-seed0 --to torchscript --out network.pt\n"
      "  espalier export runs/swin-seed0 --to safetensors --layout timm      a file that timm loads\n");
  command->callback([o] { write_export(*o); });
}

}  // namespace espalier
