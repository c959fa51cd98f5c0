// Where objects may be: the head of the proposals, their anchors, what stays of them, and which are learned from.
#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <espalier/error.h>
#include <espalier/random_fill.h>

#include "detector_operations.h"
#include "matching.h"
#include "nms.h"
#include "targets.h"

namespace espalier {

detection::BoxCoding stage_coding(int64_t stage) {
  constexpr double of_places[] = {0.1, 0.05, 0.033}, of_sizes[] = {0.2, 0.1, 0.067};
  const auto i = static_cast<size_t>(std::clamp<int64_t>(stage, 0, 2));
  return {.deviation = {of_places[i], of_places[i], of_sizes[i], of_sizes[i]}};
}

std::vector<int64_t> begins_of(const at::Tensor& regions, int64_t images) {
  const at::Tensor numbers = regions.select(1, 0).to(at::kCPU, at::kLong).contiguous();
  const auto* number = numbers.const_data_ptr<int64_t>();
  std::vector<int64_t> begins;
  for (int64_t i = 0; i <= images; ++i)
    begins.push_back(std::lower_bound(number, number + numbers.size(0), i) - number);
  return begins;
}

at::Tensor clipped(const at::Tensor& boxes, const at::Tensor& size) {
  return at::minimum(boxes.clamp_min(0), at::cat({size.flip(0), size.flip(0)}).to(boxes.options()));
}

at::Tensor regions_of(const at::Tensor& boxes, int64_t image) {
  return at::cat({at::full({boxes.size(0), 1}, static_cast<double>(image), boxes.options()), boxes}, 1);
}

void refuse_form(const Node& node) {
  throw Error("node '" + node.name +
              "': a detector has no form in Python, TorchScript or ONNX, since the number of its regions and boxes "
              "differs from image to image; model.safetensors holds its values under mmdetection's names");
}

namespace {

// [C, h, w] of each level -> tokens [places, filters] of all levels: a convolution of 3 x 3 that they share, and ReLU.
class LevelConv final : public OperationOf<LevelConv, NoOptions> {
 public:
  static constexpr const char* name = "level_conv";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    int64_t places = 0;
    for (size_t i = 0; i < n.input_count(); ++i) {
      const std::vector<int64_t> sizes = n.input_sizes(i);
      if (sizes.size() != 3 || channel_dim(n.input(i)) != 0 || sizes[0] != n.input_sizes(0)[0])
        n.refuse("feature levels of [channels, height, width] with equally many channels are needed");
      places += sizes[1] * sizes[2];
    }
    const auto three = NodeBuilder::makes(Dim::of(3));
    const Dim filters = Dim::of(n.axis(0));
    n.parameter("weight", "weight", {NodeBuilder::makes(filters), NodeBuilder::reads(n.input(0)[0]), three, three},
                {Initializer::Kind::normal, 0.01});
    n.parameter("bias", "bias", {NodeBuilder::makes(filters)}, {Initializer::Kind::constant, 0});
    n.output({Dim::of(places), filters});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    std::vector<at::Tensor> all;
    for (const at::Tensor& level : f.inputs) {
      const at::Tensor y =
          at::conv2d(level, f.parameter(0), f.parameter(1), at::IntArrayRef{1, 1}, at::IntArrayRef{1, 1});
      all.push_back(at::relu(y).permute({0, 2, 3, 1}).flatten(1, 2));
    }
    return {at::cat(all, 1)};
  }
  int64_t macs(const Graph& g, const Node& node) const override {
    return g.size(g[node.outputs[0]].shape[0]) * g.numel(g[node.parameters[0]].shape);
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node& node) const override { refuse_form(node); }
  std::vector<std::string> onnx(OnnxNodes&, const Graph&, const Node& node) const override { refuse_form(node); }
};

// Tokens [places, C] -> [places, 5 x shapes]: of each anchor of a place a logit, whether an object is there, and then
// four differences of each (Ren et al. 2015, section 3.1; Lin et al. 2017, section 4.1).
class RpnHead final : public OperationOf<RpnHead, NoOptions> {
 public:
  static constexpr const char* name = "rpn_head";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    if (x.size() != 2 || channel_dim(x) != 1) n.refuse("an input of [places, channels] is needed");
    const auto one = NodeBuilder::makes(Dim::of(1));
    const auto layer = [&](const std::string& called, int64_t outputs) {
      const auto makes = NodeBuilder::makes(Dim::of(outputs));
      n.parameter(called + ".weight", "weight", {makes, NodeBuilder::reads(x[1]), one, one},
                  {Initializer::Kind::normal, 0.01});
      n.parameter(called + ".bias", "bias", {makes}, {Initializer::Kind::constant, 0});
    };
    layer("rpn_cls", anchor_shapes);
    layer("rpn_reg", 4 * anchor_shapes);
    n.output({x[0], Dim::of(5 * anchor_shapes)});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const auto layer = [&](size_t i) { return at::linear(f.inputs[0], f.parameter(i).flatten(1), f.parameter(i + 1)); };
    return {at::cat({layer(0), layer(2)}, 2)};
  }
  int64_t macs(const Graph& g, const Node& node) const override {
    return g.numel(g[node.inputs[0]].shape) * 5 * anchor_shapes;
  }
  bool preserves_zero() const override { return true; }
  PythonForm python(const Graph&, const Node& node) const override { refuse_form(node); }
  std::vector<std::string> onnx(OnnxNodes&, const Graph&, const Node& node) const override { refuse_form(node); }
};

