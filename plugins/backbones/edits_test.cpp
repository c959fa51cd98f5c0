// Edits of the published networks: their output, their counts, and what may go alone.
#include <algorithm>
#include <map>
#include <numeric>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/error.h>
#include <espalier/operation.h>
#include <espalier/rewrite.h>
#include <espalier/testkit.h>

#include "edited_network.h"

namespace espalier {
namespace {

using testing::HasSubstr;

Graph backbone(const std::string& plugin, const std::string& spec, int64_t size = 8, int64_t classes = 5) {
  testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + plugin + ".so");
  return testkit::build(spec, {3, size, size}, {classes});
}
Graph resnet20(const std::string& options = "") {
  return backbone("resnet_cifar", R"({"use": "resnet20", "widths": [4, 6, 8])" + options + "}");
}

void zero_columns(Network& n, const std::string& parameter, int64_t from, int64_t count) {
  const c10::NoGradGuard no_grad;
  n.weights[n.graph.parameter(parameter)].slice(1, from, from + count).zero_();
}

TEST(Densenet, ALayerLosesAConnectionForItAlone) {
  const std::string spec = R"({"use": "densenet40", "growth": 3})";
  Network n(backbone("densenet", spec), 7, 4), zeroed(n.graph, 7, 4);
  // The sixth layer reads the stem's 16 channels and three of each of five layers.
  const int64_t from = 16 + 3 * 2;
  zero_columns(zeroed, "dense1.5.conv1.weight", from, 3);
  const int64_t before = n.graph.parameter_count(), macs = n.graph.macs();
  const at::Tensor norm = n["dense1.5.norm1.running_var"].clone(), columns = n["dense1.5.conv1.weight"].clone(),
                   momentum = n.state("momentum", "dense1.5.conv1.weight").clone(),
                   scales = n.state("per filter", "dense1.5.norm1.weight").clone();
  const std::string node =
      n.graph.nodes()[static_cast<size_t>(n.graph[n.graph.node("dense1.5.norm1").inputs[0]].producer)].name;
  EXPECT_EQ(node, "dense1.5.concat1");
  n.edit({{Disconnect{node, 3}}});
  EXPECT_LE(largest(n.logits() - zeroed.logits()), 1e-12);
  EXPECT_EQ(before - n.graph.parameter_count(), 3 * 2 + 3 * 3 * 9);
  EXPECT_EQ(macs - n.graph.macs(), 3 * 3 * 9 * 8 * 8);
  EXPECT_EQ(n.numbers(), n.graph.parameter_count());
  Indices rest(16 + 3 * 5);
  std::iota(rest.begin(), rest.end(), 0);
  rest.erase(rest.begin() + from, rest.begin() + from + 3);
  const at::Tensor kept = at::tensor(rest, at::kLong);
  EXPECT_TRUE(at::equal(n["dense1.5.norm1.running_var"], norm.index_select(0, kept)));
  EXPECT_TRUE(at::equal(n["dense1.5.conv1.weight"], columns.index_select(1, kept)));
  EXPECT_TRUE(at::equal(n.state("momentum", "dense1.5.conv1.weight"), momentum.index_select(1, kept)));
  EXPECT_TRUE(at::equal(n.state("per filter", "dense1.5.norm1.weight"), scales.index_select(0, kept)));
  // The axis is there for all others.
  EXPECT_EQ(n.size("dense1.2.conv1"), 3);
  EXPECT_TRUE(n.graph[n.graph.parameter("dense1.6.conv1.weight")].shape[1].reads(n.graph.axis("dense1.2.conv1")));
  EXPECT_FALSE(n.graph[n.graph.parameter("dense1.5.conv1.weight")].shape[1].reads(n.graph.axis("dense1.2.conv1")));
  n.edit({shrink(n.graph, n.graph.axis("dense1.2.conv1"), {1})});
  EXPECT_EQ(n["dense1.6.conv1.weight"].size(1), 16 + 3 * 6 - 2);
  // A layer that loses all its readers goes: the next transition reads it last.
  Edits all;
  for (int layer = 3; layer < 12; ++layer) {
    if (layer != 5) all.push_back({Disconnect{"dense1." + std::to_string(layer) + ".concat1", 3}});
  }
  all.push_back({Disconnect{"transition1.concat1", 3}});
  n.edit(all);
  EXPECT_FALSE(n.has("dense1.2.conv1") || n.has("dense1.2.norm1"));
  EXPECT_THROW(n.graph.axis("dense1.2.conv1"), Error);
  n.logits();
}

TEST(ResnetCifar, BlocksComeAndGo) {
  for (const char* own : {"", R"(, "own_widths": true)"}) {
    Network n(resnet20(own));
    const std::string before = n.bytes();
    const at::Tensor was = n.logits();
    const int64_t count = n.graph.parameter_count();
    if (*own) {
      EXPECT_THAT(refusal(n, {{DropBlock{"layer1.1"}}}), HasSubstr("do not share their widths"));
      continue;
    }
    const auto of = [&](const std::string& blocks) { return resnet20(R"(, "blocks": )" + blocks); };
    n.edit({{InsertBlock{"layer2.3", "layer2.1", "layer2.2", "preserving", 5}}});
    EXPECT_LE(largest(n.logits() - was), 1e-12);
    EXPECT_EQ(n.graph.parameter_count(), of("[3, 4, 3]").parameter_count());
    EXPECT_EQ(n.graph.macs(), of("[3, 4, 3]").macs());
    EXPECT_EQ(n.numbers(), n.graph.parameter_count());
    EXPECT_EQ(largest(n["layer2.3.bn2.weight"]), 0);
    EXPECT_GT(largest(n["layer2.3.conv1.weight"]), 0.01);
    EXPECT_EQ(largest(n.state("momentum", "layer2.3.conv1.weight")), 0);
    EXPECT_EQ(n.state("per filter", "layer2.3.conv1.weight")[0].item<double>(), 0.5);
    // Names as the backbone would have given them.
    std::vector<std::string> ours, theirs;
    for (const Parameter& p : n.graph.parameters()) ours.push_back(p.name);
    const Graph longer = of("[3, 4, 3]");
    for (const Parameter& p : longer.parameters()) theirs.push_back(p.name);
    EXPECT_THAT(ours, testing::UnorderedElementsAreArray(theirs));
    // The inner width is the block's own.
    n.edit({shrink(n.graph, n.graph.axis("layer2.3.conv1"), {0, 4})});
    EXPECT_EQ(n["layer2.3.conv1.weight"].size(0), 2);
    EXPECT_EQ(n["layer2.1.conv1.weight"].size(0), 6);
    EXPECT_LE(largest(n.logits() - was), 1e-12);
    n.edit({{DropBlock{"layer2.3"}}});
    EXPECT_EQ(n.bytes(), before);

    // At random it changes the function; behind the stem; a network without any block in the stage.
    n.edit({{InsertBlock{"layer1.x", "layer1.0", "relu1", "random", 5}}});
    EXPECT_GT(largest(n.logits() - was), 1e-3);
    n.edit({{DropBlock{"layer1.x"}}});
    EXPECT_EQ(n.bytes(), before);
    // The oracle of a dropped block: its branch is zero.
    Network zeroed(resnet20());
    for (const char* p : {"layer1.1.bn2.weight", "layer1.1.bn2.bias"}) set(zeroed, p, at::zeros({4}, at::kDouble));
    n.edit({{DropBlock{"layer1.1"}}});
    EXPECT_LE(largest(n.logits() - zeroed.logits()), 1e-12);
    EXPECT_EQ(n.graph.parameter_count(), of("[2, 3, 3]").parameter_count());
    EXPECT_EQ(count - n.graph.parameter_count(), 2 * 4 * 4 * 9 + 4 * 4);
    EXPECT_FALSE(n.has("layer1.1.conv1"));
    n.edit({{DropBlock{"layer1.0"}}, {DropBlock{"layer1.2"}}});
    EXPECT_EQ(n.graph.node("layer2.0.conv1").inputs[0], n.graph.node("relu1").outputs[0]);

    EXPECT_THAT(refusal(n, {{DropBlock{"layer2.0"}}}), HasSubstr("do not share their widths"));
    EXPECT_THAT(refusal(n, {{DropBlock{"layer4.0"}}}), HasSubstr("no block 'layer4.0'"));
    EXPECT_THAT(refusal(n, {{InsertBlock{"b", "layer2.1", "layer3.1"}}}), HasSubstr("works on"));
    EXPECT_THAT(refusal(n, {{InsertBlock{"b", "layer2.0", "layer2.1"}}}), HasSubstr("do not share their widths"));
    EXPECT_THAT(refusal(n, {{InsertBlock{"layer2.2", "layer2.1", "layer2.1"}}}), HasSubstr("a block of this name"));
    EXPECT_THAT(refusal(n, {{InsertBlock{"b", "layer2.1", "layer2.1", "kaiming"}}}), HasSubstr("unknown init"));
  }
  // Every replica gets the same values.
  Network a(resnet20()), b(resnet20());
  const Edit e{InsertBlock{"layer1.3", "layer1.1", "layer1.2", "random", 5}};
  a.edit({e});
  b.edit({Edit::from_value(from_json(to_json(e.to_value())))});
  EXPECT_EQ(a.bytes(), b.bytes());
}

TEST(Edits, InsertBlocksIntoOtherNetworks) {
  struct Case {
    const char *plugin, *spec;
    int64_t size;
    InsertBlock edit;
  };
  for (const Case& c : {Case{"preresnet",
                             R"({"use": "preresnet56", "width": 0.25, "select": true})",
                             8,
                             {"layer1.n", "layer1.3", "layer1.1", "preserving", 3}},
                        Case{"resnext",
                             R"({"use": "resnext29_8x64d", "cardinality": 4, "base_width": 2})",
                             8,
                             {"layer2.n", "layer2.1", "layer2.2", "preserving", 3}},
                        Case{"vit",
                             R"({"use": "vit_tiny", "patch": 4, "dim": 12, "depth": 2, "heads": 3})",
                             8,
                             {"blocks.n", "blocks.1", "blocks.0", "preserving", 3}},
                        Case{"swin",
                             R"({"use": "swin_t", "dim": 12, "depths": [2, 2], "heads": [2, 3], "window": 3})",
                             28,
                             {"layers.1.blocks.n", "layers.1.blocks.1", "layers.1.blocks.0", "preserving", 3}},
                        Case{"mobilenet_v2",
                             R"({"use": "mobilenet_v2", "width": 0.25, "stem": "cifar"})",
                             16,
                             {"blocks.n", "blocks.2", "blocks.2", "preserving", 3}}}) {
    Network n(backbone(c.plugin, c.spec, c.size), 7, 4);
    const std::string before = n.bytes();
    const at::Tensor was = n.logits();
    n.edit({{c.edit}});
    EXPECT_LE(largest(n.logits() - was), 1e-12) << c.spec;
    EXPECT_EQ(n.numbers(), n.graph.parameter_count());
    n.edit({{DropBlock{c.edit.block}}});
    EXPECT_EQ(n.bytes(), before) << c.spec;
    InsertBlock random = c.edit;
    random.init = "random";
    n.edit({{random}});
    EXPECT_GT(largest(n.logits() - was), 1e-6) << c.spec;
  }
}

TEST(PreResnet, ABlockSplitsItsInputOffTheStream) {
  Network n(backbone("preresnet", R"({"use": "preresnet56", "width": 0.25})"), 7, 4);
  const at::Tensor before = n.logits();
  const int64_t stream = n.size("layer2.0.conv3");
  // Before batch norm all that follows is the block's own; behind it, the norm keeps the stream's channels.
  n.edit({{SplitOff{"layer2.1.bn1", 0, ""}}, {SplitOff{"layer2.2.relu1", 0, "layer2.2.select"}}});
  EXPECT_TRUE(at::equal(n.logits(), before));
  EXPECT_EQ(n.graph[n.graph.parameter("layer2.1.bn1.weight")].shape[0].whole(), n.graph.axis("layer2.1.bn1.view"));
  EXPECT_EQ(n.graph[n.graph.parameter("layer2.2.bn1.weight")].shape[0].whole(), n.graph.axis("layer2.0.conv3"));
  EXPECT_EQ(n.graph[n.graph.parameter("layer2.2.conv1.weight")].shape[1].whole(), n.graph.axis("layer2.2.select"));
  // As network slimming has it from the start.
  const Graph select = backbone("preresnet", R"({"use": "preresnet56", "width": 0.25, "select": true})");
  EXPECT_EQ(n.graph.node("layer2.2.select").op->options(), select.node("layer2.2.select").op->options());

  Network zeroed(n.graph, 7, 4);
  Indices keep;
  for (int64_t i = 0; i < stream; i += 3) keep.push_back(i);
  for (const int64_t gone : complement(keep, stream)) {
    zero_columns(zeroed, "layer2.1.conv1.weight", gone, 1);
    zero_columns(zeroed, "layer2.2.conv1.weight", gone, 1);
  }
  const at::Tensor momentum = n.state("momentum", "layer2.1.conv1.weight").clone();
  const int64_t count = n.graph.parameter_count(), lost = stream - static_cast<int64_t>(keep.size());
  n.edit({{Shrink{"layer2.1.bn1.view", keep}}, {Shrink{"layer2.2.select", keep}}});
  EXPECT_LE(largest(n.logits() - zeroed.logits()), 1e-12);
  EXPECT_EQ(count - n.graph.parameter_count(), lost * (2 + 2 * n.size("layer2.1.conv1")));
  EXPECT_EQ(n.size("layer2.0.conv3"), stream);
  EXPECT_TRUE(
      at::equal(n.state("momentum", "layer2.1.conv1.weight"), momentum.index_select(1, at::tensor(keep, at::kLong))));
  // The stream shrinks, and the views with it.
  Indices most;
  for (int64_t i = 1; i < stream; ++i) most.push_back(i);
  n.edit({{Shrink{"layer2.0.conv3", most}}});
  EXPECT_EQ(n.size("layer2.1.bn1.view"), static_cast<int64_t>(keep.size()) - 1);
  EXPECT_EQ(n.size("layer2.2.select"), static_cast<int64_t>(keep.size()) - 1);
  EXPECT_EQ(n.numbers(), n.graph.parameter_count());
  EXPECT_THAT(refusal(n, {{SplitOff{"layer2.1.add1", 1, ""}}}), HasSubstr("needs inputs of one width"));
}

// What removal is, told without the library's zero(): each reader sees zeros in place of what went, and not a bit of
// what stays is another.
TEST(Edits, RemoveFromEveryNetworkAndTouchNothingElse) {
  struct Case {
    const char *plugin, *spec;
    int64_t size;
  };
  constexpr size_t most_axes = 3;  // of each network, spread over it
  for (const Case& c : {
           Case{"lenet5", R"({"use": "lenet5", "conv1": 4, "conv2": 5, "hidden": 6})", 28},
           Case{"vgg16", R"({"use": "vgg16", "width": 0.0625, "hidden": 8})", 32},
           Case{"resnet_cifar", R"({"use": "resnet20", "widths": [4, 6, 8]})", 8},
           Case{"resnet_cifar", R"({"use": "resnet20", "widths": [4, 6, 8], "own_widths": true})", 8},
           Case{"resnet_cifar", R"({"use": "se_resnet20", "widths": [4, 6, 8], "reduction": 2})", 8},
           Case{"resnet", R"({"use": "resnet50", "width": 0.0625, "stem": "cifar"})", 8},
           Case{"resnext", R"({"use": "resnext29_8x64d", "cardinality": 4, "base_width": 2})", 8},
           Case{"preresnet", R"({"use": "preresnet56", "width": 0.25, "select": true})", 8},
           Case{"mobilenet_v2", R"({"use": "mobilenet_v2", "width": 0.25, "stem": "cifar"})", 16},
           Case{"densenet", R"({"use": "densenet40", "growth": 3})", 8},
           Case{"vit", R"({"use": "vit_tiny", "patch": 4, "dim": 12, "depth": 2, "heads": 3})", 8},
           Case{"swin", R"({"use": "swin_t", "dim": 12, "depths": [2, 2], "heads": [2, 3], "window": 3})", 28},
           Case{"darts", R"({"use": "darts_v1", "layers": 3, "channels": 4})", 16},
           Case{"nasbench201",
                R"({"use": "nasbench201", "channels": 4, "cells": 1,
                    "cell":
                     "|nor_conv_3x3~0|+|avg_pool_3x3~0|skip_connect~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|"})",
                8},
           Case{"nasbench201", R"({"use": "nasbench201_search", "channels": 4, "cells": 1})", 8},
       }) {
    const Network whole(backbone(c.plugin, c.spec, c.size), 7, 3);
    const Graph& g = whole.graph;
    std::vector<Axis> axes;
    for (size_t i = 0; i < g.axes().size(); ++i) {
      if (!g.axes()[i].fixed && g.axes()[i].size > 1) axes.push_back({static_cast<int32_t>(i)});
    }
    size_t carried_out = 0, exact = 0;
    for (size_t i = 0; i < axes.size(); i += std::max<size_t>(1, axes.size() / most_axes)) {
      Indices keep;
      for (int64_t k = 0; k < g[axes[i]].size; ++k) {
        if (k % 3 != 1) keep.push_back(k);
      }
      const Edit e = shrink(g, axes[i], keep);
      std::vector<AxisChange> changes;
      try {
        changes = plan(g, e).changes;
      } catch (const EditError&) {
        continue;  // a mixture needs all of its coefficients
      }
      const auto masked = masked_logits(whole, changes);
      const auto values = values_by_name(whole);
      Network n(whole);
      for (const AxisChange& change : changes)
        zero(n.graph, n.weights, change.axis, complement(change.from, g[change.axis].size));
      n.edit({e});
      ++carried_out;
      const std::string what = std::string(c.spec) + ": " + e.str();
      EXPECT_EQ(changed_values(g, values, n, changes), "") << what;
      if (!masked) continue;
      ++exact;
      EXPECT_LE(largest(n.logits() - *masked), 1e-10 * std::max(1., largest(*masked))) << what;
    }
    EXPECT_GE(carried_out, 2U) << c.spec;
    EXPECT_GE(exact, 1U) << c.spec;
  }
}

