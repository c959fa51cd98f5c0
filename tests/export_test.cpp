// Exported networks, by the programs that they are for, against the network itself.
#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../datasets/tests/image_files.h"
#include "all_plugins.h"
#include "espalier/controller.h"
#include "espalier/error.h"
#include "espalier/execute.h"
#include "espalier/onnx.h"
#include "espalier/registry.h"
#include "espalier/testkit.h"
#include "export/export_checks.h"
#include "export/onnx_export.h"
#include "export/python_export.h"
#include "export/torchscript_export.h"
#include "published_networks.h"
#include "record/checkpoint.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

// Brings a function along, and has two outputs.
class Halves final : public OperationOf<Halves, NoOptions> {
 public:
  static constexpr const char* name = "test_halves";
  using OperationOf::OperationOf;
  void build(NodeBuilder& n) const override {
    for (const char* suffix : {"first", "second"}) n.output({Dim::of(n.input_sizes(0)[0] / 2)}, suffix);
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const int64_t half = f.inputs[0].size(1) / 2;
    return {f.inputs[0].slice(1, 0, half), f.inputs[0].slice(1, half)};
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph& g, const Node& node) const override {
    const int64_t half = g.sizes(g[node.inputs[0]].shape)[0] / 2;
    return {"part({0}, 0, " + std::to_string(half) + "), part({0}, " + std::to_string(half) + ", " +
                std::to_string(2 * half) + ")",
            "def part(x: torch.Tensor, begin: int, end: int) -> torch.Tensor:\n    return x[:, begin:end]\n"};
  }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph& g, const Node& node) const override {
    const int64_t half = g.sizes(g[node.inputs[0]].shape)[0] / 2;
    const auto number = [&](int64_t n) { return to.constant(at::full({1}, n, at::kLong)); };
    return {to.add("Slice", {to.input(0), number(0), number(half), number(1)}),
            to.add("Slice", {to.input(0), number(half), number(2 * half), number(1)})};
  }
};

class Added final : public OperationOf<Added, NoOptions> {
 public:
  static constexpr const char* name = "test_added";
  using OperationOf::OperationOf;
  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.inputs[0] + f.inputs[1]}; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override { return {"{0} + {1}"}; }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("Add", {to.input(0), to.input(1)})};
  }
};

class Nothing final : public OperationOf<Nothing, NoOptions> {
 public:
  static constexpr const char* name = "test_nothing";
  using OperationOf::OperationOf;
  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.inputs[0]}; }
  bool preserves_zero() const override { return true; }
};

// Every operation of the SDK, and names that are hard on every format.
Graph all_operations() {
  GraphBuilder g({3, 32, 32});
  Edge x = g.conv("layer1.0.conv", g.input(), {.filters = 8, .kernel = 3, .stride = 2, .padding = 1, .bias = false});
  x = g.activation("gelu", g.batch_norm("layer1.0.in", x, {.eps = 1e-3, .affine = false}));
  x = g.avg_pool(x, 3, 2, 1);
  x = g.activation("tanh", g.conv("layer1_0.conv", x, {.filters = 6, .kernel = 2}));
  x = g.dropout(g.relu(g.batch_norm("type", g.max_pool(x, 3, 1, 1))), 0.3);
  const Edge pooled = g.global_avg_pool(x);
  const Edge flat = g.activation("sigmoid", g.linear("forward", g.flatten(x), {.features = 6, .bias = false}));
  const Edge sum = g.node("test_added", "layer1.0", {g.batch_norm("1d", flat), pooled});
  const Edge first = g.node("test_halves", "layer1_0", {sum});
  const Edge second{first.id + 1};
  return g.output(g.node("test_added", "logits", {g.relu(second), first}));
}

