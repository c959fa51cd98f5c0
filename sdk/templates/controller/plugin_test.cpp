#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/testkit.h>
#include <gtest/gtest.h>

namespace espalier {
namespace {

TEST(@CLASS@, TakesTheSmallestFilterAndStopsAtItsShare) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib@NAME@.so");
  GraphBuilder g({2, 6, 6});
  const Edge x = g.relu(g.conv("conv", g.input(), {.filters = 4, .kernel = 3}));
  testkit::TestRun run(g.output(g.linear("fc", g.flatten(x), {.features = 3})), /*seed=*/1);
  const auto controller = Registry::instance().create<Controller>(from_json(R"({"use": "@NAME@", "keep": 0.5})"));
  controller->stage_begin(run);
  for (int epoch = 0; epoch < 5; ++epoch) controller->epoch_end(run);
  EXPECT_EQ(run.graph()[run.graph().axis("conv")].size, 2);
  EXPECT_EQ(run.edits(), 2);
}

}  // namespace
}  // namespace espalier
