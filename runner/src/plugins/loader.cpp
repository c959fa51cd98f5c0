#include "plugins/loader.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <sstream>
#include <system_error>

#include <boost/dll/shared_library.hpp>
#include <dlfcn.h>

#include "espalier/error.h"
#include "espalier/plugin.h"
#include "plugins/compatibility.h"
#include "plugins/elf_stamp.h"
#include "plugins/installed.h"
#include "system/program_paths.h"

namespace espalier {

namespace fs = std::filesystem;

namespace {

std::string words_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "something that is no std::exception";
  }
}

// Boost's message wraps what dlopen said into its own function names.
std::string dlopen_words(const std::string& boost_message) {
  const std::string before = "dlerror system message: ";
  const size_t from = boost_message.find(before);
  if (from == std::string::npos) return boost_message;
  const size_t to = boost_message.rfind("): ");
  return boost_message.substr(from + before.size(), to == std::string::npos ? to : to - from - before.size());
}

const PluginDescriptor& open_plugin(const fs::path& path) {
  // Never destroyed: the library stays.
  auto* library = new boost::dll::shared_library;
  try {
    library->load(path.string(), boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local);
  } catch (const std::exception& e) {
    delete library;
    throw Error("cannot be loaded: " + dlopen_words(e.what()));
  }
  if (!library->has(plugin_entry)) throw Error(std::string("does not export ") + plugin_entry + "()");
  const PluginDescriptor* descriptor = nullptr;
  try {
    descriptor = library->get<const PluginDescriptor*()>(plugin_entry)();
  } catch (...) {
    throw Error(std::string(plugin_entry) + "() threw: " + words_of(std::current_exception()));
  }
  if (!descriptor) throw Error(std::string(plugin_entry) + "() returned nothing");
  return *descriptor;
}

fs::path own_plugin_folder() {
  return program_prefix() / "lib/espalier/plugins";
}

class Loader {
 public:
  explicit Loader(Registry& registry) : registry_(registry) {
    std::error_code error;
    own_ = fs::canonical(own_plugin_folder(), error);
  }

  void load_folder(const fs::path& folder) {
    std::error_code error;
    if (!fs::exists(folder, error)) throw Error("there is no plugin folder " + folder.string());
    report_.searched.push_back(folder);
    if (!fs::is_directory(folder)) return load(folder);
    std::vector<fs::path> libraries;
    fs::directory_iterator entries(folder, error);
    if (error) throw Error("the plugin folder " + folder.string() + " cannot be read: " + error.message());
    for (const fs::directory_entry& entry : entries) {
      if (entry.path().extension() == ".so") libraries.push_back(entry.path());
    }
    std::ranges::sort(libraries);
    for (const fs::path& library : libraries) load(library);
  }

  PluginReport take_report() { return std::move(report_); }

 private:
  void load(const fs::path& path) {
    std::error_code error;
    const fs::path canonical = fs::canonical(path, error);
    if (!error && !seen_.insert(canonical).second) return;  // the same file by another way
    try {
      // Whoever can write to the program's own folder can replace the program.
      if (canonical.parent_path() != own_) {
        if (const std::string why = open_to_others(canonical); !why.empty()) throw Error(why);
      }
      const auto [stamp, offset, sanitizer] = find_stamp(path);
      if (const auto different = differences(stamp, program_stamp()); !different.empty())
        throw Error(rejection(stamp, different));
      // The sanitizer ends a process that loads it later.
      if (!sanitizer.empty() && !::dlsym(RTLD_DEFAULT, "__asan_init")) {
        throw Error(
            "was built with the address sanitizer, which has to be loaded before everything else: begin the "
            "command with LD_PRELOAD=" +
            sanitizer + " ASAN_OPTIONS=detect_leaks=0 (`espalier check` of this plugin does so by itself)");
      }
      if (const auto [first, is_new] = names_.try_emplace(stamp.name, path); !is_new) {
        report_.notes.push_back({path, "not loaded: " + first->second.string() +
                                           ", which was found before, is called " + std::string(stamp.name) +
                                           " too and takes its place"});
        return;
      }
      try {
        add(path, open_plugin(canonical));
      } catch (...) {
        names_.erase(stamp.name);  // another one of that name may do better
        throw;
      }
    } catch (...) {
      report_.problems.push_back({path, words_of(std::current_exception())});
    }
  }

  void add(const fs::path& path, const PluginDescriptor& descriptor) {
    LoadedPlugin plugin{{descriptor.name, descriptor.version, path.string()}, {}};
    for (const Component& component : descriptor.components) {
      const std::string what = component.kind + " '" + component.name + "'";
      try {
        if (std::ranges::find(component_kinds(), component.kind) == component_kinds().end()) {
          throw Error(what + " is of an unknown kind" + suggestion(component.kind, component_kinds()));
        }
        registry_.add(component, plugin.origin);
        plugin.components.push_back(what);
      } catch (...) {
        report_.problems.push_back(
            {path, "skipped " + what + ": " + words_of(std::current_exception()), component.kind, component.name});
      }
    }
    report_.plugins.push_back(std::move(plugin));
  }

  Registry& registry_;
  fs::path own_;  // the program's
  PluginReport report_;
  std::set<fs::path> seen_;
  std::map<std::string, fs::path> names_;
};

}  // namespace

const std::vector<std::string>& component_kinds() {
  static const std::vector<std::string> kinds = {"dataset",  "backbone",     "operation", "loss",
                                                 "metric",   "regularizer",  "optimizer", "controller",
                                                 "schedule", "augmentation", "score"};
  return kinds;
}

PluginReport load_plugins(const std::vector<fs::path>& folders, Registry& registry) {
  Loader loader(registry);
  for (const fs::path& folder : folders) loader.load_folder(folder);
  return loader.take_report();
}

std::vector<fs::path> plugin_search_path(const std::vector<std::string>& from_flags) {
  std::vector<fs::path> result(from_flags.begin(), from_flags.end());
  if (const char* variable = std::getenv("ESPALIER_PLUGINS")) {
    std::istringstream folders(variable);
    for (std::string folder; std::getline(folders, folder, ':');) {
      if (!folder.empty()) result.emplace_back(folder);
    }
  }
  std::error_code error;
  if (const auto users = user_plugin_folder(); users && fs::is_directory(*users, error)) result.push_back(*users);
  if (fs::is_directory(own_plugin_folder(), error)) result.push_back(own_plugin_folder());
  return result;
}

}  // namespace espalier