// As after training: nothing is 0 or 1 that would hide a mistake.
void fill(const Graph& graph, Weights& weights) {
  const c10::NoGradGuard no_grad;
  weights.initialize(graph, RandomKey(1));
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    const at::Tensor value = weights[id].detach();
    if (graph[id].kind == "weight") continue;
    value.copy_(graph[id].kind == "norm_weight" ? at::rand(value.sizes()) + 0.5 : at::randn(value.sizes()) * 0.2);
  }
  // Statistics of the activations, without which they would fade from layer to layer: those of one batch, of which a
  // pass moves them by the momentum, .1. Channels that hardly vary would amplify rounding: variances get a part of
  // their mean.
  const auto statistics = [&](const std::function<void(const at::Tensor&, bool variance)>& change) {
    for (size_t i = 0; i < graph.parameters().size(); ++i) {
      const ParamId id{static_cast<int32_t>(i)};
      if (graph[id].kind.starts_with("running_")) change(weights[id], graph[id].kind == "running_var");
    }
  };
  statistics([](const at::Tensor& value, bool) { value.zero_(); });
  static_cast<void>(run(graph, weights, {{"input", testkit::input_of(graph, 8, 3, at::kFloat)}}, {"logits"},
                        {.training = true, .key = RandomKey()}));
  statistics([](const at::Tensor& value, bool variance) {
    value.mul_(10);
    if (variance) value.add_(value.mean(), 0.1);
  });
}

// Backbones that take other images than three channels of 32 x 32.
const std::map<std::string, InputSpec> inputs = {{"lenet5", {1, 28, 28}}, {"alexnet", {3, 67, 67}}};

// What backbones need, and fewer and narrower layers of the large ones: each form has the same kinds of nodes.
const std::map<std::string, std::string> options = {
    {"nasbench201",
     R"(, "cells": 2, "cell": "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|")"},
    {"nasbench201_search", R"(, "cells": 1)"},
    {"alexnet", R"(, "width": 0.0625)"},
    {"kernelnet_cifar19", R"(, "width": 0.5)"},
    {"darts", R"(, "layers": 3, "channels": 8)"},
    {"darts_search", R"(, "layers": 3, "channels": 8)"},
    {"densenet40", R"(, "growth": 4)"},
    {"densenet121", R"(, "growth": 4)"},
    {"mobilenet_v2", R"(, "width": 0.5)"},
    {"resnet18", R"(, "width": 0.25)"},
    {"resnet50", R"(, "width": 0.25)"},
    {"resnext29_2x64d", R"(, "base_width": 16)"},
    {"resnext29_32x4d", R"(, "cardinality": 8)"},
    {"swin_t", R"(, "dim": 24, "depths": [2, 2], "heads": [2, 3], "window": 4)"},
    {"vgg16", R"(, "width": 0.25)"},
    {"vit_tiny", R"(, "dim": 48, "depth": 3)"}};

// These differ from another in depth or width alone.
const std::set<std::string> siblings = {"resnet32",
                                        "resnet44",
                                        "resnet56",
                                        "resnet110",
                                        "resnet34",
                                        "darts_v1",
                                        "darts_v2",
                                        "resnext29_4x64d",
                                        "resnext29_8x64d",
                                        "resnext29_16x64d",
                                        "preresnet164",
                                        "densenet_bc100",
                                        "resnet101",
                                        "vit_small",
                                        "vit_base",
                                        "deit_tiny",
                                        "deit_small",
                                        "deit_base",
                                        "resnet152",
                                        "kernelnet_imagenet7",
                                        "kernelnet_imagenet17",
                                        "kernelnet_cifar18x5"};

constexpr const char* compare = R"py(
import importlib.util, json, sys
from pathlib import Path
import torch
try:
    import onnxruntime
except ImportError:
    sys.exit(print(json.dumps({"skip": "no onnxruntime"})))

# TorchScript would compile each network anew for what it sees of it, the largest for minutes.
torch._C._jit_set_profiling_executor(False)

def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()

result = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = module.load_safetensors(folder / "data.safetensors")
    x, logits = data["input"], data["logits"]
    tensors = module.load_safetensors(folder / "model.safetensors")
    model = module.load_model()
    script = torch.jit.load(folder / "model.pt")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    run = lambda x: torch.from_numpy(session.run(["logits"], {session.get_inputs()[0].name: x.numpy()})[0])
    with torch.no_grad():
        r = {"python": difference(model(x), logits), "torchscript": difference(script(x), logits),
             "onnx": difference(run(x), logits), "onnx, one image": difference(run(x[:1]), logits[:1])}
        # What programs that look for modules, and TorchScript's own optimizer, make of it.
        quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
        count = lambda m, kind: sum(isinstance(x, kind) for x in m.modules())
        r["linear"] = count(model, torch.nn.Linear)
        r["conv"] = count(model, torch.nn.Conv2d)
        r["quantized"] = count(quantized, torch.ao.nn.quantized.dynamic.Linear)
        r["optimized"] = difference(torch.jit.optimize_for_inference(script)(x), logits)
        for opset in (13, 17):
            old = onnxruntime.InferenceSession(folder / f"opset{opset}.onnx", providers=["CPUExecutionProvider"])
            values = old.run(None, {old.get_inputs()[0].name: x.numpy()})[0]
            r[f"opset {opset}"] = difference(torch.from_numpy(values), logits)
    r["spread"] = ((logits[0] - logits[1]).abs().max() / logits.abs().max()).item()
    # PyTorch's batch norms count their batches besides.
    names = [[n for n in m.state_dict() if not n.endswith("num_batches_tracked")] for m in (model, script)]
    r["names"] = all(sorted(n) == sorted(tensors) for n in names)
    r["parameters"] = sum(p.numel() for p in model.parameters())
    r["script_parameters"] = sum(p.numel() for p in script.parameters() if p.requires_grad)
    meta = session.get_modelmeta().custom_metadata_map
    r["metadata"] = [json.loads(meta[k]) for k in ("scale", "shift", "classes")]
    extra = {k: "" for k in ("class_names", "preparation")}
    torch.jit.load(folder / "model.pt", _extra_files=extra)
    said = [{k: json.loads(m[k]) for k in extra} for m in (meta, extra)]
    r["said"] = all(s == {"class_names": module.CLASS_NAMES, "preparation": module.PREPARATION} for s in said)
    r["class"], r["resize"] = module.CLASS_NAMES[1], module.PREPARATION["resize"]
    # Training: statistics of the batch, which the running ones follow, and gradients everywhere.
    for kind, m in (("python", model), ("script", script)):
        before = {k: v.clone() for k, v in m.named_buffers()}
        m.train()
        m(x).sum().backward()
        r[kind + "_follows"] = all(not torch.equal(before[k], v) for k, v in m.named_buffers())
        r[kind + "_gradients"] = all(p.grad is not None for p in m.parameters())
    result[folder.name] = r
print(json.dumps(result))
)py";

class Exports : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string(ESPALIER_PYTHON).empty()) GTEST_SKIP() << "no Python with PyTorch";
    static const bool loaded = [] {
      load_all_plugins();
      Registry::instance().add(component<Halves>(Halves::name, "two halves"), {});
      Registry::instance().add(component<Added>(Added::name, "a sum"), {});
      return true;
    }();
    static_cast<void>(loaded);
  }

  // Leaves a network in all its forms in a folder, or in that for ONNX alone.
  static void leave(const Graph& graph, const InputSpec& input, const fs::path& folder, bool only_onnx = false) {
    fs::create_directories(folder);
    Weights weights(graph, at::kFloat, at::kCPU);
    fill(graph, weights);
    const at::Tensor x = testkit::input_of(graph, 4, 7, at::kFloat);
    const at::Tensor logits = [&] {
      const c10::NoGradGuard no_grad;
      return run(graph, weights, {{"input", x}}, {"logits"})[0];
    }();
    DatasetInfo info;
    info.input = input;
    info.target = {graph.sizes(graph[graph.output("logits")].shape)[0]};
    info.classes = {"cat", "größter \"dog\""};
    info.preparation = Value::map({{"resize", 36}, {"center_crop", 32}});
    // A byte / 51 - 0.1 times the channel's number.
    Scaling scaling;
    for (int64_t c = 0; c < input.channels; ++c) {
      scaling.deviation.push_back(0.2);
      scaling.mean.push_back(0.02 * static_cast<double>(c));
    }
    const Scalings scalings{{"input", scaling}};
    const std::string name = folder.filename().string();
    const TrainedNetwork network{name, graph, weights, info, scalings, 100};
    write_file(folder / "model.py", python_model(network));
    write_file(folder / "model.onnx", onnx_model(network));
    for (const int64_t opset : {13, 17}) {
      if (!only_onnx) write_file(folder / ("opset" + std::to_string(opset) + ".onnx"), onnx_model(network, opset));
    }
    if (!only_onnx) write_file(folder / "model.pt", torchscript_model(network));
    save_safetensors(folder / "model.safetensors", {model_tensors(graph, weights), {}});
    save_safetensors(folder / "data.safetensors", {{{"input", x}, {"logits", logits}}, {}});
  }
};

