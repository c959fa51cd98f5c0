#include "output/run_folder.h"

#include "espalier/error.h"
#include "output/files.h"

namespace espalier {

namespace fs = std::filesystem;

fs::path RunFolder::make(const std::string& wanted, const std::string& name, int64_t seed) {
  fs::path path = wanted;
  std::error_code code;
  if (wanted.empty()) {
    const std::string stem = "runs/" + name + "-seed" + std::to_string(seed);
    path = stem;
    for (int n = 2; fs::exists(path); ++n) path = stem + "-" + std::to_string(n);
  } else if (fs::exists(path) && !fs::is_directory(path)) {
    throw InputError("--out " + wanted, "is a file; give a folder that is empty or does not exist");
  } else if (fs::exists(path) && !fs::is_empty(path, code)) {
    throw InputError(
        "--out " + wanted,
        "the folder is not empty; an earlier run would be overwritten. Give another folder or remove this one");
  }
  fs::create_directories(path / "checkpoints", code);
  if (code) throw Error(path.string() + ": cannot make the run's folder: " + code.message());
  for (const char* file : {"metrics.jsonl", "history.jsonl"}) write_file(path / file, "");
  return path;
}

void RunFolder::add_metrics(const Value& line) const {
  append_line(file("metrics.jsonl"), to_json(line));
}
void RunFolder::add_history(const Value& line) const {
  append_line(file("history.jsonl"), to_json(line));
}

}  // namespace espalier
