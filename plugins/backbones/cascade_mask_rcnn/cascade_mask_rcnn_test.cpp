#include <cmath>
#include <map>
#include <memory>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/edit.h>
#include <espalier/error.h>
#include <espalier/execute.h>
#include <espalier/loss.h>
#include <espalier/metric.h>
#include <espalier/random_fill.h>
#include <espalier/registry.h>
#include <espalier/rewrite.h>
#include <espalier/testkit.h>

#include "targets.h"

namespace espalier {
namespace {

using testing::HasSubstr;

const TargetSpec found{.outputs = 2, .task = "detection"};
const std::string narrow_body = R"("body": {"use": "swin_t", "dim": 8, "depths": [2, 1, 1, 1], "heads": [1, 1, 2, 2],
    "window": 3, "drop_path": 0})";

InputSpec images(int64_t height, int64_t width) {
  return {.channels = 3, .height = height, .width = width, .others = {{"sizes", {2}}}};
}

Graph detector(const std::string& options, const InputSpec& input = images(64, 96), const TargetSpec& target = found) {
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libcascade_mask_rcnn.so");
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libswin.so");
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libresnet.so");
  return testkit::build(R"({"use": "cascade_mask_rcnn")" + options + "}", input, target);
}

Graph narrow(const std::string& options = "") {
  return detector(", " + narrow_body +
                  R"(, "channels": 8, "convs": 1, "hidden": 16, "mask_size": 8, "anchor_scale": 4, "proposals": 30,
                     "train_proposals": 40, "samples": 16, "found": 5, "least_score": 0)" +
                  options);
}

// Two images: one of 40 x 50 pixels with two objects, and one of 64 x 96 with one.
struct Case {
  Graph graph;
  Weights weights;
  Batch batch;

  explicit Case(Graph g, at::ScalarType type = at::kDouble) : graph(std::move(g)), weights(graph, type, at::kCPU) {
    weights.initialize(graph, RandomKey(1));
    at::Tensor input = normal({2, 3, 64, 96}, 1, RandomKey(2)).to(type).contiguous(at::MemoryFormat::ChannelsLast);
    input[0].slice(1, 40).zero_();
    input[0].slice(2, 50).zero_();
    batch.inputs = {{"input", input}, {"sizes", at::tensor({40.0, 50.0, 64.0, 96.0}, type).reshape({2, 2})}};
    batch.targets = {
        {"target", at::tensor({0, 1, 1}, at::kLong)},
        {"target.offsets", at::tensor({0, 2, 3}, at::kLong)},
        {"boxes",
         at::tensor({4.0, 6.0, 24.0, 30.0, 20.0, 10.0, 46.0, 36.0, 30.0, 8.0, 80.0, 60.0}, at::kFloat).reshape({3, 4})},
        {"boxes.offsets", at::tensor({0, 2, 3}, at::kLong)}};
    // The masks are the boxes, column by column.
    std::vector<int64_t> runs, counts, run_ends = {0};
    for (const auto& [height, box] :
         {std::pair(40, std::array<int64_t, 4>{4, 6, 24, 30}), {40, {20, 10, 46, 36}}, {64, {30, 8, 80, 60}}}) {
      const int64_t width = height == 40 ? 50 : 96, first = static_cast<int64_t>(runs.size());
      const int64_t side = box[3] - box[1];
      runs.push_back(box[0] * height + box[1]);
      for (int64_t x = box[0]; x < box[2]; ++x) {
        runs.push_back(side);
        runs.push_back(x + 1 < box[2] ? height - side : height - box[3] + (width - box[2]) * height);
      }
      counts.push_back(static_cast<int64_t>(runs.size()) - first);
      if (height != 40 || run_ends.size() == 1) run_ends.push_back(static_cast<int64_t>(runs.size()));
      if (height == 40) run_ends.back() = static_cast<int64_t>(runs.size());
    }
    batch.targets.insert(batch.targets.end(), {{"masks", at::tensor(runs, at::kLong)},
                                               {"masks.offsets", at::tensor(run_ends, at::kLong)},
                                               {"masks_runs", at::tensor(counts, at::kLong)},
                                               {"masks_runs.offsets", at::tensor({0, 2, 3}, at::kLong)}});
  }
  std::map<std::string, at::Tensor> outputs(const std::vector<std::string>& names, const Pass& pass = {}) const {
    NamedTensors fed = batch.inputs;
    if (pass.training) {
      for (const auto& [name, x] : batch.targets) fed.emplace_back(name == "target" ? name : "target." + name, x);
    }
    const std::vector<std::string_view> wanted(names.begin(), names.end());
    const std::vector<at::Tensor> all = run(graph, weights, fed, wanted, pass);
    std::map<std::string, at::Tensor> result;
    for (size_t i = 0; i < names.size(); ++i) result[names[i]] = all[i];
    return result;
  }
  at::Tensor loss(const Pass& pass, const std::string& options = "") const {
    const auto made = Registry::instance().create<Loss>(from_json(R"({"use": "mask_rcnn")" + options + "}"));
    NamedTensors outputs_by_name;
    for (const auto& [name, x] : outputs(made->outputs(), pass)) outputs_by_name.emplace_back(name, x);
    return made->value({.outputs = outputs_by_name, .batch = batch, .training = pass.training});
  }
};

