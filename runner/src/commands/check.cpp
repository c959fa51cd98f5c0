#include "commands/check.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <thread>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "check/check.h"
#include "check/suite.h"
#include "system/terminal.h"
#include "system/text.h"

namespace espalier {

namespace {

size_t count(const std::vector<CheckResult>& results, const std::string& status) {
  return static_cast<size_t>(std::ranges::count(results, status, &CheckResult::status));
}

Value to_value(const std::vector<CheckResult>& results) {
  Value list = Value::list();
  for (const CheckResult& r : results) {
    Value v = Value::map({{"plugin", r.plugin},
                          {"component", r.component},
                          {"check", r.check},
                          {"status", r.status},
                          {"seconds", r.seconds}});
    if (!r.remark.empty()) v["remark"] = r.remark;
    if (r.status == "failed") v["expected"] = r.expected, v["got"] = r.got;
    v["repeat"] = r.repeat;
    list.push_back(std::move(v));
  }
  Value result = Value::map({{"results", list}});
  for (const char* status : {"passed", "failed", "skipped"})
    result[status] = static_cast<int64_t>(count(results, status));
  return result;
}

// Lines after the first stand below the first.
std::string indented(std::string text) {
  replace_all(text, "\n", "\n            ");
  return text;
}

void print(const std::vector<CheckResult>& results) {
  std::vector<std::vector<std::string>> rows{{"component", "check", "result", "seconds", "remark"}};
  for (const CheckResult& r : results) {
    std::string remark = r.remark;
    std::ranges::replace(remark, '\n', ' ');
    rows.push_back({r.component, r.check, r.status == "failed" ? "FAILED" : r.status, fixed(r.seconds, 2), remark});
  }
  std::cout << table(rows, terminal_width());
  for (const CheckResult& r : results) {
    if (r.status != "failed") continue;
    std::cout << "\n"
              << r.component << ", " << r.check << ":\n"
              << "  expected  " << indented(r.expected) << "\n"
              << "  got       " << indented(r.got) << "\n";
    if (!r.repeat.empty()) std::cout << "  repeat    " << r.repeat << "\n";
  }
  std::cout << "\n"
            << count(results, "passed") << " passed, " << count(results, "failed") << " failed, "
            << count(results, "skipped") << " skipped\n";
}

void print_checks() {
  std::vector<std::vector<std::string>> rows{{"kind", "check", "what holds"}};
  for (const Check& c : all_checks()) rows.push_back({c.kind.empty() ? "all" : c.kind, c.name, c.doc});
  std::cout << table(rows, terminal_width());
}

}  // namespace

void add_check_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "check", "Checks that the components of a plugin do what their kinds promise, each check in its own process");
  struct Flags {
    SuiteOptions suite;
    std::string report;
    bool json = false, list = false, strict = false, in_process = false;
  };
  auto f = std::make_shared<Flags>();
  f->suite.jobs = std::max<int64_t>(1, std::thread::hardware_concurrency());
  command
      ->add_option("plugin", f->suite.plugins,
                   "Libraries, or folders of them; left out: the operations of Espalier itself")
      ->type_name("PLUGIN");
  command
      ->add_option("--with", f->suite.with,
                   "Options that what is checked gets, as in a recipe: 'tau: 0.1'; may be repeated")
      ->type_name("OPTIONS")
      ->allow_extra_args(false);
  command->add_option("--data", f->suite.data, "A folder in which data sets are looked for first; may be repeated")
      ->type_name("DIR")
      ->allow_extra_args(false);
  command->add_option("--only", f->suite.only, "One component: my_penalty, or regularizer/my_penalty")
      ->type_name("COMPONENT");
  command->add_option("--check", f->suite.check, "One check, as --list shows them")->type_name("NAME");
  command->add_flag("--strict", f->strict,
                    "Exit status 1 also where a check was skipped, and where none was carried out");
  command->add_flag("--in-process", f->in_process,
                    "Checks one component (--only) in this process instead of others, for a debugger");
  command->add_flag("--list", f->list, "Shows which checks there are");
  command->add_flag("--json", f->json, "Prints JSON: {results, passed, failed, skipped}");
  command->add_option("--jobs", f->suite.jobs, "How many processes at a time (default: one for each core)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  command->add_option("--timeout", f->suite.timeout, "Seconds that a check may take (default 60)")
      ->type_name("SECONDS")
      ->check(CLI::Range(1, 86400));
  command
      ->add_option("--plugins", f->suite.search,
                   "A folder of plugins or a library with components that those to be checked use; may be repeated")
      ->type_name("DIR")
      ->allow_extra_args(false);
  command->add_option("--report", f->report)->group("");  // in the processes that it starts
  command->footer(
      "Exit status 1 where a check failed. What failed is printed with what was expected, what came, and the command\n"
      "that repeats this check alone.\n"
      "Examples:\n"
      "  espalier check build/libmy_penalty.so\n"
      "  espalier check build/libmy_penalty.so --only regularizer/my_penalty --check gradients\n"
      "  espalier check build --jobs 4 --timeout 10 --json\n"
      "  gdb --args espalier check build/libmy_penalty.so --check gradients --in-process\n"
      "  espalier check build/libmy_table.so --with 'file: small.csv, target: price' --data . --strict\n");
  command->callback([f] {
    if (f->list) return print_checks();
    if (!f->report.empty()) return run_in_child(f->suite, f->report);
    const std::vector<CheckResult> results = f->in_process ? run_in_this_process(f->suite) : run_suite(f->suite);
    if (f->json) {
      std::cout << to_json(to_value(results), 1) << "\n";
    } else {
      print(results);
    }
    if (count(results, "failed") > 0) throw CLI::RuntimeError(1);
    if (f->strict && count(results, "passed") < std::max<size_t>(1, results.size())) throw CLI::RuntimeError(1);
  });
}

}  // namespace espalier