struct AnchorsOptions {
  double scale = 8;

  static void declare(Declare<AnchorsOptions>& p) {
    p("scale", &AnchorsOptions::scale, above(0), unit("strides"), "Side of a square anchor.");
  }
};

// [C, H, W] -> the anchors of all levels, [places x shapes, 4], for a batch of one; and a random number of each, for
// every sample.
class Anchors final : public OperationOf<Anchors, AnchorsOptions> {
 public:
  static constexpr const char* name = "anchors";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const std::vector<int64_t> image = n.input_sizes(0);
    if (image.size() != 3) n.refuse("an image of [channels, height, width] is needed");
    int64_t count = 0;
    for (const int64_t stride : strides)
      count += level_size(image[1], stride) * level_size(image[2], stride) * anchor_shapes;
    n.output({Dim::of(count), Dim::of(4)});
    n.output({Dim::of(count)}, "draws");
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& image = f.inputs[0];
    std::vector<at::Tensor> levels, draws;
    for (const int64_t stride : strides) {
      levels.push_back(detection::make_anchors(level_size(image.size(2), stride), level_size(image.size(3), stride),
                                               stride, {.scale = o_.scale}));
    }
    const at::Tensor all = at::cat(levels);
    // In evaluation all images have the same numbers, so that an image does not depend on its place in the batch.
    for (int64_t i = 0; i < image.size(0); ++i) {
      const RandomKey key = f.pass.key.with(f.node.name);
      const int64_t place = f.pass.training ? f.pass.part.first + i : 0;
      draws.push_back(uniform({all.size(0)}, 0, 1, key.with(static_cast<uint64_t>(place))));
    }
    return {all.unsqueeze(0).to(image.options()), at::stack(draws).to(image.options())};
  }
  bool preserves_zero() const override { return false; }
};

struct ProposalsOptions {
  int64_t count = 1000;
  int64_t train_count = 2000;
  double overlap = 0.7;

  static void declare(Declare<ProposalsOptions>& p) {
    p("count", &ProposalsOptions::count, at_least(1),
      "Largest number of regions of an image in evaluation, and of the anchors of each level that are looked at.");
    p("train_count", &ProposalsOptions::train_count, at_least(1), "The same in training.");
    p("overlap", &ProposalsOptions::overlap, above(0), at_most(1),
      "Share of the union from which on a region leaves out those of a smaller score.");
  }
};