TEST_F(Exports, OfEveryKindOfBackboneGiveItsLogits) {
  const TempFolder folder;
  std::map<std::string, Graph> graphs;
  for (const std::string& name : Registry::instance().names("backbone")) {
    if (siblings.contains(name) || name == "recorded") continue;  // that is any of them
    if (name == "cascade_mask_rcnn") continue;                    // that has no form: detection_test.cpp
    const auto other = inputs.find(name);
    const InputSpec input = other == inputs.end() ? InputSpec{3, 32, 32} : other->second;
    const auto own = options.find(name);
    const std::string spec = R"({"use": ")" + name + "\"" + (own == options.end() ? "" : own->second) + "}";
    graphs.emplace(name, testkit::build(spec, input, {10}));
    leave(graphs.at(name), input, folder / name);
  }
  ASSERT_FALSE(graphs.empty());
  graphs.emplace("all_operations", all_operations());
  leave(graphs.at("all_operations"), {3, 32, 32}, folder / "all_operations");

  const Value result = from_json(testkit::run_python(ESPALIER_PYTHON, compare, {folder.path().string()}));
  if (const Value* why = result.find("skip")) GTEST_SKIP() << why->as_string();
  for (const auto& [name, graph] : graphs) {
    const Value& r = result.at(name);
    for (const char* form : {"python", "torchscript", "optimized", "onnx", "opset 13", "opset 17"})
      EXPECT_LE(r.at(form).as_double(), 1e-4) << name << " " << form;
    // By the statistics of one image the logits are others.
    if (name != "nasbench201_search") {
      EXPECT_LE(r.at("onnx, one image").as_double(), 1e-4) << name;
    }
    int64_t linear = 0, conv = 0;
    for (const Node& n : graph.nodes()) {
      linear += n.op->type() == "linear";
      conv += n.op->type() == "conv2d";
    }
    EXPECT_EQ(r.at("linear").as_int(), linear) << name;
    EXPECT_EQ(r.at("quantized").as_int(), linear) << name;
    EXPECT_EQ(r.at("conv").as_int(), conv) << name;
    EXPECT_GE(r.at("spread").as_double(), 1e-3) << name << ": the logits must depend on the image";
    EXPECT_TRUE(r.at("names").as_bool()) << name;
    for (const char* count : {"parameters", "script_parameters"})
      EXPECT_EQ(r.at(count).as_int(), graph.parameter_count()) << name << " " << count;
    EXPECT_NEAR(r.at("metadata").as_list()[0].as_list()[0].as_double(), 1 / 51., 1e-8);
    EXPECT_EQ(r.at("metadata").as_list()[2].as_int(), graph.sizes(graph[graph.output("logits")].shape)[0]);
    EXPECT_TRUE(r.at("said").as_bool()) << name;
    EXPECT_EQ(r.at("class").as_string(), "größter \"dog\"");
    EXPECT_EQ(r.at("resize").as_int(), 36);
    for (const char* follows : {"python_follows", "script_follows"})
      EXPECT_TRUE(r.at(follows).as_bool()) << name << " " << follows;
    // The two numbers of the solvable model give its losses, and no logits.
    for (const char* trains : {"python_gradients", "script_gradients"})
      EXPECT_EQ(r.at(trains).as_bool(), name != "solvable") << name << " " << trains;
  }
}

