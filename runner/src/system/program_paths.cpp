#include "system/program_paths.h"

#include <system_error>

namespace espalier {

std::filesystem::path program_prefix() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::filesystem::path() : program.parent_path().parent_path();
}

}  // namespace espalier
