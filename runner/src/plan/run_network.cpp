#include "plan/run_network.h"

#include <vector>

#include "espalier/error.h"
#include "espalier/log.h"
#include "record/checkpoint.h"
#include "record/summary.h"
#include "system/files.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

Graph read_graph(const fs::path& file) {
  const Value value = from_json(read_file(file), file.string());
  try {
    return Graph::from_value(value);
  } catch (const Error& e) {
    throw InputError(file.string(), std::string("holds no network: ") + e.what());
  }
}

// prefix: of the names of another Weights than the network's own.
RunNetwork of_checkpoint(const fs::path& file, const std::string& prefix = "") {
  const Checkpoint checkpoint = load_checkpoint(file);
  RunNetwork n{checkpoint.graph, {}, 0, file};
  // Where an average takes the network's place, it is what was evaluated.
  const std::string of = prefix.empty() && checkpoint.progress.find("averaged") ? "ema/" : prefix;
  for (const Parameter& p : n.graph.parameters())
    n.tensors.emplace_back(p.name, checkpoint.tensors.at(of + "parameter:" + p.name));
  const Value& p = checkpoint.progress;
  n.stages = static_cast<size_t>(p.at("stage").as_int()) + (p.at("stage_begun").as_bool() ? 1 : 0);
  return n;
}

// The average of the last stage that kept one beside the network, or that of the stage under way.
RunNetwork of_average(const fs::path& run) {
  fs::path folder;
  std::error_code none;
  for (const fs::directory_entry& e : fs::directory_iterator(run / "networks", none)) {
    const bool newer = folder.empty() || fs::last_write_time(e.path()) > fs::last_write_time(folder);
    if (e.path().extension() == ".ema" && newer) folder = e.path();
  }
  if (const fs::path last = run / "checkpoints" / "last.safetensors"; folder.empty() && fs::exists(last)) {
    const Checkpoint checkpoint = load_checkpoint(last);
    if (checkpoint.counters.find("ema")) return of_checkpoint(last, "ema/");
  }
  if (folder.empty()) {
    throw InputError(run.string(),
                     "it keeps no average: a stage with `ema: {evaluate: beside}` does. Where the average "
                     "takes the network's place, it is what `last` and `best` are");
  }
  const fs::path values = folder / "model.safetensors";
  return {read_graph(folder / "graph.json"), load_safetensors(values).tensors, SIZE_MAX, values};
}

}  // namespace

RunNetwork read_teacher(const fs::path& folder) {
  if (!fs::exists(folder)) throw InputError(folder.string(), "there is no such folder, whose network is to teach");
  if (!fs::is_directory(folder))
    throw InputError(folder.string(), "it is a file; a teacher is the folder of a finished run");
  if (const std::optional<Summary> summary = Summary::read(folder); summary && !summary->is_finished())
    throw InputError(folder.string(), "the run that is to teach is not finished, but " + summary->status);
  return read_run_network(folder, "last");
}

RunNetwork read_run_network(const fs::path& run, const std::string& which) {
  const auto checkpoint = [&](const std::string& name) { return run / "checkpoints" / (name + ".safetensors"); };
  if (which == "ema") return of_average(run);
  if (which != "last") {
    const fs::path file = checkpoint(which);
    if (!fs::exists(file)) throw InputError(run.string(), "it has no checkpoint '" + which + "': " + file.string());
    return of_checkpoint(file);
  }
  if (const fs::path values = run / "model.safetensors"; fs::exists(run / "graph.json") && fs::exists(values))
    return {read_graph(run / "graph.json"), load_safetensors(values).tensors, SIZE_MAX, values};
  for (const char* name : {"last", "previous"}) {
    const fs::path file = checkpoint(name);
    if (!fs::exists(file)) continue;
    try {
      return of_checkpoint(file);
    } catch (const InputError& e) {
      log::warning(e.what());
    }
  }
  throw InputError(run.string(),
                   "it holds no network yet, neither model.safetensors nor a good checkpoint; "
                   "`espalier resume " +
                       run.string() + "` goes on with the run");
}

}  // namespace espalier
