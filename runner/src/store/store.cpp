#include "store/store.h"

#include <chrono>
#include <cstdlib>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>

#include "espalier/datasets/checksum.h"
#include "espalier/error.h"
#include "espalier/log.h"
#include "recipe/overrides.h"
#include "recipe/yaml.h"
#include "record/environment.h"
#include "record/recorded.h"
#include "system/files.h"
#include "system/program_paths.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

constexpr int64_t schema = 1;
// What the numbers of a run are called in the table: they can be asked for by the sqlite3 program, too.
constexpr const char* tables = R"(
CREATE TABLE runs(
  run INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  folder TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL, source TEXT NOT NULL, scale TEXT NOT NULL, seed INTEGER NOT NULL,
  status TEXT NOT NULL, error TEXT NOT NULL,
  began REAL NOT NULL, seconds REAL NOT NULL,
  environment TEXT NOT NULL, recipe TEXT NOT NULL, summary TEXT,
  metric TEXT, value REAL, best REAL, loss REAL, params INTEGER, macs INTEGER, train_cost REAL,
  metrics_read INTEGER NOT NULL DEFAULT 0, history_read INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX runs_by_id ON runs(id);
CREATE INDEX runs_by_name ON runs(name);
CREATE TABLE epochs(run INTEGER NOT NULL, line TEXT NOT NULL);
CREATE INDEX epochs_by_run ON epochs(run);
CREATE TABLE edits(run INTEGER NOT NULL, line TEXT NOT NULL);
CREATE INDEX edits_by_run ON edits(run);
)";

std::string text_of(const Value& map, const char* key) {
  const Value* v = map.find(key);
  return v && v->is_string() ? v->as_string() : "";
}

// Whole lines behind the first `from` bytes; the last may still be in writing. `from` becomes where they end.
std::vector<std::string> further_lines(const fs::path& file, int64_t& from) {
  std::vector<std::string> lines;
  if (!fs::exists(file)) return lines;
  const std::string all = read_file(file);
  size_t at = static_cast<size_t>(from);
  for (size_t end = 0; (end = all.find('\n', at)) != std::string::npos; at = end + 1)
    lines.push_back(all.substr(at, end - at));
  from = static_cast<int64_t>(at);
  return lines;
}

int64_t size_of(const fs::path& file) {
  std::error_code none;
  const auto size = fs::file_size(file, none);
  return none ? 0 : static_cast<int64_t>(size);
}

// What tells a run from all others: what its environment.json says, or, of a run of before there were such names, where
// it lies.
std::string id_of(const Value& environment, const fs::path& folder) {
  std::string id = text_of(environment, "id");
  if (!id.empty()) return id;
  constexpr size_t digits = 12;
  Checksum sum("sha256");
  const std::string path = folder.string();
  sum.add(path.data(), path.size());
  return sum.hex().substr(0, digits);
}

// Seconds since 1970 at which a run began: environment.json is written then.
double began_at(const Value& environment, const fs::path& folder) {
  if (const Value* began = environment.find("began")) return began->as_double();
  std::error_code none;
  const auto written = fs::last_write_time(folder / "recipe.yaml", none);
  if (none) return 0;
  return wall_time() - std::chrono::duration<double>(fs::file_time_type::clock::now() - written).count();
}

std::string advice(const fs::path& file) {
  return file.string() +
         " is damaged. `espalier runs rebuild FOLDER...` makes it anew of the folders of the runs, in which nothing is "
         "lost; the damaged file is kept beside it";
}

}  // namespace

std::optional<fs::path> Store::default_file() {
  const char* given = std::getenv("ESPALIER_STORE");
  if (given && *given) {
    if (std::string_view(given) == "none") return std::nullopt;
    return fs::path(given);
  }
  const std::optional<fs::path> folder = user_data_folder();
  return folder ? std::optional(*folder / "runs.sqlite") : std::nullopt;
}

namespace {

const fs::path& with_folder(const fs::path& file) {
  if (fs::is_directory(file)) throw InputError(file.string(), "is a folder; the store of runs is a file");
  if (file.has_parent_path()) fs::create_directories(file.parent_path());
  return file;
}

}  // namespace

Store::Store(const fs::path& file) : database_(with_folder(file), /*create=*/true) {
  try {
    // Readers do not wait for writers then. What a crash of the machine may cost is read from the folders again.
    database_.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL");
    const auto version = [&] {
      Statement found(database_, "PRAGMA user_version");
      found.next();
      return found.integer(0);
    };
    if (version() == 0) {
      Transaction transaction(database_);
      if (version() == 0) {  // no other process was quicker
        database_.execute(tables);
        database_.execute("PRAGMA user_version=" + std::to_string(schema));
      }
      transaction.commit();
    }
    if (version() != schema) {
      throw InputError(file.string(), "is a store of version " + std::to_string(version()) +
                                          ", and this program knows version " + std::to_string(schema) +
                                          ": use a newer program, or another file by ESPALIER_STORE");
    }
  } catch (const DamagedDatabase&) {
    throw DamagedDatabase("", advice(file));
  }
}

