#include "check/suite.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "check/carry_out.h"
#include "check/check.h"
#include "check/sanitizers.h"
#include "espalier/log.h"
#include "system/files.h"
#include "system/interrupt.h"
#include "system/processes.h"
#include "system/scratch_folder.h"
#include "system/text.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* loading = "loading";  // what stands for a check where a plugin cannot be loaded

// A check of a component, or (of no component) the list of all. The checks of a component share a child.
struct Job {
  CheckResult result;
  std::string plugin;  // that it loads; empty: all
};

class Suite {
 public:
  explicit Suite(const SuiteOptions& options) : o_(options), program_(fs::read_symlink("/proc/self/exe")) {}

  std::vector<CheckResult> run() {
    require_files(o_);
    if (const std::string first = sanitizer_of(o_.plugins); !first.empty()) {
      const char* already = std::getenv("LD_PRELOAD");
      ::setenv("LD_PRELOAD", (already ? first + ":" + already : first).c_str(), /*overwrite=*/1);
      fresh_ = true;
      // LibTorch never frees some of what it allocates.
      ::setenv("ASAN_OPTIONS", "detect_leaks=0", /*overwrite=*/0);
    }
    find_jobs();
    run_children();
    std::vector<CheckResult> results;
    for (Job& j : jobs_) results.push_back(std::move(j.result));
    return results;
  }

 private:
  // Which components there are is asked of a child, too: loading a plugin runs code of it.
  void find_jobs() {
    std::vector<Job> list(1);
    list.front().result.check = loading;
    jobs_ = std::move(list);
    run_children();
    const Job first = std::move(jobs_.front());
    jobs_.clear();
    if (first.result.status == "failed") {
      CheckResult r = first.result;
      r.component = "plugin";
      r.plugin = o_.plugins.empty() ? "" : o_.plugins.front();
      r.repeat = command(r, o_.plugins);
      done(std::move(r));
      return;
    }
    std::vector<std::string> known, options;
    std::set<std::string> checks;
    for (const Value& c : list_.at("components").as_list()) {
      const std::string kind = c.at("kind").as_string(), name = c.at("name").as_string();
      known.push_back(kind + "/" + name);
      if (!wanted(kind, name)) continue;
      for (const Value& option : c.at("options").as_list()) options.push_back(option.as_string());
      for (const Check* check : checks_of(kind)) {
        checks.insert(check->name);
        if (!o_.check.empty() && check->name != o_.check) continue;
        CheckResult r;
        r.plugin = c.at("plugin").as_string();
        r.component = kind + "/" + name;
        r.check = check->name;
        r.repeat = command(r, r.plugin.empty() ? std::vector<std::string>{} : std::vector{r.plugin});
        jobs_.push_back({r, r.plugin});
      }
    }
    const Value with = options_of(o_.with);
    for (const Value::Entry& e : with.as_map()) {
      if (std::ranges::find(options, e.key) == options.end())
        throw InputError("--with",
                         "nothing that is checked has an option '" + e.key + "'" + suggestion(e.key, options));
    }
    for (const Value& p : list_.at("problems").as_list()) {
      const std::string kind = p.at("kind").as_string(), name = p.at("name").as_string();
      CheckResult r;
      r.plugin = p.at("plugin").as_string();
      r.component = kind.empty() ? "plugin" : kind + "/" + name;
      r.check = kind.empty() ? loading : "parameters";  // what the registry looks at
      known.push_back(r.component);
      checks.insert(r.check);
      if ((!kind.empty() && !wanted(kind, name)) || (!o_.check.empty() && r.check != o_.check)) continue;
      r.status = "failed";
      r.expected = kind.empty() ? "a plugin that can be loaded" : "a declaration that can be used";
      r.got = p.at("reason").as_string();
      r.repeat = command(r, {r.plugin});
      done(std::move(r));
    }
    if (!jobs_.empty()) return;
    if (!o_.only.empty() && std::ranges::none_of(known, [&](const std::string& k) { return matches(k); })) {
      // In the form that was given.
      if (o_.only.find('/') == std::string::npos) {
        for (std::string& k : known) k = k.substr(k.find('/') + 1);
      }
      throw InputError("--only", "no component is called '" + o_.only + "'" + suggestion(o_.only, known));
    }
    if (!o_.check.empty())
      throw InputError("--check",
                       "there is no check '" + o_.check + "'" + suggestion(o_.check, {checks.begin(), checks.end()}));
    throw InputError(o_.plugins.front(), "there is no component in it");
  }

  bool matches(const std::string& component) const {
    return component == o_.only || component.substr(component.find('/') + 1) == o_.only;
  }
  bool wanted(const std::string& kind, const std::string& name) const {
    return o_.only.empty() || matches(kind + "/" + name);
  }
  // A result that needs no child.
  void done(CheckResult r) { jobs_.push_back({std::move(r), {}}); }

