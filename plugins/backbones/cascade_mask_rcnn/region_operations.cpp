// What is computed of regions: their features, and where they move.
#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <espalier/error.h>

#include "detector_operations.h"
#include "matching.h"
#include "roi_align.h"
#include "targets.h"

namespace espalier {
namespace {

struct RoiAlignOptions {
  int64_t size = 7;

  static void declare(Declare<RoiAlignOptions>& p) {
    p("size", &RoiAlignOptions::size, at_least(1), "Rows and columns of the features of a region.");
  }
};

// Regions, and feature levels of [C, h, w] -> the features of each region, [C, size, size], read from the level that
// fits its size (Lin et al. 2017, equation 1; He et al. 2017). It computes on the CPU; from a GPU, features come there
// and go back.
class RoiAlignLevels final : public OperationOf<RoiAlignLevels, RoiAlignOptions> {
 public:
  static constexpr const char* name = "roi_align";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    if (n.input_count() < 2 || n.input_sizes(0) != std::vector<int64_t>{5})
      n.refuse("regions and at least one feature level are needed");
    for (size_t i = 1; i < n.input_count(); ++i) {
      if (n.input_sizes(i).size() != 3 || channel_dim(n.input(i)) != 0 || n.input_sizes(i)[0] != n.input_sizes(1)[0])
        n.refuse("feature levels of [channels, height, width] with equally many channels are needed");
    }
    n.output({n.input(1)[0], Dim::of(o_.size), Dim::of(o_.size)});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const at::ScalarType type = f.weights.dtype();
    const at::Tensor regions = f.inputs[0].detach().to(at::kCPU, type);
    const auto levels = static_cast<int64_t>(f.inputs.size()) - 1;
    const at::Tensor of = detection::feature_levels(regions.slice(1, 1), levels);
    std::vector<at::Tensor> numbers, features;
    for (int64_t level = 0; level < levels; ++level) {
      const at::Tensor here = at::nonzero(of == level).squeeze(1);
      if (here.size(0) == 0) continue;
      const at::Tensor map = f.inputs[static_cast<size_t>(level) + 1].to(at::kCPU, type);
      numbers.push_back(here);
      features.push_back(
          detection::roi_align(map, regions.index_select(0, here),
                               {.height = o_.size,
                                .width = o_.size,
                                .scale = 1.0 / static_cast<double>(strides[static_cast<size_t>(level)])}));
    }
    if (features.empty()) {
      const at::Tensor& map = f.inputs[1];
      return {at::zeros({0, map.size(1), o_.size, o_.size}, map.options().dtype(type))};
    }
    const at::Tensor all = at::cat(features).index_select(0, at::argsort(at::cat(numbers)));
    return {all.contiguous(at::MemoryFormat::ChannelsLast).to(f.inputs[1].device())};
  }
  Scaling scaling() const override { return Scaling::passes; }
  bool preserves_zero() const override { return true; }
};

struct StageOptions {
  int64_t stage = 0;
  double overlap = 0.5;

  static void declare(Declare<StageOptions>& p) {
    p("stage", &StageOptions::stage, at_least(0), "Stage of the cascade, from 0.");
    p("overlap", &StageOptions::overlap, above(0), at_most(1),
      "Intersection over the union from which on a region belongs to an object.");
  }
};

// Regions and differences [4] or [4 x classes] -> the boxes that the differences lead to, alike, with derivatives.
class DecodeBoxes final : public OperationOf<DecodeBoxes, StageOptions> {
 public:
  static constexpr const char* name = "decode_boxes";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    if (n.input_count() != 2 || n.input_sizes(0) != std::vector<int64_t>{5} || n.input_sizes(1).size() != 1 ||
        n.input_sizes(1)[0] % 4 != 0)
      n.refuse("regions and four differences of each box are needed");
    n.output({Dim::of(n.input_sizes(1)[0])});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    return {detection::decode_boxes(f.inputs[0].slice(1, 1), f.inputs[1].to(f.inputs[0].scalar_type()),
                                    stage_coding(o_.stage))};
  }
  bool preserves_zero() const override { return false; }
};

// Regions, their boxes (decode_boxes), logits of the classes, sizes of the images and targets -> the regions of the
// next stage: the boxes of the class that a region belongs to in training, or else of the class with the largest logit,
// cut to the image. In training, regions that are an object's box go; the next stage adds them itself.
class RefineRegions final : public OperationOf<RefineRegions, StageOptions>, public ReadsTargets {
 public:
  static constexpr const char* name = "refine_regions";
  explicit RefineRegions(StageOptions o = {}) : OperationOf(o), ReadsTargets(4) {}