constexpr const char* compare_onnx = R"py(
import json, sys
from pathlib import Path
import torch
try:
    import onnxruntime
except ImportError:
    sys.exit(print(json.dumps({"skip": "no onnxruntime"})))
import importlib.util

result = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    spec = importlib.util.spec_from_file_location("model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = module.load_safetensors(folder / "data.safetensors")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    y = torch.from_numpy(session.run(["logits"], {session.get_inputs()[0].name: data["input"].numpy()})[0])
    logits = data["logits"]
    result[folder.name] = {"difference": ((y - logits).abs().max() / logits.abs().max()).item(),
                           "spread": ((logits[0] - logits[1]).abs().max() / logits.abs().max()).item()}
print(json.dumps(result))
)py";

// What is left of the published networks, narrow, at half, a quarter and an eighth of the multiply-accumulates.
TEST_F(Exports, OfPrunedNetworksAgreeInOnnxRuntime) {
  const TempFolder folder;
  std::map<std::string, double> left;
  for (const PublishedNetwork& p : published_networks()) {
    for (const char* share : {"0.5", "0.25", "0.125"}) {
      testkit::TestRun run(testkit::build(p.narrow, {3, 32, 32}, {p.classes}), 1);
      const double before = static_cast<double>(run.graph().macs());
      Registry::instance()
          .create<Controller>(from_json(R"({"use": "prune", "protect": 0, "normalize": "mean", "target": {"macs": )" +
                                        std::string(share) + "}}"))
          ->stage_begin(run);
      const std::string name = from_json(p.narrow).at("use").as_string() + "-" + share;
      // A position of so narrow a network is up to a twentieth of what stays.
      EXPECT_NEAR(static_cast<double>(run.graph().macs()) / before, std::stod(share), 0.05 * std::stod(share)) << name;
      left[name] = static_cast<double>(run.graph().macs()) / before;
      leave(run.graph(), {3, 32, 32}, folder / name, /*only_onnx=*/true);
    }
  }
  ASSERT_EQ(left.size(), 30U);
  const Value result = from_json(testkit::run_python(ESPALIER_PYTHON, compare_onnx, {folder.path().string()}));
  if (const Value* why = result.find("skip")) GTEST_SKIP() << why->as_string();
  for (const auto& [name, share] : left) {
    // Far less than what tells one image from another, which is little where little is left.
    const double spread = result.at(name).at("spread").as_double();
    EXPECT_LE(result.at(name).at("difference").as_double(), std::min(1e-4, 0.05 * spread)) << name;
    EXPECT_GE(spread, 1e-4) << name << ": the logits must depend on the image";
  }
}

TEST_F(Exports, SayWhichOperationHasNoForm) {
  Registry::instance().add(component<Nothing>(Nothing::name, "nothing"), {});
  GraphBuilder g({1, 8, 8});
  const Graph graph = g.output(g.node("test_nothing", "strange", {g.flatten(g.input())}));
  const Weights weights(graph, at::kFloat, at::kCPU);
  const std::string name = "x";
  const Scalings none;
  const DatasetInfo info;
  const TrainedNetwork network{name, graph, weights, info, none};
  using Write = std::string (*)(const TrainedNetwork&);
  const Write onnx = [](const TrainedNetwork& n) { return onnx_model(n); };
  for (const auto& [form, write] : {std::pair<const char*, Write>{"ONNX", onnx}, {"Python", torchscript_model}}) {
    try {
      write(network);
      ADD_FAILURE() << form;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("node 'strange'"));
      EXPECT_THAT(e.what(), HasSubstr(std::string("no ") + form + " form"));
    }
  }
}

