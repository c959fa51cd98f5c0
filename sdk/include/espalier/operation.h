#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/random.h"

namespace espalier {

class OnnxNodes;
class Weights;

// How a forward pass is meant.
struct Pass {
  bool training = false;
  RandomKey key;     // of this step: dropout and its like derive theirs from it
  bool fuse = true;  // neighbouring nodes may be computed together; false: each by itself, with all its derivatives
  // Where it is set, every position that these changes of widths drop is zero in what each node gives, whatever its
  // parameters are: the network as it will be without them. Nothing is fused then.
  const std::vector<AxisChange>* without = nullptr;
};

// What an operation sees while its node is added to a graph.
class ESPALIER_API NodeBuilder {
 public:
  NodeBuilder(Graph& graph, int32_t node, const std::vector<Axis>& axes) : graph_(graph), node_(node), axes_(axes) {}

  const Graph& graph() const { return graph_; }
  const std::string& name() const;
  // Shape of input i, and its sizes in numbers. Throws Error where there is no such input.
  const Shape& input(size_t i) const;
  std::vector<int64_t> input_sizes(size_t i) const { return graph_.sizes(input(i)); }
  size_t input_count() const;
  // The i-th axis that the node makes.
  Axis axis(size_t i) const;
  size_t axis_count() const { return axes_.size(); }
  // Throws Error naming the node, its operation and the shapes of its inputs.
  [[noreturn]] void refuse(const std::string& why) const;

  void output(Shape shape, const std::string& suffix = "");
  struct Dimension {
    Dim dim;
    bool input = false;
  };
  static Dimension reads(Dim dim) { return {std::move(dim), true}; }
  static Dimension makes(Dim dim) { return {std::move(dim), false}; }
  // A trainable parameter called NODE.SUFFIX.
  ParamId parameter(const std::string& suffix, const std::string& kind, std::vector<Dimension> shape, Initializer init,
                    double removed = 0, Role role = Role::weight);
  ParamId buffer(const std::string& suffix, const std::string& kind, std::vector<Dimension> shape, double initial,
                 double removed);

 private:
  Graph& graph_;
  int32_t node_;
  const std::vector<Axis>& axes_;
};

// What an operation sees in a forward pass.
struct Forward {
  const Graph& graph;
  const Node& node;
  const Weights& weights;
  const Pass& pass;
  const std::vector<at::Tensor>& inputs;  // activations: [batch, ...]

  // The i-th parameter or buffer that the operation declared.
  ESPALIER_API const at::Tensor& parameter(size_t i) const;
};

// The plain PyTorch form of a node. The expression and the function are its TorchScript form too: functions of torch
// and of Tensor, those of torch.nn.functional (F) that are ATen's by name and arguments (linear, gelu, avg_pool2d), and
// no modules.
struct PythonForm {
  // {0}, {1}: the inputs; {p0}, {p1}: the parameters and buffers in the order of their declaration; {training}:
  // self.training. "torch.conv2d({0}, {p0}, {p1}, [1, 1], [2, 2])"
  std::string expression;
  // Source of a function that the expression calls, written once for all nodes; typed for TorchScript.
  std::string function{};
  // Where PyTorch has a module for the same: its constructor, "nn.Conv2d(3, 8, 5)". model.py calls the module with the
  // inputs in place of the expression, so that programs which look for modules (quantizers, pruners, hooks) find it.
  // The module's parameters and buffers must have the names and sizes of those that the operation declares.
  std::string module{};
};

// One operation of the field, with all that is known of it in one place. It holds its options, never values; one object
// may serve many nodes.
class ESPALIER_API Operation : public Object {
 public:
  static constexpr const char* kind = "operation";

