#include "plan/warm_start.h"

#include <algorithm>
#include <map>
#include <set>

#include <c10/core/GradMode.h>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "formats/tensor_files.h"
#include "plan/run_network.h"
#include "recipe/choose_layout.h"
#include "recipe/rename.h"
#include "system/text.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

// What matches, and what is to be said of the rest.
struct Matched {
  std::vector<std::pair<ParamId, at::Tensor>> tensors;
  std::vector<std::string> rest;
  std::set<std::string> misfits;  // parameters of another shape, and those that the file lacks
};

std::vector<int64_t> without_ones(std::vector<int64_t> sizes) {
  std::erase(sizes, 1);
  return sizes;
}

// The parameters of the layers whose units are the logits.
std::set<std::string> classifier_of(const Graph& graph) {
  std::set<int32_t> axes;
  const auto add_axes = [&](const Dim& dim, const auto& body) {
    for (const Segment& s : dim.segments) {
      for (const Factor& f : s.factors) {
        if (f.axis.id >= 0) body(f.axis.id);
      }
    }
  };
  const Port* logits = graph.find_output("logits");
  if (logits) add_axes(graph[logits->edge].shape.back(), [&](int32_t id) { axes.insert(id); });
  std::set<std::string> names;
  for (const Parameter& p : graph.parameters()) {
    if (p.shape.empty()) continue;
    add_axes(p.shape[0], [&](int32_t id) {
      if (axes.contains(id)) names.insert(p.name);
    });
  }
  return names;
}

// of: what the file calls a tensor, where that is not the network's name. left: parameters that begin anew, whatever
// the file holds.
Matched match(const Graph& graph, const std::map<std::string, at::Tensor>& tensors,
              const std::map<std::string, std::string>& of = {}, const std::set<std::string>& left = {}) {
  Matched m;
  std::map<std::string, ParamId> own;
  const auto called = [&](const std::string& name) {
    const auto found = of.find(name);
    return found == of.end() || found->second == name ? "" : " (" + found->second + ")";
  };
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    const std::string& name = graph[id].name;
    const std::vector<int64_t> sizes = graph.sizes(graph[id].shape);
    own.emplace(name, id);
    if (left.contains(name)) continue;
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      m.rest.push_back("not in the file: " + name + " " + to_string(sizes));
      m.misfits.insert(name);
    } else if (without_ones(found->second.sizes().vec()) != without_ones(sizes)) {
      m.rest.push_back("another shape: " + name + called(name) + " is " + to_string(found->second.sizes().vec()) +
                       " in the file, " + to_string(sizes) + " in the network");
      m.misfits.insert(name);
    } else if (!found->second.is_floating_point()) {
      m.rest.push_back("no floating-point numbers: " + name + called(name));
    } else {
      m.tensors.emplace_back(id, found->second.reshape(sizes));
    }
  }
  std::set<std::string> constants;
  for (const Node& n : graph.nodes()) {
    for (const auto& [suffix, tensor] : n.op->constants(graph, n)) constants.insert(n.name + "." + suffix);
  }
  for (const auto& [name, tensor] : tensors) {
    if (!own.contains(name) && !constants.contains(name))
      m.rest.push_back("not in the network: " + name + called(name) + " " + to_string(tensor.sizes().vec()));
  }
  return m;
}

std::string lines(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& line : all) text += "\n  " + line;
  return text;
}

void fill(Weights& weights, const Matched& matched) {
  const c10::NoGradGuard no_grad;
  for (const auto& [id, tensor] : matched.tensors) weights[id].detach().copy_(tensor);
}

// " (did you mean 'vgg16.pt'?)", of the files beside it.
std::string nearest_file(const fs::path& file) {
  constexpr int most = 10'000;
  std::vector<std::string> names;
  std::error_code error;
  int listed = 0;
  for (fs::directory_iterator i(file.parent_path(), error), end; !error && i != end && ++listed < most;
       i.increment(error))
    names.push_back(i->path().filename().string());
  return suggestion(file.filename().string(), names);
}

