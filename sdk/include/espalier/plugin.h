#pragma once

#include <string>
#include <vector>

#include "espalier/api.h"
#include "espalier/component.h"
#include "espalier/stamp.h"

namespace espalier {

// What the exported function espalier_plugin() returns.
struct PluginDescriptor {
  std::string name;                   // the plugin's name, as `espalier plugins` shows it
  std::string version;                // the plugin's own version
  std::vector<Component> components;  // what it offers
};

// The name of the one exported function, `const PluginDescriptor* espalier_plugin()`.
inline constexpr char plugin_entry[] = "espalier_plugin";

}  // namespace espalier

// Stands once in every plugin and says what it offers:
//
//   ESPALIER_PLUGIN("name", "1.0.0", component<A>("a", "doc"), backbone<O>("b", "doc", build));
//
// The descriptor is made at the first call, so that loading the library runs nothing of ours.
#define ESPALIER_PLUGIN(NAME, VERSION, ...)                                                  \
  extern "C" {                                                                               \
  __attribute__((section(".espalier.stamp"), used,                                           \
                 visibility("default"))) extern constexpr ::espalier::Stamp espalier_stamp = \
      ::espalier::make_stamp(NAME, VERSION);                                                 \
  ESPALIER_API const ::espalier::PluginDescriptor* espalier_plugin() {                       \
    static const ::espalier::PluginDescriptor descriptor{NAME, VERSION, {__VA_ARGS__}};      \
    return &descriptor;                                                                      \
  }                                                                                          \
  }                                                                                          \
  static_assert(true)
