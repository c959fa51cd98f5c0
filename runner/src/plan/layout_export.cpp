#include "plan/layout_export.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/registry.h"
#include "recipe/choose_layout.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t shown = 3;
  std::string text;
  for (size_t i = 0; i < names.size() && i < shown; ++i) text += (i ? ", " : "") + names[i];
  return text + (names.size() > shown ? " and " + std::to_string(names.size() - shown) + " more" : "");
}

std::vector<std::string> without_a_name(const Layout& layout, const Graph& graph) {
  std::vector<std::string> names;
  for (const Parameter& p : graph.parameters()) {
    if (!layout.of_network(p.name)) names.push_back(p.name);
  }
  return names;
}

}  // namespace

NamedTensors in_layout(const Layout& layout, const Graph& graph, const NamedTensors& values) {
  if (const std::vector<std::string> missing = without_a_name(layout, graph); !missing.empty())
    throw Error("the layout " + layout.name + " has no name for " + some_of(missing));
  std::map<std::string, at::Tensor> own(values.begin(), values.end());
  std::vector<std::string> order;
  for (const Node& n : graph.nodes()) {
    for (const ParamId id : n.parameters) order.push_back(graph[id].name);
    for (const auto& [suffix, tensor] : n.op->constants(graph, n)) {
      order.push_back(n.name + "." + suffix);
      own.emplace(order.back(), tensor);
    }
  }
  NamedTensors file;
  for (const std::string& name : order) {
    const auto written = layout.of_network(name);
    // Parts are written with the first of them.
    if (!written || written->part > 0) continue;
    std::vector<at::Tensor> parts;
    for (const std::string& part : written->parts) {
      const auto found = own.find(part);
      if (found == own.end())
        throw Error("the layout " + layout.name + " puts '" + part + "' into '" + written->file +
                    "', and the network has none");
      parts.push_back(found->second);
    }
    file.emplace_back(written->file, to_file(*written->row, parts));
  }
  return file;
}

Value backbone_of(const Recipe& recipe, size_t stages) {
  Value spec = recipe.network;
  for (size_t i = 0; i < recipe.stages.size() && i < stages; ++i) {
    if (!recipe.stages[i].network.is_null()) spec = recipe.stages[i].network;
  }
  constexpr int most = 100;  // runs that begin with the network of another
  for (int i = 0; i < most && name_of(spec, "backbone") == "recorded"; ++i) {
    fs::path run = spec.at("graph").as_string();
    if (!fs::is_directory(run)) run = run.parent_path().parent_path();
    if (!fs::exists(run / "recipe.yaml")) break;
    const Recipe before = load_recipe(run / "recipe.yaml", {}, Registry::instance());
    spec = before.network;
    for (const StageSection& s : before.stages) {
      if (!s.network.is_null()) spec = s.network;
    }
  }
  return spec;
}

std::shared_ptr<const Layout> layout_for_export(const std::string& word, const Value& backbone, const Graph& graph,
                                                const Graph& built) {
  const std::string& name = name_of(backbone, "backbone");
  std::vector<std::shared_ptr<const Layout>> candidates;
  if (word.find('/') != std::string::npos || word.ends_with(".yaml") || word.ends_with(".yml")) {
    if (!fs::exists(word)) throw InputError("--layout", "there is no table " + word);
    candidates.push_back(read_layout(word));
  } else {
    const auto all = layouts_for(name);
    std::vector<std::string> names;
    for (const bool exact : {true, false}) {
      for (const auto& l : all) {
        if (l->is(word) && (l->name == word) == exact) candidates.push_back(l);
      }
    }
    for (const auto& l : all) {
      names.push_back(l->name);
      names.insert(names.end(), l->also.begin(), l->also.end());
    }
    if (candidates.empty()) {
      throw InputError("--layout", "there is no layout '" + word + "' for '" + name + "'" +
                                       (names.empty() ? ", nor any other" : suggestion(word, names)) +
                                       "; FILE.yaml names a table of your own");
    }
  }
  std::map<std::string, std::vector<int64_t>> sizes;
  for (const Parameter& p : built.parameters()) sizes[p.name] = built.sizes(p.shape);
  std::vector<std::string> others;
  for (const Parameter& p : graph.parameters()) {
    const std::vector<int64_t> now = graph.sizes(p.shape);
    const auto was = sizes.find(p.name);
    if (was == sizes.end()) {
      others.push_back(p.name + " is not in it");
    } else if (was->second != now) {
      others.push_back(p.name + " is " + to_string(now) + " and not " + to_string(was->second));
    }
    if (was != sizes.end()) sizes.erase(was);
  }
  for (const auto& [gone, size] : sizes) others.push_back(gone + " is gone");
  if (!others.empty()) {
    throw InputError("--layout", "the network was changed since '" + name + "' built it, so that " + word +
                                     " cannot load it: " + some_of(others) +
                                     "; `--to python`, `onnx` and `torchscript` write it as it is");
  }
  for (const auto& l : candidates) {
    if (without_a_name(*l, graph).empty()) return l;
  }
  throw InputError("--layout", "the layout " + candidates[0]->name + " has no name for " +
                                   some_of(without_a_name(*candidates[0], graph)) + " of this network");
}

std::vector<std::string> differences(const Layout& layout, const Value& backbone) {
  std::vector<std::string> lines;
  for (const auto& [option, value] : layout.options) {
    const Value* own = backbone.find(option);
    if (own && !(*own == value)) {
      lines.push_back(layout.name + " computes with " + option + ": " + to_json(value) + ", this network with " +
                      to_json(*own) + ": the outputs differ unless its program is told so");
    }
  }
  return lines;
}

}  // namespace espalier