  // The name of its component: "conv2d".
  virtual std::string type() const = 0;
  // What it is made from again: Registry::create<Operation>({use: type(), ...options()}).
  virtual Value options() const = 0;
  // Infers the outputs and declares the parameters.
  virtual void build(NodeBuilder& node) const = 0;
  virtual std::vector<at::Tensor> forward(const Forward& f) const = 0;
  // This node and some that follow, each the only reader of the one before, in one go: as many of the chain as can be
  // computed together faster. Nothing where there is no such gain.
  struct Link {
    const Node& node;
    std::vector<at::Tensor> inputs;  // undefined: what the chain hands on
  };
  struct Fused {
    at::Tensor value;  // the last one's output
    size_t links = 0;  // how many nodes of the chain it holds
  };
  virtual Fused forward_chain(const Forward& /*f*/, const std::vector<Link>& /*chain*/) const { return {}; }
  // Multiply-accumulates for one sample.
  virtual int64_t macs(const Graph&, const Node&) const { return 0; }
  // Whether zero in a channel of the input gives zero in that channel of the output, once the channel's parameters hold
  // their `removed` values. Where false, removing structure before it changes the function.
  virtual bool preserves_zero() const = 0;
  // Whether it multiplies its inputs element by element: then zero in a channel of any one of them gives zero there.
  virtual bool multiplies_inputs() const { return false; }
  // Whether in evaluation, too, what it gives for one sample depends on the others of its batch.
  virtual bool mixes_samples() const { return false; }
  // Whether its output in one position depends on the number or values of others along the input's width, beyond a sum
  // in which zeros do not count (softmax, layer norm, mean over channels).
  virtual bool reduces_over_width() const { return false; }
  // Whether it sums products of its inputs along this axis (queries and keys): new positions count even where no
  // layer reads them.
  virtual bool contracts(const Graph&, const Node&, Axis) const { return false; }
  // This operation after widths changed, where it holds something by position along an axis (an index list, kernel
  // sizes); null: it stays as it is.
  virtual std::shared_ptr<const Operation> follow(const Graph& /*before*/, const Node&,
                                                  const std::vector<AxisChange>& /*changes*/) const {
    return nullptr;
  }
  // Changes of other axes that these entail: a view loses what it reads.
  virtual std::vector<AxisChange> entail(const Graph& /*before*/, const Node&,
                                         const std::vector<AxisChange>& /*changes*/) const {
    return {};
  }
  // Whether its inputs stand side by side in one dimension of its output, in order.
  virtual bool joins_inputs() const { return false; }
  // This operation without one of its inputs; null: it needs them all.
  virtual std::shared_ptr<const Operation> without_input(const Node&, size_t /*input*/) const { return nullptr; }
  // This operation with kernels of these sizes, one for each filter; null: it has no kernels that could be cropped.
  virtual std::shared_ptr<const Operation> with_kernel_sizes(const Indices& /*sizes*/) const { return nullptr; }
  // Sizes of the kernels, one for each filter.
  virtual Indices kernel_sizes(const Graph&, const Node&) const { return {}; }
  // Trainable numbers that count: what lies outside a cropped kernel does not.
  virtual int64_t parameter_count(const Graph& graph, const Node& node) const;
  // What becomes of a factor for each channel: `absorbs` on the output by multiplying the parameters that make it (a
  // layer's columns absorb one on its input, too); `passes`: a factor before it is the same as one behind it.
  enum class Scaling { none, absorbs, passes };
  virtual Scaling scaling() const { return Scaling::none; }
  // Both throw Error where the operation has no such form. onnx() gives the names of the outputs' values.
  virtual PythonForm python(const Graph& graph, const Node& node) const;
  virtual std::vector<std::string> onnx(OnnxNodes& to, const Graph& graph, const Node& node) const;
};

// The common part of operations with a typed options struct.
template <class Self, class OptionsType>
class OperationOf : public Operation {
 public:
  using Options = OptionsType;
  explicit OperationOf(OptionsType o = {}) : o_(std::move(o)) {}
  std::string type() const override { return Self::name; }
  Value options() const override { return Declare<OptionsType>().write(o_); }

 protected:
  OptionsType o_;
};

}  // namespace espalier
