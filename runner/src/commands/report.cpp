#include "commands/report.h"

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "espalier/error.h"
#include "report/report.h"
#include "store/filter.h"
#include "store/store.h"
#include "system/files.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

struct ReportOptions {
  std::vector<std::string> paths, filters;
  std::string out, format;
};

std::string format_of(const ReportOptions& o) {
  if (!o.format.empty()) return o.format;
  const std::string end = fs::path(o.out).extension().string();
  if (end == ".md" || end == ".csv" || end == ".json") return end.substr(1);
  if (!o.out.empty() && end != ".html" && end != ".htm")
    throw InputError("--out " + o.out, "no format ends like this: .html, .md, .csv or .json, or --format says it");
  return "html";
}

void report(const ReportOptions& o) {
  const std::string format = format_of(o);
  std::vector<StoredRun> runs;
  std::unique_ptr<Store> store;
  if (o.paths.empty()) {
    const std::optional<fs::path> file = Store::default_file();
    if (!file || !fs::exists(*file)) {
      throw InputError("", "there is no store of runs: give folders of runs, as in `espalier report runs`");
    }
    store = std::make_unique<Store>(*file);
    runs = store->runs();
  } else {
    store = std::make_unique<Store>(":memory:");
    runs = runs_at(*store, {o.paths.begin(), o.paths.end()});
  }
  runs = filtered(std::move(runs), o.filters);
  if (runs.empty()) throw InputError("", "there is no run to report, or none for which all of the filters hold");
  const Value all = report_of(runs, *store, pictures_at({o.paths.begin(), o.paths.end()}));
  const std::string text = format == "html"          ? report_page(all)
                           : format == "md"          ? report_markdown(all)
                           : format == "csv"         ? report_csv(all)
                           : format == "tensorboard" ? report_events(all, {o.paths.begin(), o.paths.end()})
                                                     : to_json(all, 1) + "\n";
  std::string out = o.out.empty() && format == "html" ? "report.html" : o.out;
  if (format == "tensorboard") {
    // TensorBoard looks at folders, and at files that are called so.
    const fs::path folder = o.out.empty() ? fs::path("report") : fs::path(o.out);
    fs::create_directories(folder);
    out = (folder / "events.out.tfevents.0.report").string();
  }
  if (out.empty()) {
    std::cout << text;
  } else {
    write_file(out, text);
    std::cout << out << ": " << runs.size() << (runs.size() == 1 ? " run\n" : " runs\n");
  }
}

}  // namespace

void add_report_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("report", "Shows what runs came to, beside what the papers printed, as one page or as tables");
  auto o = std::make_shared<ReportOptions>();
  command
      ->add_option("path", o->paths,
                   "Folders of runs, of sweeps and of `reproduce`, or folders that hold such (default: all runs of the "
                   "store)")
      ->type_name("FOLDER...");
  command
      ->add_option("--filter", o->filters, "Only runs for which this holds, as often as needed: see `runs list --help`")
      ->type_name("CONDITION")
      ->allow_extra_args(false);
  command
      ->add_option("-o,--out", o->out,
                   "The file (default: report.html; tables go to standard output); for TensorBoard a folder (default: "
                   "report)")
      ->type_name("FILE");
  command
      ->add_option(
          "--format", o->format,
          "html (default), md, csv or json, else the end of the file's name says it; tensorboard: the pictures "
          "and the tables")
      ->type_name("NAME")
      ->check(CLI::IsMember({"html", "md", "csv", "json", "tensorboard"}));
  command->footer(
      "Examples:\n"
      "  espalier report runs/reproduce-short --out report.html\n"
      "  espalier report runs --filter 'name=003-*' --format md\n"
      "  espalier report --filter status=finished --out all.csv\n"
      "  espalier report runs --format tensorboard --out runs/report && tensorboard --logdir runs\n");
  command->callback([o] { report(*o); });
}

}  // namespace espalier
