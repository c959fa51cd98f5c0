// The process in which checks are carried out, each in a copy of it.
#include "check/carry_out.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <set>

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check/check.h"
#include "check/samples.h"
#include "espalier/operation.h"
#include "espalier/score.h"
#include "plugins/loader.h"
#include "recipe/yaml.h"
#include "system/files.h"
#include "system/text.h"
#include "system/threads.h"

namespace espalier {

namespace fs = std::filesystem;

Value options_of(const std::vector<std::string>& texts) {
  Value all = Value::map();
  for (const std::string& text : texts) {
    const Value given = parse_yaml("{" + text + "}", "--with '" + text + "'", /*with_lines=*/false);
    for (const Value::Entry& e : given.as_map()) all[e.key] = e.value;
  }
  return all;
}

void require_files(const SuiteOptions& o) {
  for (const std::string& p : o.plugins) {
    if (!fs::exists(p)) throw InputError(p, "there is no such plugin");
  }
  for (const std::string& d : o.data) {
    if (!fs::is_directory(d)) throw InputError("--data " + d, "there is no such folder");
  }
}

void take(CheckResult& r, const Value& found) {
  const auto text = [&](const char* key) { return found.find(key) ? found.at(key).as_string() : std::string(); };
  r.status = text("status"), r.remark = text("remark"), r.expected = text("expected"), r.got = text("got");
  r.seconds = found.at("seconds").as_double();
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

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t threads = 1;  // of a child: several run at a time, on small tensors

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

}  // namespace

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
