#pragma once

#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "espalier/component.h"
#include "espalier/graph.h"
#include "espalier/parts.h"
#include "espalier/random.h"

namespace espalier {

class OnnxNodes;
class Weights;

// How a forward pass is meant.
struct Pass {
  // Whether it is a training pass: dropout draws, batch norms use and update the statistics of the batch.
  bool training = false;
  // The random key of the step. Dropout and similar operations derive their own keys from it.
  RandomKey key;
  // How much of the stage's epochs lies behind, from 0 to 1. What rises while a network trains follows it.
  double progress = 1;
  // Whether neighbouring nodes may be computed together. false: each node by itself, with all its derivatives.
  bool fuse = true;
  // If it is set, every position that these changes of widths drop reads as zero in the output of each node, whatever
  // the parameters are: the network as it will be without them. Nothing is fused then.
  const std::vector<AxisChange>* without = nullptr;
  // Which part of the batch the inputs are, where several processes compute it together.
  BatchPart part{};
  // Whether a training pass leaves its traces in the buffers, such as the running statistics of batch norms.
  bool statistics = true;
};

// What an operation sees while its node is added to a graph.
class ESPALIER_API NodeBuilder {
 public:
  // Is made by Graph::add_node.
  NodeBuilder(Graph& graph, int32_t node, const std::vector<Axis>& axes) : graph_(graph), node_(node), axes_(axes) {}

  // Returns the graph that the node becomes part of.
  const Graph& graph() const { return graph_; }
  // Returns the name of the node.
  const std::string& name() const;
  // Returns the shape of input i, without the batch. Throws Error if there is no such input.
  const Shape& input(size_t i) const;
  // Returns the sizes of input i in numbers, without the batch.
  std::vector<int64_t> input_sizes(size_t i) const { return graph_.sizes(input(i)); }
  // Returns how many inputs the node has.
  size_t input_count() const;
  // Returns the i-th axis that the node makes. Throws Error if there is no such axis.
  Axis axis(size_t i) const;
  // Returns how many axes the node makes.
  size_t axis_count() const { return axes_.size(); }
  // Throws Error naming the node, its operation and the shapes of its inputs.
  [[noreturn]] void refuse(const std::string& why) const;

  // Declares the next output of the node, with its shape without the batch. The edge is called like the node, or
  // NODE.SUFFIX.
  void output(Shape shape, const std::string& suffix = "");

  // One dimension of a parameter.
  struct Dimension {
    Dim dim;             // what it is made of
    bool input = false;  // whether it reads the input of the node, rather than makes its output
  };
  // Returns a dimension that reads the input of the node: the columns of a weight.
  static Dimension reads(Dim dim) { return {std::move(dim), true}; }
  // Returns a dimension that makes the output of the node: the rows of a weight.
  static Dimension makes(Dim dim) { return {std::move(dim), false}; }
  // Declares a trainable parameter called NODE.SUFFIX. `init` fills it at first and fills its new slices after growth.
  // `removed` is what slices hold just before they are removed: with it the structure gives zero.
  ParamId parameter(const std::string& suffix, const std::string& kind, std::vector<Dimension> shape, Initializer init,
                    double removed = 0, Role role = Role::weight);
  // Declares a buffer called NODE.SUFFIX, which has no gradient. It holds `initial` at first, and slices hold `removed`
  // just before they are removed: 1 for a running variance, 0 for a running mean.
  ParamId buffer(const std::string& suffix, const std::string& kind, std::vector<Dimension> shape, double initial,
                 double removed);

 private:
  Graph& graph_;
  int32_t node_;
  const std::vector<Axis>& axes_;
};

// What an operation sees in a forward pass.
struct Forward {
  const Graph& graph;                     // the network
  const Node& node;                       // the node that is computed
  const Weights& weights;                 // the values
  const Pass& pass;                       // how the pass is meant
  const std::vector<at::Tensor>& inputs;  // the activations, each [batch, ...]; a batch of 1 if it depends on no sample

