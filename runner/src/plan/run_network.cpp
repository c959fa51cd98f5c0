#include "plan/run_network.h"

#include <vector>

#include "espalier/error.h"
#include "espalier/log.h"
#include "record/checkpoint.h"
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

RunNetwork of_checkpoint(const fs::path& file) {
  const Checkpoint checkpoint = load_checkpoint(file);
  RunNetwork n{checkpoint.graph, {}, 0, file};
  for (const Parameter& p : n.graph.parameters())
    n.tensors.emplace_back(p.name, checkpoint.tensors.at("parameter:" + p.name));
  const Value& p = checkpoint.progress;
  n.stages = static_cast<size_t>(p.at("stage").as_int()) + (p.at("stage_begun").as_bool() ? 1 : 0);
  return n;
}

}  // namespace

RunNetwork read_run_network(const fs::path& run, const std::string& which) {
  const auto checkpoint = [&](const std::string& name) { return run / "checkpoints" / (name + ".safetensors"); };
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
