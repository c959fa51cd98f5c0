#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

TEST(None, LeavesTheStructureAlone) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libnone.so");
  GraphBuilder g({4, 0, 0});
  testkit::TestRun run(g.output(g.linear("fc", g.input(), {.features = 3})), 1);
  const auto c = Registry::instance().create<Controller>(from_json(R"({"use": "none"})"));
  c->stage_begin(run);
  c->epoch_end(run);
  c->stage_end(run);
  EXPECT_EQ(run.edits(), 0);
}

}  // namespace
}  // namespace espalier