  // Returns the i-th parameter or buffer that the operation declared.
  ESPALIER_API const at::Tensor& parameter(size_t i) const;
};

// The plain PyTorch form of a node. The expression and the function are its TorchScript form too: they may use
// functions of torch and of Tensor, and those of torch.nn.functional (F) that are ATen's by name and arguments (linear,
// gelu, avg_pool2d), but no modules.
struct PythonForm {
  // The expression, in which {0}, {1} stand for the inputs, {p0}, {p1} for the parameters and buffers in the order of
  // their declaration, and {training} for self.training: "torch.conv2d({0}, {p0}, {p1}, [1, 1], [2, 2])".
  std::string expression;
  // The source of a function that the expression calls, typed for TorchScript; it is written once for all nodes. Empty
  // if there is none.
  std::string function{};
  // The constructor of PyTorch's own module for the same, "nn.Conv2d(3, 8, 5)"; empty if there is none. model.py calls
  // the module with the inputs in place of the expression, so that programs which look for modules (quantizers,
  // pruners, hooks) find it. Its parameters and buffers must have the names and sizes of those that the operation
  // declares.
  std::string module{};
};

// One operation of the field, with everything that is known of it in one place. It holds options and never values, so
// one object may serve many nodes. Most operations derive from OperationOf, below. The activation x * sigmoid(beta *
// x), with the includes and the line ESPALIER_PLUGIN left out (`espalier new operation NAME` writes a whole plugin):
//
//   struct SwishOptions {
//     double beta = 1;
//     static void declare(Declare<SwishOptions>& p) { p("beta", &SwishOptions::beta, above(0), "Steepness."); }
//   };
//   class Swish final : public OperationOf<Swish, SwishOptions> {
//    public:
//     static constexpr const char* name = "swish";
//     using OperationOf::OperationOf;
//     void build(NodeBuilder& node) const override { node.output(Shape(node.input(0))); }
//     std::vector<at::Tensor> forward(const Forward& f) const override {
//       return {f.inputs[0] * at::sigmoid(o_.beta * f.inputs[0])};
//     }
//     bool preserves_zero() const override { return true; }
//   };
class ESPALIER_API Operation : public Object {
 public:
  // The name of the kind in recipes, messages and `espalier plugins`.
  static constexpr const char* kind = "operation";

  // Returns the name of its component: "conv2d".
  virtual std::string type() const = 0;
  // Returns the options that it is made from again: Registry::create<Operation>({use: type(), ...options()}).
  virtual Value options() const = 0;
  // Infers the outputs and declares the parameters of a node. Refuses inputs that do not fit by node.refuse().
  virtual void build(NodeBuilder& node) const = 0;
  // Returns the outputs of a node, one tensor for each output that build() declared, of these shapes with the batch
  // first. The inputs have the dtype of the weights, or bfloat16 under autocast; the outputs may have either. Autograd
  // records what is computed. It must not wait for the device.
  virtual std::vector<at::Tensor> forward(const Forward& f) const = 0;