TEST(Edits, GrowEveryNetworkAndKeepItsFunctionWhereTheySay) {
  struct Case {
    const char *plugin, *spec;
    int64_t size;
    std::vector<const char*> axes;
  };
  for (const Case& c :
       {Case{"resnet_cifar",
             R"({"use": "resnet20", "widths": [4, 6, 8]})",
             8,
             {"conv1", "layer2.0.conv2", "layer3.0.conv2", "layer2.1.conv1"}},
        Case{"resnext",
             R"({"use": "resnext29_8x64d", "cardinality": 4, "base_width": 2})",
             8,
             {"layer1.1.conv2.groups", "layer2.0.conv1", "layer2.0.conv2", "layer1.0.conv3"}},
        Case{"mobilenet_v2",
             R"({"use": "mobilenet_v2", "width": 0.25, "stem": "cifar"})",
             16,
             {"blocks.2.expand", "blocks.3.project", "stem"}},
        Case{"densenet",
             R"({"use": "densenet_bc100", "growth": 2})",
             8,
             {"dense1.3.conv1", "dense1.3.conv2", "transition1.conv"}},
        Case{"vit",
             R"({"use": "vit_tiny", "patch": 4, "dim": 12, "depth": 2, "heads": 3})",
             8,
             {"blocks.0.attn.q.heads", "blocks.1.mlp.fc1", "blocks.0.attn.q", "patch_embed.proj"}},
        Case{"swin",
             R"({"use": "swin_t", "dim": 12, "depths": [2, 2], "heads": [2, 3], "window": 3})",
             28,
             {"layers.0.blocks.1.attn.q.heads", "layers.1.blocks.0.mlp.fc1", "layers.1.blocks.1.attn.q"}}}) {
    const Graph graph = backbone(c.plugin, c.spec, c.size);
    for (const char* axis : c.axes) {
      SCOPED_TRACE(std::string(c.plugin) + " " + axis);
      Network n(graph, 7, 4);
      const std::string before = n.bytes();
      const at::Tensor was = n.logits();
      const Edit e{Grow{axis, 2, "preserving", 3}};
      const bool preserves = plan(n.graph, e).effect == Rewrite::Effect::preserves;
      // What a norm or a softmax sums over, new positions change.
      const std::string name = axis;
      EXPECT_EQ(preserves, !name.ends_with("attn.q") && name != "patch_embed.proj");
      n.edit({e});
      if (preserves) {
        EXPECT_LE(largest(n.logits() - was), 1e-12);
      }
      EXPECT_EQ(n.numbers(), n.graph.parameter_count());
      n.edit({{Grow{axis, 3, "random", 4}}});
      EXPECT_GT(largest(n.logits() - was), 1e-9);
      Indices keep(static_cast<size_t>(graph[graph.axis(axis)].size));
      std::iota(keep.begin(), keep.end(), 0);
      n.edit({{Shrink{axis, keep}}});
      EXPECT_EQ(n.bytes(), before);
    }
  }
}