// What an export must not get a name for. Each computes another thing in one of its forms.
class Skewed : public Operation {
 public:
  using Options = NoOptions;
  explicit Skewed(Options) {}
  Value options() const override { return Value::map(); }
  void build(NodeBuilder& n) const override { n.output(Shape(n.input(0))); }
  std::vector<at::Tensor> forward(const Forward& f) const override { return {f.inputs[0] * 2}; }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node&) const override { return {"({0} * 2.5)"}; }
  std::string type() const override { return "test_skewed"; }
  std::vector<std::string> onnx(OnnxNodes& to, const Graph&, const Node&) const override {
    return {to.add("Add", {to.input(0), to.input(0), to.input(0)})};
  }
};

TEST_F(Exports, AreComparedAndTheFaultIsPlaced) {
  Registry::instance().add(component<Skewed>("test_skewed", "another thing in Python"), {});
  GraphBuilder g({1, 8, 8});
  const Edge x = g.node("test_skewed", "strange", {g.relu(g.conv("conv", g.input(), {.filters = 3}))});
  const Graph graph = g.output(g.linear("fc", g.flatten(x), {.features = 4}));
  Weights weights(graph, at::kFloat, at::kCPU);
  fill(graph, weights);
  const std::vector<std::string> logits{"logits"};
  const NamedTensors given = export_inputs(graph, weights, logits);
  try {
    compare_torchscript(graph, weights, logits, given, torchscript_of(graph, weights, logits));
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("the TorchScript form gives other values than the network: node 'strange' "
                                    "(operation 'test_skewed'): it differs by 2.5e-01"));
  }
  try {
    onnx_of(graph, weights, logits);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("node 'strange': the ONNX form of 'test_skewed' gives 3 inputs to ONNX's Add"));
  }
}

constexpr const char* recipe = R"(
espalier: 1
name: small
data: {use: synthetic, count: 200, batch: 20}
network: {use: lenet5, conv1: 6, conv2: 8, hidden: 20}
stages:
  - {name: learn, epochs: 1, optimizer: {use: sgd, lr: 0.01}, controller: {use: threshold, tau: 1000, min_filters: 3}}
)";

TEST(Export, WritesARunBesideItAndElsewhere) {
  const TempFolder folder;
  const std::string run = (folder / "run").string();
  ASSERT_EQ(espalier_command("run -q " + folder.write("r.yaml", recipe).string() + " --out " + run).status, 0);
  const std::string program = read_file(folder / "run" / "model.py");
  const std::string values = read_file(folder / "run" / "model.safetensors");
  for (const auto& [format, file] : {std::pair{"onnx", "model.onnx"}, {"torchscript", "model.pt"}}) {
    const Output o = espalier_command("export " + run + " --to " + format);
    EXPECT_EQ(o.status, 0) << o.text;
    EXPECT_THAT(o.text, HasSubstr(run + "/" + file + ": "));
    EXPECT_THAT(o.text, HasSubstr("input [batch, 1, 16, 16]"));
    EXPECT_TRUE(fs::exists(folder / "run" / file));
  }
  EXPECT_EQ(espalier_command("export " + run + " --to onnx --opset 13 --out " + (folder / "old.onnx").string()).status,
            0);
  EXPECT_TRUE(fs::exists(folder / "old.onnx"));
  ASSERT_EQ(espalier_command("export " + run + " --to python --out " + (folder / "net.py").string()).status, 0);
  EXPECT_EQ(read_file(folder / "net.py"), program);
  EXPECT_EQ(read_file(folder / "net.safetensors"), values);

  // A run that was stopped: what its last checkpoint holds.
  for (const char* f : {"model.safetensors", "graph.json", "summary.json"}) fs::remove(folder / "run" / f);
  const Output o = espalier_command("export " + run + " --to safetensors --out " + (folder / "other").string());
  EXPECT_EQ(o.status, 0) << o.text;
  EXPECT_THAT(o.text, HasSubstr("has not finished"));
  EXPECT_EQ(read_file(folder / "other"), values);
}

