// The loss of a cascade of box and mask heads over proposals.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/smooth_l1_loss.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <espalier/error.h>
#include <espalier/loss.h>

#include "detector_operations.h"
#include "matching.h"
#include "roi_align.h"
#include "targets.h"

namespace espalier {
namespace {

struct LossOptions {
  std::vector<double> overlaps = {0.5, 0.6, 0.7};
  std::vector<double> stage_weights = {1, 0.5, 0.25};
  std::string boxes = "giou";
  double box_weight = 10;
  bool masks = true;
  int64_t anchors = 256;

  static void declare(Declare<LossOptions>& p) {
    p("overlaps", &LossOptions::overlaps, above(0), at_most(1),
      "Intersection over the union from which on a region belongs to an object, of each stage: as `overlaps` of the "
      "network.");
    p("stage_weights", &LossOptions::stage_weights, at_least(0), "Weight of each stage.");
    p("boxes", &LossOptions::boxes, one_of({"giou", "smooth_l1"}),
      "Loss of the boxes of the stages; giou: 1 - generalised IoU; smooth_l1: of the scaled differences.");
    p("box_weight", &LossOptions::box_weight, at_least(0),
      "Weight of the loss of the boxes of the stages. 10 is usual for giou, and 1 for smooth_l1.");
    p("masks", &LossOptions::masks, "Whether masks are learned, as `masks` of the network.");
    p("anchors", &LossOptions::anchors, at_least(1),
      "Number of anchors of each image that the proposals are learned from, half of them of objects at most.");
  }
};

at::Tensor widened(const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x;
}

// The objects of an image.
struct Objects {
  at::Tensor boxes;    // [m, 4]
  at::Tensor classes;  // int64 [m]
};

Objects objects_of(const Batch& batch, int64_t image, const at::Tensor& like) {
  const auto rows = [&](const char* name) { return detection::rows_of(batch.targets, name, image, "target"); };
  return {rows("boxes").to(like.options()), rows("target").to(like.device())};
}

// Rows that belong to an object, with the object's box and class; numbers of rows ascending.
struct Positives {
  at::Tensor rows, boxes, classes;
};

class MaskRcnnLoss final : public Loss {
 public:
  using Options = LossOptions;
  explicit MaskRcnnLoss(Options o) : o_(std::move(o)) {
    if (o_.overlaps.empty() || o_.overlaps.size() != o_.stage_weights.size())
      throw Error("'overlaps' and 'stage_weights' need one entry for each stage");
  }
  void check(const TargetSpec& target) const override {
    if (target.task == detection::task) return;
    throw Error("mask_rcnn is a loss for objects that are found in images (the task " + std::string(detection::task) +
                "), and the task of the data is " + target.task);
  }
  std::vector<std::string> outputs() const override {
    std::vector<std::string> names = {"logits", "anchors", "draws"};
    for (size_t i = 0; i < o_.overlaps.size(); ++i) {
      const std::string stage = "." + std::to_string(i);
      for (const char* name : {"regions", "scores", "boxes"}) names.push_back(name + stage);
      if (!o_.masks) continue;
      for (const char* name : {"mask_regions", "mask_logits"}) names.push_back(name + stage);
    }
    return names;
  }
  at::Tensor value(const Prediction& p) const override {
    at::Tensor sum = of_proposals(p);
    for (size_t i = 0; i < o_.overlaps.size(); ++i) {
      at::Tensor stage = of_boxes(p, i);
      if (o_.masks) stage = stage + of_masks(p, i);
      sum = sum + o_.stage_weights[i] * stage;
    }
    return sum;
  }