LoadedTensors read_tensors(const WarmStart& start) {
  const fs::path& path = start.from;
  if (!fs::exists(path)) throw InputError(path.string(), "there is no such file" + nearest_file(path));
  if (start.which == "best") {
    if (!fs::is_directory(path)) throw Error("this is a file; `which: best` is for the folder of a run");
    return {.tensors = read_run_network(path, start.which).tensors, .notes = {}, .left = {}};
  }
  if (fs::is_directory(path) && tensor_file_in(path).empty()) {
    throw InputError(path.string(), std::string("a folder without a model.safetensors: not of a finished run") +
                                        (fs::exists(path / "checkpoints")
                                             ? "; `espalier export RUN --to safetensors` writes what its last "
                                               "checkpoint holds"
                                             : ""));
  }
  return load_tensors(path, start.key);
}

// The tensors by the network's names, read by the table where there is one. `of` gets the file's name of each, and
// `mapping` says what each row was used for.
std::map<std::string, at::Tensor> translated(const WarmStart& start, const NamedTensors& tensors,
                                             std::map<std::string, std::string>& of,
                                             std::vector<std::string>& mapping) {
  std::map<std::string, at::Tensor> result;
  if (!start.layout) return {tensors.begin(), tensors.end()};
  std::map<const LayoutRow*, int64_t> used;
  for (const auto& [name, tensor] : tensors) {
    const auto mapped = start.layout->of_file(name);
    if (!mapped) {
      result.emplace(name, tensor);
      continue;
    }
    ++used[mapped->row];
    if (mapped->row->computed) continue;
    const std::vector<at::Tensor> parts = from_file(*mapped->row, tensor);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (const auto [other, is_new] = of.emplace(mapped->own[i], name); !is_new)
        throw Error("both '" + other->second + "' and '" + name + "' are '" + mapped->own[i] + "' by the layout " +
                    start.layout->name);
      result.emplace(mapped->own[i], parts[i]);
    }
  }
  for (const LayoutRow& row : start.layout->rows) {
    if (used.contains(&row)) mapping.push_back(row.str() + (used[&row] > 1 ? ": " + std::to_string(used[&row]) : ""));
  }
  return result;
}

// What helps where names or shapes differ. nothing: no weight matches, so that `partial` would be refused.
std::string remedy(const WarmStart& start, bool nothing, bool classifier_alone) {
  if (classifier_alone) return "; `classifier: new` leaves the classifier out and begins it anew";
  const bool is_run = fs::exists(start.from / "recipe.yaml") || fs::exists(start.from / "graph.json");
  return (is_run ? "; `network: {from: " + start.from.string() + (start.which == "best" ? ", which: best" : "") +
                       "}`, without `use`, takes the run's structure too"
                 : std::string("; `rename` maps names, `ignore` passes names over")) +
         (start.partial || nothing ? "" : ", `partial: true` leaves out what does not match");
}

// "a, b, c and 7 more"
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t shown = 3;
  std::string text;
  for (size_t i = 0; i < names.size() && i < shown; ++i) text += (i ? ", " : "") + names[i];
  return text + (names.size() > shown ? " and " + std::to_string(names.size() - shown) + " more" : "");
}

bool is_weight(const Parameter& p) {
  return p.role == Role::weight && p.shape.size() > 1;
}

}  // namespace

void set_values(const Graph& graph, Weights& weights, const NamedTensors& tensors, const fs::path& file) {
  const Matched matched = match(graph, {tensors.begin(), tensors.end()});
  if (!matched.rest.empty())
    throw InputError(file.string(), "these are not the values of this network:" + lines(matched.rest));
  fill(weights, matched);
}

std::string Loaded::str() const {
  const auto with_unit = [](int64_t n, const std::string& unit) {
    return count_text(n) + " " + unit + (n == 1 ? "" : "s");
  };
  if (tensors == of_tensors) return "all " + with_unit(tensors, "tensor") + " (" + with_unit(numbers, "number") + ")";
  return count_text(tensors) + " of " + with_unit(of_tensors, "tensor") + " (" + count_text(numbers) + " of " +
         with_unit(of_numbers, "number") + ")";
}

