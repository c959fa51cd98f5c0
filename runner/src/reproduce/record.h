#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "reproduce/reproduction.h"
#include "system/files.h"

namespace espalier {

// What a reproduction leaves in its folder, OUT/NAME: runs.json, recipes/RUN.yaml, and the output of runs that have no
// folder of their own yet; and the commands of its runs. One process at a time has it, with the runs that it started.
class Record {
 public:
  // Makes the folder. Throws InputError where another process has it.
  Record(Reproduction& all, const ReproduceOptions& options);
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;
  ~Record();

  const std::filesystem::path& out() const { return out_; }
  const std::filesystem::path& folder() const { return folder_; }

  void save(const std::string& status) const;
  // The folders of the matrices, before their runs begin, and what came of these.
  void prepare_sweeps() const;
  void record_sweeps() const;

  // Whether the run is there, of this recipe, and can go on. If not, what is there makes way: as NAME.before-1.
  bool goes_on(const Job& job) const;
  // The arguments of the program that begin a run (its recipe is written) and that go on with it.
  std::vector<std::string> beginning(const Job& job) const;
  std::vector<std::string> continuation(const Job& job) const;
  // The program with arguments as a line of the shell.
  std::string shell_line(const std::vector<std::string>& arguments) const;

  // Where a run's output goes while its folder is not there yet, and then.
  std::filesystem::path early_output(const Job& job) const;
  std::filesystem::path output(const Job& job) const { return job.folder(out_) / "output.txt"; }

  // What came out, and what the papers say where the recipes tell.
  std::string table() const;
  // ", 3 failed", "" of none
  std::string rest(JobStatus status, const std::string& words) const;

 private:
  Value with_threads(const Job& job) const;
  void add_flags(std::vector<std::string>& arguments) const;

  Reproduction& all_;
  const ReproduceOptions& o_;
  std::filesystem::path out_, folder_;
  int64_t threads_ = 0;  // of each run whose recipe leaves them open; 0: all
  int lock_ = -1;
};

// Submits to Slurm what is not in its hands yet: an array of jobs for all that may begin at once, one for what waits
// for these, and so on. Says how far each is; returns the exit status.
int submit_reproduction(Reproduction& all, const ReproduceOptions& options);

}  // namespace espalier
