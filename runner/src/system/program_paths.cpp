#include "system/program_paths.h"

#include <cstdlib>
#include <string>
#include <system_error>

namespace espalier {

std::filesystem::path program_prefix() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::filesystem::path() : program.parent_path().parent_path();
}

std::optional<std::filesystem::path> user_data_folder() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value ? value : "";
  };
  if (const std::string data = variable("XDG_DATA_HOME"); !data.empty())
    return std::filesystem::path(data) / "espalier";
  const std::string home = variable("HOME");
  if (home.empty()) return std::nullopt;
  return std::filesystem::path(home) / ".local" / "share" / "espalier";
}

}  // namespace espalier
