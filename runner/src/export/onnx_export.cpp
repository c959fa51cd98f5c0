#include "export/onnx_export.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "espalier/build_config.h"
#include "espalier/error.h"
#include "espalier/onnx.h"
#include "espalier/operation.h"
#include "export/network_source.h"
#include "export/onnx_operators.h"
#include "formats/protobuf.h"

namespace espalier {

namespace {

// Of the ONNX that brought the opset.
int64_t ir_version(int64_t opset) {
  return opset < 15 ? 7 : opset < 19 ? 8 : 9;
}

// Of protobuf; the rest of a model is small beside its values.
constexpr int64_t most_bytes = (int64_t{1} << 31) - (int64_t{1} << 24);

// TensorProto.DataType
enum DataType : int64_t { type_float = 1, type_int64 = 7, type_bool = 9 };

DataType type_of(const at::Tensor& t) {
  return t.scalar_type() == at::kLong ? type_int64 : t.scalar_type() == at::kBool ? type_bool : type_float;
}

class Writer final : public OnnxNodes {
 public:
  Writer(const Graph& graph, const Weights& weights, const std::vector<std::string>& outputs, int64_t opset)
      : graph_(graph),
        weights_(weights),
        outputs_(outputs),
        inputs_(inputs_for(graph, outputs)),
        opset_(opset),
        values_(graph.edges().size()),
        parameters_(graph.parameters().size()) {
    for (const Port& port : inputs_) known_.insert(value(port.edge) = unique(port.name));
    names_.insert(outputs.begin(), outputs.end());
  }

  int64_t opset() const override { return opset_; }
  std::string input(size_t i) const override {
    if (i >= node_->inputs.size()) fail("reads the input " + std::to_string(i) + ", and the node has none such");
    return values_[static_cast<size_t>(node_->inputs[i].id)];
  }
  at::ScalarType dtype() const override { return weights_.dtype(); }
  at::Tensor values(size_t i) const override {
    if (i >= node_->parameters.size())
      fail("reads the parameter " + std::to_string(i) + ", and the node has none such");
    return weights_[node_->parameters[i]].detach();
  }
  std::string parameter(size_t i) override {
    const at::Tensor of_parameter = values(i);
    std::string& name = parameters_[static_cast<size_t>(node_->parameters[i].id)];
    if (name.empty()) name = store(graph_[node_->parameters[i]].name, of_parameter);
    return name;
  }
  std::string constant(const at::Tensor& value) override { return store(node_->name + ".constant", value); }
  using OnnxNodes::add;
  std::vector<std::string> add(const std::string& type, const std::vector<std::string>& inputs, size_t outputs,
                               const Attributes& attributes) override {
    // Both the node and its value are called as the graph's node; a second one of the same node by its type too.
    const std::string name = unique(names_.contains(node_->name) ? node_->name + "." + type : node_->name);
    std::vector<std::string> made{name};
    while (made.size() < outputs) made.push_back(unique(name + "." + std::to_string(made.size())));
    nodes_.push_back({type, name, inputs, made, attributes});
    check(nodes_.back());
    known_.insert(made.begin(), made.end());
    return made;
  }

  Message graph() {
    for (const Node* n : nodes_for(graph_, outputs_)) {
      node_ = n;
      const std::vector<std::string> made = n->op->onnx(*this, graph_, *n);
      if (made.size() != n->outputs.size()) {
        fail("gives " + std::to_string(made.size()) + " values, and the node has " + std::to_string(n->outputs.size()) +
             " outputs");
      }
      for (size_t i = 0; i < made.size(); ++i) {
        if (!known_.contains(made[i])) fail("gives the value '" + made[i] + "', which nothing makes");
        value(n->outputs[i]) = made[i];
      }
    }
    for (const std::string& output : outputs_) name_output(output, value(graph_.output(output)));

    // GraphProto: 1 node, 2 name, 5 initializer, 11 input, 12 output
    Message g;
    for (const Made& n : nodes_) g.message(1, node_message(n));
    g.bytes(2, "network");
    for (const auto& [name, value] : tensors_) g.message(5, tensor_message(name, value));
    for (const Port& port : inputs_) g.message(11, value_info(value(port.edge), sizes(port.edge)));
    for (const std::string& output : outputs_) g.message(12, value_info(output, sizes(graph_.output(output))));
    return g;
  }

 private:
  struct Made {
    std::string type;
    std::string name;
    std::vector<std::string> inputs, outputs;
    Attributes attributes;
  };

  std::string& value(Edge e) { return values_[static_cast<size_t>(e.id)]; }
  std::vector<int64_t> sizes(Edge e) const { return graph_.sizes(graph_[e].shape); }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error("node '" + node_->name + "': the ONNX form of '" + node_->op->type() + "' " + what);
  }

