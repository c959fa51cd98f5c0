#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <espalier/backbone.h>
#include <espalier/plugin.h>
#include <espalier/registry.h>

#include "detector_operations.h"
#include "resnet_body.h"
#include "swin_body.h"
#include "targets.h"

namespace espalier {

struct CascadeOptions {
  Nested body{Value::map({{"use", "swin_t"}})};
  int64_t channels = 256;
  std::vector<double> overlaps = {0.5, 0.6, 0.7};
  int64_t convs = 4;
  int64_t fcs = 1;
  int64_t hidden = 1024;
  bool norms = true;
  bool class_agnostic = false;
  bool masks = true;
  int64_t mask_size = 28;
  double anchor_scale = 8;
  int64_t proposals = 1000;
  int64_t train_proposals = 2000;
  int64_t samples = 512;
  int64_t found = 100;
  double least_score = 0.05;

  static void declare(Declare<CascadeOptions>& p) {
    p("body", &CascadeOptions::body, of_kind("backbone"),
      "Network whose feature levels are read: swin_t, resnet18, resnet34, resnet50, resnet101 or resnet152, with its "
      "options.");
    p("channels", &CascadeOptions::channels, at_least(1), "Channels of the feature pyramid and of the heads' layers.");
    p("overlaps", &CascadeOptions::overlaps, above(0), at_most(1),
      "Intersection over the union from which on a region belongs to an object, of each stage of the cascade. There "
      "are as many stages.");
    p("convs", &CascadeOptions::convs, at_least(0), "Convolutions of each box head.");
    p("fcs", &CascadeOptions::fcs, at_least(1), "Linear layers of each box head before those of classes and boxes.");
    p("hidden", &CascadeOptions::hidden, at_least(1), "Units of each of these linear layers.");
    p("norms", &CascadeOptions::norms, "Whether the convolutions of the box heads have batch norms.");
    p("class_agnostic", &CascadeOptions::class_agnostic,
      "Whether a region has one box for all classes (Cai & Vasconcelos 2018) instead of one for each, as the detector "
      "of Swin has it.");
    p("masks", &CascadeOptions::masks, "Whether there are mask heads.");
    p("mask_size", &CascadeOptions::mask_size, at_least(2), "Rows and columns of a mask, an even number.");
    p("anchor_scale", &CascadeOptions::anchor_scale, above(0), unit("strides"), "Side of a square anchor.");
    p("proposals", &CascadeOptions::proposals, at_least(1), "Largest number of regions of an image in evaluation.");
    p("train_proposals", &CascadeOptions::train_proposals, at_least(1),
      "Largest number of regions of an image in training, before some are drawn.");
    p("samples", &CascadeOptions::samples, at_least(1),
      "Regions of each image that each stage learns from, a quarter of them of objects at most.");
    p("found", &CascadeOptions::found, at_least(1), "Largest number of objects that are found in an image.");
    p("least_score", &CascadeOptions::least_score, at_least(0), below(1),
      "Probability below which an object was not found.");
  }
};

namespace {

constexpr size_t levels = 4;  // that regions are read from

Value without_use(const Value& spec) {
  Value options = Value::map();
  options.location = spec.location;
  for (const Value::Entry& e : spec.as_map()) {
    if (e.key != "use") options[e.key] = e.value;
  }
  return options;
}

// The feature levels of a body, images with strides of 4, 8, 16 and 32.
std::vector<Edge> body_levels(GraphBuilder& g, const Value& spec) {
  const auto scope = g.scope("backbone");
  const std::string name = name_of(spec, "backbone");
  const Value options = spec.is_map() ? without_use(spec) : Value::map();
  const std::string what = "backbone '" + name + "'";
  if (name == "swin_t") {
    const auto o = Declare<SwinOptions>().read(options, what);
    if (o.patch != strides[0] || o.depths.size() != levels)
      throw Error(
          "the body swin_t needs patches of 4 pixels and four stages, so that its levels have the strides 4, 8, "
          "16 and 32");
    std::vector<Edge> images;
    for (const Edge x : swin_stages(g, g.input(), o, /*any_size=*/true)) {
      const Edge y = g.layer_norm("norm" + std::to_string(images.size()), x, {.eps = o.norm_eps});
      images.push_back(g.node("to_image", "level" + std::to_string(images.size()), {y}));
    }
    return images;
  }
  const std::vector<std::pair<std::string, ResnetDepth>> resnets = {{"resnet18", {false, {2, 2, 2, 2}}},
                                                                    {"resnet34", {false, {3, 4, 6, 3}}},
                                                                    {"resnet50", {true, {3, 4, 6, 3}}},
                                                                    {"resnet101", {true, {3, 4, 23, 3}}},
                                                                    {"resnet152", {true, {3, 8, 36, 3}}}};
  for (const auto& [known, depth] : resnets) {
    if (known != name) continue;
    const auto o = Declare<ResnetOptions>().read(options, what);
    if (o.stem != "imagenet" || o.dilated > 0)
      throw Error("the body " + name +
                  " needs the stem imagenet and no dilated stage, so that its levels have the "
                  "strides 4, 8, 16 and 32");
    return resnet_stages(g, g.input(), o, depth);
  }
  throw InputError(spec.location.str(), "the body '" + name +
                                            "' names no feature levels; swin_t and resnet18, "
                                            "resnet34, resnet50, resnet101 and resnet152 do");
}

struct Detector {
  GraphBuilder& g;
  const CascadeOptions& o;
  int64_t classes;
  std::vector<std::pair<std::string, Edge>> outputs{};

