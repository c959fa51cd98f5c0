#include "check/suite.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check/check.h"
#include "check/samples.h"
#include "check/sanitizers.h"
#include "espalier/log.h"
#include "espalier/operation.h"
#include "espalier/score.h"
#include "plugins/loader.h"
#include "recipe/yaml.h"
#include "system/files.h"
#include "system/interrupt.h"
#include "system/processes.h"
#include "system/scratch_folder.h"
#include "system/text.h"
#include "system/threads.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t threads = 1;              // of a child: several run at a time, on small tensors
constexpr const char* loading = "loading";  // what stands for a check where a plugin cannot be loaded

double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

// Of "tau: 0.1, on: all" and the like, in one map.
Value options_of(const std::vector<std::string>& texts) {
  Value all = Value::map();
  for (const std::string& text : texts) {
    const Value given = parse_yaml("{" + text + "}", "--with '" + text + "'", /*with_lines=*/false);
    for (const Value::Entry& e : given.as_map()) all[e.key] = e.value;
  }
  return all;
}

// ---- in a child ----

// Whether a library was found by one of the given paths, rather than by the search path.
bool is_given(const SuiteOptions& o, const fs::path& library) {
  return std::ranges::any_of(o.plugins, [&](const fs::path& p) {
    std::error_code error;
    return fs::equivalent(p, library, error) || fs::equivalent(p, library.parent_path(), error);
  });
}

PluginReport load(const SuiteOptions& o) {
  std::vector<fs::path> folders(o.plugins.begin(), o.plugins.end());
  for (fs::path& p : plugin_search_path(o.search)) folders.push_back(std::move(p));
  return load_plugins(folders, Registry::instance());
}

// Whether it is checked where no plugins are named: the operations and the scores of Espalier itself.
bool is_own(const Registered& r) {
  return r.origin.path.empty() && (r.component.kind == Operation::kind || r.component.kind == Score::kind);
}

Value list_components(const SuiteOptions& o) {
  const PluginReport report = load(o);
  Value result = Value::map({{"components", Value::list()}, {"problems", Value::list()}});
  for (const Registered* r : Registry::instance().all()) {
    const bool wanted = o.plugins.empty() ? is_own(*r) : !r->origin.path.empty() && is_given(o, r->origin.path);
    if (!wanted) continue;
    Value options = Value::list();
    for (const ParameterInfo& p : r->component.parameters) options.push_back(p.name);
    result["components"].push_back(Value::map(
        {{"plugin", r->origin.path}, {"kind", r->component.kind}, {"name", r->component.name}, {"options", options}}));
  }
  for (const auto* list : {&report.problems, &report.notes}) {
    for (const PluginProblem& p : *list) {
      if (is_given(o, p.path))
        result["problems"].push_back(
            Value::map({{"plugin", p.path.string()}, {"kind", p.kind}, {"name", p.name}, {"reason", p.reason}}));
    }
  }
  return result;
}

std::string words_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "something that is no std::exception";
  }
}

// What a check finds: {status, seconds, remark | expected, got}.
Value found_by(const Check& check, const Registered& component) {
  const auto begin = Clock::now();
  Value result = Value::map({{"status", "passed"}});
  try {
    result["remark"] = check.run(component);
  } catch (const CheckFailure& e) {
    result = Value::map({{"status", "failed"}, {"expected", e.expected}, {"got", e.got}});
  } catch (const CheckSkipped& e) {
    result = Value::map({{"status", "skipped"}, {"remark", e.what()}});
  } catch (...) {
    result = Value::map({{"status", "failed"},
                         {"expected", check.doc},
                         {"got", "the error \"" + words_of(std::current_exception()) + "\""}});
  }
  result["seconds"] = seconds_since(begin);
  return result;
}

const Registered& loaded_component(const SuiteOptions& o) {
  load(o);
  const size_t slash = o.only.find('/');
  return Registry::instance().at(o.only.substr(0, slash), o.only.substr(slash + 1), {});
}

Value carry_out(const SuiteOptions& o) {
  const Registered& component = loaded_component(o);
  for (const Check* c : checks_of(component.component.kind)) {
    if (c->name == o.check) return found_by(*c, component);
  }
  throw InputError("--check", "there is no check '" + o.check + "' of " + with_article(component.component.kind));
}

// Ends the process after so many seconds, whatever it is doing.
void end_after(int64_t seconds) {
  ::alarm(static_cast<unsigned>(seconds));
}

