#include "commands/data.h"

#include <algorithm>
#include <iostream>
#include <memory>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <unistd.h>

#include "commands/data_option.h"
#include "espalier/datasets/catalogue.h"
#include "espalier/datasets/check.h"
#include "espalier/datasets/fetch.h"
#include "espalier/datasets/find.h"
#include "espalier/error.h"
#include "espalier/value.h"
#include "system/terminal.h"
#include "system/text.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

void add_name_option(CLI::App& command, std::string& name) {
  std::string known;
  for (const CatalogueEntry& entry : catalogue()) known += (known.empty() ? "" : ", ") + entry.name;
  command.add_option("name", name, "The data set: " + known)->required()->type_name("NAME");
}

void list(const DataPaths& paths, bool json) {
  Value all = Value::list();
  std::vector<std::vector<std::string>> rows = {{"name", "content", "size", "licence", "found in"}};
  for (const CatalogueEntry& entry : catalogue()) {
    const std::optional<FoundDataset> found = search_dataset(entry, paths);
    rows.push_back({entry.name, entry.title, bytes_text(entry.size()), entry.licence,
                    found ? found->folder.string() : "not found"});
    all.push_back(Value::map({{"name", entry.name},
                              {"title", entry.title},
                              {"bytes", entry.size()},
                              {"found", found ? Value(found->folder.string()) : Value()},
                              {"licence", entry.licence},
                              {"licence_note", entry.licence_note},
                              {"page", entry.page},
                              {"cite", entry.cite}}));
  }
  if (json) {
    std::cout << to_json(all, 1) << "\n";
    return;
  }
  std::cout << table(rows, 0) << "\nespalier data fetch NAME downloads one. The data set synthetic needs no files.\n";
}

// "6,000 of each of 10 classes", or the count of each.
std::string counts_text(const std::vector<int64_t>& counts) {
  if (std::adjacent_find(counts.begin(), counts.end(), std::not_equal_to<>()) == counts.end()) {
    return count_text(counts.front()) + " of each of " + std::to_string(counts.size()) + " classes";
  }
  std::string text;
  for (const int64_t n : counts) text += (text.empty() ? "" : " + ") + count_text(n);
  return text;
}

std::string numbers_text(const std::vector<double>& numbers) {
  std::string text;
  for (const double v : numbers) text += (text.empty() ? "" : ", ") + fixed(v, 4);
  return text;
}

void print(const DatasetCheck& check) {
  std::cout << check.name << " in " << check.folder.string() << "\n";
  for (const DatasetCheck::Part& part : check.parts) {
    std::cout << "  " << part.name << ": " << count_text(part.records) << " images";
    for (const auto& [labels, counts] : part.counts) std::cout << "; " << labels << ": " << counts_text(counts);
    std::cout << "\n";
  }
  if (!check.mean.empty()) {
    std::cout << "  mean " << numbers_text(check.mean) << "; standard deviation " << numbers_text(check.deviation)
              << " (train)\n";
  }
  for (const std::string& line : check.checksums) std::cout << "  " << line << "\n";
  for (const std::string& line : check.notes) std::cout << "  note: " << line << "\n";
  for (const std::string& line : check.faults) std::cout << "  fault: " << line << "\n";
  if (check.faults.empty()) std::cout << "whole\n";
}

Value json_of(const DatasetCheck& check) {
  Value parts = Value::map();
  for (const DatasetCheck::Part& part : check.parts) {
    Value counts = Value::map();
    for (const auto& [labels, of_class] : part.counts) counts[labels] = Value(of_class);
    parts[part.name] = Value::map({{"images", part.records}, {"counts", counts}});
  }
  return Value::map({{"name", check.name},
                     {"folder", check.folder.string()},
                     {"whole", check.faults.empty()},
                     {"parts", parts},
                     {"mean", Value(check.mean)},
                     {"deviation", Value(check.deviation)},
                     {"checksums", Value(check.checksums)},
                     {"notes", Value(check.notes)},
                     {"faults", Value(check.faults)}});
}

// What brings a copy into the place of the one in a folder.
std::string fetch_command(const std::string& name, const fs::path& folder) {
  const bool elsewhere =
      folder.parent_path() != data_cache() && folder.filename() == catalogue_entry(name).folders.front();
  return "espalier data fetch " + name + (elsewhere ? " --to " + folder.parent_path().string() : "");
}