// The Swin paper's table 2 (a, b): 86 M and 745 G for Swin-T, and 82 M and 739 G for ResNet-50, at 1280 x 800 pixels.
TEST(CascadeMaskRcnn, HasThePublishedSizes) {
  const TargetSpec coco{.outputs = 80, .task = "detection"};
  for (const auto& [body, params, macs] : {std::tuple("swin_t", 86e6, 745e9), {"resnet50", 82e6, 739e9}}) {
    const Graph g = detector(R"(, "body": {"use": ")" + std::string(body) + R"("})", images(800, 1280), coco);
    EXPECT_NEAR(static_cast<double>(g.parameter_count()), params, 0.01 * params) << body;
    EXPECT_NEAR(static_cast<double>(g.macs()), macs, 0.01 * macs) << body;
  }
}

TEST(CascadeMaskRcnn, FindsObjectsInImagesOfSeveralSizes) {
  const Case c(narrow());
  const c10::NoGradGuard no_grad;
  const auto all = c.outputs({"detections", "detections.offsets", "masks"});
  const at::Tensor &rows = all.at("detections"), &offsets = all.at("detections.offsets");
  EXPECT_EQ(offsets[2].item<int64_t>(), rows.size(0));
  EXPECT_GT(offsets[1].item<int64_t>(), 0);
  EXPECT_LE(offsets[1].item<int64_t>(), 5);
  EXPECT_EQ(all.at("masks").sizes(), (std::vector<int64_t>{rows.size(0), 8, 8}));
  const at::Tensor first = rows.slice(0, 0, offsets[1].item<int64_t>());
  EXPECT_LE(first.select(1, 2).max().item<double>(), 50);
  EXPECT_LE(first.select(1, 3).max().item<double>(), 40);
  // A graph that was built for images of another size finds the same.
  Case other(detector(", " + narrow_body +
                          R"(, "channels": 8, "convs": 1, "hidden": 16, "mask_size": 8, "anchor_scale": 4,
                             "proposals": 30, "found": 5, "least_score": 0)",
                      images(128, 32)));
  EXPECT_TRUE(other.outputs({"detections"}).at("detections").equal(rows));
}

TEST(CascadeMaskRcnn, LearnsTheSameWithTheSameKey) {
  Case c(narrow());
  const Pass pass{.training = true, .key = RandomKey(5)};
  const at::Tensor loss = c.loss(pass);
  ASSERT_TRUE(std::isfinite(loss.item<double>()));
  EXPECT_EQ(c.loss(pass).item<double>(), loss.item<double>());
  EXPECT_NE(c.loss({.training = true, .key = RandomKey(6)}).item<double>(), loss.item<double>());
  EXPECT_TRUE(std::isfinite(c.loss({}).item<double>())) << "in evaluation, of all regions";
  // Everything is reached: each parameter has a gradient that is not zero.
  loss.backward();
  for (size_t i = 0; i < c.graph.parameters().size(); ++i) {
    const ParamId p{static_cast<int32_t>(i)};
    if (c.graph[p].role == Role::buffer) continue;
    const double most = c.weights.gradient(p).abs().max().item<double>();
    EXPECT_TRUE(std::isfinite(most)) << c.graph[p].name;
    // The bias of keys cancels in the softmax.
    const bool cancels = c.graph[p].name.ends_with(".k.bias");
    EXPECT_TRUE(cancels || most > 0) << c.graph[p].name;
  }
}