  // A node that follows in a chain, for forward_chain().
  struct Link {
    const Node& node;                // the node
    std::vector<at::Tensor> inputs;  // its inputs; the one that the chain hands on is undefined
  };
  // What forward_chain() computed.
  struct Fused {
    at::Tensor value;  // the output of the last node; undefined if nothing was computed
    size_t links = 0;  // how many nodes of the chain it holds
  };
  // Computes this node together with as many of the nodes that follow as is faster than one after the other. Each node
  // of the chain is the only reader of the one before. Returns an undefined value if there is no such gain.
  virtual Fused forward_chain(const Forward& /*f*/, const std::vector<Link>& /*chain*/) const { return {}; }
  // Returns the multiply-accumulates for one sample.
  virtual int64_t macs(const Graph&, const Node&) const { return 0; }
  // Returns whether zero in a channel of the input gives zero in that channel of the output, once the parameters of the
  // channel hold their `removed` values. If not, removing structure before the node changes the function.
  virtual bool preserves_zero() const = 0;
  // Returns whether it multiplies its inputs element by element: then zero in a channel of any one of them gives zero
  // there.
  virtual bool multiplies_inputs() const { return false; }
  // Returns whether the output for one sample depends on the other samples of the batch in evaluation, too.
  virtual bool mixes_samples() const { return false; }
  // Returns whether the output in one position depends on the number or the values of other positions along the width
  // of the input, beyond a sum in which zeros do not count (softmax, layer norm, mean over channels).
  virtual bool reduces_over_width() const { return false; }
  // Returns whether it sums products of its inputs along this axis (queries and keys): then new positions count even if
  // no layer reads them.
  virtual bool contracts(const Graph&, const Node&, Axis) const { return false; }
  // Returns this operation as it is after widths changed, if it holds something by position along an axis (an index
  // list, kernel sizes). Returns null if it stays as it is.
  virtual std::shared_ptr<const Operation> follow(const Graph& /*before*/, const Node&,
                                                  const std::vector<AxisChange>& /*changes*/) const {
    return nullptr;
  }
  // Returns the changes of other axes that these changes entail: a view loses what it reads.
  virtual std::vector<AxisChange> entail(const Graph& /*before*/, const Node&,
                                         const std::vector<AxisChange>& /*changes*/) const {
    return {};
  }
  // Returns whether its inputs stand side by side in one dimension of its output, in order.
  virtual bool joins_inputs() const { return false; }
  // Returns this operation without one of its inputs, or null if it needs them all.
  virtual std::shared_ptr<const Operation> without_input(const Node&, size_t /*input*/) const { return nullptr; }
  // Returns this operation with kernels of these sizes, one for each filter, which lack their first row and column on
  // the side `first`, or null if it has no kernels that could be cropped.
  virtual std::shared_ptr<const Operation> with_kernel_sizes(const Indices& /*sizes*/, KernelCorner /*first*/) const {
    return nullptr;
  }
  // Returns the sizes of the kernels, one for each filter; empty if it has none.
  virtual Indices kernel_sizes(const Graph&, const Node&) const { return {}; }
  // Returns on which side smaller kernels lack their first row and column.
  virtual KernelCorner kernel_corner() const { return KernelCorner::top_left; }
  // Returns how many trainable numbers count. Those outside of a cropped kernel do not.
  virtual int64_t parameter_count(const Graph& graph, const Node& node) const;
  // What can become of a factor for each channel.
  enum class Scaling {
    none,     // nothing: it stays where it is
    absorbs,  // the parameters that make the output take it up (the columns of a layer one on its input, too)
    passes    // a factor before the node is the same as one behind it
  };
  // Returns what can become of a factor for each channel.
  virtual Scaling scaling() const { return Scaling::none; }
  // Returns the PyTorch form of a node. Throws Error if the operation has none.
  virtual PythonForm python(const Graph& graph, const Node& node) const;
  // Returns the tensors of a node that follow from its options and shapes alone and that other programs keep beside the
  // parameters, as buffers: by suffix ("relative_position_index"), as their state dicts hold them. Files of other
  // programs are read and written with them.
  virtual std::vector<std::pair<std::string, at::Tensor>> constants(const Graph&, const Node&) const { return {}; }
  // Writes the ONNX form of a node and returns the names of its outputs. Throws Error if the operation has none.
  virtual std::vector<std::string> onnx(OnnxNodes& to, const Graph& graph, const Node& node) const;
};

// The common part of operations with a typed options struct. `Self` has a static member `name`.
template <class Self, class OptionsType>
class OperationOf : public Operation {
 public:
  // The options struct, as component() wants it.
  using Options = OptionsType;
  // Makes the operation from its options.
  explicit OperationOf(OptionsType o = {}) : o_(std::move(o)) {}
  // Returns Self::name.
  std::string type() const override { return Self::name; }
  // Returns the options as they were declared.
  Value options() const override { return Declare<OptionsType>().write(o_); }

 protected:
  // The options.
  OptionsType o_;
};

}  // namespace espalier
