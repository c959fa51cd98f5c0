#include "record/run_folder.h"

#include <algorithm>
#include <exception>

#include <fcntl.h>
#include <sys/file.h>

#include "espalier/error.h"
#include "formats/tensorboard.h"
#include "record/environment.h"
#include "system/files.h"
#include "system/new_folder.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

constexpr const char* events = "events.out.tfevents.0.espalier";
constexpr const char* growing[] = {"metrics.jsonl", "history.jsonl", events};

// Nothing, or what a run that was killed in its first moments left.
bool holds_nothing(const fs::path& folder) {
  for (const fs::directory_entry& e : fs::directory_iterator(folder)) {
    const bool empty = e.is_directory() ? fs::is_empty(e.path()) : e.is_regular_file() && e.file_size() == 0;
    const bool ours = e.path().filename() == "checkpoints" || std::ranges::count(growing, e.path().filename().string());
    if (e.path().extension() != ".part" && !(empty && ours)) return false;
  }
  return true;
}

// Written at a run's end, or by `espalier export`.
constexpr const char* results[] = {"summary.json", "graph.json", "model.safetensors",
                                   "model.py",     "model.onnx", "model.pt"};

}  // namespace

RunFolder::RunFolder(fs::path path) : path_(std::move(path)) {
  if (!fs::is_directory(path_)) throw InputError(path_.string(), "there is no such folder");
  lock_ = std::make_unique<Descriptor>(path_, O_RDONLY | O_DIRECTORY);
  if (flock(lock_->number(), LOCK_EX | LOCK_NB) != 0)
    throw Error(path_.string() + ": another process is working on this run; wait for it or stop it first");
}

fs::path RunFolder::make(const std::string& wanted, const std::string& name, int64_t seed) {
  const bool begun = !wanted.empty() && fs::is_directory(wanted) && holds_nothing(wanted);
  const fs::path path = begun ? fs::path(wanted) : new_folder(wanted, "runs/" + name + "-seed" + std::to_string(seed));
  std::error_code code;
  fs::create_directories(path / "checkpoints", code);
  if (code) throw Error(path.string() + ": cannot make the run's folder: " + code.message());
  return path;
}

NewRunFolder::NewRunFolder(const std::string& wanted, const std::string& name, int64_t seed)
    : was_there_(!wanted.empty() && fs::exists(wanted)),
      exceptions_(std::uncaught_exceptions()),
      path_(RunFolder::make(wanted, name, seed)) {}

NewRunFolder::~NewRunFolder() {
  std::error_code code;
  if (was_there_ || std::uncaught_exceptions() == exceptions_ || !fs::is_empty(path_ / "checkpoints", code) || code)
    return;
  fs::remove_all(path_, code);
}

void RunFolder::add_metrics(const Value& line) const {
  append_bytes(file("metrics.jsonl"), to_json(line) + "\n");
  std::vector<std::pair<std::string, double>> scalars;
  for (const Value::Entry& e : line.as_map()) {
    if (e.value.is_number() && e.key != "epoch" && e.key != "step") scalars.emplace_back(e.key, e.value.as_double());
  }
  add_events(scalar_event(wall_time(), line.at("step").as_int(), scalars));
}

void RunFolder::add_events(const std::string& records) const {
  std::error_code none;
  const bool first = fs::file_size(file(events), none) == 0 || none;
  append_bytes(file(events), (first ? event_file_start(wall_time()) : "") + records);
}

void RunFolder::add_history(const Value& line) const {
  append_bytes(file("history.jsonl"), to_json(line) + "\n");
}

Value RunFolder::sizes() const {
  Value sizes = Value::map();
  for (const char* name : growing) {
    sync_file(file(name));
    sizes[name] = static_cast<int64_t>(fs::file_size(file(name)));
  }
  return sizes;
}

void RunFolder::check_lines(const std::string& name, size_t size) const {
  const fs::path path = file(name);
  if (!fs::exists(path)) return;
  const std::string content = read_file(path).substr(0, size);
  int64_t number = 1;
  for (size_t begin = 0; begin < content.size(); ++number) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string where = path.string() + ":" + std::to_string(number);
    constexpr const char* remedy =
        "; put the line right, or move the file away: the run then goes on without what it recorded so far";
    try {
      if (!from_json(std::string_view(content).substr(begin, end - begin), where).is_map())
        throw InputError(where, "is no JSON map");
    } catch (const InputError& e) {
      throw InputError("", e.what() + std::string(remedy));
    }
    begin = end + 1;
  }
}

std::vector<std::string> RunFolder::cut_to(const Value& sizes) const {
  if (!sizes.is_null()) {
    for (const char* name : {"metrics.jsonl", "history.jsonl"})
      check_lines(name, static_cast<size_t>(std::max<int64_t>(0, sizes.at(name).as_int())));
  }
  std::vector<std::string> shorter;
  for (const char* name : growing) {
    sync_file(file(name));  // makes it where it is missing
    if (!truncate_file(file(name), sizes.is_null() ? 0 : sizes.at(name).as_int())) shorter.emplace_back(name);
  }
  return shorter;
}

void RunFolder::put_results_away() const {
  int n = 1;
  while (fs::exists(path_ / ("finished-" + std::to_string(n)))) ++n;
  const fs::path away = path_ / ("finished-" + std::to_string(n));
  fs::create_directory(away);
  for (const char* name : results) {
    if (fs::exists(file(name))) fs::rename(file(name), away / name);
  }
}

}  // namespace espalier
