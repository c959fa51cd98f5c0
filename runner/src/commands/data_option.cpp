#include "commands/data_option.h"

#include <cstdlib>
#include <filesystem>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

namespace espalier {

void add_data_option(CLI::App& command, std::vector<std::string>& folders) {
  command.add_option("--data", folders, "A folder of data sets, searched first; may be repeated")
      ->type_name("DIR")
      ->allow_extra_args(false);
  command.parse_complete_callback([&folders] { search_data_in(folders); });
}

void search_data_in(const std::vector<std::string>& folders) {
  if (folders.empty()) return;
  std::string all;
  for (const std::string& f : folders)
    all += (all.empty() ? "" : ":") + std::filesystem::absolute(f).lexically_normal().string();
  if (const char* more = std::getenv("ESPALIER_DATA"); more && *more) all += std::string(":") + more;
  ::setenv("ESPALIER_DATA", all.c_str(), 1);
}

}  // namespace espalier
