#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "espalier/value.h"
#include "record/summary.h"
#include "store/sqlite.h"

namespace espalier {

// A run as the store knows it.
struct StoredRun {
  std::string id;                // 12 hexadecimal digits that environment.json of its folder names; a copy has the same
  std::filesystem::path folder;  // where it was last seen, absolute
  std::string name;              // of its recipe
  std::string source;            // the file of its recipe; empty: not known
  std::string scale;             // of its recipe's scales; empty: none
  int64_t seed = 0;
  std::string status;  // running, finished, interrupted, failed; see Store::status_now()
  std::string error;   // why it did not finish
  double began = 0;    // seconds since 1970
  double seconds = 0;  // of training, as far as is known
  std::string metric;  // the leading metric's name; empty, and null what follows, where the run has not finished
  Value test, best, loss, params, macs, train_cost;

  // Of the JSON that the store has, which is read when it is asked for: environment.json, the resolved recipe, and the
  // summary where there is one.
  const Value& environment() const;
  const Value& recipe() const;
  const std::optional<Summary>& summary() const;

  // What filters, columns and tables ask for: `id`, `folder`, `name`, `recipe` (its file), `scale`, `seed`, `status`,
  // `error`, `began`, `hours`, `device`, `cpu`, `version`; the numbers of Summary::metric(); `metric` (the leading
  // one), `base_params`, `base_macs`; `STAGE.NAME` of what a stage measured; else a path in the recipe, as --set takes
  // it. Null where it has no such thing.
  Value value(const std::string& key) const;

  struct Texts {
    std::string environment, recipe, summary;
  } texts;

 private:
  struct Read {
    std::optional<Value> environment, recipe;
    std::optional<std::optional<Summary>> summary;
  };
  mutable Read read_;
};

// The names that StoredRun::value() knows of every run.
std::vector<std::string> stored_keys();

// The index of runs: one SQLite file that any number of processes reads and writes at a time. Throws InputError naming
// the file; DamagedDatabase says how it is made anew.
class Store {
 public:
  // $ESPALIER_STORE, or espalier/runs.sqlite in $XDG_DATA_HOME (default: ~/.local/share). None where ESPALIER_STORE is
  // `none`: nothing is to be indexed.
  static std::optional<std::filesystem::path> default_file();

  // Makes the file and its folder unless they are there.
  explicit Store(const std::filesystem::path& file);

  // Takes in what the folder of a run holds now. Lines that were taken in before are not read again, unless they have
  // become fewer, or with `anew`. A run that was moved stays one run. Throws InputError where the folder is no run's.
  void update(const std::filesystem::path& run, bool anew = false);

  // All of them, those that began last first.
  std::vector<StoredRun> runs();
  // The lines of metrics.jsonl and of history.jsonl, in order.
  Value epochs(const StoredRun& run);
  Value edits(const StoredRun& run);
  void forget(const StoredRun& run);

 private:
  Value lines(const StoredRun& run, const std::string& table);
  Database database_;
};

// `running` only where a process is at work in the run's folder; `stopped` where it was killed; `gone` where the folder
// is no longer there. Else as it is stored.
std::string status_now(const StoredRun& run);

// Whether a folder is a run's, begun at least.
bool is_run_folder(const std::filesystem::path& folder);
// This folder, or those in it however deep, that are runs'. Throws InputError where there is no such folder.
std::set<std::filesystem::path> run_folders_in(const std::filesystem::path& top);

// Makes the store anew of the runs in these folders, however deep, and of those that it knew and that are still there.
// A damaged file is kept beside the new one, with `.damaged` behind its name. Other processes may write meanwhile.
// Returns how many runs there are; calls `skipped` with each folder that looks like a run's and cannot be read, and the
// reason.
int64_t rebuild_store(const std::filesystem::path& file, const std::vector<std::filesystem::path>& folders,
                      const std::function<void(const std::string&)>& skipped);

// Keeps a run in the store while it trains: its beginning and its end, and in between as often as it takes no more than
// a twentieth of the time. A store that fails is said once and keeps no run from training.
class StoreWriter {
 public:
  void operator()(const std::filesystem::path& run);

 private:
  bool off_ = false;
  double at_ = 0, seconds_ = 0;  // when it was last written, and how long that took
};

}  // namespace espalier
