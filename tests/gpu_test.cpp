// The GPU against the CPU. Skipped by name where there is none. This program travels in the package: it finds plugins
// and program beside itself, as the program does.
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/cuda.h>

#include "data/data_pipeline.h"
#include "espalier/builder.h"
#include "espalier/edit.h"
#include "espalier/execute.h"
#include "espalier/optimizer.h"
#include "espalier/random_fill.h"
#include "espalier/registry.h"
#include "espalier/regularizer.h"
#include "espalier/testkit.h"
#include "subprocess.h"
#include "system/files.h"
#include "system/program_paths.h"
#include "temp_folder.h"

namespace espalier {
namespace {

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU on this machine";
    for (const char* plugin : {"sgd", "adam", "lbi", "kernel_sparsity"})
      testkit::load_plugin(program_prefix() / "lib/espalier/plugins" / (std::string("lib") + plugin + ".so"));
  }
  static at::Device gpu() { return {at::kCUDA, 0}; }
  static Graph network() {
    GraphBuilder g({2, 8, 8});
    const Edge x = g.relu(g.batch_norm("bn", g.conv("conv", g.input(), {.filters = 6, .kernel = 3})));
    return g.output(g.linear("fc", g.flatten(x), {.features = 3}));
  }
  static double difference(const Weights& a, const Weights& b) {
    return (a.bank(Role::weight).values.flat() - b.bank(Role::weight).values.flat().cpu()).abs().max().item<double>();
  }
};

TEST_F(Gpu, DropoutMasksAreTheSameBits) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    at::Tensor a = at::empty({1003}, type);
    at::Tensor b = at::empty({1003}, at::TensorOptions().dtype(type).device(gpu()));
    fill_dropout_mask(a, 0.4, RandomKey(3));
    fill_dropout_mask(b, 0.4, RandomKey(3));
    EXPECT_TRUE(a.equal(b.cpu()));
  }
}

TEST_F(Gpu, BatchesAreTheSame) {
  const Split split{.inputs = {{"input", at::randint(0, 255, {40, 3, 12, 12}).to(at::kByte)}},
                    .targets = {{"target", at::randint(0, 3, {40}).to(at::kLong)}}};
  Normalization n{};
  for (int c = 0; c < 3; ++c) n.scale[c] = 1 / 255.F, n.shift[c] = -0.4F;
  const ImageTransform a{.crop = 2, .flip = 0.5F, .rotate = 0, .cutout = 4};
  const at::Tensor cpu = DataPipeline(split, n, at::kCPU, at::kFloat).batch(3, 33, a, RandomKey(1)).input();
  const at::Tensor other = DataPipeline(split, n, gpu(), at::kFloat).batch(3, 33, a, RandomKey(1)).input();
  EXPECT_LE((cpu - other.cpu()).abs().max().item<double>(), 1e-6);  // a fused multiply-add rounds once
}

// Read by threads, and copied while the program goes on.
TEST_F(Gpu, BatchesThatAreReadOnDemandAreTheSame) {
  class Numbered final : public Samples {
    int64_t size() const override { return 40; }
    void read(int64_t sample, bool, RandomKey key, uint8_t* out) const override {
      for (int64_t i = 0; i < 3 * 12 * 12; ++i) out[i] = static_cast<uint8_t>(sample * 11 + i + (key.value() & 63));
    }
  };
  const Split split{.inputs = {},
                    .targets = {{"target", at::randint(0, 3, {40}).to(at::kLong)}},
                    .samples = std::make_shared<Numbered>()};
  Normalization n{};
  for (int c = 0; c < 3; ++c) n.scale[c] = 1 / 255.F, n.shift[c] = -0.4F;
  const ImageTransform a{.crop = 2, .flip = 0.5F, .rotate = 0, .cutout = 4};
  const OnDemand reading{.image = {.channels = 3, .height = 12, .width = 12}, .threads = 3};
  DataPipeline on_cpu(split, n, at::kCPU, at::kFloat, reading), on_gpu(split, n, gpu(), at::kFloat, reading);
  for (int64_t begin = 0; begin < 40; begin += 8) {
    const Batch one = on_cpu.batch(begin, begin + 8, a, RandomKey(1)),
                other = on_gpu.batch(begin, begin + 8, a, RandomKey(1));
    EXPECT_LE((one.input() - other.input().cpu()).abs().max().item<double>(), 1e-6);
    EXPECT_TRUE(one.target().equal(other.target().cpu()));
  }
}

