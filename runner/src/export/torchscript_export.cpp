#include "export/torchscript_export.h"

#include <sstream>

#include <c10/core/GradMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/lexer.h>
#include <torch/csrc/jit/frontend/parser.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/serialization/import.h>

#include "espalier/error.h"
#include "espalier/value.h"
#include "export/network_source.h"

namespace espalier {

namespace {

namespace jit = torch::jit;

// torch, and torch.nn.functional, where those of its functions are found that are ATen's.
struct TorchModule final : jit::BuiltinModule {
  TorchModule() : BuiltinModule("aten") {}
  std::shared_ptr<jit::SugaredValue> attr(const jit::SourceRange& where, jit::GraphFunction& function,
                                          const std::string& field) override {
    if (field == "nn" || field == "functional") return std::make_shared<TorchModule>();
    return BuiltinModule::attr(where, function, field);
  }
};

// torch, F, and the functions that the operations brought along.
class Names final : public jit::Resolver {
 public:
  explicit Names(std::shared_ptr<jit::CompilationUnit> unit) : unit_(std::move(unit)) {}
  std::shared_ptr<jit::SugaredValue> resolveValue(const std::string& name, jit::GraphFunction&,
                                                  const jit::SourceRange&) override {
    if (name == "torch" || name == "F") return std::make_shared<TorchModule>();
    jit::Function* function = unit_->find_function(c10::QualifiedName("__torch__", name));
    return function ? std::make_shared<jit::FunctionValue>(function) : nullptr;
  }

 private:
  std::shared_ptr<jit::CompilationUnit> unit_;
};

// TorchScript's own words, without where in LibTorch they were said.
std::string what_of(const std::exception& e) {
  const auto* error = dynamic_cast<const c10::Error*>(&e);
  return error ? error->what_without_backtrace() : e.what();
}

}  // namespace

std::string torchscript_of(const Graph& graph, const Weights& weights, const std::vector<std::string>& outputs,
                           const std::map<std::string, std::string>& metadata) {
  const auto unit = std::make_shared<jit::CompilationUnit>();
  jit::Module model("__torch__.Model", unit);
  model.register_attribute("training", c10::BoolType::get(), false);
  // Attributes may have any name, and with the points that parameters' names hold they are never taken or keywords.
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    const bool buffer = graph[id].role == Role::buffer;
    const at::Tensor value = weights[id].detach().to(at::kCPU).clone(at::MemoryFormat::Contiguous);
    model.register_parameter(graph[id].name, value.requires_grad_(!buffer), buffer);
  }
  const auto by_name = [](const std::string& name) { return "getattr(self, " + to_json(name) + ")"; };
  const NetworkSource source = network_source(graph, outputs, {.parameter = by_name});
  const auto names = std::make_shared<Names>(unit);
  try {
    if (!source.functions.empty()) unit->define(c10::QualifiedName("__torch__"), source.functions, names, nullptr);
    model.define(source.forward, names);
  } catch (const std::exception& e) {
    throw Error("the network's Python form is no TorchScript:\n" + what_of(e));
  }
  jit::ExtraFilesMap extra;
  for (const auto& [key, value] : metadata) extra[key] = value;
  std::ostringstream out;
  model.save(out, extra);
  return std::move(out).str();
}

std::string torchscript_model(const TrainedNetwork& n) {
  return torchscript_of(n.graph, n.weights, {"logits"}, n.metadata());
}

std::string python_fault(const std::string& expression) {
  try {
    jit::Parser parser(std::make_shared<jit::Source>(expression));
    parser.parseExp();
    parser.lexer().nextIf(jit::TK_NEWLINE);
    return parser.lexer().cur().kind == jit::TK_EOF ? "" : "there is more behind the expression";
  } catch (const std::exception& e) {
    return what_of(e);
  }
}

std::vector<at::Tensor> run_torchscript(const std::string& file, const std::vector<at::Tensor>& inputs) {
  const c10::NoGradGuard no_grad;
  try {
    std::istringstream in(file);
    jit::Module model = jit::load(in, at::kCPU);
    const c10::IValue result = model.forward({inputs.begin(), inputs.end()});
    if (result.isTensor()) return {result.toTensor()};
    std::vector<at::Tensor> values;
    for (const c10::IValue& v : result.toTupleRef().elements()) values.push_back(v.toTensor());
    return values;
  } catch (const std::exception& e) {
    throw Error("the TorchScript form does not run:\n" + what_of(e));
  }
}

}  // namespace espalier