void Store::update(const fs::path& run, bool anew) {
  require_run(run);
  fs::path folder = fs::absolute(run).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // RUN/
  const Value environment = recorded(folder / "environment.json");
  const Value recipe = read_yaml(folder / "recipe.yaml");
  const std::optional<Summary> summary = Summary::read(folder);
  const std::string id = id_of(environment, folder);
  const std::optional<RunResult> result = summary ? summary->result : std::nullopt;
  double seconds = result ? result->seconds : 0;
  if (summary && !result) {
    for (const StageSummary& s : summary->stages) seconds += s.seconds;
  }

  Transaction transaction(database_);
  // One that was moved here.
  std::vector<int64_t> elsewhere;
  {
    Statement same(database_, "SELECT run, folder FROM runs WHERE id=?1 AND folder<>?2");
    same.with(id, folder.string());
    while (same.next()) {
      if (id_of(recorded(fs::path(same.text(1)) / "environment.json"), same.text(1)) != id ||
          !is_run_folder(same.text(1)))
        elsewhere.push_back(same.integer(0));
    }
  }
  for (const int64_t row : elsewhere) {
    for (const char* table : {"epochs", "edits", "runs"})
      Statement(database_, std::string("DELETE FROM ") + table + " WHERE run=?1").with(row).run();
  }

  int64_t row = -1;
  int64_t metrics_read = 0, history_read = 0;
  {
    Statement found(database_, "SELECT run, metrics_read, history_read, id FROM runs WHERE folder=?1");
    if (found.with(folder.string()).next()) {
      row = found.integer(0);
      const bool same = !anew && found.text(3) == id;  // or another run took its place
      metrics_read = same ? found.integer(1) : -1;
      history_read = same ? found.integer(2) : -1;
    }
  }
  if (row < 0) {
    Statement(database_,
              "INSERT INTO runs(id, folder, name, source, scale, seed, status, error, began, seconds, environment, "
              "recipe) VALUES(?1, ?2, '', '', '', 0, '', '', 0, 0, '', '')")
        .with(id, folder.string())
        .run();
    row = database_.last_row();
  }
  const auto take = [&](const char* file_name, const char* table, int64_t& read) {
    const fs::path file = folder / file_name;
    if (read < 0 || size_of(file) < read) {
      Statement(database_, std::string("DELETE FROM ") + table + " WHERE run=?1").with(row).run();
      read = 0;
    }
    Statement add(database_, std::string("INSERT INTO ") + table + "(run, line) VALUES(?1, ?2)");
    for (const std::string& line : further_lines(file, read)) add.with(row, line).run();
  };
  take("metrics.jsonl", "epochs", metrics_read);
  take("history.jsonl", "edits", history_read);

  const auto number = [&](const char* name) -> Value {
    const std::optional<double> v = summary ? summary->metric(name) : std::nullopt;
    return v ? Value(*v) : Value();
  };
  Statement(database_,
            "UPDATE runs SET id=?2, name=?3, source=?4, scale=?5, seed=?6, status=?7, error=?8, began=?9, seconds=?10, "
            "environment=?11, recipe=?12, summary=?13, metric=?14, value=?15, best=?16, loss=?17, params=?18, "
            "macs=?19, train_cost=?20, metrics_read=?21, history_read=?22 WHERE run=?1")
      .with(row, id, text_of(recipe, "name"), text_of(environment, "recipe"), text_of(environment, "scale"),
            recipe.at("seed").as_int(), summary ? summary->status : std::string("running"),
            summary ? summary->error : std::string(), began_at(environment, folder), seconds, to_json(environment),
            to_json(recipe), summary ? Value(to_json(summary->to_value())) : Value(),
            result ? Value(result->leading.name) : Value(), result ? Value(result->metrics.front().second) : Value(),
            result ? Value(result->best) : Value(), number("loss"), result ? Value(result->final.params) : Value(),
            result ? Value(result->final.macs) : Value(), number("train_cost"), metrics_read, history_read)
      .run();
  transaction.commit();
}