// In a copy of a process: a check, what it found in `report` and what it wrote in `output`.
[[noreturn]] void check_in_copy(const Check& check, const Registered& component, const SuiteOptions& o,
                                const fs::path& report, const fs::path& output) {
  end_after(o.timeout);
  if (const int file = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600); file >= 0) {
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
  }
  int status = 1;
  try {
    write_file(report, to_json(found_by(check, component)));
    status = 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
  }
  std::fflush(nullptr);
  ::_exit(status);
}

// Every check of a component, each in a copy of this process: the libraries are loaded once. Nothing has started a
// thread before. Gives a list: {check, exit, seconds, output, found}, `exit` being 128 + the signal that ended it.
Value carry_out_all(const SuiteOptions& o, const fs::path& report) {
  const Registered& component = loaded_component(o);
  end_after(0);
  Value all = Value::list();
  for (const Check* c : checks_of(component.component.kind)) {
    const fs::path part = report.string() + "." + c->name, output = part.string() + ".txt";
    const auto begin = Clock::now();
    const pid_t copy = ::fork();
    if (copy == 0) check_in_copy(*c, component, o, part, output);
    int status = 1 << 8;
    if (copy > 0) {
      while (::waitpid(copy, &status, 0) < 0 && errno == EINTR) {
      }
    }
    Value entry = Value::map({{"check", c->name},
                              {"exit", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)},
                              {"seconds", seconds_since(begin)},
                              {"output", fs::exists(output) ? read_file(output) : ""}});
    if (fs::exists(part)) entry["found"] = from_json(read_file(part), part.string());
    std::error_code ignored;
    fs::remove(part, ignored);
    fs::remove(output, ignored);
    all.push_back(std::move(entry));
  }
  return all;
}

// ---- in the parent ----

void take(CheckResult& r, const Value& found) {
  const auto text = [&](const char* key) { return found.find(key) ? found.at(key).as_string() : std::string(); };
  r.status = text("status"), r.remark = text("remark"), r.expected = text("expected"), r.got = text("got");
  r.seconds = found.at("seconds").as_double();
}

// A check of a component, or (of no component) the list of all. The checks of a component share a child.
struct Job {
  CheckResult result;
  std::string plugin;  // that it loads; empty: all
};

void require_files(const SuiteOptions& o) {
  for (const std::string& p : o.plugins) {
    if (!fs::exists(p)) throw InputError(p, "there is no such plugin");
  }
  for (const std::string& d : o.data) {
    if (!fs::is_directory(d)) throw InputError("--data " + d, "there is no such folder");
  }
}

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

std::vector<CheckResult> run_in_this_process(const SuiteOptions& options) {
  require_files(options);
  use_threads(threads);
  example_options() = {.with = options_of(options.with), .data = options.data};
  load(options);
  std::vector<const Registered*> found;
  std::vector<std::string> known;
  std::string names;  // of what was found
  for (const Registered* r : Registry::instance().all()) {
    if (options.plugins.empty() ? !is_own(*r) : r->origin.path.empty() || !is_given(options, r->origin.path)) continue;
    const std::string name = r->component.kind + "/" + r->component.name;
    known.push_back(options.only.find('/') == std::string::npos ? r->component.name : name);
    if (!options.only.empty() && options.only != name && options.only != r->component.name) continue;
    names += (names.empty() ? "" : ", ") + name;
    found.push_back(r);
  }
  if (found.empty())
    throw InputError("--only", "no component is called '" + options.only + "'" + suggestion(options.only, known));
  if (found.size() > 1) {
    throw InputError("--in-process",
                     "checks one component in this process, and there are several: name one by --only (" + names + ")");
  }
  const Registered& component = *found.front();
  std::vector<CheckResult> results;
  std::vector<std::string> checks;
  for (const Check* c : checks_of(component.component.kind)) {
    checks.push_back(c->name);
    if (!options.check.empty() && c->name != options.check) continue;
    CheckResult r;
    r.plugin = component.origin.path, r.component = names, r.check = c->name;
    take(r, found_by(*c, component));
    results.push_back(std::move(r));
  }
  if (results.empty())
    throw InputError("--check", "there is no check '" + options.check + "' of " +
                                    with_article(component.component.kind) + suggestion(options.check, checks));
  return results;
}

void run_in_child(const SuiteOptions& options, const fs::path& report) {
  end_after(options.timeout);
  const rlimit none{0, 0};  // a core file would help nobody
  ::setrlimit(RLIMIT_CORE, &none);
  use_threads(threads);
  example_options() = {.with = options_of(options.with), .data = options.data};
  const Value found = options.only.empty()    ? list_components(options)
                      : options.check.empty() ? carry_out_all(options, report)
                                              : carry_out(options);
  write_file(report, to_json(found));
}

}  // namespace espalier
