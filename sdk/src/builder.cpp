#include "espalier/builder.h"

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/registry.h"

namespace espalier {

GraphBuilder::GraphBuilder(const InputSpec& input) {
  const Dim channels = Dim::of(graph_.add_axis("input", input.channels, /*fixed=*/true));
  input_ = graph_.add_input(
      "input", input.height > 0 ? Shape{channels, Dim::of(input.height), Dim::of(input.width)} : Shape{channels});
}

std::string GraphBuilder::auto_name(const std::string& type) {
  for (auto& [name, count] : counts_) {
    if (name == type) return type + std::to_string(++count);
  }
  counts_.emplace_back(type, 1);
  return type + "1";
}

Edge GraphBuilder::node(const std::string& operation, const std::string& name, const std::vector<Edge>& inputs,
                        Value options, const std::vector<int64_t>& widths) {
  options["use"] = operation;
  std::shared_ptr<const Operation> op = Registry::instance().create<Operation>(options);
  std::vector<Axis> axes;
  for (size_t i = 0; i < widths.size(); ++i)
    axes.push_back(graph_.add_axis(i == 0 ? name : name + "." + std::to_string(i), widths[i]));
  return graph_.nodes()[static_cast<size_t>(graph_.add_node(name, std::move(op), inputs, axes))].outputs.front();
}

Edge GraphBuilder::conv(const std::string& name, Edge x, const Conv& o) {
  const ConvOptions options{o.kernel, o.stride, o.padding, o.bias, o.init};
  return node("conv2d", name, {x}, Declare<ConvOptions>().write(options), {o.filters});
}

Edge GraphBuilder::linear(const std::string& name, Edge x, const Linear& o) {
  const LinearOptions options{o.bias, o.init, o.init_std};
  return node("linear", name, {x}, Declare<LinearOptions>().write(options), {o.features});
}

Edge GraphBuilder::batch_norm(const std::string& name, Edge x, const BatchNormOptions& o) {
  return node("batch_norm", name, {x}, Declare<BatchNormOptions>().write(o));
}

Edge GraphBuilder::activation(const std::string& type, Edge x) {
  return node(type, auto_name(type), {x});
}

Edge GraphBuilder::max_pool(Edge x, int64_t kernel, int64_t stride, int64_t padding) {
  return node("max_pool", auto_name("max_pool"), {x}, Declare<PoolOptions>().write({kernel, stride, padding}));
}

Edge GraphBuilder::avg_pool(Edge x, int64_t kernel, int64_t stride, int64_t padding) {
  return node("avg_pool", auto_name("avg_pool"), {x}, Declare<PoolOptions>().write({kernel, stride, padding}));
}

Edge GraphBuilder::global_avg_pool(Edge x) {
  return node("global_avg_pool", auto_name("global_avg_pool"), {x});
}
Edge GraphBuilder::flatten(Edge x) {
  return node("flatten", auto_name("flatten"), {x});
}
Edge GraphBuilder::dropout(Edge x, double p) {
  return node("dropout", auto_name("dropout"), {x}, Declare<DropoutOptions>().write({p}));
}

Graph GraphBuilder::output(Edge logits) {
  for (const Dim& d : graph_[logits].shape) {
    for (const Segment& s : d.segments) {
      for (const Factor& f : s.factors) {
        if (f.axis.id >= 0) graph_.fix(f.axis);
      }
    }
  }
  const Edge target = graph_.add_input("target", {});
  graph_.add_output("logits", logits);
  graph_.add_output("loss", node("cross_entropy", "loss", {logits, target}));
  return graph_;
}

}  // namespace espalier
