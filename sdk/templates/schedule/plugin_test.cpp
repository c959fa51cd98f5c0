#include <espalier/registry.h>
#include <espalier/schedule.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(@CLASS@, FallsFromOneToZero) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  const auto schedule = Registry::instance().create<Schedule>(from_json(R"({"use": "@NAME@", "power": 2})"));
  EXPECT_EQ(schedule->factor(0, 10), 1);
  EXPECT_EQ(schedule->factor(5, 10), 0.25);
  EXPECT_EQ(schedule->factor(10, 10), 0);
}

}  // namespace
}  // namespace espalier