// The names of the folders are known only once they were read, and not to the recipe.
TEST(Export, FilesHoldTheNamesOfClassFolders) {
  const TempFolder folder;
  for (uint32_t n = 0; n < 8; ++n)
    samples::write(folder / ("images/" + std::string(n < 4 ? "train/" : "val/") + (n % 2 ? "tabby cat/" : "dog/") +
                             std::to_string(n) + ".png"),
                   samples::png(16, 16, samples::noise(16, 16, n)));
  const auto images = folder.write("r.yaml", R"(
espalier: 1
name: images
threads: 1
data: {use: image_folder, folder: images, classes: 2, size: 16, batch: 4}
network: {use: mlp, hidden: [4]}
stages: [{name: look, epochs: 0}]
)");
  const std::string run = (folder / "run").string();
  const Output o =
      espalier_command("run -q " + images.string() + " --data " + folder.path().string() + " --out " + run);
  ASSERT_EQ(o.status, 0) << o.text;
  const std::string names = R"(["dog","tabby cat"])";
  EXPECT_EQ(to_json(from_json(read_file(folder / "run/data.json")).as_list()[0].at("names")), names);
  EXPECT_THAT(read_file(folder / "run/model.py"), HasSubstr("CLASS_NAMES = " + names));
  fs::rename(folder / "images", folder / "elsewhere");  // an export needs no data
  for (const auto& [format, file] : {std::pair{"python", "net.py"}, {"torchscript", "net.pt"}, {"onnx", "net.onnx"}}) {
    const Output exported =
        espalier_command("export " + run + " --to " + format + " --out " + (folder / file).string());
    EXPECT_EQ(exported.status, 0) << exported.text;
    EXPECT_THAT(read_file(folder / file), HasSubstr(names)) << file;
  }
}

TEST(Export, SaysWhatIsWrong) {
  const TempFolder folder;
  const std::string run = (folder / "run").string();
  const auto expect = [&](const std::string& arguments, int status, const std::string& said) {
    const Output o = espalier_command("export " + arguments);
    EXPECT_EQ(o.status, status) << o.text;
    EXPECT_THAT(o.text, HasSubstr(said));
  };
  expect(run + " --to onnx", 1, "there is no such run folder");
  expect(run + " --to tflite", 2, "tflite not in {safetensors,python,onnx,torchscript}");
  expect(run, 2, "--to is required");
  expect(run + " --to onnx --opset 12", 2, "12 not in {13,17,20}");
  fs::create_directory(folder / "run");
  expect(run + " --to onnx", 1, "it has no recipe.yaml");
  folder.write("run/recipe.yaml", recipe);
  expect(run + " --to onnx", 1, "it holds no network yet");
  expect((folder / "run/recipe.yaml").string() + " --to onnx", 1, "this is a file; a run is a folder");
  fs::remove_all(folder / "run");
  ASSERT_EQ(espalier_command("run -q " + folder.write("r.yaml", recipe).string() + " --out " + run).status, 0);
  expect(run + " --to onnx --out " + (folder / "no/where.onnx").string(), 1,
         "where.onnx: cannot write: there is no folder " + (folder / "no").string());
  std::string values = read_file(folder / "run" / "model.safetensors");
  values[values.size() - 3] ^= 1;
  folder.write("run/model.safetensors", values);
  expect(run + " --to onnx", 1, "its checksum is");
  folder.write("run/graph.json", "{}");
  expect(run + " --to onnx", 1, "graph.json: holds no network: the key 'schema' is missing");
  folder.write("run/graph.json", "{");
  expect(run + " --to onnx", 1, "graph.json: not valid JSON: parse error at line 1");
  EXPECT_FALSE(fs::exists(folder / "run" / "model.onnx"));
}

}  // namespace
}  // namespace espalier