void check(const std::string& name, const DataPaths& paths, bool json) {
  const DatasetCheck result = check_dataset(catalogue_entry(name), paths);
  if (json) {
    std::cout << to_json(json_of(result), 1) << "\n";
  } else {
    print(result);
  }
  const size_t n = result.faults.size();
  if (n > 0) {
    throw Error(name + " has " + std::to_string(n) + (n == 1 ? " fault" : " faults") +
                "; a new copy in its place: " + fetch_command(name, result.folder));
  }
}

void fetch(const std::string& name, const std::string& to, const std::string& from) {
  const CatalogueEntry& entry = catalogue_entry(name);
  FetchOptions options;
  options.to = to.empty() ? data_cache() : fs::absolute(to);
  if (!from.empty()) options.from = fs::absolute(from);
  options.progress = isatty(STDERR_FILENO) == 1;
  options.say = [](const std::string& line) { std::cerr << line << "\n"; };
  const fs::path target = options.to / entry.folders.front();

  const std::optional<FoundDataset> found = to.empty() ? search_dataset(entry, default_data_paths({})) : std::nullopt;
  if (found && found->folder != target) {
    const DatasetCheck there = check_dataset(entry, {found->folder});
    if (there.faults.empty()) {
      std::cout << name << " is in " << found->folder.string();
      if (found->folder == entry.debian_folder) std::cout << ", from the Debian package " << entry.debian_package;
      std::cout << ": nothing to do (--to DIR makes another copy)\n";
      return;
    }
    std::cerr << "espalier: warning: " << found->folder.string() << " is damaged: " << there.faults.front() << "\n"
              << "It is found before " << target.string() << ": remove it.\n";
  }
  const fs::path folder = fetch_dataset(entry, options);
  std::cout << name << " is in " << folder.string() << "\n";
}

}  // namespace

void add_data_command(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Lists, fetches and checks data sets");
  data->require_subcommand(1);
  data->footer(
      "Data sets are looked for in the folders given by --data, those of the variable ESPALIER_DATA (separated by "
      "colons),\n"
      "~/.cache/espalier/data, /usr/share/datasets and /usr/local/share/datasets.\n");

  struct Flags {
    std::string name, to, from;
    std::vector<std::string> data;
    bool json = false;
  };

  CLI::App* list_command =
      data->add_subcommand("list", "Shows the data sets that Espalier knows, and where they were found");
  auto list_flags = std::make_shared<Flags>();
  add_data_option(*list_command, list_flags->data);
  list_command->add_flag("--json", list_flags->json, "Prints JSON: [{name, title, bytes, found, licence, page, cite}]");
  list_command->callback([list_flags] { list(default_data_paths(list_flags->data), list_flags->json); });

  CLI::App* fetch_command =
      data->add_subcommand("fetch", "Downloads a data set, or unpacks one that was downloaded by hand");
  auto fetch_flags = std::make_shared<Flags>();
  add_name_option(*fetch_command, fetch_flags->name);
  fetch_command->add_option("--to", fetch_flags->to, "The folder of data sets (default: ~/.cache/espalier/data)")
      ->type_name("DIR");
  fetch_command
      ->add_option("--from", fetch_flags->from, "An archive, or a folder of archives, that is already downloaded")
      ->type_name("PATH");
  fetch_command->footer(
      "Examples:\n"
      "  espalier data fetch cifar10\n"
      "  espalier data fetch cifar10 --from ~/Downloads/cifar-10-binary.tar.gz\n");
  fetch_command->callback([fetch_flags] { fetch(fetch_flags->name, fetch_flags->to, fetch_flags->from); });

  CLI::App* check_command = data->add_subcommand("check", "Reads a data set fully and compares it with the catalogue");
  auto check_flags = std::make_shared<Flags>();
  add_name_option(*check_command, check_flags->name);
  add_data_option(*check_command, check_flags->data);
  check_command->add_flag("--json", check_flags->json,
                          "Prints JSON: {name, folder, whole, parts, mean, deviation, notes, faults}");
  check_command->footer("Example:\n  espalier data check mnist\nThe exit status is 1 where something is wrong.\n");
  check_command->callback(
      [check_flags] { check(check_flags->name, default_data_paths(check_flags->data), check_flags->json); });
}

}  // namespace espalier