// The logits and differences of the anchors (rpn_head), the anchors, the image and its size without padding -> regions:
// of each level the anchors with the largest logits are moved, cut to the image, and suppressed where they overlap a
// better one of their level (Ren et al. 2015, section 3.3; the order of mmdetection).
class Proposals final : public OperationOf<Proposals, ProposalsOptions>, public MakesRows {
 public:
  static constexpr const char* name = "proposals";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    if (n.input_count() != 4 || n.input_sizes(0).size() != 2 || n.input_sizes(0)[1] != 5 * anchor_shapes)
      n.refuse("logits of anchors, anchors, image and size are needed");
    n.output({Dim::of(5)});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const c10::NoGradGuard no_grad;
    const at::Tensor& image = f.inputs[2];
    const at::ScalarType type = f.weights.dtype();
    const at::Tensor given = f.inputs[0].detach().to(at::kCPU, type), sizes = f.inputs[3].detach().to(at::kCPU, type);
    const at::Tensor anchors = f.inputs[1].detach()[0].to(at::kCPU, type);
    const int64_t count = f.pass.training ? o_.train_count : o_.count;
    std::vector<at::Tensor> regions;
    for (int64_t i = 0; i < image.size(0); ++i) {
      std::vector<at::Tensor> boxes, scores, levels;
      int64_t first = 0;
      for (const int64_t stride : strides) {
        const int64_t places = level_size(image.size(2), stride) * level_size(image.size(3), stride);
        const at::Tensor level = given[i].slice(0, first, first + places);
        const at::Tensor logits = level.slice(1, 0, anchor_shapes).flatten();
        const auto [best, at] = logits.topk(std::min(count, logits.size(0)));
        const at::Tensor deltas = level.slice(1, anchor_shapes).reshape({-1, 4}).index_select(0, at);
        boxes.push_back(clipped(
            detection::decode_boxes(anchors.slice(0, first * anchor_shapes).index_select(0, at), deltas), sizes[i]));
        scores.push_back(best);
        levels.push_back(at::full({best.size(0)}, stride, at::kLong));
        first += places;
      }
      at::Tensor all = at::cat(boxes), score = at::cat(scores), level = at::cat(levels);
      const at::Tensor sides = all.slice(1, 2) - all.slice(1, 0, 2);
      const at::Tensor kept = at::nonzero(sides.gt(0).all(1)).squeeze(1);
      all = all.index_select(0, kept);
      all = all.index_select(
          0, detection::nms_by_class(all, score.index_select(0, kept), level.index_select(0, kept), o_.overlap)
                 .slice(0, 0, count));
      // An image has a region at least: all of it.
      if (all.size(0) == 0) all = at::cat({at::zeros({2}, sizes.options()), sizes[i].flip(0)}).unsqueeze(0);
      regions.push_back(regions_of(all, i));
    }
    return {at::cat(regions).to(image.device())};
  }
  int64_t rows(const Graph&, const Node&) const override { return o_.count; }
  bool preserves_zero() const override { return false; }
};

struct SampleOptions {
  double overlap = 0.5;
  int64_t count = 512;
  double positive = 0.25;

  static void declare(Declare<SampleOptions>& p) {
    p("overlap", &SampleOptions::overlap, above(0), at_most(1),
      "Intersection over the union from which on a region belongs to an object.");
    p("count", &SampleOptions::count, at_least(1), "Number of regions of each image.");
    p("positive", &SampleOptions::positive, at_least(0), at_most(1),
      "Largest share of regions that belong to an object.");
  }
};

// Regions and the targets (classes, boxes, offsets) -> the regions that are learned from: in training the objects'
// boxes join them, and so many are drawn; in evaluation all stay (Girshick, Fast R-CNN, 2015, section 2.3).
class SampleRegions final : public OperationOf<SampleRegions, SampleOptions>, public ReadsTargets {
 public:
  static constexpr const char* name = "sample_regions";
  explicit SampleRegions(SampleOptions o = {}) : OperationOf(o), ReadsTargets(1) {}

  void build(NodeBuilder& n) const override {
    if (n.input_count() != 4 || n.input_sizes(0) != std::vector<int64_t>{5})
      n.refuse("regions and three targets are needed");
    n.output({Dim::of(5)});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    if (!f.pass.training) return {f.inputs[0]};
    const c10::NoGradGuard no_grad;
    const at::Tensor regions = f.inputs[0].detach().cpu();
    const at::Tensor &boxes = f.inputs[2], &offsets = f.inputs[3];
    const int64_t images = offsets.size(0) - 1;
    const std::vector<int64_t> begins = begins_of(regions, images);
    std::vector<at::Tensor> drawn;
    for (int64_t i = 0; i < images; ++i) {
      const auto at = static_cast<size_t>(i);
      const at::Tensor objects = detection::rows_of(boxes, offsets, i).to(regions.scalar_type());
      const at::Tensor all = at::cat({objects, regions.slice(0, begins[at], begins[at + 1]).slice(1, 1)});
      const at::Tensor matched = detection::match_boxes(all, objects, {.positive = o_.overlap, .negative = o_.overlap});
      const RandomKey key = f.pass.key.with(f.node.name).with(static_cast<uint64_t>(f.pass.part.first + i));
      const detection::Drawn some =
          detection::draw_boxes(matched, uniform({all.size(0)}, 0, 1, key), o_.count, o_.positive);
      drawn.push_back(regions_of(all.index_select(0, at::cat({some.objects, some.background})), i));
    }
    return {at::cat(drawn).to(f.inputs[0].device())};
  }
  bool preserves_zero() const override { return false; }
};

}  // namespace

std::vector<Component> proposal_operations() {
  return {component<LevelConv>(LevelConv::name, "a convolution that all feature levels share"),
          component<RpnHead>(RpnHead::name, "whether each anchor of all places has an object, and where"),
          component<Anchors>(Anchors::name, "the anchors of all feature levels, and random numbers to choose by"),
          component<Proposals>(Proposals::name, "the regions of an image that look most like objects"),
          component<SampleRegions>(SampleRegions::name, "the regions that are learned from, at random in training")};
}

}  // namespace espalier