  void build(NodeBuilder& n) const override {
    if (n.input_count() != 7) n.refuse("regions, boxes, logits, sizes and three targets are needed");
    n.output({Dim::of(5)});
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const c10::NoGradGuard no_grad;
    const at::Tensor regions = f.inputs[0].detach().cpu(), boxes = f.inputs[1].detach().cpu();
    const at::Tensor sizes = f.inputs[3].detach().cpu();
    at::Tensor classes = f.inputs[2].detach().cpu().slice(1, 0, -1).argmax(1);
    const std::vector<int64_t> begins = begins_of(regions, sizes.size(0));
    std::vector<at::Tensor> refined;
    for (int64_t i = 0; i < sizes.size(0); ++i) {
      const int64_t begin = begins[static_cast<size_t>(i)], end = begins[static_cast<size_t>(i) + 1];
      const at::Tensor before = regions.slice(0, begin, end).slice(1, 1);
      at::Tensor of = classes.slice(0, begin, end), kept;
      if (f.pass.training) {
        const at::Tensor objects = detection::rows_of(f.inputs[5], f.inputs[6], i).to(before.scalar_type());
        const at::Tensor labels = detection::rows_of(f.inputs[4], f.inputs[6], i);
        if (objects.size(0) > 0) {
          const at::Tensor matched =
              detection::match_boxes(before, objects, {.positive = o_.overlap, .negative = o_.overlap});
          of = at::where(matched >= 0, labels.index_select(0, matched.clamp_min(0)), of);
          const at::Tensor same = before.unsqueeze(1).eq(objects.unsqueeze(0)).all(2).any(1);
          kept = at::nonzero(same.logical_not()).squeeze(1);
        }
      }
      at::Tensor after = boxes.slice(0, begin, end);
      if (after.size(1) > 4) {
        const at::Tensor four = of.view({-1, 1, 1}).expand({of.size(0), 1, 4});
        after = after.reshape({after.size(0), after.size(1) / 4, 4}).gather(1, four).squeeze(1);
      }
      if (kept.defined()) after = after.index_select(0, kept);
      refined.push_back(regions_of(clipped(after, sizes[i]), i));
    }
    return {at::cat(refined).to(f.inputs[0].device())};
  }
  bool preserves_zero() const override { return false; }
};

struct MaskRegionsOptions {
  double overlap = 0.5;
  int64_t count = 100;

  static void declare(Declare<MaskRegionsOptions>& p) {
    p("overlap", &MaskRegionsOptions::overlap, above(0), at_most(1),
      "Intersection over the union from which on a region belongs to an object.");
    p("count", &MaskRegionsOptions::count, at_least(1), "Number of objects that are found in an image, at most.");
  }
};

// Regions, what was found and its offsets (detections), and targets -> the regions that get masks: in training those
// that belong to an object, in evaluation what was found. There is one at least, so that no layer behind is without
// rows; what does not count is left out where masks are used.
class MaskRegions final : public OperationOf<MaskRegions, MaskRegionsOptions>, public MakesRows, public ReadsByPass {
 public:
  static constexpr const char* name = "mask_regions";
  using OperationOf::OperationOf;

  void build(NodeBuilder& n) const override {
    if (n.input_count() != 6) n.refuse("regions, what was found, its offsets and three targets are needed");
    n.output({Dim::of(5)});
  }
  bool reads(size_t input, const Pass& pass) const override {
    return pass.training ? input != 1 && input != 2 : input == 1 || input == 2;
  }
  std::vector<at::Tensor> forward(const Forward& f) const override {
    const c10::NoGradGuard no_grad;
    return {f.pass.training ? of_objects(f) : of_found(f)};
  }
  int64_t rows(const Graph&, const Node&) const override { return o_.count; }
  bool preserves_zero() const override { return false; }

 private:
  at::Tensor of_objects(const Forward& f) const {
    const at::Tensor regions = f.inputs[0].detach().cpu();
    const int64_t images = f.inputs[5].size(0) - 1;
    const std::vector<int64_t> begins = begins_of(regions, images);
    std::vector<at::Tensor> all;
    for (int64_t i = 0; i < images; ++i) {
      const at::Tensor rows = regions.slice(0, begins[static_cast<size_t>(i)], begins[static_cast<size_t>(i) + 1]);
      const at::Tensor objects = detection::rows_of(f.inputs[4], f.inputs[5], i).to(rows.scalar_type());
      const at::Tensor matched =
          detection::match_boxes(rows.slice(1, 1), objects, {.positive = o_.overlap, .negative = o_.overlap});
      all.push_back(rows.index_select(0, at::nonzero(matched >= 0).squeeze(1)));
    }
    const at::Tensor some = at::cat(all);
    return (some.size(0) > 0 ? some : regions.slice(0, 0, 1)).to(f.inputs[0].device());
  }
  static at::Tensor of_found(const Forward& f) {
    const at::Tensor& found = f.inputs[1];
    const at::Tensor offsets = f.inputs[2].cpu();
    std::vector<at::Tensor> all;
    for (int64_t i = 0; i + 1 < offsets.size(0); ++i)
      all.push_back(regions_of(detection::rows_of(found, offsets, i).slice(1, 0, 4), i));
    const at::Tensor some = at::cat(all);
    return (some.size(0) > 0 ? some : at::zeros({1, 5}, some.options())).to(found.device());
  }
};

}  // namespace

std::vector<Component> region_operations() {
  return {component<RoiAlignLevels>(RoiAlignLevels::name, "the features of regions, from feature levels"),
          component<DecodeBoxes>(DecodeBoxes::name, "the boxes that differences lead regions to"),
          component<RefineRegions>(RefineRegions::name, "the regions of the next stage of a cascade"),
          component<MaskRegions>(MaskRegions::name, "the regions that get masks")};
}

}  // namespace espalier
