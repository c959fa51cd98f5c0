// What the detector finds: boxes with scores and classes, and their masks.
#include <algorithm>
#include <tuple>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <c10/core/GradMode.h>

#include "detector_operations.h"
#include "nms.h"

namespace espalier {
namespace {

struct DetectionsOptions {
  int64_t count = 100;
  double least = 0.05;
  double overlap = 0.5;

  static void declare(Declare<DetectionsOptions>& p) {
    p("count", &DetectionsOptions::count, at_least(1), "Largest number of objects that are found in an image.");
    p("least", &DetectionsOptions::least, at_least(0), below(1), "Probability below which nothing was found.");
    p("overlap", &DetectionsOptions::overlap, above(0), at_most(1),
      "Share of the union from which on a box leaves out those of its class with a smaller score.");
  }
};

// Regions of the last stage, their boxes (decode_boxes), sizes of the images, and the logits of each stage -> what was
// found, [6]: box, score and class, and the offsets of each image. The score is the probability by the mean of all
// stages' logits (Cai & Vasconcelos 2018, section 4.2).
class Detections final : public OperationOf<Detections, DetectionsOptions>, public MakesRows {
 public:
  static constexpr const char* name = "detections";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    if (n.input_count() < 4 || n.input_sizes(0) != std::vector<int64_t>{5})
      n.refuse("regions, boxes, sizes and at least one stage's logits are needed");
    n.output({Dim::of(6)});
    n.output({}, "offsets");
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const c10::NoGradGuard no_grad;
    const at::Device device = f.inputs[0].device();
    const at::ScalarType type = f.weights.dtype();
    const at::Tensor regions = f.inputs[0].detach().to(at::kCPU, type), boxes = f.inputs[1].detach().to(at::kCPU, type);
    const at::Tensor sizes = f.inputs[2].detach().to(at::kCPU, type);
    at::Tensor logits = f.inputs[3].detach().to(at::kCPU, type);
    for (size_t i = 4; i < f.inputs.size(); ++i) logits = logits + f.inputs[i].detach().to(at::kCPU, type);
    const at::Tensor scores = at::softmax(logits / static_cast<double>(f.inputs.size() - 3), 1);
    const int64_t classes = scores.size(1) - 1;
    const std::vector<int64_t> begins = begins_of(regions, sizes.size(0));
    std::vector<at::Tensor> found;
    std::vector<int64_t> offsets = {0};
    for (int64_t i = 0; i < sizes.size(0); ++i) {
      const int64_t begin = begins[static_cast<size_t>(i)], end = begins[static_cast<size_t>(i) + 1];
      const at::Tensor probable = at::nonzero(scores.slice(0, begin, end).slice(1, 0, classes) > o_.least);
      const at::Tensor row = probable.select(1, 0), of = probable.select(1, 1);
      const at::Tensor score = scores.slice(0, begin, end).flatten().index_select(0, row * (classes + 1) + of);
      const at::Tensor all = boxes.slice(0, begin, end).reshape({end - begin, boxes.size(1) / 4, 4});
      const at::Tensor box = clipped(all.size(1) == 1 ? all.select(1, 0).index_select(0, row)
                                                      : all.flatten(0, 1).index_select(0, row * classes + of),
                                     sizes[i]);
      const at::Tensor kept = detection::nms_by_class(box, score, of, o_.overlap).slice(0, 0, o_.count);
      found.push_back(at::cat({box, score.unsqueeze(1), of.to(type).unsqueeze(1)}, 1).index_select(0, kept));
      offsets.push_back(offsets.back() + kept.size(0));
    }
    return {at::cat(found).to(device), at::tensor(offsets, at::kLong).to(device)};
  }
  int64_t rows(const Graph&, const Node&) const override { return o_.count; }
  bool preserves_zero() const override { return false; }
};

// Logits of the masks of each stage, [classes, h, w], and what was found -> how probably each part of a box belongs to
// the object, [h, w]: the mean of the stages' probabilities for its class (as mmdetection merges them).
class MaskProbabilities final : public OperationOf<MaskProbabilities, NoOptions> {
 public:
  static constexpr const char* name = "mask_probabilities";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    const Shape x = n.input(0);
    if (n.input_count() < 2 || x.size() != 3 || n.input_sizes(n.input_count() - 1) != std::vector<int64_t>{6})
      n.refuse("logits of [classes, height, width] and what was found are needed");
    n.output({x[1], x[2]});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::Tensor& found = f.inputs.back();
    const at::Tensor rows = at::arange(found.size(0), found.options().dtype(at::kLong));
    const at::Tensor classes = found.select(1, 5).to(at::kLong);
    at::Tensor sum;
    for (size_t i = 0; i + 1 < f.inputs.size(); ++i) {
      const at::Tensor& logits = f.inputs[i];
      const at::Tensor own =
          at::sigmoid(logits.flatten(0, 1).index_select(0, rows * logits.size(1) + classes)).to(found.scalar_type());
      sum = sum.defined() ? sum + own : own;
    }
    return {sum / static_cast<double>(f.inputs.size() - 1)};
  }
  bool preserves_zero() const override { return false; }
};

}  // namespace

std::vector<Component> result_operations() {
  return {component<Detections>(Detections::name, "the objects that were found: boxes, scores and classes"),
          component<MaskProbabilities>(MaskProbabilities::name, "the masks of the objects that were found")};
}

}  // namespace espalier
