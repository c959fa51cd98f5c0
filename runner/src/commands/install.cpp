#include "commands/install.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "plugins/installed.h"

namespace espalier {

void add_install_commands(CLI::App& app) {
  CLI::App* install = app.add_subcommand("install", "Puts plugins where every command finds them");
  auto sources = std::make_shared<std::vector<std::string>>();
  install
      ->add_option("source", *sources,
                   "Libraries (libNAME.so), folders of them or of built plugins, or archives (.tar.gz)")
      ->type_name("SOURCE...")
      ->required();
  install->footer(
      "The plugins are copied into espalier/plugins of $XDG_DATA_HOME, or of ~/.local/share. A plugin of the same "
      "name\n"
      "that is there is replaced. Nothing of a plugin runs before it is used, and then with all your rights: install\n"
      "what you trust. `espalier plugins` shows what is installed.\n"
      "Examples:\n"
      "  espalier install my-penalty/build\n"
      "  espalier install my-plugins-1.2.tar.gz\n");
  install->callback([sources] {
    for (const std::string& source : *sources) {
      for (const InstalledPlugin& p : install_plugins(source)) {
        std::cout << p.name << " " << p.version << (p.replaces ? ", in the place of an older file: " : ": ")
                  << p.file.string() << "\n  sha256 " << p.sha256 << "\n";
      }
    }
  });

  CLI::App* uninstall = app.add_subcommand("uninstall", "Removes a plugin that was installed");
  auto names = std::make_shared<std::vector<std::string>>();
  uninstall->add_option("name", *names, "Names of plugins, as `espalier plugins` shows them")
      ->type_name("NAME...")
      ->required();
  uninstall->footer("Example:\n  espalier uninstall my_penalty\n");
  uninstall->callback([names] {
    for (const std::string& name : *names) std::cout << "removed " << uninstall_plugin(name).string() << "\n";
  });
}

}  // namespace espalier
