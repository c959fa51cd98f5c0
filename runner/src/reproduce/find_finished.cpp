#include <algorithm>
#include <map>

#include "espalier/build_config.h"
#include "espalier/dataset.h"
#include "espalier/datasets/find.h"
#include "espalier/error.h"
#include "recipe/yaml.h"
#include "record/data_record.h"
#include "record/progress.h"
#include "record/recorded.h"
#include "reproduce/reproduction.h"
#include "store/store.h"
#include "system/files.h"
#include "system/terminal.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

// How many threads compute is a matter of how many runs share the machine.
std::string without_threads(Value recipe) {
  recipe.erase("threads");
  return to_yaml(recipe);
}

// Whether the same recipe made the run, with a program of this version. False, too, where it cannot be read.
bool is_made_by(const fs::path& run, const Job& job, bool any_version) {
  try {
    const std::optional<Summary> summary = Summary::read(run);
    if (!summary || !summary->is_finished()) return false;
    if (!is_of_recipe(run, job)) return false;
    const Value environment = recorded(run / "environment.json");
    const auto is = [&](const char* key, const char* now) {
      const Value* v = environment.find(key);
      return v && v->is_string() && v->as_string() == now;
    };
    return any_version || (is("espalier", ESPALIER_VERSION) && is("torch", ESPALIER_TORCH_VERSION));
  } catch (const Error&) {
    return false;
  }
}

// What the data sets are now, each loaded once.
class PresentData {
 public:
  explicit PresentData(const std::vector<std::string>& folders) : paths_(default_data_paths(folders)) {}

  // Whether they are what a run had. Also true where they are not on this machine: the run is whole as it is.
  bool same_as_of(const fs::path& run) {
    const Value records = recorded(run / "data.json");
    if (!records.is_list()) return true;
    for (const Value& before : records.as_list()) {
      const Value* now = record_of(before.at("dataset"));
      if (now && !data_differences(before, *now).empty()) return false;
    }
    return true;
  }

 private:
  const Value* record_of(const Value& spec) {
    const std::string key = to_json(spec);
    const auto found = records_.find(key);
    if (found != records_.end()) return found->second.is_null() ? nullptr : &found->second;
    Value& record = records_[key];
    try {
      const auto dataset = Registry::instance().create<Dataset>(spec);
      const Split train = dataset->load("train", paths_), test = dataset->load("test", paths_);
      record = data_record(spec, dataset->info(), train, test);
    } catch (const Error&) {
      return nullptr;
    }
    return &record;
  }

  DataPaths paths_;
  std::map<std::string, Value> records_;
};

}  // namespace

bool has_checkpoints(const fs::path& run) {
  std::error_code none;
  return fs::is_directory(run / "checkpoints", none) && !fs::is_empty(run / "checkpoints", none);
}

bool is_of_recipe(const fs::path& run, const Job& job) {
  if (job.tree.is_null()) return false;
  try {
    return without_threads(read_yaml(run / "recipe.yaml")) == without_threads(job.tree);
  } catch (const Error&) {
    return false;
  }
}

void find_finished(Reproduction& all, const ReproduceOptions& options) {
  PresentData data(options.data);
  for (Job& job : all.jobs) {
    if (job.status != JobStatus::waiting) continue;
    const bool anew = std::ranges::any_of(job.after, [&](size_t i) { return all.jobs[i].status != JobStatus::there; });
    const fs::path run = job.folder(options.out);
    if (anew || !is_made_by(run, job, options.any_version) || !data.same_as_of(run)) continue;
    job.status = JobStatus::there;
    job.summary = Summary::read(run);
  }
}

void estimate(Reproduction& all) {
  std::map<std::string, double> measured;  // by the name that the recipe gives, newest first
  try {
    const std::optional<fs::path> file = Store::default_file();
    if (file && fs::exists(*file)) {
      Store store(*file);
      for (const StoredRun& r : store.runs()) {
        if (r.status == "finished" && r.seconds > 0) measured.emplace(r.name, r.seconds);
      }
    }
  } catch (const Error&) {  // times are all that it would say
  }
  // A multiply-accumulate of a training step, with all that goes with it, where nothing is known better.
  constexpr double default_seconds_per_mac = 1.0 / 2e10;
  constexpr double least = 5;  // loading, saving and evaluating
  for (Job& job : all.jobs) {
    const auto found = measured.find(job.recipe);
    job.was_measured = found != measured.end();
    if (job.was_measured) {
      job.estimate = found->second;
    } else if (job.macs) {
      job.estimate = least + *job.macs * default_seconds_per_mac;
    }
  }
}

double expected_seconds(const Reproduction& all, int jobs) {
  double known = 0, sum = 0, left = 0, unknown = 0;
  for (const Job& job : all.jobs) {
    if (job.estimate) known += 1, sum += *job.estimate;
    if (job.status != JobStatus::waiting && job.status != JobStatus::interrupted) continue;
    if (job.estimate) {
      left += *job.estimate;
    } else {
      unknown += 1;
    }
  }
  return (left + (known > 0 ? unknown * sum / known : 0)) / std::max(1, jobs);
}

std::string jobs_table(const Reproduction& all, const fs::path& out) {
  std::vector<std::vector<std::string>> rows{{"", "run", "status", "about", "waits for"}};
  for (size_t i = 0; i < all.jobs.size(); ++i) {
    const Job& job = all.jobs[i];
    std::string status = to_string(job.status);
    if (job.status == JobStatus::waiting) status = has_checkpoints(job.folder(out)) ? "to go on" : "to be made";
    std::string after;
    for (const size_t j : job.after) after += (after.empty() ? "" : ", ") + std::to_string(j + 1);
    const std::string time = !job.estimate      ? "?"
                             : job.was_measured ? Progress::duration(*job.estimate)
                                                : "(" + Progress::duration(*job.estimate) + ")";
    rows.push_back({std::to_string(i + 1), job.name, status, job.status == JobStatus::waiting ? time : "",
                    job.error.empty() ? after : job.error});
  }
  return table(rows, terminal_width());
}

}  // namespace espalier
