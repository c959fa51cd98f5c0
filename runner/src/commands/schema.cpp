#include "commands/schema.h"

#include <iostream>
#include <memory>

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "commands/plugin_options.h"
#include "espalier/registry.h"
#include "plugins/builtin.h"
#include "recipe/schema.h"

namespace espalier {

void add_schema_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("schema", "Prints a JSON Schema of recipes, with all components that are loaded, for editors");
  auto plugins = std::make_shared<PluginOptions>();
  plugins->add_to(*command);
  command->footer(
      "Editors that use the YAML language server complete and check a recipe that begins with\n"
      "  # yaml-language-server: $schema=recipe.schema.json\n"
      "Example:\n  espalier schema > recipe.schema.json\n");
  command->callback([plugins] {
    register_builtin(Registry::instance());
    plugins->load();
    std::cout << to_json(recipe_schema(Registry::instance()), 1) << "\n";
  });
}

}  // namespace espalier