  // The arguments that say what is to be checked.
  static std::vector<std::string> arguments(const SuiteOptions& o) {
    std::vector<std::string> words{"check"};
    words.insert(words.end(), o.plugins.begin(), o.plugins.end());
    if (!o.only.empty()) words.insert(words.end(), {"--only", o.only});
    if (!o.check.empty()) words.insert(words.end(), {"--check", o.check});
    for (const std::string& p : o.search) words.insert(words.end(), {"--plugins", p});
    for (const std::string& w : o.with) words.insert(words.end(), {"--with", w});
    for (const std::string& d : o.data) words.insert(words.end(), {"--data", d});
    if (o.timeout != SuiteOptions().timeout) words.insert(words.end(), {"--timeout", std::to_string(o.timeout)});
    return words;
  }
  std::string command(const CheckResult& r, const std::vector<std::string>& plugins) const {
    SuiteOptions o = o_;
    o.plugins = plugins, o.only = r.check == loading ? "" : r.component, o.check = r.check == loading ? "" : r.check;
    std::string line = "espalier";
    for (const std::string& w : arguments(o)) line += " " + shell_word(w);
    return line;
  }

  // The jobs that have no result yet, those of a component together.
  std::vector<std::vector<size_t>> pending() const {
    std::vector<std::vector<size_t>> groups;
    for (size_t i = 0; i < jobs_.size(); ++i) {
      if (!jobs_[i].result.status.empty()) continue;
      const bool joins = !groups.empty() && o_.check.empty() && jobs_[i].result.check != loading &&
                         jobs_[groups.back().front()].plugin == jobs_[i].plugin &&
                         jobs_[groups.back().front()].result.component == jobs_[i].result.component;
      if (!joins) groups.emplace_back();
      groups.back().push_back(i);
    }
    return groups;
  }

  // What the child for a group does. It is a copy of this process, which has no thread and has loaded no plugin: the
  // program takes long to start. A sanitizer, however, must be there from the start.
  ProcessCommand child_of(const std::vector<size_t>& group, const fs::path& report, const fs::path& output) const {
    const Job& j = jobs_[group.front()];
    SuiteOptions o = o_;
    const bool list = j.result.check == loading;
    if (!list) o.plugins = j.plugin.empty() ? std::vector<std::string>{} : std::vector{j.plugin};
    o.only = list ? "" : j.result.component;
    o.check = list || group.size() > 1 ? "" : j.result.check;
    ProcessCommand command{.program = program_, .arguments = arguments(o), .output = output};
    command.arguments.insert(command.arguments.end(), {"--report", report.string()});
    if (fresh_) return command;
    command.body = [o, report] {
      try {
        run_in_child(o, report);
        return 0;
      } catch (...) {
        log::error(words_of(std::current_exception()));
        return 1;
      }
    };
    return command;
  }

  void run_children() {
    const std::vector<std::vector<size_t>> groups = pending();
    std::vector<Clock::time_point> begun(groups.size());
    const auto file = [&](size_t index, const char* suffix) {
      return scratch_.path() / (std::to_string(index) + suffix);
    };
    const int signal = run_processes({.count = groups.size(),
                                      .at_a_time = static_cast<size_t>(o_.jobs),
                                      .start =
                                          [&](size_t index) {
                                            begun[index] = Clock::now();
                                            return child_of(groups[index], file(index, ".json"), file(index, ".txt"));
                                          },
                                      .ended =
                                          [&](size_t index, int status) {
                                            ended(groups[index], status, seconds_since(begun[index]),
                                                  file(index, ".json"), file(index, ".txt"));
                                          },
                                      .tick = [](size_t) {}});
    if (signal != 0) throw Interrupted(signal);
    for (size_t i = 0; i < groups.size(); ++i) {
      std::error_code ignored;
      fs::remove(file(i, ".json"), ignored);
      fs::remove(file(i, ".txt"), ignored);
    }
  }

  void ended(const std::vector<size_t>& group, int status, double seconds, const fs::path& report,
             const fs::path& output) {
    const bool reported = status == 0 && fs::exists(report);
    const Value v = reported ? from_json(read_file(report), report.string()) : Value();
    const std::string written = fs::exists(output) ? read_file(output) : "";
    CheckResult& first = jobs_[group.front()].result;
    if (reported && first.check == loading) {
      list_ = v;
      first.status = "passed";
      return;
    }
    for (const size_t i : group) {
      CheckResult& r = jobs_[i].result;
      r.seconds = seconds;
      if (!reported) {
        failed(r, status, written);
      } else if (group.size() == 1) {
        take(r, v);
      } else {
        for (const Value& entry : v.as_list()) {
          if (entry.at("check").as_string() != r.check) continue;
          const auto exit = static_cast<int>(entry.at("exit").as_int());
          r.seconds = entry.at("seconds").as_double();
          const Value* found = entry.find("found");
          exit == 0 && found ? take(r, *found) : failed(r, exit, written + entry.at("output").as_string());
        }
      }
    }
  }

  // status: as run_processes() gives it.
  void failed(CheckResult& r, int status, const std::string& written) const {
    r.status = "failed";
    r.expected = "a process that ends by itself";
    if (status == 128 + SIGALRM) {
      r.got = "none within " + std::to_string(o_.timeout) + " s (--timeout): an endless loop, or too slow";
    } else if (status > 128) {
      r.got = std::string("a crash: signal ") + std::to_string(status - 128) + " (" + ::strsignal(status - 128) + ")";
    } else {
      r.got = "its end with status " + std::to_string(status);
    }
    if (const std::string words = last_words(written); !words.empty()) r.got += "; it had written:\n" + words;
  }

  SuiteOptions o_;
  fs::path program_;
  bool fresh_ = false;  // whether children start the program anew
  ScratchFolder scratch_;
  std::vector<Job> jobs_;
  Value list_;
};

}  // namespace

std::vector<CheckResult> run_suite(const SuiteOptions& options) {
  return Suite(options).run();
}

}  // namespace espalier
