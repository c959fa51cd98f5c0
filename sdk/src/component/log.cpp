#include "espalier/log.h"

#include <cstdlib>
#include <string>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace espalier::log {

namespace {

spdlog::logger& logger() {
  static spdlog::logger* const instance = [] {
    auto* l = new spdlog::logger("espalier", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    l->set_pattern("espalier: %^%l%$: %v");
    const char* level = std::getenv("ESPALIER_LOG");
    l->set_level(level ? spdlog::level::from_str(level) : spdlog::level::info);
    return l;
  }();
  return *instance;
}

}  // namespace

void debug(std::string_view message) {
  logger().debug(message);
}
void info(std::string_view message) {
  logger().info(message);
}
void warning(std::string_view message) {
  logger().warn(message);
}
void error(std::string_view message) {
  logger().error(message);
}
void only_warnings() {
  if (logger().level() < spdlog::level::warn) logger().set_level(spdlog::level::warn);
}

void only_errors(std::string_view who) {
  logger().set_level(spdlog::level::err);
  logger().set_pattern("espalier: " + std::string(who) + ": %^%l%$: %v");
}

}  // namespace espalier::log