TEST(CascadeMaskRcnn, DrawsObjectsAndBackground) {
  const Case c(narrow());
  const c10::NoGradGuard no_grad;
  const auto all = c.outputs({"regions.0", "regions.1", "mask_regions.0"}, {.training = true, .key = RandomKey(5)});
  const at::Tensor& first = all.at("regions.0");
  EXPECT_EQ(first.size(0), 2 * 16);
  EXPECT_EQ(first.select(1, 0).eq(0).sum().item<int64_t>(), 16);
  // The objects' own boxes are among them, at most a quarter belongs to objects.
  const at::Tensor boxes = tensor_at(c.batch.targets, "boxes", "target").to(at::kDouble);
  for (int64_t i = 0; i < 3; ++i) {
    const at::Tensor same = first.slice(1, 1).eq(boxes[i]).all(1);
    EXPECT_EQ(same.sum().item<int64_t>(), 1) << i;
    EXPECT_EQ(all.at("mask_regions.0").slice(1, 1).eq(boxes[i]).all(1).sum().item<int64_t>(), 1) << i;
    EXPECT_EQ(all.at("regions.1").slice(1, 1).eq(boxes[i]).all(1).sum().item<int64_t>(), 1) << i;
  }
  EXPECT_LE(all.at("mask_regions.0").size(0), 2 * 4);
}

// The outputs of a network that is sure of everything and right: one region on the object, one on the background.
TEST(MaskRcnnLoss, IsTheSumOfItsParts) {
  detector(", " + narrow_body);
  const double far = 40;  // a logit that is as good as certain
  Batch batch;
  batch.inputs = {{"input", at::zeros({1, 3, 32, 32}, at::kDouble)}, {"sizes", at::full({1, 2}, 32.0, at::kDouble)}};
  batch.targets = {{"target", at::tensor({1}, at::kLong)},
                   {"target.offsets", at::tensor({0, 1}, at::kLong)},
                   {"boxes", at::tensor({8.0, 8.0, 16.0, 16.0}).reshape({1, 4})},
                   {"boxes.offsets", at::tensor({0, 1}, at::kLong)}};
  const auto made = Registry::instance().create<Loss>(from_json(
      R"({"use": "mask_rcnn", "overlaps": [0.5], "stage_weights": [0.5], "masks": false, "box_weight": 10})"));
  // Five places of three anchors; the anchors of the first place are the object's box, the others are far away.
  const at::Tensor box = at::tensor({8.0, 8.0, 16.0, 16.0}, at::kDouble).reshape({1, 4});
  const at::Tensor away = at::tensor({20.0, 20.0, 28.0, 28.0}, at::kDouble).reshape({1, 4});
  const at::Tensor anchors = at::cat({box.repeat({3, 1}), away.repeat({12, 1})}).unsqueeze(0);
  at::Tensor logits = at::zeros({1, 5, 15}, at::kDouble);
  logits.slice(2, 0, 3).fill_(-far);
  logits.slice(1, 0, 1).slice(2, 0, 3).fill_(far);
  const at::Tensor regions = at::cat({at::zeros({2, 1}, at::kDouble), at::cat({box, away})}, 1);
  at::Tensor scores = at::tensor({0.0, far, 0.0, 0.0, 0.0, far}, at::kDouble).reshape({2, 3});
  at::Tensor boxes = at::cat({box, away});
  const auto value = [&] {
    const NamedTensors outputs = {{"logits", logits},     {"anchors", anchors}, {"draws", at::zeros({1, 15})},
                                  {"regions.0", regions}, {"scores.0", scores}, {"boxes.0", boxes}};
    return made->value({.outputs = outputs, .batch = batch, .training = true}).item<double>();
  };
  EXPECT_NEAR(value(), 0, 1e-12);
  // A box that covers half of the object has a generalised IoU of 1/2: 0.5 * 10 * (1/2) / 2 regions.
  boxes = at::cat({at::tensor({8.0, 8.0, 12.0, 16.0}, at::kDouble).reshape({1, 4}), away});
  EXPECT_NEAR(value(), 0.5 * 10 * 0.5 / 2, 1e-6);
  boxes = at::cat({box, away});
  // A region that could be any of three classes: 0.5 * log(3) / 2.
  scores = at::tensor({0.0, 0.0, 0.0, 0.0, 0.0, far}, at::kDouble).reshape({2, 3});
  EXPECT_NEAR(value(), 0.5 * std::log(3.0) / 2, 1e-12);
  scores = at::tensor({0.0, far, 0.0, 0.0, 0.0, far}, at::kDouble).reshape({2, 3});
  // An anchor that may be an object or not, one of the fifteen that are drawn: log(2) / 15. One whose x differs by 1/18
  // of its width: half of the square over beta = 1/9, as a share of the fifteen.
  logits[0][0][0] = 0;
  EXPECT_NEAR(value(), std::log(2.0) / 15, 1e-12);
  logits[0][0][0] = far;
  logits[0][0][3] = 1.0 / 18;
  EXPECT_NEAR(value(), 0.5 * 9 / (18.0 * 18.0) / 15, 1e-12);
}