Loaded warm_start(const WarmStart& start, const Graph& graph, Weights* weights) {
  Matched matched;
  Loaded loaded;
  const std::set<std::string> classifier = classifier_of(graph);
  if (start.layout) loaded.layout = start.layout->name;
  try {
    const LoadedTensors file = read_tensors(start);
    loaded.rest = file.notes;
    std::map<std::string, std::string> of;
    const auto tensors = translated(start, renamed(start, file.tensors, loaded.rest), of, loaded.mapping);
    loaded.rest.insert(loaded.rest.end(), start.notes.begin(), start.notes.end());
    const std::set<std::string> left = start.new_classifier ? classifier : std::set<std::string>();
    matched = match(graph, tensors, of, left);
    for (const std::string& name : left) {
      const auto found = tensors.find(name);
      loaded.left_out.push_back(
          name + " " + to_string(graph.sizes(graph[graph.parameter(name)].shape)) +
          (found == tensors.end() ? "" : " (" + to_string(found->second.sizes().vec()) + " in the file)"));
    }
    for (const std::string& name : file.left) matched.rest.push_back("of a type that cannot be read: " + name);
  } catch (const InputError& e) {
    throw InputError(start.location.str(), e.what());
  } catch (const std::exception& e) {
    throw InputError(start.location.str(), start.from.string() + ": " + e.what());
  }
  bool some_weight = false;
  for (const auto& [id, tensor] : matched.tensors) {
    ++loaded.tensors;
    loaded.numbers += tensor.numel();
    some_weight = some_weight || is_weight(graph[id]);
  }
  bool has_weights = false;
  for (const Parameter& p : graph.parameters()) {
    ++loaded.of_tensors;
    loaded.of_numbers += graph.numel(p.shape);
    has_weights = has_weights || is_weight(p);
  }
  const bool nothing = matched.tensors.empty() || (has_weights && !some_weight);
  loaded.rest.insert(loaded.rest.end(), matched.rest.begin(), matched.rest.end());
  if (!matched.rest.empty() && (!start.partial || nothing)) {
    const bool classifier_alone =
        matched.rest.size() == matched.misfits.size() &&
        std::ranges::all_of(matched.misfits, [&](const std::string& name) { return classifier.contains(name); });
    throw InputError(start.location.str(),
                     start.from.string() + ": " +
                         (matched.tensors.empty() ? "nothing in it is of this network"
                          : nothing               ? "no weight of a layer in it is of this network"
                                                  : "not all of it is of this network") +
                         " (" + loaded.str() + " match)" + remedy(start, nothing, classifier_alone) +
                         (start.tried.empty() ? "" : ". " + start.tried) + ":" + lines(loaded.rest));
  }
  if (weights) fill(*weights, matched);
  return loaded;
}

std::string unseen_in_file(const WarmStart& start, const Graph& graph, const std::string& backbone) {
  // A table says it.
  if (start.from.empty() || start.layout || !is_foreign(start.from)) return "";
  std::set<std::string> eps, paddings, activations;
  std::vector<std::string> strides, dilations;
  const std::set<std::string> functions{"relu", "relu6", "gelu", "silu", "sigmoid", "tanh"};
  for (const Node& n : graph.nodes()) {
    const std::string type = n.op->type();
    const Value o = n.op->options();
    if (functions.contains(type)) activations.insert(type);
    if (type == "batch_norm" || type == "layer_norm") eps.insert(to_json(o.at("eps")));
    if (type == "zero_pad")
      paddings.insert(to_json(o.at("before")) + " before and " + to_json(o.at("after")) + " behind");
    if (type != "conv2d") continue;
    const std::string kernel = to_json(o.at("kernel"));
    if (o.at("kernel").as_int() > 1) paddings.insert(to_json(o.at("padding")) + " for " + kernel + "x" + kernel);
    if (o.at("stride").as_int() > 1) strides.push_back(n.name);
    if (o.at("dilation").as_int() > 1) dilations.push_back(n.name);
  }
  std::string text;
  const auto add = [&](const std::string& what, const auto& values, const std::string& otherwise) {
    const std::vector<std::string> all(values.begin(), values.end());
    if (all.empty() && otherwise.empty()) return;
    text += (text.empty() ? "" : "; ") + (all.empty() ? otherwise : what + some_of(all));
  };
  add("norms with an epsilon of ", eps, "");
  add("padding ", paddings, "");
  add("strides in ", strides, "");
  add("dilated ", dilations, paddings.empty() ? "" : "no dilation");
  add("activation ", activations, "");
  if (text.empty()) return "";
  return start.from.string() + " does not say how its values are computed with. This network has " + text +
         ". If the one that they are of has others, the options that `espalier describe " + backbone +
         "` shows may say so";
}

}  // namespace espalier
