#include "output/onnx_export.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "espalier/build_config.h"
#include "espalier/error.h"
#include "espalier/onnx.h"
#include "espalier/operation.h"
#include "output/network_source.h"
#include "output/protobuf.h"

namespace espalier {

namespace {

constexpr int64_t opset = 20;
constexpr int64_t ir_version = 10;
// Of protobuf; the rest of a model is small beside its values.
constexpr int64_t most_bytes = (int64_t{1} << 31) - (int64_t{1} << 24);

// TensorProto.DataType
enum DataType : int64_t { type_float = 1, type_int64 = 7, type_bool = 9 };

DataType type_of(const at::Tensor& t) {
  return t.scalar_type() == at::kLong ? type_int64 : t.scalar_type() == at::kBool ? type_bool : type_float;
}

class Writer final : public OnnxNodes {
 public:
  Writer(const Graph& graph, const Weights& weights)
      : graph_(graph), weights_(weights), values_(graph.edges().size()), parameters_(graph.parameters().size()) {
    const Port& port = graph.inputs().front();
    values_[static_cast<size_t>(port.edge.id)] = unique(port.name);
    names_.insert("logits");
  }

  std::string input(size_t i) const override { return values_[static_cast<size_t>(node_->inputs[i].id)]; }
  at::ScalarType dtype() const override { return weights_.dtype(); }
  at::Tensor values(size_t i) const override { return weights_[node_->parameters[i]].detach(); }
  std::string parameter(size_t i) override {
    std::string& name = parameters_[static_cast<size_t>(node_->parameters[i].id)];
    if (name.empty()) name = store(graph_[node_->parameters[i]].name, values(i));
    return name;
  }
  std::string constant(const at::Tensor& value) override { return store(node_->name + ".constant", value); }
  std::string add(const std::string& type, const std::vector<std::string>& inputs,
                  const Attributes& attributes) override {
    // Both the node and its value are called as the graph's node; a second one of the same node by its type too.
    const std::string name = unique(names_.contains(node_->name) ? node_->name + "." + type : node_->name);
    nodes_.push_back({type, name, inputs, name, attributes});
    return name;
  }

  Message graph() {
    const Edge logits = graph_.output("logits");
    for (const Node* n : nodes_for(graph_, logits)) {
      node_ = n;
      const std::vector<std::string> outputs = n->op->onnx(*this, graph_, *n);
      if (outputs.size() != n->outputs.size())
        throw Error("node '" + n->name + "': the ONNX form of '" + n->op->type() + "' gives " +
                    std::to_string(outputs.size()) + " values, not " + std::to_string(n->outputs.size()));
      for (size_t i = 0; i < outputs.size(); ++i) values_[static_cast<size_t>(n->outputs[i].id)] = outputs[i];
    }
    name_logits(values_[static_cast<size_t>(logits.id)]);

    // GraphProto: 1 node, 2 name, 5 initializer, 11 input, 12 output
    Message g;
    for (const Made& n : nodes_) g.message(1, node_message(n));
    g.bytes(2, "network");
    for (const auto& [name, value] : tensors_) g.message(5, tensor_message(name, value));
    const Port& port = graph_.inputs().front();
    g.message(11, value_info(values_[static_cast<size_t>(port.edge.id)], graph_.sizes(graph_[port.edge].shape)));
    g.message(12, value_info("logits", graph_.sizes(graph_[logits].shape)));
    return g;
  }

 private:
  struct Made {
    std::string type;
    std::string name;
    std::vector<std::string> inputs;
    std::string output;
    Attributes attributes;
  };

  std::string unique(const std::string& name) {
    std::string result = name;
    for (int i = 2; !names_.insert(result).second; ++i) result = name + "_" + std::to_string(i);
    return result;
  }

  std::string store(const std::string& name, const at::Tensor& value) {
    const at::ScalarType type = value.scalar_type() == at::kBool                  ? at::kBool
                                : c10::isIntegralType(value.scalar_type(), false) ? at::kLong
                                                                                  : at::kFloat;
    // The weights lie in channels_last.
    const at::Tensor t = value.to(at::kCPU, type).contiguous();
    bytes_ += static_cast<int64_t>(t.nbytes());
    if (bytes_ > most_bytes)
      throw Error("the network is too large for ONNX, whose files end at 2 GB; take safetensors or torchscript");
    tensors_.emplace_back(unique(name), t);
    return tensors_.back().first;
  }