// Edits of the body and of the channels that all levels share, exact to rounding: what goes reads as zero before.
TEST(CascadeMaskRcnn, FollowsEditsOfItsBody) {
  for (const char* name : {"backbone.layers.0.blocks.1.mlp.fc1", "backbone.layers.0.blocks.1.attn.q",
                           "neck.lateral_convs.3.conv", "neck.fpn_convs.0.conv", "rpn_head.rpn_conv"}) {
    Case c(narrow());
    const c10::NoGradGuard no_grad;
    const Axis axis = c.graph.axis(name);
    const Edits edits = {shrink(c.graph, axis, {1, 2, 4, 5})};
    const std::vector<AxisChange> changes = plan(c.graph, edits.front()).changes;
    for (const AxisChange& change : changes)
      zero(c.graph, c.weights, change.axis, complement(change.from, c.graph[change.axis].size));
    const at::Tensor before = c.outputs({"logits"}).at("logits");
    const int64_t params = c.graph.parameter_count();
    apply(c.graph, {&c.weights}, edits.front());
    EXPECT_LT(c.graph.parameter_count(), params) << name;
    EXPECT_TRUE(c.outputs({"logits"}).at("logits").allclose(before, 1e-8, 1e-9)) << name;
    EXPECT_TRUE(std::isfinite(c.loss({.training = true, .key = RandomKey(5)}).item<double>())) << name;
  }
}

TEST(CascadeMaskRcnn, BringsTheLossAndTheMetricsOfItsTask) {
  detector(", " + narrow_body);
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/libcoco.so");
  EXPECT_EQ(name_of(default_loss(found), "loss"), "mask_rcnn");
  const std::vector<Value> metrics = default_metrics(found);
  ASSERT_EQ(metrics.size(), 2U);
  EXPECT_EQ(name_of(metrics[0], "metric"), "coco_box");
  EXPECT_EQ(name_of(metrics[1], "metric"), "coco_mask");
}

std::string refusal(const std::string& options, const InputSpec& input = images(64, 96),
                    const TargetSpec& target = found) {
  try {
    detector(options, input, target);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(CascadeMaskRcnn, RefusesWhatHasNoMeaning) {
  EXPECT_THAT(refusal("", images(64, 96), {10}), HasSubstr("the task of the data is classification"));
  EXPECT_THAT(refusal("", images(60, 96)), HasSubstr("multiples of 32"));
  EXPECT_THAT(refusal(R"(, "mask_size": 7)"), HasSubstr("even"));
  EXPECT_THAT(refusal(R"(, "overlaps": [])"), HasSubstr("overlaps"));
  EXPECT_THAT(refusal(R"(, "body": {"use": "swin_t", "patch": 2})"), HasSubstr("patches of 4"));
  EXPECT_THAT(refusal(R"(, "body": {"use": "resnet50", "stem": "cifar"})"), HasSubstr("stem imagenet"));
  testkit::load_plugin(ESPALIER_PLUGIN_DIR "/liblenet5.so");
  EXPECT_THAT(refusal(R"(, "body": "lenet5")"), HasSubstr("names no feature levels"));
}

}  // namespace
}  // namespace espalier