std::vector<StoredRun> Store::runs() {
  std::vector<StoredRun> all;
  Statement rows(database_,
                 "SELECT id, folder, name, source, scale, seed, status, error, began, seconds, environment, recipe, "
                 "summary, metric, value, best, loss, params, macs, train_cost FROM runs ORDER BY began DESC, folder");
  const auto number = [&](int column) { return rows.is_null(column) ? Value() : Value(rows.number(column)); };
  const auto count = [&](int column) { return rows.is_null(column) ? Value() : Value(rows.integer(column)); };
  while (rows.next()) {
    StoredRun& r = all.emplace_back();
    r.id = rows.text(0);
    r.folder = rows.text(1);
    r.name = rows.text(2);
    r.source = rows.text(3);
    r.scale = rows.text(4);
    r.seed = rows.integer(5);
    r.status = rows.text(6);
    r.error = rows.text(7);
    r.began = rows.number(8);
    r.seconds = rows.number(9);
    r.texts = {.environment = rows.text(10), .recipe = rows.text(11), .summary = rows.text(12)};
    r.metric = rows.text(13);
    r.test = number(14);
    r.best = number(15);
    r.loss = number(16);
    r.params = count(17);
    r.macs = count(18);
    r.train_cost = number(19);
  }
  return all;
}

Value Store::lines(const StoredRun& run, const std::string& table) {
  Value list = Value::list();
  Statement rows(database_,
                 "SELECT line FROM " + table + " JOIN runs USING(run) WHERE folder=?1 ORDER BY " + table + ".rowid");
  rows.with(run.folder.string());
  while (rows.next()) list.push_back(from_json(rows.text(0)));
  return list;
}

Value Store::epochs(const StoredRun& run) {
  return lines(run, "epochs");
}
Value Store::edits(const StoredRun& run) {
  return lines(run, "edits");
}

void Store::forget(const StoredRun& run) {
  Transaction transaction(database_);
  for (const char* table : {"epochs", "edits", "runs"}) {
    Statement(database_, std::string("DELETE FROM ") + table + " WHERE run=(SELECT run FROM runs WHERE folder=?1)")
        .with(run.folder.string())
        .run();
  }
  transaction.commit();
}

bool is_run_folder(const fs::path& folder) {
  return fs::exists(folder / "recipe.yaml") && fs::exists(folder / "environment.json");
}

std::set<fs::path> run_folders_in(const fs::path& top) {
  if (!fs::is_directory(top)) throw InputError(top.string(), "there is no such folder");
  fs::path whole = fs::absolute(top).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();  // RUN/
  if (is_run_folder(whole)) return {whole};
  std::set<fs::path> found;
  for (auto i = fs::recursive_directory_iterator(whole, fs::directory_options::skip_permission_denied);
       i != fs::recursive_directory_iterator(); ++i) {
    if (!i->is_directory() || !is_run_folder(i->path())) continue;
    found.insert(i->path());
    i.disable_recursion_pending();  // what a run's folder holds is the run's
  }
  return found;
}

std::string status_now(const StoredRun& run) {
  if (!is_run_folder(run.folder)) return "gone";
  if (run.status != "running") return run.status;
  // A process at work holds the folder: see RunFolder.
  try {
    const Descriptor folder(run.folder, O_RDONLY | O_DIRECTORY);
    return flock(folder.number(), LOCK_SH | LOCK_NB) == 0 ? "stopped" : "running";
  } catch (const Error&) {
    return "gone";
  }
}

int64_t rebuild_store(const fs::path& file, const std::vector<fs::path>& folders,
                      const std::function<void(const std::string&)>& skipped) {
  std::set<fs::path> found;
  for (const fs::path& top : folders) found.merge(run_folders_in(top));
  std::vector<StoredRun> before;
  try {
    before = Store(file).runs();
  } catch (const DamagedDatabase&) {
    // Also what SQLite keeps beside it.
    for (const char* end : {"", "-wal", "-shm"}) {
      std::error_code none;
      fs::rename(file.string() + end, file.string() + ".damaged" + end, none);
    }
  }
  Store store(file);
  for (const StoredRun& r : before) {
    if (is_run_folder(r.folder)) {
      found.insert(r.folder);
    } else {
      store.forget(r);
    }
  }
  int64_t count = 0;
  for (const fs::path& run : found) {
    try {
      store.update(run, /*anew=*/true);
      ++count;
    } catch (const DamagedDatabase&) {
      throw;
    } catch (const Error& e) {
      skipped(e.what());
    }
  }
  return count;
}

void StoreWriter::operator()(const fs::path& run) {
  constexpr double share = 20;
  const double began = wall_time();
  const bool ended = fs::exists(run / "summary.json");
  if (off_ || (!ended && began - at_ < share * seconds_)) return;
  try {
    // Opened each time: `espalier runs rebuild` may have put another file in its place.
    const std::optional<fs::path> file = Store::default_file();
    if (file) Store(*file).update(run);
    at_ = wall_time();
    seconds_ = at_ - began;
  } catch (const std::exception& e) {
    off_ = true;
    log::warning(std::string("this run is not kept in the store of runs: ") + e.what());
  }
}

}  // namespace espalier