 private:
  // Cross-entropy of each drawn anchor, and smooth l1 of those of objects, as shares of all drawn anchors (Ren et al.
  // 2015, equation 1, with mmdetection's balance).
  at::Tensor of_proposals(const Prediction& p) const {
    const at::Tensor logits = widened(p.output("logits"));
    const at::Tensor anchors = p.output("anchors")[0].to(logits.scalar_type());
    const at::Tensor sizes = p.batch.input("sizes").to(at::kCPU, at::kDouble);
    at::Tensor sum = logits.sum() * 0;
    int64_t count = 0;
    for (int64_t i = 0; i < logits.size(0); ++i) {
      const Objects objects = objects_of(p.batch, i, anchors);
      at::Tensor drawn_from;  // anchors of the image and its padding up to the coarsest stride of regions
      {
        const c10::NoGradGuard no_grad;
        const auto whole = [&](int64_t side) {
          return std::ceil(sizes[i][side].item<double>() / static_cast<double>(strides[3])) *
                 static_cast<double>(strides[3]);
        };
        const at::Tensor middle = (anchors.slice(1, 0, 2) + anchors.slice(1, 2, 4)) * 0.5;
        drawn_from = middle.select(1, 0).lt(whole(1)).logical_and(middle.select(1, 1).lt(whole(0)));
      }
      at::Tensor matched = detection::match_boxes(
          anchors, objects.boxes, {.positive = 0.7, .negative = 0.3, .best_of_each = true, .least = 0.3});
      matched.masked_fill_(drawn_from.logical_not(), detection::neither);
      const detection::Drawn drawn =
          detection::draw_boxes(matched, p.output("draws")[i].to(matched.device()), o_.anchors, 0.5);
      count += drawn.objects.size(0) + drawn.background.size(0);
      const at::Tensor of_anchors = logits[i].slice(1, 0, anchor_shapes).flatten();
      const auto cross_entropy = [&](const at::Tensor& which, double truth) {
        const at::Tensor x = of_anchors.index_select(0, which);
        return at::binary_cross_entropy_with_logits(x, at::full(x.sizes(), truth, x.options()), {}, {},
                                                    at::Reduction::Sum);
      };
      sum = sum + cross_entropy(drawn.objects, 1) + cross_entropy(drawn.background, 0);
      const at::Tensor deltas = logits[i].slice(1, anchor_shapes).reshape({-1, 4}).index_select(0, drawn.objects);
      const at::Tensor wanted =
          detection::encode_boxes(anchors.index_select(0, drawn.objects),
                                  objects.boxes.index_select(0, matched.index_select(0, drawn.objects)));
      sum = sum + at::smooth_l1_loss(deltas, wanted, at::Reduction::Sum, 1.0 / 9);
    }
    return sum / static_cast<double>(std::max<int64_t>(count, 1));
  }

  Positives positives_of(const Prediction& p, const at::Tensor& regions, double overlap) const {
    const c10::NoGradGuard no_grad;
    const std::vector<int64_t> begins = begins_of(regions, p.batch.size());
    std::vector<at::Tensor> rows, boxes, classes;
    for (int64_t i = 0; i < p.batch.size(); ++i) {
      const at::Tensor own =
          regions.slice(0, begins[static_cast<size_t>(i)], begins[static_cast<size_t>(i) + 1]).slice(1, 1);
      const Objects objects = objects_of(p.batch, i, own);
      const at::Tensor matched = detection::match_boxes(own, objects.boxes, {.positive = overlap, .negative = overlap});
      const at::Tensor here = at::nonzero(matched >= 0).squeeze(1), of = matched.index_select(0, here);
      rows.push_back(here + begins[static_cast<size_t>(i)]);
      boxes.push_back(objects.boxes.index_select(0, of));
      classes.push_back(objects.classes.index_select(0, of));
    }
    return {at::cat(rows), at::cat(boxes), at::cat(classes)};
  }

