#include "commands/join.h"

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <c10/util/Exception.h>

#include "espalier/error.h"
#include "espalier/log.h"
#include "espalier/registry.h"
#include "system/interrupt.h"

namespace espalier {

namespace {

// Of the GPUs that the process may see, the one with its number on the machine; where it sees one alone, that one.
void see_one_gpu(int64_t local_rank) {
  const char* given = std::getenv("CUDA_VISIBLE_DEVICES");
  std::vector<std::string> visible;
  std::string name;
  for (const char* c = given ? given : ""; *c != 0; ++c) {
    if (*c == ',') visible.push_back(std::exchange(name, ""));
    if (*c != ',') name += *c;
  }
  if (!name.empty()) visible.push_back(name);
  if (given && visible.size() <= 1) return;
  const auto i = static_cast<size_t>(local_rank);
  const std::string own = !given ? std::to_string(local_rank) : i < visible.size() ? visible[i] : "";
  setenv("CUDA_VISIBLE_DEVICES", own.c_str(), /*overwrite=*/1);
}

void require_several(const std::string& kind, const Value& spec);

void require_nested(const std::vector<ParameterInfo>& parameters, const Value& options) {
  if (!options.is_map()) return;
  for (const ParameterInfo& p : parameters) {
    const Value* v = options.find(p.name);
    if (!v || v->is_null()) continue;
    if (p.type == ParameterType::component) require_several(p.component_kind, *v);
    if (p.type == ParameterType::components && v->is_list()) {
      for (const Value& e : v->as_list()) require_several(p.component_kind, e);
    }
    if (p.type == ParameterType::options) require_nested(p.options, *v);
  }
}

// Throws InputError where the component, or one in its options, works in one process only.
void require_several(const std::string& kind, const Value& spec) {
  if (spec.is_null()) return;
  const Registered* found = Registry::instance().find(kind, name_of(spec, kind));
  if (!found) return;
  if (!found->component.one_process.empty()) {
    throw InputError(spec.location.str(), found->str() + " works in one process only: " + found->component.one_process +
                                              ". Start the run without torchrun or srun, or use another " + kind);
  }
  require_nested(found->component.parameters, spec);
}

void require_several(const Recipe& recipe) {
  for (const Value& m : recipe.metrics) require_several("metric", m);
  for (const Value& a : recipe.data.augment) require_several("augmentation", a);
  for (const StageSection& s : recipe.stages) {
    for (const OptimizerSection& o : s.optimizers) require_several("optimizer", o.spec);
    for (const Value& r : s.regularizers) require_several("regularizer", r);
    for (const Value& c : s.controllers) require_several("controller", c);
    require_several("schedule", s.schedule);
    require_several("loss", s.loss);
    if (!s.data) continue;
    for (const Value& a : s.data->augment) require_several("augmentation", a);
  }
}

}  // namespace

Joined::Joined() : place_(ProcessPlace::from_environment()) {
  if (!several()) return;
  if (!leads()) log::only_errors("process " + std::to_string(place_.rank));
  see_one_gpu(place_.local_rank);
}

void Joined::meet(Recipe& recipe, TrainerOptions& options) {
  if (!several()) return;
  require_several(recipe);
  if (recipe.threads == 0) recipe.threads = place_.threads;
  processes_ = std::make_shared<const Processes>(place_, choose_device(recipe.device));
  options.processes = processes_;
  if (leads()) return;
  options.quiet = true;
  options.recorded = [](const std::filesystem::path&) {};
}

std::filesystem::path Joined::scratch() {
  const std::filesystem::path& path = scratch_.emplace().path();
  std::filesystem::create_directories(path / "checkpoints");
  return path;
}

void Joined::together(const std::function<void()>& body) const {
  try {
    body();
  } catch (const Interrupted&) {  // all of them, at the same place
    throw;
  } catch (const c10::Error& e) {
    if (processes_) processes_->give_up(e.what_without_backtrace());
    throw;
  } catch (const std::exception& e) {
    if (processes_) processes_->give_up(e.what());
    throw;
  }
}

}  // namespace espalier