  // Lin et al. 2017: laterals of 1 x 1, each with the coarser level added, a convolution of 3 x 3 on each sum, and one
  // level more of every second pixel.
  std::vector<Edge> pyramid(const std::vector<Edge>& body) const {
    const auto scope = g.scope("neck");
    std::vector<Edge> sums(levels), maps;
    for (size_t i = levels; i-- > 0;) {
      const std::string number = std::to_string(i);
      const Edge lateral = g.conv("lateral_convs." + number + ".conv", body[i], {.filters = o.channels, .kernel = 1});
      sums[i] = i + 1 == levels ? lateral : g.add(lateral, g.node("upsample", "upsample" + number, {sums[i + 1]}));
    }
    for (size_t i = 0; i < levels; ++i) {
      maps.push_back(g.conv("fpn_convs." + std::to_string(i) + ".conv", sums[i],
                            {.filters = o.channels, .kernel = 3, .padding = 1}));
    }
    maps.push_back(g.max_pool(maps.back(), 1, 2));
    return maps;
  }
  Edge features(const std::string& name, Edge regions, const std::vector<Edge>& maps, int64_t size) const {
    std::vector<Edge> inputs = {regions};
    inputs.insert(inputs.end(), maps.begin(), maps.begin() + levels);
    return g.node("roi_align", name, inputs, Value::map({{"size", size}}));
  }
  // Returns the logits of the classes, background last, and the differences of the boxes.
  std::pair<Edge, Edge> box_head(const std::string& stage, Edge x) const {
    const auto scope = g.scope("roi_head.bbox_head." + stage);
    for (int64_t i = 0; i < o.convs; ++i) {
      const std::string conv = "shared_convs." + std::to_string(i);
      x = g.conv(conv + ".conv", x,
                 {.filters = o.channels, .kernel = 3, .padding = 1, .bias = !o.norms, .init = "kaiming_normal_out"});
      if (o.norms) x = g.batch_norm(conv + ".bn", x);
      x = g.relu(x);
    }
    x = g.flatten(x);
    for (int64_t i = 0; i < o.fcs; ++i) {
      x = g.relu(g.linear("shared_fcs." + std::to_string(i), x, {.features = o.hidden, .init = "xavier_uniform"}));
    }
    const Edge scores = g.linear("fc_cls", x, {.features = classes + 1, .init = "normal", .init_std = 0.01});
    const Edge deltas =
        g.linear("fc_reg", x, {.features = o.class_agnostic ? 4 : 4 * classes, .init = "normal", .init_std = 0.001});
    return {scores, deltas};
  }
  Edge mask_head(const std::string& stage, Edge x) const {
    const auto scope = g.scope("roi_head.mask_head." + stage);
    for (int64_t i = 0; i < 4; ++i) {
      x = g.relu(g.conv("convs." + std::to_string(i) + ".conv", x,
                        {.filters = o.channels, .kernel = 3, .padding = 1, .init = "kaiming_normal_out"}));
    }
    x = g.relu(g.node("conv_transpose", "upsample", {x}, Value::map(), {o.channels}));
    return g.conv("conv_logits", x, {.filters = classes, .kernel = 1, .init = "kaiming_normal_out"});
  }