  // The last value is called "logits".
  void name_logits(const std::string& value) {
    const auto made = std::ranges::find(nodes_, value, &Made::output);
    if (made == nodes_.end()) {  // an input or a constant: they keep their names
      nodes_.push_back({"Identity", unique("logits.Identity"), {value}, "logits", {}});
      return;
    }
    const std::string before = value;
    made->output = "logits";
    for (Made& n : nodes_) std::ranges::replace(n.inputs, before, "logits");
  }

  // NodeProto: 1 input, 2 output, 3 name, 4 op_type, 5 attribute
  static Message node_message(const Made& n) {
    Message m;
    for (const std::string& i : n.inputs) m.bytes(1, i);
    m.bytes(2, n.output).bytes(3, n.name).bytes(4, n.type);
    for (const auto& [name, value] : n.attributes) m.message(5, attribute_message(name, value));
    return m;
  }

  // AttributeProto: 1 name, 2 f, 3 i, 4 s, 7 floats, 8 ints, 20 type
  static Message attribute_message(const std::string& name, const Attribute& value) {
    Message m;
    m.bytes(1, name);
    if (const auto* number = std::get_if<double>(&value))
      return m.number(2, static_cast<float>(*number)).integer(20, 1);
    if (const auto* integer = std::get_if<int64_t>(&value)) return m.integer(3, *integer).integer(20, 2);
    if (const auto* text = std::get_if<std::string>(&value)) return m.bytes(4, *text).integer(20, 3);
    if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
      for (const double n : *numbers) m.number(7, static_cast<float>(n));
      return m.integer(20, 6);
    }
    for (const int64_t n : std::get<std::vector<int64_t>>(value)) m.integer(8, n);
    return m.integer(20, 7);
  }

  // TensorProto: 1 dims, 2 data_type, 8 name, 9 raw_data
  static Message tensor_message(const std::string& name, const at::Tensor& t) {
    Message m;
    for (const int64_t n : t.sizes()) m.integer(1, n);
    return m.integer(2, type_of(t)).bytes(8, name).bytes(9, {static_cast<const char*>(t.const_data_ptr()), t.nbytes()});
  }

  // ValueInfoProto: 1 name, 2 type. TypeProto: 1 tensor_type. Its Tensor: 1 elem_type, 2 shape. TensorShapeProto: 1
  // dim. Dimension: 1 dim_value, 2 dim_param.
  static Message value_info(const std::string& name, const std::vector<int64_t>& sizes) {
    Message shape;
    shape.message(1, Message().bytes(2, "batch"));
    for (const int64_t n : sizes) shape.message(1, Message().integer(1, n));
    return Message().bytes(1, name).message(2,
                                            Message().message(1, Message().integer(1, type_float).message(2, shape)));
  }

  const Graph& graph_;
  const Weights& weights_;
  const Node* node_ = nullptr;
  std::vector<std::string> values_;      // of edges
  std::vector<std::string> parameters_;  // that are stored
  std::set<std::string> names_;
  std::vector<Made> nodes_;
  std::vector<std::pair<std::string, at::Tensor>> tensors_;
  int64_t bytes_ = 0;
};

}  // namespace

std::string onnx_model(const TrainedNetwork& n) {
  // ModelProto: 1 ir_version, 2 producer_name, 3 producer_version, 6 doc_string, 7 graph, 8 opset_import (2 version),
  // 14 metadata_props (1 key, 2 value)
  Message model;
  model.integer(1, ir_version).bytes(2, "espalier").bytes(3, ESPALIER_VERSION);
  model.bytes(6, n.name + ": input = pixel's byte * scale + shift, per channel (metadata_props)");
  model.message(7, Writer(n.graph, n.weights).graph()).message(8, Message().bytes(1, "").integer(2, opset));
  for (const auto& [key, value] : n.metadata()) model.message(14, Message().bytes(1, key).bytes(2, value));
  return model.text();
}

}  // namespace espalier
