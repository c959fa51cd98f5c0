#include "commands/new.h"

#include <algorithm>
#include <cctype>
#include <ctime>
#include <iostream>
#include <memory>
#include <utility>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/plugin_options.h"
#include "espalier/error.h"
#include "espalier/registry.h"
#include "espalier/value.h"
#include "plugins/builtin.h"
#include "plugins/loader.h"
#include "system/files.h"
#include "system/program_paths.h"
#include "system/text.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

// "my-penalty" -> "my_penalty"
std::string plugin_name(const std::string& given) {
  const bool valid = !given.empty() && std::islower(static_cast<unsigned char>(given[0])) &&
                     std::ranges::all_of(given, [](unsigned char c) {
                       return std::islower(c) || std::isdigit(c) || c == '-' || c == '_';
                     });
  if (!valid)
    throw InputError(
        "NAME",
        "'" + given + "' is no name for a plugin: lower-case letters, digits, - and _, a letter first (my-penalty)");
  for (const char* target : {"test", "all", "install", "clean", "help", "package", "edit_cache", "rebuild_cache"}) {
    if (given == target)
      throw InputError("NAME", "'" + given + "' is the name of a target of CMake's own; choose another");
  }
  std::string name = given;
  std::ranges::replace(name, '-', '_');
  return name;
}

// "my_penalty" -> "MyPenalty"
std::string class_name(const std::string& name) {
  std::string result;
  bool upper = true;
  for (const char c : name) {
    if (c == '_') {
      upper = true;
      continue;
    }
    result += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = false;
  }
  return result;
}

void write_plugin(const std::string& kind, const std::string& given, const std::string& into) {
  const std::vector<std::string>& kinds = component_kinds();
  if (std::ranges::find(kinds, kind) == kinds.end())
    throw InputError("KIND", "no kind of component is called '" + kind + "'" + suggestion(kind, kinds));
  const std::string name = plugin_name(given);
  register_builtin(Registry::instance());
  PluginOptions().load();
  if (const Registered* taken = Registry::instance().find(kind, name)) {
    throw InputError("NAME", "there is " + taken->str() + " already, and of two with one name only one can be used; " +
                                 "choose another name");
  }
  const fs::path templates = program_prefix() / "share/espalier/templates";
  if (!fs::is_directory(templates / kind))
    throw Error(templates.string() + ": the templates of this installation are missing");
  const fs::path folder = fs::path(into.empty() ? "." : into) / given;
  if (fs::exists(folder)) throw InputError(folder.string(), "exists already; choose another name or --into DIR");

  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  const std::string year = std::to_string(1900 + local.tm_year);
  const auto fill = [&](const fs::path& source, const std::string& file) {
    std::string text = read_file(source);
    replace_all(text, "@NAME@", name);
    replace_all(text, "@CLASS@", class_name(name));
    replace_all(text, "@KIND@", kind);
    replace_all(text, "@FOLDER@", given);
    replace_all(text, "@PREFIX@", program_prefix().string());
    replace_all(text, "@YEAR@", year);
    fs::create_directories((folder / file).parent_path());
    write_file(folder / file, text);
  };
  std::error_code code;
  if (!fs::create_directories(folder, code)) throw Error(folder.string() + ": cannot be made: " + code.message());
  constexpr std::pair<const char*, const char*> common[] = {{"CMakeLists.txt", "CMakeLists.txt"},
                                                            {"CMakePresets.json", "CMakePresets.json"},
                                                            {"README.md", "README.md"},
                                                            {"LICENSE", "LICENSE"},
                                                            {"gitignore", ".gitignore"},
                                                            {"clang-format", ".clang-format"},
                                                            {"ci.sh", "ci.sh"},
                                                            {"github.yml", ".github/workflows/build.yml"},
                                                            {"gitlab.yml", ".gitlab-ci.yml"},
                                                            {"tasks.json", ".vscode/tasks.json"},
                                                            {"launch.json", ".vscode/launch.json"}};
  for (const auto& [source, file] : common) fill(templates / "common" / source, file);
  fill(templates / kind / "plugin.cpp", name + ".cpp");
  fill(templates / kind / "plugin_test.cpp", name + "_test.cpp");
  fill(templates / kind / "recipe.yaml", given + ".yaml");
  std::cout << "Wrote " << folder.string() << ", a " << kind
            << " that builds and passes its test as it is, with files\n"
            << "for continuous integration and editors, and a licence (MIT) that you may replace:\n\n"
            << "  cd " << folder.string() << "\n"
            << "  cmake -B build -DCMAKE_PREFIX_PATH=" << program_prefix().string() << "\n"
            << "  cmake --build build && ctest --test-dir build --output-on-failure\n"
            << "  espalier check build/lib" << name << ".so\n"
            << "  espalier run " << given << ".yaml --plugins build\n";
}

}  // namespace

void add_new_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "new", "Writes a plugin of your own, outside of the tree, that builds and passes its test as it is");
  struct Flags {
    std::string kind, name, into;
  };
  auto flags = std::make_shared<Flags>();
  command
      ->add_option("kind", flags->kind,
                   "dataset, backbone, operation, loss, metric, regularizer, optimizer, controller, schedule, "
                   "augmentation or score")
      ->required()
      ->type_name("KIND");
  command->add_option("name", flags->name, "Its name: my-penalty")->required()->type_name("NAME");
  command->add_option("--into", flags->into, "Where the folder NAME is made (default: here)")->type_name("DIR");
  command->footer("Example:\n  espalier new regularizer my-penalty\n");
  command->callback([flags] { write_plugin(flags->kind, flags->name, flags->into); });
}

}  // namespace espalier