TEST_F(Gpu, OptimizersAndGroupLassoFollowTheCpuThroughAnEdit) {
  for (const char* spec :
       {R"({"use": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "decay_on": "weights"})",
        R"({"use": "adam", "lr": 0.01, "weight_decay": 0.1, "decoupled": true})",
        R"({"use": "lbi", "lr": 0.05, "nu": 3, "lambda": 0.3, "weight_decay": 0.01})",
        R"({"use": "lbi", "lr": 0.05, "kappa": 2, "nu": 3, "lambda": 0.05, "nesterov": true, "threshold": "rms"})"}) {
    Graph g = network();
    Graph h = g;
    Weights a(g, at::kDouble, at::kCPU);
    Weights b(g, at::kDouble, gpu());
    a.initialize(g, RandomKey(1));
    b.initialize(g, RandomKey(1));
    const auto make = [&] { return Registry::instance().create<Optimizer>(from_json(spec)); };
    const auto lasso = [&] {
      return Registry::instance().create<Regularizer>(from_json(R"({"use": "group_lasso", "weight": 0.1})"));
    };
    const auto oa = make();
    const auto ob = make();
    const auto ra = lasso();
    const auto rb = lasso();
    const at::Tensor x = testkit::input_of(g, 16, 1);
    const at::Tensor y = testkit::target_of(3, 16, 1);
    const auto steps = [&](Graph& graph, Weights& w, Optimizer& o, Regularizer& r) {
      o.attach(graph, w, {}, "o");
      r.attach(graph, w);
      at::Tensor value = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(w.device()));
      for (int i = 0; i < 20; ++i) {
        w.zero_gradients();
        testkit::cross_entropy(graph, w, x.to(w.device()), y.to(w.device()), {.training = true, .key = RandomKey()})
            .backward();
        const c10::NoGradGuard no_grad;
        r.add(graph, w, value);
        o.step(w, o.learning_rate());
      }
      return value.item<double>();
    };
    EXPECT_NEAR(steps(g, a, *oa, *ra), steps(h, b, *ob, *rb), 1e-8);
    apply(g, {&a}, shrink(g, g.axis("conv"), {0, 2, 5}));
    apply(h, {&b}, shrink(h, h.axis("conv"), {0, 2, 5}));
    EXPECT_NEAR(steps(g, a, *oa, *ra), steps(h, b, *ob, *rb), 1e-8);
    EXPECT_LE(difference(a, b), 1e-8) << spec;
  }
}

// Penalties, their gradients and what they do after an update, of every norm, form and way.
TEST_F(Gpu, KernelPenaltiesAreThoseOfTheCpu) {
  std::vector<std::string> specs{R"({"use": "kernel_number", "groups": "columns"})"};
  for (const char* use : {"kernel_number", "kernel_size"}) {
    for (const char* norm : {"l2", "group_normalized", "group_scaled", "linf", "batch_norm"}) {
      for (const char* form : {"sum", "squared", "complexity"}) {
        const std::string spec = std::string(R"({"use": ")") + use + R"(", "weight": 0.1, "on": "conv", "norm": ")" +
                                 norm + R"(", "form": ")" + form + "\"";
        specs.push_back(spec + "}");
        specs.push_back(spec + R"(, "split": true})");
        if (form == std::string("sum") || (form == std::string("squared") && norm != std::string("linf")))
          specs.push_back(spec + R"(, "solver": "proximal"})");
      }
    }
  }
  for (const std::string& spec : specs) {
    const Graph g = network();
    Weights a(g, at::kDouble, at::kCPU), b(g, at::kDouble, gpu());
    double values[2] = {};
    const c10::NoGradGuard no_grad;
    for (Weights* w : {&a, &b}) {
      w->initialize(g, RandomKey(1));
      const auto r = Registry::instance().create<Regularizer>(from_json(spec));
      r->attach(g, *w);
      at::Tensor value = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(w->device()));
      const LearningRates rates(std::vector<double>(g.parameters().size(), 0.5));
      for (int i = 0; i < 3; ++i) {
        r->add(g, *w, value);
        r->after_update(g, *w, rates);
      }
      values[w == &b] = value.item<double>();
    }
    EXPECT_NEAR(values[0], values[1], 1e-10) << spec;
    EXPECT_LE(difference(a, b), 1e-10) << spec;
    const at::Tensor ga = a.bank(Role::weight).gradients.flat(), gb = b.bank(Role::weight).gradients.flat().cpu();
    EXPECT_LE((ga - gb).abs().max().item<double>(), 1e-10) << spec;
  }
}

TEST_F(Gpu, ARecipeRunsAndPrunes) {
  const TempFolder folder;
  const auto recipe = folder.write("r.yaml", R"(
espalier: 1
name: r
device: cuda
data: {use: synthetic, count: 600, augment: [crop, flip]}
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages:
  - name: shrink
    epochs: 2
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    regularizers: [{use: group_lasso, weight: 0.02}]
    controller: {use: threshold, tau: 0.4}
)");
  const Output o = shell("'" + (program_prefix() / "bin/espalier").string() + "' run " + recipe.string() + " --out " +
                         (folder / "run").string());
  ASSERT_EQ(o.status, 0) << o.text;
  EXPECT_EQ(from_json(read_file(folder / "run" / "summary.json")).at("device").as_string(), "cuda:0");
}

}  // namespace
}  // namespace espalier
