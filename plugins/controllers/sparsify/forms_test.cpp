// The forms of both operations for other programs, with all of their options, side by side in one file.
#include <filesystem>
#include <fstream>
#include <set>

#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <espalier/onnx.h>
#include <espalier/operation.h>

#include "coefficients_by_hand.h"

namespace espalier {
namespace {

struct FormCase {
  Graph graph;
  std::unique_ptr<Weights> weights;
  const Node& node() const { return graph.node("c"); }
  std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> all;
    for (const ParamId p : node().parameters) all.push_back((*weights)[p].detach());
    return all;
  }
  at::Tensor value() const {
    const c10::NoGradGuard no_grad;
    return run(graph, *weights, {}, {"a"})[0];
  }
};

// Random values, some of which are zero in the end, and a component or candidates that have left.
std::vector<FormCase> form_cases() {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libsparsify.so");
  std::vector<FormCase> all;
  const auto add = [&](Graph g) {
    auto w = std::make_unique<Weights>(g, at::kDouble, at::kCPU);
    w->initialize(g, RandomKey(1));
    const c10::NoGradGuard no_grad;
    for (const ParamId p : g.node("c").parameters) {
      at::Tensor t = (*w)[p].detach();
      const RandomKey key = RandomKey(6).with(all.size()).with(g[p].name);
      if (g[p].role == Role::buffer) {
        t.copy_(uniform(t.sizes().vec(), 0, 1, key).gt(0.2));
      } else {
        t.copy_(uniform(t.sizes().vec(), -1, 1, key) * (t.numel() == 1 ? 1 : 1.5) - (t.numel() == 1 ? 2.5 : 0));
      }
    }
    all.push_back({std::move(g), std::move(w)});
  };
  for (const char* scale : {R"("scale": "one")", R"("scale": "count")"}) {
    for (const char* form : {R"("form": "free")", R"("form": "softmax")", R"("form": "sampled", "keep": 2)",
                             R"("form": "sampled", "keep": 9)", R"("gamma": "sigmoid")", R"("gamma": "exp")",
                             R"("gamma": "sigmoid", "null_component": true)",
                             R"("gamma": "exp", "null_component": true)", R"("revive": "elu")"})
      add(coefficients_of("{" + std::string(scale) + ", " + form + "}", 6));
  }
  for (const char* options : {R"("form": "free")", R"("form": "free", "symmetric": true)", R"("form": "softmax")",
                              R"("thresholds": "min")", R"("thresholds": "sum", "gamma": "exp", "iterations": 3)",
                              R"("thresholds": "product", "normalize": "balanced")",
                              R"("normalize": "balanced", "symmetric": true, "iterations": 4)",
                              R"("normalize": "none", "revive": "leaky")"}) {
    GraphBuilder b({.channels = 2, .nodes = 5});
    const Edge a = b.node("adjacency_competition", "c", {}, from_json(R"({"size": 5, )" + std::string(options) + "}"));
    Graph g = b.output(b.graph_conv("conv", b.input(), a, 3));
    g.add_output("a", a);
    add(std::move(g));
  }
  return all;
}

Value json_of(const at::Tensor& t) {
  return Value::map({{"sizes", t.sizes().vec()}, {"values", numbers_of(t)}});
}

TEST(CompetitionForms, PythonAndTorchScriptGiveTheSame) {
  const std::string python = ESPALIER_PYTHON;
  if (python.empty()) GTEST_SKIP() << "no Python with PyTorch";
  Value cases = Value::list();
  const std::vector<FormCase> all = form_cases();
  for (const FormCase& c : all) {
    const PythonForm form = c.node().op->python(c.graph, c.node());
    std::string expression = form.expression, arguments;
    Value values = Value::list();
    const std::vector<at::Tensor> parameters = c.parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      const std::string from = "{p" + std::to_string(i) + "}", to = "p" + std::to_string(i);
      for (size_t at = 0; (at = expression.find(from, at)) != std::string::npos; at += to.size())
        expression.replace(at, from.size(), to);
      arguments += to + ": torch.Tensor, ";
      values.push_back(json_of(parameters[i]));
    }
    cases.push_back(Value::map({{"what", to_json(c.node().op->options())},
                                {"function", form.function},
                                {"text", "(" + arguments + ") -> torch.Tensor:\n    return " + expression + "\n"},
                                {"arguments", values},
                                {"output", json_of(c.value())}}));
  }
  const auto file = std::filesystem::temp_directory_path() / ("espalier-competition-" + std::to_string(getpid()));
  std::ofstream(file) << to_json(cases);
  const Value errors = from_json(testkit::run_python(python, R"py(
import importlib.util, json, os, sys, torch
cases = json.load(open(sys.argv[1]))
# All in one file, as the nodes of a network are.
source = "import torch\n" + "\n".join(dict.fromkeys(c["function"] for c in cases))
source += "".join(f"\ndef case{i}" + c["text"] for i, c in enumerate(cases))
path = sys.argv[1] + "_forms.py"
open(path, "w").write(source)
spec = importlib.util.spec_from_file_location("forms", path)
forms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(forms)
def tensor(v):
    return torch.tensor(v["values"], dtype=torch.float64).reshape(v["sizes"])
errors = []
for i, c in enumerate(cases):
    f = getattr(forms, f"case{i}")
    expected = tensor(c["output"])
    for g in (f, torch.jit.script(f)):
        y = g(*[tensor(a) for a in c["arguments"]])
        assert y.shape == expected.shape, (c["what"], y.shape, expected.shape)
        errors.append([c["what"], (y - expected).abs().max().item(), torch.equal(y == 0, expected == 0)])
os.remove(path)
print(json.dumps(errors))
)py",
                                                     {file.string()}));
  std::filesystem::remove(file);
  ASSERT_EQ(errors.size(), 2 * all.size());
  for (const Value& e : errors.as_list()) {
    // Sums of a few numbers of size one in float64.
    EXPECT_LE(e.as_list()[1].as_double(), 1e-13) << e.as_list()[0].as_string();
    EXPECT_TRUE(e.as_list()[2].as_bool()) << e.as_list()[0].as_string() << ": zeros are exact";
  }
}

// The coefficients of a network that is not trained any more are a constant.
class Constants final : public OnnxNodes {
 public:
  explicit Constants(std::vector<at::Tensor> parameters) : parameters_(std::move(parameters)) {}
  std::string input(size_t) const override { return "no input"; }
  std::string parameter(size_t) override { return "no parameter"; }
  int64_t opset() const override { return 20; }
  at::ScalarType dtype() const override { return at::kDouble; }
  at::Tensor values(size_t i) const override { return parameters_[i]; }
  std::string constant(const at::Tensor& value) override {
    held = value;
    return "constant";
  }
  std::vector<std::string> add(const std::string& type, const std::vector<std::string>&, size_t outputs,
                               const Attributes&) override {
    ADD_FAILURE() << type;
    return std::vector<std::string>(outputs);
  }
  at::Tensor held;

 private:
  std::vector<at::Tensor> parameters_;
};

TEST(CompetitionForms, OfOnnxAreConstants) {
  for (const FormCase& c : form_cases()) {
    Constants to(c.parameters());
    EXPECT_EQ(c.node().op->onnx(to, c.graph, c.node()), std::vector<std::string>{"constant"});
    EXPECT_EQ(to.held.sizes(), c.value().sizes());
    EXPECT_LE((to.held - c.value()).abs().max().item<double>(), 1e-14) << to_json(c.node().op->options());
  }
}

}  // namespace
}  // namespace espalier