  Graph build() {
    const Edge sizes = g.input("sizes", {2});
    const std::vector<Edge> truth = {g.input("target", {}), g.input("target.boxes", {4}),
                                     g.input("target.boxes.offsets", {})};
    const auto with_truth = [&](std::vector<Edge> inputs) {
      inputs.insert(inputs.end(), truth.begin(), truth.end());
      return inputs;
    };
    const std::vector<Edge> maps = pyramid(body_levels(g, o.body.value));
    const Edge hidden = g.node("level_conv", "rpn_head.rpn_conv", maps, Value::map(), {o.channels});
    const Edge logits = g.node("rpn_head", "rpn_head", {hidden});
    const Edge anchors = g.node("anchors", "anchors", {g.input()}, Value::map({{"scale", o.anchor_scale}}));
    outputs = {{"anchors", anchors}, {"draws", Edge{anchors.id + 1}}};
    Edge regions = g.node("proposals", "proposals", {logits, anchors, g.input(), sizes},
                          Value::map({{"count", o.proposals}, {"train_count", o.train_proposals}}));
    std::vector<Edge> all_scores, all_regions, fixed;
    Edge boxes;
    for (size_t i = 0; i < o.overlaps.size(); ++i) {
      const std::string stage = std::to_string(i);
      const Value of_stage = Value::map({{"stage", static_cast<int64_t>(i)}, {"overlap", o.overlaps[i]}});
      if (i > 0) {
        regions = g.node("refine_regions", "refined." + stage, with_truth({regions, boxes, all_scores.back(), sizes}),
                         Value::map({{"stage", static_cast<int64_t>(i) - 1}, {"overlap", o.overlaps[i - 1]}}));
      }
      regions = g.node("sample_regions", "regions." + stage, with_truth({regions}),
                       Value::map({{"overlap", o.overlaps[i]}, {"count", o.samples}}));
      const auto [scores, deltas] = box_head(stage, features("box_features." + stage, regions, maps, 7));
      boxes = g.node("decode_boxes", "boxes." + stage, {regions, deltas}, of_stage);
      all_scores.push_back(scores);
      all_regions.push_back(regions);
      fixed.insert(fixed.end(), {scores, deltas});
      for (const auto& [name, edge] : {std::pair("regions.", regions), {"scores.", scores}, {"boxes.", boxes}})
        outputs.emplace_back(name + stage, edge);
    }
    std::vector<Edge> ends = {regions, boxes, sizes};
    ends.insert(ends.end(), all_scores.begin(), all_scores.end());
    const Edge found =
        g.node("detections", "detections", ends, Value::map({{"count", o.found}, {"least", o.least_score}}));
    const Edge offsets{found.id + 1};
    outputs.insert(outputs.end(), {{"detections", found}, {"detections.offsets", offsets}});
    if (o.masks) {
      std::vector<Edge> all_masks;
      for (size_t i = 0; i < o.overlaps.size(); ++i) {
        const std::string stage = std::to_string(i);
        const Edge of = g.node("mask_regions", "mask_regions." + stage, with_truth({all_regions[i], found, offsets}),
                               Value::map({{"overlap", o.overlaps[i]}, {"count", o.found}}));
        all_masks.push_back(mask_head(stage, features("mask_features." + stage, of, maps, o.mask_size / 2)));
        outputs.insert(outputs.end(), {{"mask_regions." + stage, of}, {"mask_logits." + stage, all_masks.back()}});
      }
      fixed.insert(fixed.end(), all_masks.begin(), all_masks.end());
      all_masks.push_back(found);
      outputs.emplace_back("masks", g.node("mask_probabilities", "masks", all_masks));
    }
    return finished(g.output(logits), maps, fixed);
  }

  // All levels have the same channels, since the heads read any of them. Classes and boxes stay.
  Graph finished(Graph graph, const std::vector<Edge>& maps, const std::vector<Edge>& fixed) const {
    const auto axis = [&](Edge e) { return graph[e].shape.front().whole(); };
    for (const Edge map : maps) graph.unify(axis(maps.front()), axis(map));
    for (const Edge e : fixed) graph.fix(axis(e));
    for (const auto& [name, edge] : outputs) graph.add_output(name, edge);
    return graph;
  }
};

// Cai & Vasconcelos, Cascade R-CNN, 2018 and 2019, with mask heads, as mmdetection has it.
Graph cascade_mask_rcnn(const CascadeOptions& o, const InputSpec& input, const TargetSpec& target) {
  if (target.task != detection::task)
    throw Error("cascade_mask_rcnn finds objects in images (the task " + std::string(detection::task) +
                "), and the task of the data is " + target.task);
  if (input.height < 1 || input.nodes > 0) throw Error("cascade_mask_rcnn needs images");
  if (input.height % strides[3] != 0 || input.width % strides[3] != 0)
    throw Error(
        "cascade_mask_rcnn needs images whose height and width are multiples of 32, and 'height' and 'width' "
        "of the data, for which multiply-accumulates are counted, are " +
        std::to_string(input.height) + " and " + std::to_string(input.width));
  if (o.overlaps.empty()) throw Error("'overlaps' needs one entry for each stage, at least one");
  if (o.mask_size % 2 != 0) throw Error("'mask_size' must be even");
  GraphBuilder g(input);
  return Detector{g, o, target.outputs}.build();
}

std::vector<Component> components() {
  std::vector<Component> all = {backbone<CascadeOptions>(
      "cascade_mask_rcnn", "finds objects with boxes and masks, in stages of rising overlap", cascade_mask_rcnn)};
  for (auto* kind : {map_operations, proposal_operations, region_operations, result_operations}) {
    for (Component& c : kind()) all.push_back(std::move(c));
  }
  all.push_back(mask_rcnn_loss());
  return all;
}

}  // namespace

ESPALIER_PLUGIN("cascade_mask_rcnn", "1.0.0", components());

}  // namespace espalier
