#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

// Weights that are 1, then 3, then 3: with a decay of .5 the average is 1, 2, 2.5.
TEST(MovingAverage, IsWhatTheNetworkIsEvaluatedAndEndsWith) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libema.so");
  GraphBuilder g({2, 0, 0});
  testkit::TestRun run(g.output(g.linear("fc", g.input(), {.features = 3})), /*seed=*/1);
  const at::Tensor values = run.weights()[run.graph().parameter("fc.weight")].detach();
  const auto set = [&](double v) {
    const c10::NoGradGuard no_grad;
    values.fill_(v);
  };
  const auto average = Registry::instance().create<Controller>(from_json(R"({"use": "moving_average", "decay": 0.5})"));
  set(1);
  average->stage_begin(run);
  set(3);
  for (int step = 0; step < 2; ++step) average->step_end(run);
  average->evaluation_begin(run);
  EXPECT_EQ(values.min().item<double>(), 2.5);
  EXPECT_EQ(values.max().item<double>(), 2.5);
  average->evaluation_end(run);
  EXPECT_EQ(values.min().item<double>(), 3);
  average->stage_end(run);
  EXPECT_EQ(values.max().item<double>(), 2.5);
}

}  // namespace
}  // namespace espalier