  // Whether an operator takes what it is given, and values are there before they are read.
  void check(const Made& n) const {
    const OnnxOperator* found = nullptr;
    int later = 0;
    for (const OnnxOperator& o : onnx_operators()) {
      if (n.type != o.name) continue;
      if (o.since <= opset_) {
        found = &o;
      } else if (later == 0) {
        later = o.since;
      }
    }
    if (!found) {
      fail("uses the operator '" + n.type + "', which " +
           (later ? "ONNX has from opset " + std::to_string(later) + " on, and this file is of opset " +
                        std::to_string(opset_)
                  : "ONNX does not have"));
    }
    if (found->most_outputs == 0) fail("uses the operator '" + n.type + "', which ONNX has no longer");
    if (n.outputs.empty() || n.outputs.size() > found->most_outputs) {
      fail("asks for " + std::to_string(n.outputs.size()) + " outputs of ONNX's " + n.type + ", which has " +
           std::to_string(found->most_outputs) + " at most");
    }
    if (n.inputs.size() < found->least_inputs || n.inputs.size() > found->most_inputs) {
      fail("gives " + std::to_string(n.inputs.size()) + " inputs to ONNX's " + n.type + ", which takes " +
           std::to_string(found->least_inputs) +
           (found->most_inputs > found->least_inputs ? " or more, up to " + std::to_string(found->most_inputs) : ""));
    }
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      if (n.inputs[i].empty() && i >= found->least_inputs) continue;
      if (!known_.contains(n.inputs[i]))
        fail("gives the input '" + n.inputs[i] + "' to ONNX's " + n.type + ", and nothing before it makes that value");
    }
    std::istringstream declared(found->attributes);
    std::set<std::string> names;
    for (std::string word; declared >> word;) {
      const std::string name = word.substr(0, word.find(':'));
      const char kind = word[name.size() + 1];
      names.insert(name);
      const auto given = std::ranges::find(n.attributes, name, [](const auto& a) { return a.first; });
      if (given == n.attributes.end()) {
        if (word.ends_with('!')) fail("leaves out the attribute '" + name + "' of ONNX's " + n.type);
      } else if (kind != kind_of(given->second)) {
        fail("gives another type to the attribute '" + name + "' of ONNX's " + n.type + " than it has");
      }
    }
    for (const auto& [name, value] : n.attributes) {
      if (!names.contains(name)) fail("gives the attribute '" + name + "', which ONNX's " + n.type + " does not have");
    }
  }

  static char kind_of(const Attribute& value) {
    constexpr const char* kinds = "ifsIF";  // in the order of Attribute
    return kinds[value.index()];
  }

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
    known_.insert(tensors_.back().first);
    return tensors_.back().first;
  }

  // The value of an output is called as the output.
  void name_output(const std::string& output, const std::string& value) {
    const auto made = std::ranges::find_if(
        nodes_, [&](const Made& n) { return std::ranges::find(n.outputs, value) != n.outputs.end(); });
    // Inputs, constants and what is an output already keep their names.
    if (made == nodes_.end() || std::ranges::count(outputs_, value)) {
      nodes_.push_back({"Identity", unique(output + ".Identity"), {value}, {output}, {}});
      return;
    }
    const std::string before = value;
    std::ranges::replace(made->outputs, before, output);
    for (Made& n : nodes_) std::ranges::replace(n.inputs, before, output);
    std::ranges::replace(values_, before, output);
  }

  // NodeProto: 1 input, 2 output, 3 name, 4 op_type, 5 attribute
  static Message node_message(const Made& n) {
    Message m;
    for (const std::string& i : n.inputs) m.bytes(1, i);
    for (const std::string& o : n.outputs) m.bytes(2, o);
    m.bytes(3, n.name).bytes(4, n.type);
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
  const std::vector<std::string>& outputs_;
  std::vector<Port> inputs_;  // that the outputs need
  int64_t opset_;
  const Node* node_ = nullptr;
  std::vector<std::string> values_;      // of edges
  std::vector<std::string> parameters_;  // that are stored
  std::set<std::string> names_;          // taken
  std::set<std::string> known_;          // values that are there
  std::vector<Made> nodes_;
  std::vector<std::pair<std::string, at::Tensor>> tensors_;
  int64_t bytes_ = 0;
};

}  // namespace

std::string onnx_of(const Graph& graph, const Weights& weights, const std::vector<std::string>& outputs, int64_t opset,
                    const std::string& doc, const std::map<std::string, std::string>& metadata) {
  // ModelProto: 1 ir_version, 2 producer_name, 3 producer_version, 6 doc_string, 7 graph, 8 opset_import (2 version),
  // 14 metadata_props (1 key, 2 value)
  Message model;
  model.integer(1, ir_version(opset)).bytes(2, "espalier").bytes(3, ESPALIER_VERSION).bytes(6, doc);
  model.message(7, Writer(graph, weights, outputs, opset).graph());
  model.message(8, Message().bytes(1, "").integer(2, opset));
  for (const auto& [key, value] : metadata) model.message(14, Message().bytes(1, key).bytes(2, value));
  return model.text();
}

std::string onnx_model(const TrainedNetwork& n, int64_t opset) {
  return onnx_of(n.graph, n.weights, {"logits"}, opset,
                 n.name + (n.takes_images() ? ": input = pixel's byte * scale + shift, per channel (metadata_props)"
                                            : ": input = feature * scale + shift (metadata_props)"),
                 n.metadata());
}

}  // namespace espalier