TEST(Gate, IsFoldedInTheNetworksThatArePrunedByIt) {
  struct Case {
    const char *plugin, *spec;
    int64_t size;
    const char *edge, *axis, *into;  // into: null where it cannot be folded
  };
  const char* resnet = R"({"use": "resnet20", "widths": [4, 6, 8]})";
  const char* vit = R"({"use": "vit_tiny", "patch": 4, "dim": 12, "depth": 2, "heads": 3})";
  const char* mobilenet = R"({"use": "mobilenet_v2", "width": 0.25, "stem": "cifar"})";
  for (const Case& c :
       {Case{"resnet_cifar", resnet, 8, "layer1.1.bn2", "", "layer1.1.bn2.bias"},
        Case{"resnet_cifar", resnet, 8, "layer1.1.relu1", "", "layer1.1.conv2.weight"},
        Case{"resnet_cifar", resnet, 8, "layer1.1.add1", "", nullptr},
        Case{"resnet_cifar", resnet, 8, "layer1.1.relu2", "", nullptr},
        Case{"resnet_cifar", resnet, 8, "layer3.2.relu2", "", "fc.weight"},
        Case{"densenet", R"({"use": "densenet40", "growth": 2})", 8, "dense1.4.relu1", "", "dense1.4.conv1.weight"},
        Case{"densenet", R"({"use": "densenet40", "growth": 2})", 8, "dense1.4.concat1", "", nullptr},
        Case{"preresnet", R"({"use": "preresnet56", "width": 0.25})", 8, "layer1.1.relu1", "", "layer1.1.conv1.weight"},
        Case{"mobilenet_v2", mobilenet, 16, "blocks.2.relu61", "", "blocks.2.depthwise.weight"},
        Case{"mobilenet_v2", mobilenet, 16, "blocks.2.relu62", "", "blocks.2.project.weight"},
        Case{"vit", vit, 8, "blocks.0.attn.q", "blocks.0.attn.q", "blocks.0.attn.q.weight"},
        Case{"vit", vit, 8, "blocks.0.attn.heads", "blocks.0.attn.q.heads", "blocks.0.attn.proj.weight"},
        Case{"vit", vit, 8, "blocks.0.attn.heads", "blocks.0.attn.q", "blocks.0.attn.proj.weight"},
        Case{"vit", vit, 8, "blocks.1.mlp.gelu1", "", "blocks.1.mlp.fc2.weight"},
        Case{"resnext", R"({"use": "resnext29_8x64d", "cardinality": 4, "base_width": 2})", 8, "layer1.1.relu2",
             "layer1.1.conv2.groups", "layer1.1.conv3.weight"}}) {
    SCOPED_TRACE(std::string(c.plugin) + " " + c.edge + " " + c.axis);
    Network n(backbone(c.plugin, c.spec, c.size), 7, 4);
    const int64_t count = n.graph.parameter_count();
    n.edit({{InsertGate{"gate", c.edge, c.axis}}});
    set(n, "gate.coefficient.value", some_values(n["gate.coefficient.value"].numel()));
    if (!c.into) {
      EXPECT_THAT(refusal(n, {{FoldGate{"gate"}}}), HasSubstr("the gate stays"));
      continue;
    }
    const at::Tensor gated = n.logits(), into = n[c.into].clone();
    n.edit({{FoldGate{"gate"}}});
    EXPECT_LE(largest(n.logits() - gated), 1e-12);
    EXPECT_GT(largest(n[c.into] - into), 1e-4);
    EXPECT_EQ(n.graph.parameter_count(), count);
  }
}