  // Cross-entropy of all regions, and the loss of the boxes of those that belong to an object, both as shares of all
  // regions (Cai & Vasconcelos 2018, equation 7).
  at::Tensor of_boxes(const Prediction& p, size_t stage) const {
    const std::string name = "." + std::to_string(stage);
    const at::Tensor scores = widened(p.output("scores" + name)), regions = p.output("regions" + name).detach();
    const Positives objects = positives_of(p, regions, o_.overlaps[stage]);
    const at::Tensor labels = at::full({scores.size(0)}, scores.size(1) - 1, objects.rows.options());
    labels.index_copy_(0, objects.rows, objects.classes);
    const at::Tensor of_classes = at::cross_entropy_loss(scores, labels);
    at::Tensor boxes = widened(p.output("boxes" + name)).index_select(0, objects.rows);
    if (boxes.size(1) > 4) {
      const at::Tensor four = objects.classes.view({-1, 1, 1}).expand({objects.classes.size(0), 1, 4});
      boxes = boxes.reshape({boxes.size(0), boxes.size(1) / 4, 4}).gather(1, four).squeeze(1);
    }
    at::Tensor moved;
    if (o_.boxes == "giou") {
      moved = (1 - detection::aligned_giou(boxes, objects.boxes)).sum();
    } else {
      const at::Tensor from = regions.slice(1, 1).index_select(0, objects.rows);
      const auto coding = stage_coding(static_cast<int64_t>(stage));
      moved = at::smooth_l1_loss(detection::encode_boxes(from, boxes, coding),
                                 detection::encode_boxes(from, objects.boxes, coding), at::Reduction::Sum, 1.0);
    }
    return of_classes + o_.box_weight * moved / static_cast<double>(scores.size(0));
  }

  // Cross-entropy of each part of the masks of an object's class (He et al. 2017, section 3).
  at::Tensor of_masks(const Prediction& p, size_t stage) const {
    const std::string name = "." + std::to_string(stage);
    const at::Tensor logits = widened(p.output("mask_logits" + name));
    const at::Tensor regions = p.output("mask_regions" + name).detach().cpu();
    const at::Tensor sizes = p.batch.input("sizes").to(at::kCPU, at::kDouble);
    const std::vector<int64_t> begins = begins_of(regions, p.batch.size());
    const int64_t side = logits.size(2);
    std::vector<at::Tensor> rows, classes, truth;
    for (int64_t i = 0; i < p.batch.size(); ++i) {
      const c10::NoGradGuard no_grad;
      const int64_t begin = begins[static_cast<size_t>(i)], end = begins[static_cast<size_t>(i) + 1];
      const at::Tensor own = regions.slice(0, begin, end).slice(1, 1);
      const Objects objects = objects_of(p.batch, i, own);
      const at::Tensor matched =
          detection::match_boxes(own, objects.boxes, {.positive = o_.overlaps[stage], .negative = o_.overlaps[stage]});
      const at::Tensor here = at::nonzero(matched >= 0).squeeze(1);
      if (here.size(0) == 0) continue;
      const at::Tensor of = matched.index_select(0, here);
      rows.push_back(here + begin);
      classes.push_back(objects.classes.index_select(0, of));
      truth.push_back(masks_in(p.batch, i, sizes[i], own.index_select(0, here), of, side));
    }
    if (rows.empty()) return logits.sum() * 0;
    const at::Device device = logits.device();
    const at::Tensor at = at::cat(rows).to(device) * logits.size(1) + at::cat(classes).to(device);
    return at::binary_cross_entropy_with_logits(logits.flatten(0, 1).index_select(0, at),
                                                at::cat(truth).to(device, logits.scalar_type()));
  }

  // The objects' masks within boxes, [n, side, side], 0 or 1.
  static at::Tensor masks_in(const Batch& batch, int64_t image, const at::Tensor& size, const at::Tensor& boxes,
                             const at::Tensor& objects, int64_t side) {
    const auto height = static_cast<int64_t>(size[0].item<double>()),
               width = static_cast<int64_t>(size[1].item<double>());
    const std::vector<detection::Rle> masks = detection::masks_of(batch, "masks", image, height, width);
    const at::Tensor bytes = at::empty({std::ssize(masks), 1, height, width}, at::kByte);
    for (size_t m = 0; m < masks.size(); ++m)
      detection::decode_mask(masks[m], bytes.mutable_data_ptr<uint8_t>() + static_cast<int64_t>(m) * height * width);
    const at::Tensor regions = at::cat({objects.to(boxes.scalar_type()).unsqueeze(1), boxes}, 1);
    return detection::roi_align(bytes.to(boxes.scalar_type()), regions, {.height = side, .width = side})
        .squeeze(1)
        .ge(0.5);
  }

  Options o_;
};

}  // namespace

Component mask_rcnn_loss() {
  return component<MaskRcnnLoss>("mask_rcnn",
                                 "losses of proposals, and of the boxes, classes and masks of each stage of a cascade")
      .provide("default:" + std::string(detection::task));
}

}  // namespace espalier
