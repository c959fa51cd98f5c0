#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct RecordedOptions {
  std::string graph;

  static void declare(Declare<RecordedOptions>& p) {
    p("graph", &RecordedOptions::graph, path(), required(),
      "The folder of a run, its graph.json, or one of its checkpoints.");
  }
};

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw InputError(file.string(), "there is no such file; `graph` is the folder of a finished run");
  return {std::istreambuf_iterator<char>(in), {}};
}

// A checkpoint is a safetensors file (the length of a JSON header, the header) whose metadata hold the graph.
Value graph_of_checkpoint(const std::filesystem::path& file) {
  const std::string bytes = text_of(file);
  uint64_t length = 0;
  if (bytes.size() >= sizeof length) std::memcpy(&length, bytes.data(), sizeof length);
  if (length == 0 || length > bytes.size() - sizeof length) throw InputError(file.string(), "is no checkpoint");
  const Value header = from_json(std::string_view(bytes).substr(sizeof length, length), file.string());
  const Value* metadata = header.find("__metadata__");
  const Value* of_run = metadata ? metadata->find("espalier") : nullptr;
  if (!of_run) throw InputError(file.string(), "a safetensors file, but not a checkpoint of a run");
  return from_json(of_run->as_string(), file.string()).at("graph");
}

// The structure that a run ended with, or that of a checkpoint (paper 000, table 4: Train Scratch - Base).
Graph recorded(const RecordedOptions& o, const InputSpec& input, const TargetSpec& target) {
  std::filesystem::path file = o.graph;
  if (std::filesystem::is_directory(file)) file /= "graph.json";
  const Value value =
      file.extension() == ".safetensors" ? graph_of_checkpoint(file) : from_json(text_of(file), file.string());
  Graph g = [&] {
    try {
      return Graph::from_value(value);
    } catch (const Error& e) {
      throw InputError(file.string(), std::string("holds no network: ") + e.what());
    }
  }();
  if (g.inputs().empty()) throw InputError(file.string(), "holds no network: it has no input");
  const auto require = [&](const char* what, const std::vector<int64_t>& has, const std::vector<int64_t>& wanted) {
    if (has != wanted) {
      throw InputError(file.string(), std::string("the recorded network has ") + what + " " + to_string(has) +
                                          ", and the data needs " + to_string(wanted));
    }
  };
  const std::vector<int64_t> images = {input.channels, input.height, input.width};
  const std::vector<int64_t> shape = input.nodes > 0    ? std::vector{input.nodes, input.channels}
                                     : input.height > 0 ? images
                                                        : std::vector{input.channels};
  require("inputs", g.sizes(g[g.inputs().front().edge].shape), shape);
  // What the logits of other tasks are, plugins know.
  if (target.task == task::classification || target.task == task::regression || target.task == task::multilabel)
    require("classes", {g.sizes(g[g.output("logits")].shape).back()}, {target.outputs});
  return g;
}

ESPALIER_PLUGIN("recorded", "1.0.0",
                backbone<RecordedOptions>("recorded", "the structure that another run ended with", recorded));

}  // namespace espalier
