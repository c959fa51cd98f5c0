#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <espalier/builder.h>
#include <espalier/controller.h>
#include <espalier/testkit.h>

namespace espalier {
namespace {

Graph network() {
  GraphBuilder g({2, 6, 6});
  const Edge x = g.batch_norm("norm", g.conv("conv", g.input(), {.filters = 4, .kernel = 3}));
  return g.output(g.linear("fc", g.flatten(g.relu(x)), {.features = 3}));
}

TEST(Sam, TakesTheGradientAtTheEndOfAStepUphillAndLeavesTheWeights) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsam.so");
  testkit::TestRun run(network(), /*seed=*/1), plain(network(), /*seed=*/1), uphill(network(), /*seed=*/1);
  const Batch batch{.inputs = {{"input", testkit::input_of(run.graph(), 8, 2)}},
                    .targets = {{"target", testkit::target_of(3, 8, 3)}}};
  const double rho = 0.3;
  const auto sam = Registry::instance().create<Controller>(from_json(R"({"use": "sam", "rho": 0.3})"));
  const auto flat = [](testkit::TestRun& r) { return r.weights().bank(Role::weight).values.flat(); };
  const at::Tensor before = flat(run).clone();
  sam->step(run, batch);

  plain.add_gradients(batch, plain.weights());
  const at::Tensor g = plain.weights().bank(Role::weight).gradients.flat();
  {
    const c10::NoGradGuard no_grad;
    flat(uphill).add_(g, rho / g.norm().item<double>());
  }
  uphill.add_gradients(batch, uphill.weights());
  const auto gradients = [](testkit::TestRun& r) { return r.weights().bank(Role::weight).gradients.flat(); };
  EXPECT_TRUE(gradients(run).allclose(gradients(uphill), 1e-10, 1e-12));
  EXPECT_FALSE(gradients(run).allclose(gradients(plain), 1e-3));
  EXPECT_TRUE(flat(run).equal(before));
  const auto statistics = [](testkit::TestRun& r) { return r.weights().bank(Role::buffer).values.flat(); };
  EXPECT_TRUE(statistics(run).equal(statistics(plain))) << "those of one pass, at the weights";
}

}  // namespace
}  // namespace espalier
