#include "output/torchscript_export.h"

#include <sstream>

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/resolver.h>

#include "espalier/error.h"
#include "espalier/value.h"
#include "output/network_source.h"

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

}  // namespace

std::string torchscript_model(const TrainedNetwork& n) {
  const auto unit = std::make_shared<jit::CompilationUnit>();
  jit::Module model("__torch__.Model", unit);
  model.register_attribute("training", c10::BoolType::get(), false);
  // Attributes may have any name, and with the points that parameters' names hold they are never taken or keywords.
  for (size_t i = 0; i < n.graph.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    const bool buffer = n.graph[id].role == Role::buffer;
    const at::Tensor value = n.weights[id].detach().to(at::kCPU).clone(at::MemoryFormat::Contiguous);
    model.register_parameter(n.graph[id].name, value.requires_grad_(!buffer), buffer);
  }
  const auto by_name = [](const std::string& name) { return "getattr(self, " + to_json(name) + ")"; };
  const NetworkSource source = network_source(n.graph, by_name);
  const auto names = std::make_shared<Names>(unit);
  try {
    if (!source.functions.empty()) unit->define(c10::QualifiedName("__torch__"), source.functions, names, nullptr);
    model.define(source.forward, names);
  } catch (const std::exception& e) {
    throw Error(std::string("the network's Python form is no TorchScript:\n") + e.what());
  }
  jit::ExtraFilesMap extra;
  for (const auto& [key, value] : n.metadata()) extra[key] = value;
  std::ostringstream out;
  model.save(out, extra);
  return std::move(out).str();
}

}  // namespace espalier
