#include <filesystem>
#include <fstream>
#include <iterator>

#include <espalier/backbone.h>
#include <espalier/plugin.h>

namespace espalier {

struct RecordedOptions {
  std::string graph;

  static void declare(Declare<RecordedOptions>& p) {
    p("graph", &RecordedOptions::graph, required(), "a run's folder, or a graph.json; relative to the working folder");
  }
};

// The structure that a run ended with, to be trained from its beginning (paper 000, table 4: Train Scratch - Base).
Graph recorded(const RecordedOptions& o, const InputSpec& input, const TargetSpec& target) {
  std::filesystem::path file = o.graph;
  if (std::filesystem::is_directory(file)) file /= "graph.json";
  std::ifstream in(file);
  if (!in) throw InputError(file.string(), "there is no such file; `graph` is the folder of a finished run");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const Value value = from_json(text, file.string());
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
  require("classes", {g.sizes(g[g.output("logits")].shape).back()}, {target.classes});
  return g;
}

ESPALIER_PLUGIN("recorded", "1.0.0",
                backbone<RecordedOptions>("recorded", "the structure that another run ended with", recorded));

}  // namespace espalier
