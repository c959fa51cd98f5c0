#include "plugins/compatibility.h"

#include "system/program_paths.h"

namespace espalier {

namespace {

// "LibTorch 2.10.0, this program has 2.11.0"; an empty version: without it.
void compare(std::vector<std::string>& result, const std::string& what, const std::string& plugin,
             const std::string& program) {
  if (plugin == program) return;
  std::string text = plugin.empty() ? "no " + what : what + " " + plugin;
  text += program.empty() ? ", this program has none" : ", this program has " + program;
  result.push_back(text);
}

std::string standard(uint64_t cplusplus) {
  switch (cplusplus) {
    case 201703:
      return "17";
    case 202002:
      return "20";
    case 202302:
      return "23";
    default:
      return std::to_string(cplusplus);
  }
}

}  // namespace

std::vector<std::string> differences(const Stamp& plugin, const Stamp& program) {
  std::vector<std::string> result;
  compare(result, "SDK ABI", std::to_string(plugin.sdk_abi), std::to_string(program.sdk_abi));
  compare(result, "LibTorch", plugin.libtorch, program.libtorch);
  compare(result, "CUDA", plugin.cuda, program.cuda);
  compare(result, "compiler", plugin.compiler, program.compiler);
  compare(result, "C++ ABI", std::to_string(plugin.cxx_abi), std::to_string(program.cxx_abi));
  compare(result, "_GLIBCXX_USE_CXX11_ABI", std::to_string(plugin.cxx11_strings),
          std::to_string(program.cxx11_strings));
  compare(result, "C++ standard", standard(plugin.cxx_standard), standard(program.cxx_standard));
  return result;
}

Stamp program_stamp() {
  return make_stamp("espalier", ESPALIER_VERSION);
}

std::string rejection(const Stamp& plugin, const std::vector<std::string>& differences) {
  std::string text = std::string("plugin ") + plugin.name + " " + plugin.version + " is built for another Espalier (";
  for (size_t i = 0; i < differences.size(); ++i) text += (i ? "; " : "") + differences[i];
  return text + "). Rebuild it with this program's SDK, in the plugin's folder: cmake -B build -DCMAKE_PREFIX_PATH=" +
         program_prefix().string() + " && cmake --build build";
}

}  // namespace espalier