TEST(Edits, OfAllKindsAtOnceAreCarriedOutOrNoneIs) {
  const Edits edits{{Shrink{"layer1.0.conv1", {0, 3}}},
                    {Grow{"layer2.0.conv2", 2, "random", 4}},
                    {InsertGate{"gate", "layer2.1.relu1", ""}},
                    {DropBlock{"layer1.1"}},
                    {InsertBlock{"layer3.n", "layer3.1", "layer3.1", "random", 6}},
                    {SplitOff{"layer3.1.conv1", 0, ""}},
                    {Shrink{"layer3.1.conv1.view", {1, 2, 5}}},
                    {CropKernels{"layer3.n.conv1", {3, 3, 1, 2, 0, 3, 1, 3}}},
                    {FoldGate{"gate"}},
                    {Disconnect{"layer2.2.add1", 1}},
                    {Grow{"layer3.n.conv1", 1, "preserving", 2}}};
  Network at_once(resnet20()), one_by_one(resnet20());
  const std::string before = at_once.bytes();
  Edits failing = edits;
  failing.push_back({DropBlock{"layer3.0"}});
  EXPECT_THAT(refusal(at_once, failing), HasSubstr("do not share their widths"));
  const at::Tensor was = at_once.logits();
  for (size_t n = 1; n <= edits.size(); ++n) {
    Edits some(edits.begin(), edits.begin() + static_cast<std::ptrdiff_t>(n));
    some.push_back({Shrink{"fc", {0}}});
    EXPECT_THAT(refusal(at_once, some), HasSubstr("given from outside")) << n;
  }
  EXPECT_TRUE(at::equal(at_once.logits(), was));
  at_once.edit(edits);
  for (const Edit& e : edits) one_by_one.edit({Edit::from_value(from_json(to_json(e.to_value())))});
  EXPECT_EQ(at_once.bytes(), one_by_one.bytes());
  at_once.logits();
}

// ---- search networks ----

int64_t architecture(const Graph& g) {
  int64_t n = 0;
  for (const Parameter& p : g.parameters()) n += p.role == Role::architecture ? g.numel(p.shape) : 0;
  return n;
}

TEST(Search, NetworksHaveThePublishedCounts) {
  // parameter_count() counts what is trained: weights and architecture parameters.
  const Graph darts = backbone("darts", R"({"use": "darts_search"})", 32, 10);
  EXPECT_EQ(architecture(darts), 2 * 14 * 8);
  EXPECT_EQ(darts.parameter_count(), 1'930'618 + 2 * 14 * 8);
  // All cells' convolutions of both sizes beside what the network of skip connections has (published counts of the
  // networks that have one kind each), without the batch norms' scales and shifts.
  const Graph nats = backbone("nasbench201", R"({"use": "nasbench201_search"})", 32, 10);
  const int64_t skip = 73'306, norms = 5 * 6 * 2 * (16 + 32 + 64);
  EXPECT_EQ(architecture(nats), 6 * 5);
  EXPECT_EQ(nats.parameter_count(), skip + (1'531'546 - skip - norms) + (241'306 - skip - norms) + 6 * 5);
}

struct Searched {
  const char *plugin, *spec;
  std::vector<std::string> alphas;
};
const std::vector<Searched>& searched() {
  static const std::vector<Searched> all{
      {"darts", R"({"use": "darts_search", "layers": 3, "channels": 2})", {"alpha_normal", "alpha_reduce"}},
      {"nasbench201", R"({"use": "nasbench201_search", "cells": 2, "channels": 2})", {"alpha"}}};
  return all;
}

TEST(Search, GradientsOfSharedCoefficientsAreThoseOfFiniteDifferences) {
  for (const Searched& s : searched()) {
    Network n(backbone(s.plugin, s.spec), 7, 4);
    const at::Tensor target = testkit::target_of(5, 4, 1);
    const auto loss = [&] { return testkit::cross_entropy(n.graph, n.weights, n.x, target, {.key = RandomKey(1)}); };
    for (const std::string& alpha : s.alphas) set(n, alpha + ".value", n[alpha + ".value"] * 1e3);
    n.weights.zero_gradients();
    loss().backward();
    for (const std::string& alpha : s.alphas) {
      const ParamId p = n.graph.parameter(alpha + ".value");
      const at::Tensor g = n.weights.gradient(p).reshape({-1});
      EXPECT_GT(largest(g), 1e-4) << alpha;
      const c10::NoGradGuard no_grad;
      at::Tensor a = n.weights[p].detach().view({-1});
      for (int64_t i = 0; i < a.numel(); i += 3) {
        const double was = a[i].item<double>(), step = 1e-5;
        a[i].fill_(was + step);
        const double high = loss().item<double>();
        a[i].fill_(was - step);
        const double low = loss().item<double>();
        a[i].fill_(was);
        EXPECT_NEAR(g[i].item<double>(), (high - low) / (2 * step), 1e-8) << alpha << " " << i;
      }
    }
  }
}

TEST(Search, ChosenOperationsComputeWhatTheMixtureOfThemAloneDoes) {
  for (const Searched& s : searched()) {
    Network n(backbone(s.plugin, s.spec, 16), 7, 4);
    Network one_hot(n.graph, 7, 4);
    // A genotype: each node keeps its last two inputs, each with another operation. With one coefficient of 1 (and
    // `none`, the first, where the edge is to go) the mixtures are these operations.
    Edits edits;
    for (const Node& node : n.graph.nodes()) {
      if (node.op->type() != "weighted_sum") continue;
      const int64_t row = node.op->options().at("row").as_int(), ops = std::ssize(node.inputs) - 1;
      edits.push_back({Choose{node.name, 1 + (3 * row + 2) % (ops - 1)}});
    }
    std::map<std::string, at::Tensor> values;
    for (const std::string& alpha : s.alphas) values[alpha] = at::full_like(n[alpha + ".value"], -1e4);
    for (const Node& node : n.graph.nodes()) {
      // Sums of mixtures; the rows of their coefficients.
      if (node.op->type() != "add") continue;
      std::vector<const Node*> terms;
      for (const Edge e : node.inputs) {
        const int32_t maker = n.graph[e].producer;
        if (maker >= 0 && n.graph.nodes()[static_cast<size_t>(maker)].op->type() == "weighted_sum")
          terms.push_back(&n.graph.nodes()[static_cast<size_t>(maker)]);
      }
      if (terms.size() != node.inputs.size()) continue;
      for (size_t i = 0; i < terms.size(); ++i) {
        const int64_t row = terms[i]->op->options().at("row").as_int(), ops = std::ssize(terms[i]->inputs) - 1;
        const bool kept = i + 2 >= terms.size();
        const Node& soft = n.graph.nodes()[static_cast<size_t>(n.graph[terms[i]->inputs.back()].producer)];
        const std::string alpha = n.graph[soft.inputs[0]].name;
        values.at(alpha)[row][kept ? 1 + (3 * row + 2) % (ops - 1) : 0].fill_(0);
        if (!kept) edits.push_back({Disconnect{node.name, 0}});
      }
    }
    if (std::string(s.plugin) == "nasbench201") values.at("alpha")[0][1 + 2 % 4].fill_(0);  // a single edge, no sum
    for (const auto& [alpha, value] : values) set(one_hot, alpha + ".value", value);
    n.edit(edits);
    EXPECT_LE(largest(n.logits() - one_hot.logits()), 1e-12) << s.plugin;
    EXPECT_GT(largest(n.logits()), 1e-3);
    EXPECT_EQ(architecture(n.graph), 0) << "nothing reads the coefficients any more";
    EXPECT_LT(n.graph.nodes().size(), one_hot.graph.nodes().size() / 2);
    EXPECT_EQ(n.numbers(), n.graph.parameter_count());
  }
}

}  // namespace
}  // namespace espalier
