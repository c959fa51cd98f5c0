// Tables of how libraries name and arrange the values of a backbone, against the names that these publish. What the
// libraries compute with the same values is compared by scripts/check-layouts.
#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "espalier/error.h"
#include "espalier/operation.h"
#include "espalier/testkit.h"
#include "formats/safetensors.h"
#include "plan/layout_export.h"
#include "recipe/choose_layout.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

// "a.(b|c).[0-2]" stands for six names.
std::vector<std::string> expanded(const std::string& text) {
  const size_t open = text.find_first_of("([");
  if (open == std::string::npos) return {text};
  const size_t close = text.find(text[open] == '(' ? ')' : ']', open);
  const std::string inside = text.substr(open + 1, close - open - 1);
  std::vector<std::string> all, choices;
  if (text[open] == '[') {
    const size_t dash = inside.find('-');
    for (int i = std::stoi(inside); i <= std::stoi(inside.substr(dash + 1)); ++i) choices.push_back(std::to_string(i));
  } else {
    for (size_t at = 0; at <= inside.size();) {
      const size_t bar = std::min(inside.find('|', at), inside.size());
      choices.push_back(inside.substr(at, bar - at));
      at = bar + 1;
    }
  }
  for (const std::string& choice : choices) {
    for (std::string& name : expanded(text.substr(0, open) + choice + text.substr(close + 1)))
      all.push_back(std::move(name));
  }
  return all;
}

std::set<std::string> names(const std::vector<std::string>& texts) {
  std::set<std::string> all;
  for (const std::string& text : texts) {
    for (std::string& name : expanded(text)) all.insert(std::move(name));
  }
  return all;
}

struct Published {
  std::string backbone;  // JSON
  int64_t size;          // pixels
  std::string layout;
  std::vector<std::string> names;
};

const std::string wb = "(weight|bias)";
const std::string bn = "(weight|bias|running_mean|running_var|num_batches_tracked)";
const std::string swin = R"({"use": "swin_t", "dim": 12, "depths": [2, 2], "heads": [2, 3], "window": 3})";
const std::string vit = R"({"use": "vit_tiny", "patch": 4, "dim": 12, "depth": 2, "heads": 3})";
const std::string deit = R"({"use": "deit_tiny", "patch": 4, "dim": 12, "depth": 2, "heads": 3, "distillation": true})";

std::vector<std::string> with(std::vector<std::string> all, const std::vector<std::string>& more) {
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::vector<std::string> transformer(const std::string& model, const std::string& layers,
                                     const std::vector<std::string>& parts) {
  std::vector<std::string> all{model + ".embeddings.patch_embeddings.projection." + wb, model + ".layernorm." + wb};
  for (const std::string& part : parts) all.push_back(model + "." + layers + part + "." + wb);
  return all;
}

// The names in the libraries' own state dicts and files (timm 1.0, torchvision 0.26, transformers 4 and 5, and
// microsoft/Swin-Transformer) of networks of these depths.
std::vector<Published> published() {
  const std::vector<std::string> four{"layernorm_(before|after)", "attention.attention.(query|key|value)",
                                      "attention.output.dense", "(intermediate|output).dense"};
  const std::vector<std::string> five{"layernorm_(before|after)", "attention.(q|k|v|o)_proj", "mlp.fc[1-2]"};
  const std::string hf_swin = "encoder.layers.[0-1].blocks.[0-1].";
  const std::vector<std::string> swin_blocks{
      "patch_embed.(proj|norm)." + wb,
      "layers.[0-1].blocks.[0-1].(norm1|norm2|attn.qkv|attn.proj|mlp.fc1|mlp.fc2)." + wb,
      "layers.[0-1].blocks.[0-1].attn.relative_position_bias_table", "norm." + wb};
  const std::vector<std::string> old_swin =
      with(swin_blocks, {"layers.0.downsample.(norm.weight|norm.bias|reduction.weight)", "head." + wb,
                         "layers.[0-1].blocks.[0-1].attn.relative_position_index", "layers.[0-1].blocks.1.attn_mask"});
  const std::vector<std::string> hf_swin_rest{
      "swin.embeddings.norm." + wb, "swin.encoder.layers.0.downsample.(norm.weight|norm.bias|reduction.weight)",
      "classifier." + wb};
  const std::vector<std::string> timm_vit{"(cls_token|pos_embed)", "patch_embed.proj." + wb,
                                          "blocks.[0-1].(norm1|norm2|attn.qkv|attn.proj|mlp.fc1|mlp.fc2)." + wb,
                                          "(norm|head)." + wb};
  std::vector<std::string> timm_mobilenet{"(conv_stem|conv_head).weight", "(bn1|bn2)." + bn, "classifier." + wb,
                                          "blocks.0.0.(conv_dw|conv_pw).weight", "blocks.0.0.(bn1|bn2)." + bn};
  const int64_t stages[] = {2, 3, 4, 3, 3, 1};
  for (int64_t s = 0; s < 6; ++s) {
    const std::string blocks = "blocks." + std::to_string(s + 1) + ".[0-" + std::to_string(stages[s] - 1) + "].";
    timm_mobilenet.push_back(blocks + "(conv_pw|conv_dw|conv_pwl).weight");
    timm_mobilenet.push_back(blocks + "(bn1|bn2|bn3)." + bn);
  }
  const std::vector<std::string> resnet{"conv1.weight",
                                        "bn1." + bn,
                                        "layer[1-4].[0-1].(conv1|conv2).weight",
                                        "layer[1-4].[0-1].(bn1|bn2)." + bn,
                                        "layer[2-4].0.downsample.0.weight",
                                        "layer[2-4].0.downsample.1." + bn,
                                        "fc." + wb};
  std::vector<std::string> densenet{"features.conv0.weight", "features.(norm0|norm5)." + bn,
                                    "features.transition[1-3].norm." + bn, "features.transition[1-3].conv.weight",
                                    "classifier." + wb};
  const int64_t layers[] = {6, 12, 24, 16};
  for (int64_t b = 0; b < 4; ++b) {
    const std::string block =
        "features.denseblock" + std::to_string(b + 1) + ".denselayer[1-" + std::to_string(layers[b]) + "].";
    densenet.push_back(block + "(norm1|norm2)." + bn);
    densenet.push_back(block + "(conv1|conv2).weight");
  }
  return {
      {swin, 24, "timm",
       with(swin_blocks, {"layers.1.downsample.(norm.weight|norm.bias|reduction.weight)", "head.fc." + wb})},
      {swin, 48, "microsoft", old_swin},
      {swin, 48, "timm-old", old_swin},
      {swin,
       24,
       "torchvision",
       {"features.0.0." + wb, "features.0.2." + wb,
        "features.(1|3).[0-1].(norm1|norm2|attn.qkv|attn.proj|mlp.0|mlp.3)." + wb,
        "features.(1|3).[0-1].attn.(relative_position_bias_table|relative_position_index)",
        "features.2.(norm.weight|norm.bias|reduction.weight)", "norm." + wb, "head." + wb}},
      {swin, 24, "huggingface",
       with(with(transformer("swin", hf_swin,
                             {"layernorm_(before|after)", "attention.self.(query|key|value)", "attention.output.dense",
                              "(intermediate|output).dense"}),
                 hf_swin_rest),
            {"swin." + hf_swin + "attention.self.relative_position_bias_table"})},
      {swin, 24, "huggingface-5",
       with(with(transformer("swin", hf_swin, five), hf_swin_rest),
            {"swin." + hf_swin + "attention.relative_position_bias.relative_position_bias_table"})},
      {vit, 8, "timm", timm_vit},
      {deit, 8, "timm", with(timm_vit, {"dist_token", "head_dist." + wb})},
      {vit,
       8,
       "torchvision",
       {"class_token", "encoder.pos_embedding", "conv_proj." + wb,
        "encoder.layers.encoder_layer_[0-1].(ln_1|ln_2|self_attention.out_proj|mlp.0|mlp.3)." + wb,
        "encoder.layers.encoder_layer_[0-1].self_attention.(in_proj_weight|in_proj_bias)", "encoder.ln." + wb,
        "heads.head." + wb}},
      {vit, 8, "huggingface",
       with(transformer("vit", "encoder.layer.[0-1].", four),
            {"vit.embeddings.(cls_token|position_embeddings)", "classifier." + wb})},
      {vit, 8, "huggingface-5",
       with(transformer("vit", "layers.[0-1].", five),
            {"vit.embeddings.(cls_token|position_embeddings)", "classifier." + wb})},
      {deit, 8, "huggingface-deit",
       with(transformer("deit", "encoder.layer.[0-1].", four),
            {"deit.embeddings.(cls_token|distillation_token|position_embeddings)",
             "(cls_classifier|distillation_classifier)." + wb})},
      {deit, 8, "huggingface-deit-5",
       with(transformer("deit", "layers.[0-1].", five),
            {"deit.embeddings.(cls_token|distillation_token|position_embeddings)",
             "(cls_classifier|distillation_classifier)." + wb})},
      {R"({"use": "resnet18", "width": 0.125})", 32, "torchvision", resnet},
      {R"({"use": "resnet18", "width": 0.125})",
       32,
       "huggingface",
       {"resnet.embedder.embedder.convolution.weight", "resnet.embedder.embedder.normalization." + bn,
        "resnet.encoder.stages.[0-3].layers.[0-1].layer.[0-1].convolution.weight",
        "resnet.encoder.stages.[0-3].layers.[0-1].layer.[0-1].normalization." + bn,
        "resnet.encoder.stages.[1-3].layers.0.shortcut.convolution.weight",
        "resnet.encoder.stages.[1-3].layers.0.shortcut.normalization." + bn, "classifier.1." + wb}},
      {R"({"use": "mobilenet_v2", "width": 0.125})", 32, "timm", timm_mobilenet},
      {R"({"use": "mobilenet_v2", "width": 0.125})",
       32,
       "torchvision",
       {"features.0.0.weight", "features.0.1." + bn, "features.1.conv.0.0.weight", "features.1.conv.0.1." + bn,
        "features.1.conv.1.weight", "features.1.conv.2." + bn, "features.[2-17].conv.(0|1).0.weight",
        "features.[2-17].conv.(0|1).1." + bn, "features.[2-17].conv.2.weight", "features.[2-17].conv.3." + bn,
        "features.18.0.weight", "features.18.1." + bn, "classifier.1." + wb}},
      {R"({"use": "mobilenet_v2", "width": 0.125})",
       32,
       "huggingface",
       {"mobilenet_v2.conv_stem.(first_conv|conv_3x3|reduce_1x1).convolution.weight",
        "mobilenet_v2.conv_stem.(first_conv|conv_3x3|reduce_1x1).normalization." + bn,
        "mobilenet_v2.layer.[0-15].(expand_1x1|conv_3x3|reduce_1x1).convolution.weight",
        "mobilenet_v2.layer.[0-15].(expand_1x1|conv_3x3|reduce_1x1).normalization." + bn,
        "mobilenet_v2.conv_1x1.convolution.weight", "mobilenet_v2.conv_1x1.normalization." + bn, "classifier." + wb}},
      {R"({"use": "densenet121", "growth": 2})", 32, "torchvision", densenet},
  };
}

// The names in the files of detectors: of Swin's authors and of mmdetection 2, and of the classifiers that their bodies
// begin with.
std::vector<Published> published_of_detectors() {
  const std::string narrow = R"(, "channels": 4, "hidden": 8, "mask_size": 4, "body": {"use": )";
  const std::string of_swin = R"({"use": "cascade_mask_rcnn")" + narrow +
                              R"("swin_t", "dim": 4, "depths": [1, 2, 1, 1], "heads": [1, 1, 2, 2], "window": 3}})";
  const std::string of_resnet = R"({"use": "cascade_mask_rcnn")" + narrow + R"("resnet18", "width": 0.0625}})";
  const std::vector<std::string> heads{"neck.(lateral|fpn)_convs.[0-3].conv." + wb,
                                       "rpn_head.(rpn_conv|rpn_cls|rpn_reg)." + wb,
                                       "roi_head.bbox_head.[0-2].shared_convs.[0-3].conv.weight",
                                       "roi_head.bbox_head.[0-2].shared_convs.[0-3].bn." + bn,
                                       "roi_head.bbox_head.[0-2].(shared_fcs.0|fc_cls|fc_reg)." + wb,
                                       "roi_head.mask_head.[0-2].convs.[0-3].conv." + wb,
                                       "roi_head.mask_head.[0-2].(upsample|conv_logits)." + wb};
  const auto blocks = [](const std::string& scope) {
    std::vector<std::string> all{scope + "patch_embed.(proj|norm)." + wb,
                                 scope + "layers.[0-2].downsample.(norm.weight|norm.bias|reduction.weight)"};
    for (const std::string block : {"layers.[0-3].blocks.0.", "layers.1.blocks.1."}) {
      all.push_back(scope + block + "(norm1|norm2|attn.qkv|attn.proj|mlp.fc1|mlp.fc2)." + wb);
      all.push_back(scope + block + "attn.(relative_position_bias_table|relative_position_index)");
    }
    return all;
  };
  const auto body = [](const std::string& scope) {
    return std::vector<std::string>{scope + "conv1.weight",
                                    scope + "bn1." + bn,
                                    scope + "layer[1-4].[0-1].(conv1|conv2).weight",
                                    scope + "layer[1-4].[0-1].(bn1|bn2)." + bn,
                                    scope + "layer[2-4].0.downsample.0.weight",
                                    scope + "layer[2-4].0.downsample.1." + bn};
  };
  return {{of_swin, 32, "microsoft", with(with(blocks("backbone."), {"backbone.norm[0-3]." + wb}), heads)},
          {of_swin, 32, "microsoft-body", blocks("")},
          {of_resnet, 32, "mmdetection", with(body("backbone."), heads)},
          {of_resnet, 32, "torchvision-body", body("")}};
}

std::shared_ptr<const Layout> table(const std::string& backbone, const std::string& name) {
  for (const auto& l : layouts_for(backbone)) {
    if (l->name == name) return l;
  }
  throw Error("no layout " + name + " for " + backbone);
}

void load_backbones() {
  for (const char* name : {"swin", "vit", "resnet", "mobilenet_v2", "densenet", "cascade_mask_rcnn"})
    testkit::load_plugin(ESPALIER_PLUGIN_DIR "/lib" + std::string(name) + ".so");
}

NamedTensors values_of(const Graph& graph, uint64_t seed = 1) {
  Weights weights(graph, at::kFloat, at::kCPU);
  weights.initialize(graph, RandomKey(seed));
  NamedTensors all;
  for (size_t i = 0; i < graph.parameters().size(); ++i) {
    const ParamId id{static_cast<int32_t>(i)};
    all.emplace_back(graph[id].name, weights[id].detach().contiguous());
  }
  return all;
}

TEST(Layouts, WriteThePublishedNamesAndReadThemBack) {
  load_backbones();
  std::set<std::string> tested;
  for (const Published& p : published()) {
    const std::string backbone = from_json(p.backbone).at("use").as_string();
    SCOPED_TRACE(backbone + ", " + p.layout);
    const Graph graph = testkit::build(p.backbone, {3, p.size, p.size}, {5});
    const NamedTensors values = values_of(graph);
    const auto layout = table(backbone, p.layout);
    tested.insert(layout->path.string());
    const NamedTensors file = in_layout(*layout, graph, values);
    std::set<std::string> written;
    for (const auto& [name, tensor] : file) EXPECT_TRUE(written.insert(name).second) << name;
    EXPECT_EQ(written, names(p.names));
    std::map<std::string, at::Tensor> back;
    for (const auto& [name, tensor] : file) {
      const auto mapped = layout->of_file(name);
      ASSERT_TRUE(mapped) << name;
      EXPECT_TRUE(can_be(*mapped->row, tensor.sizes().vec())) << name;
      const auto parts = from_file(*mapped->row, tensor);
      for (size_t i = 0; i < mapped->own.size(); ++i) back[mapped->own[i]] = parts[i];
    }
    for (const auto& [name, tensor] : values) {
      ASSERT_TRUE(back.contains(name)) << name;
      EXPECT_TRUE(back[name].equal(tensor)) << name;
    }
  }
  for (const char* backbone : {"swin_t", "vit_tiny", "resnet18", "mobilenet_v2", "densenet121"}) {
    for (const auto& l : layouts_for(backbone)) EXPECT_TRUE(tested.contains(l->path.string())) << l->path;
  }
}

// Each table writes the names of the file that its library has; those of bodies leave out what no classifier has.
TEST(Layouts, OfDetectorsHaveThePublishedNames) {
  load_backbones();
  std::set<std::string> tested;
  for (const Published& p : published_of_detectors()) {
    SCOPED_TRACE(p.layout);
    const Graph graph = testkit::build(p.backbone, {3, p.size, p.size}, {.outputs = 2, .task = "detection"});
    const auto layout = table("cascade_mask_rcnn", p.layout);
    tested.insert(layout->path.string());
    NamedTensors values;
    const std::set<std::string> expected = names(p.names);
    for (const auto& [name, tensor] : values_of(graph)) {
      const bool of_body = name.starts_with("backbone.") && !name.starts_with("backbone.norm");
      if (of_body || !p.layout.ends_with("-body")) values.emplace_back(name, tensor);
    }
    std::set<std::string> back;
    for (const std::string& name : expected) {
      const auto mapped = layout->of_file(name);
      ASSERT_TRUE(mapped) << name;
      back.insert(mapped->own.begin(), mapped->own.end());
    }
    for (const auto& [name, tensor] : values) EXPECT_TRUE(back.contains(name)) << name;
    if (p.layout.ends_with("-body")) continue;
    std::set<std::string> written;
    for (const auto& [name, tensor] : in_layout(*layout, graph, values_of(graph))) written.insert(name);
    EXPECT_EQ(written, expected);
  }
  for (const auto& l : layouts_for("cascade_mask_rcnn")) EXPECT_TRUE(tested.contains(l->path.string())) << l->path;
}

// What names and shapes alone do not tell: tensors of one shape that could be exchanged.
TEST(Layouts, MeanTheSameTensors) {
  using ::testing::ElementsAre;
  load_backbones();
  const auto own = [](const char* backbone, const char* layout, const char* file) {
    const auto mapped = table(backbone, layout)->of_file(file);
    return mapped ? mapped->own : std::vector<std::string>{};
  };
  EXPECT_THAT(own("swin_t", "timm", "layers.1.downsample.norm.bias"), ElementsAre("layers.0.downsample.norm.bias"));
  for (const char* layout : {"timm", "timm-old", "microsoft"}) {
    EXPECT_THAT(
        own("swin_t", layout, "layers.2.blocks.4.attn.qkv.bias"),
        ElementsAre("layers.2.blocks.4.attn.q.bias", "layers.2.blocks.4.attn.k.bias", "layers.2.blocks.4.attn.v.bias"));
    EXPECT_THAT(own("swin_t", layout, "layers.1.blocks.0.norm2.weight"), ElementsAre("layers.1.blocks.0.norm2.weight"));
  }
  EXPECT_THAT(own("swin_t", "torchvision", "features.5.3.norm2.bias"), ElementsAre("layers.2.blocks.3.norm2.bias"));
  EXPECT_THAT(
      own("swin_t", "torchvision", "features.5.3.attn.qkv.bias"),
      ElementsAre("layers.2.blocks.3.attn.q.bias", "layers.2.blocks.3.attn.k.bias", "layers.2.blocks.3.attn.v.bias"));
  EXPECT_THAT(own("swin_t", "torchvision", "features.4.norm.bias"), ElementsAre("layers.1.downsample.norm.bias"));
  EXPECT_THAT(own("vit_base", "timm", "blocks.11.attn.qkv.weight"),
              ElementsAre("blocks.11.attn.q.weight", "blocks.11.attn.k.weight", "blocks.11.attn.v.weight"));
  EXPECT_THAT(own("vit_base", "torchvision", "encoder.layers.encoder_layer_3.self_attention.in_proj_bias"),
              ElementsAre("blocks.3.attn.q.bias", "blocks.3.attn.k.bias", "blocks.3.attn.v.bias"));
  EXPECT_THAT(own("vit_base", "torchvision", "encoder.layers.encoder_layer_3.ln_2.bias"),
              ElementsAre("blocks.3.norm2.bias"));
  EXPECT_THAT(own("deit_base", "timm", "cls_token"), ElementsAre("embed.class_token"));
  EXPECT_THAT(own("deit_base", "timm", "head_dist.bias"), ElementsAre("head_dist.bias"));
  struct Model {
    const char* backbone;
    const char* layout;
    std::string blocks, ours;
  };
  for (const Model& m : {Model{"swin_t", "huggingface", "swin.encoder.layers.2.blocks.5.", "layers.2.blocks.5."},
                         Model{"vit_tiny", "huggingface", "vit.encoder.layer.7.", "blocks.7."},
                         Model{"deit_tiny", "huggingface-deit", "deit.encoder.layer.7.", "blocks.7."}}) {
    const std::string self = std::string(m.backbone) == "swin_t" ? "attention.self." : "attention.attention.";
    const std::vector<std::pair<std::string, std::string>> pairs{
        {"layernorm_before", "norm1"}, {"layernorm_after", "norm2"}, {self + "query", "attn.q"},
        {self + "key", "attn.k"},      {self + "value", "attn.v"},   {"attention.output.dense", "attn.proj"}};
    for (const auto& [file, ours] : pairs)
      EXPECT_THAT(own(m.backbone, m.layout, (m.blocks + file + ".bias").c_str()), ElementsAre(m.ours + ours + ".bias"));
  }
  for (const Model& m : {Model{"swin_t", "huggingface-5", "swin.encoder.layers.2.blocks.5.", "layers.2.blocks.5."},
                         Model{"vit_tiny", "huggingface-5", "vit.layers.7.", "blocks.7."},
                         Model{"deit_tiny", "huggingface-deit-5", "deit.layers.7.", "blocks.7."}}) {
    const std::vector<std::pair<std::string, std::string>> pairs{
        {"layernorm_before", "norm1"},  {"layernorm_after", "norm2"},   {"attention.q_proj", "attn.q"},
        {"attention.k_proj", "attn.k"}, {"attention.v_proj", "attn.v"}, {"attention.o_proj", "attn.proj"}};
    for (const auto& [file, ours] : pairs)
      EXPECT_THAT(own(m.backbone, m.layout, (m.blocks + file + ".bias").c_str()), ElementsAre(m.ours + ours + ".bias"));
  }
  for (const char* layout : {"huggingface-deit", "huggingface-deit-5"}) {
    EXPECT_THAT(own("deit_tiny", layout, "deit.embeddings.cls_token"), ElementsAre("embed.class_token"));
    EXPECT_THAT(own("deit_tiny", layout, "distillation_classifier.bias"), ElementsAre("head_dist.bias"));
  }
  EXPECT_THAT(own("resnet50", "huggingface", "resnet.encoder.stages.2.layers.5.layer.1.normalization.running_var"),
              ElementsAre("layer3.5.bn2.running_var"));
  EXPECT_THAT(own("mobilenet_v2", "timm", "blocks.3.2.bn1.bias"), ElementsAre("blocks.8.expand_bn.bias"));
  EXPECT_THAT(own("mobilenet_v2", "timm", "blocks.3.2.bn2.bias"), ElementsAre("blocks.8.depthwise_bn.bias"));
  EXPECT_THAT(own("mobilenet_v2", "torchvision", "features.9.conv.1.1.bias"),
              ElementsAre("blocks.8.depthwise_bn.bias"));
  EXPECT_THAT(own("mobilenet_v2", "huggingface", "mobilenet_v2.layer.7.expand_1x1.normalization.bias"),
              ElementsAre("blocks.8.expand_bn.bias"));
  for (const char* name :
       {"features.denseblock2.denselayer7.norm2.bias", "features.denseblock2.denselayer7.norm.2.bias"})
    EXPECT_THAT(own("densenet121", "torchvision", name), ElementsAre("dense2.6.norm2.bias"));
}

// Names and shapes tell each file from the others; microsoft's and timm's old ones are the same.
TEST(Layouts, AreFoundByNamesAndShapes) {
  load_backbones();
  const TempFolder folder;
  for (const Published& p : published()) {
    const std::string backbone = from_json(p.backbone).at("use").as_string();
    SCOPED_TRACE(backbone + ", " + p.layout);
    const Graph graph = testkit::build(p.backbone, {3, p.size, p.size}, {5});
    WarmStart start;
    start.from = folder / (backbone + p.layout + std::to_string(p.names.size()) + ".safetensors");
    save_safetensors(start.from, {in_layout(*table(backbone, p.layout), graph, values_of(graph)), {}});
    const LayoutChoice choice = choose_layout(start, "auto", backbone, from_json(p.backbone));
    if (backbone == "resnet18" && p.layout == "torchvision") {
      EXPECT_FALSE(choice.layout) << "the names are the network's own";
      continue;
    }
    ASSERT_TRUE(choice.layout) << choice.tried;
    EXPECT_EQ(choice.layout->name, p.layout == "timm-old" ? "microsoft" : p.layout);
    EXPECT_EQ(choose_layout(start, p.layout, backbone, from_json(p.backbone)).layout->name, p.layout);
    if (p.layout == "timm-old") {
      EXPECT_EQ(choose_layout(start, "timm", backbone, from_json(p.backbone)).layout->name, "timm-old");
    }
  }
}

// A ViT of 8 x 8 pixels, from a file of timm's names.
class WithAFile : public ::testing::Test {
 protected:
  void SetUp() override {
    load_backbones();
    graph_ = testkit::build(vit, {3, 8, 8}, {5});
    file_ = in_layout(*table("vit_tiny", "timm"), graph_, values_of(graph_));
    save("vit.safetensors");
  }
  void save(const std::string& name) const { save_safetensors(folder_ / name, {file_, {}}); }
  fs::path recipe(const std::string& from, const std::string& classes = "5") const {
    return folder_.write("r.yaml",
                         "espalier: 1\nname: vit\nthreads: 2\ndata: {use: synthetic, size: 8, channels: 3, "
                         "classes: " +
                             classes +
                             ", count: 20, batch: 10}\nnetwork: {use: vit_tiny, patch: 4, dim: 12, "
                             "depth: 2, heads: 3, " +
                             from + "}\nstages: [{name: look, epochs: 0}]\n");
  }
  std::string said(const std::string& from, int status = 1, const std::string& classes = "5") const {
    const Output o = espalier_command("plan " + recipe(from, classes).string());
    EXPECT_EQ(o.status, status) << o.text;
    return o.text;
  }
  Output run(const std::string& from, const std::string& name, const std::string& classes = "5") const {
    return espalier_command("run " + recipe(from, classes).string() + " --out " + (folder_ / name).string());
  }
  std::map<std::string, at::Tensor> values(const std::string& name) const {
    const NamedTensors all = load_safetensors(folder_ / name / "model.safetensors").tensors;
    return {all.begin(), all.end()};
  }
  TempFolder folder_;
  Graph graph_;
  NamedTensors file_;
};

TEST_F(WithAFile, BeginsWithItAndWritesItBack) {
  EXPECT_THAT(said("from: vit.safetensors", 0),
              AllOf(HasSubstr("The network begins with all 40 tensors"), HasSubstr("in the layout timm:"),
                    HasSubstr("blocks.{i}.attn.qkv.{*} -> blocks.{i}.attn.q.{*}, blocks.{i}.attn.k.{*}, "
                              "blocks.{i}.attn.v.{*} (split in 3): 4"),
                    Not(HasSubstr("does not say how its values are computed with"))));
  const Output first = run("from: vit.safetensors", "a");
  ASSERT_EQ(first.status, 0) << first.text;
  EXPECT_THAT(first.text, HasSubstr("in the layout timm\n"));
  const auto now = values("a");
  for (const auto& [name, tensor] : values_of(graph_)) EXPECT_TRUE(now.at(name).equal(tensor)) << name;
  EXPECT_THAT(read_file(folder_ / "a" / "recipe.yaml"), HasSubstr("layout: timm"));

  const Output back = espalier_command("export " + (folder_ / "a").string() + " --to safetensors --layout timm --out " +
                                       (folder_ / "back.safetensors").string());
  ASSERT_EQ(back.status, 0) << back.text;
  const NamedTensors again = load_safetensors(folder_ / "back.safetensors").tensors;
  ASSERT_EQ(again.size(), file_.size());
  for (size_t i = 0; i < again.size(); ++i) {
    EXPECT_EQ(again[i].first, file_[i].first);
    EXPECT_TRUE(again[i].second.equal(file_[i].second)) << again[i].first;
  }
  // The run's own file is none of a library's.
  const Output over = espalier_command("export " + (folder_ / "a").string() + " --to safetensors --layout timm --out " +
                                       (folder_ / "a/model.safetensors").string());
  EXPECT_NE(over.status, 0);
  EXPECT_THAT(over.text, HasSubstr("name another file"));
  // Of a run nothing asks for the file again.
  fs::remove(folder_ / "vit.safetensors");
  const Output later = espalier_command("export " + (folder_ / "a").string() + " --to safetensors --layout timm");
  EXPECT_EQ(later.status, 0) << later.text;
  EXPECT_TRUE(fs::exists(folder_ / "a" / "model.timm.safetensors"));
}

// Transformers computes its norms with another epsilon.
TEST_F(WithAFile, SetsTheOptionsThatTheValuesNeed) {
  // A recipe beside it does not make it ours.
  folder_.write("recipe.yaml", "espalier: 1\n");
  file_ = in_layout(*table("vit_tiny", "huggingface"), graph_, values_of(graph_));
  save("hf.safetensors");
  ASSERT_EQ(run("from: hf.safetensors", "hf").status, 0);
  EXPECT_THAT(read_file(folder_ / "hf" / "recipe.yaml"),
              AllOf(HasSubstr("norm_eps: 1e-12"), HasSubstr("layout: huggingface")));
  const std::string graph = read_file(folder_ / "hf" / "graph.json");
  EXPECT_THAT(graph, AllOf(HasSubstr("1e-12"), Not(HasSubstr("1e-06"))));
  // What the recipe says stays, and is said.
  const Output own = run("from: hf.safetensors, norm_eps: 0.001", "own");
  EXPECT_THAT(own.text, HasSubstr("files of huggingface are computed with norm_eps: 1e-12, and the recipe says 0.001"));
  EXPECT_THAT(read_file(folder_ / "own" / "recipe.yaml"), HasSubstr("norm_eps: 0.001"));
  const Output note =
      espalier_command("export " + (folder_ / "own").string() + " --to safetensors --layout huggingface");
  EXPECT_EQ(note.status, 0) << note.text;
  EXPECT_THAT(note.text, AllOf(HasSubstr("huggingface computes with norm_eps: 1e-12, this network with 0.001"),
                               HasSubstr("model.huggingface.safetensors")));
}

TEST_F(WithAFile, LeavesOutAClassifierOfOtherClassesOnRequest) {
  EXPECT_THAT(said("from: vit.safetensors", 1, "7"),
              AllOf(HasSubstr("head.weight is [5, 12] in the file, [7, 12] in the network"),
                    HasSubstr("`classifier: new` leaves the classifier out")));
  EXPECT_THAT(said("from: vit.safetensors, classifier: new", 0, "7"),
              AllOf(HasSubstr("The classifier begins anew: head.weight [7, 12] ([5, 12] in the file)"),
                    HasSubstr("38 of 40 tensors")));
  ASSERT_EQ(run("from: vit.safetensors, classifier: new", "new", "7").status, 0);
  const auto now = values("new");
  EXPECT_EQ(now.at("head.weight").size(0), 7);
  for (const auto& [name, tensor] : values_of(graph_)) {
    if (name.starts_with("head.")) continue;
    EXPECT_TRUE(now.at(name).equal(tensor)) << name;
  }
  // Of the same number of classes, too; and a file may lack it.
  ASSERT_EQ(run("from: vit.safetensors", "a").status, 0);
  ASSERT_EQ(run("from: vit.safetensors, classifier: new", "five").status, 0);
  EXPECT_FALSE(values("five").at("head.weight").equal(values("a").at("head.weight")));
  std::erase_if(file_, [](const auto& t) { return t.first.starts_with("head."); });
  save("headless.safetensors");
  EXPECT_EQ(run("from: headless.safetensors, classifier: new", "headless").status, 0);
  EXPECT_THAT(said("from: headless.safetensors"),
              AllOf(HasSubstr("not in the file: head.weight"), HasSubstr("`classifier: new` leaves")));
}

TEST_F(WithAFile, TakesWrappersAndPassesNamesOver) {
  NamedTensors plain = file_;
  for (auto& [name, tensor] : file_) name = "module._orig_mod." + name;
  save("wrapped.safetensors");
  EXPECT_EQ(run("from: wrapped.safetensors", "wrapped").status, 0);
  file_ = plain;
  file_.emplace_back("ema.decay", plain[0].second);
  save("more.safetensors");
  EXPECT_THAT(
      said("from: more.safetensors"),
      AllOf(HasSubstr("No layout of 'vit_tiny' knows all names of the file"), HasSubstr("timm (32 of 33 names)"),
            HasSubstr("does not know ema.decay"), HasSubstr("`ignore` passes names over")));
  EXPECT_THAT(said("from: more.safetensors, layout: timm"),
              AllOf(HasSubstr("not in the network: ema.decay"), Not(HasSubstr("head.weight"))));
  EXPECT_EQ(run("from: more.safetensors, ignore: ['^ema\\.']", "ignored").status, 0);
  EXPECT_THAT(said("from: more.safetensors, ignore: ['^ema\\.', '^emma']", 0),
              HasSubstr("ignore: '^emma' is in no name of the file"));
}

TEST_F(WithAFile, TakesATableOfAUser) {
  for (auto& [name, tensor] : file_) name = "my." + name;
  save("my.safetensors");
  folder_.write("my.yaml", R"(rows:
  my.cls_token: {to: embed.class_token, ones: 2}
  my.pos_embed: {to: embed.position, ones: 1}
  my.blocks.{i}.attn.qkv.{*}: ['blocks.{i}.attn.q.{*}', 'blocks.{i}.attn.k.{*}', 'blocks.{i}.attn.v.{*}']
  my.{*}: '{*}'
)");
  const Output o = run("from: my.safetensors, layout: my.yaml", "my");
  ASSERT_EQ(o.status, 0) << o.text;
  const auto now = values("my");
  for (const auto& [name, tensor] : values_of(graph_)) EXPECT_TRUE(now.at(name).equal(tensor)) << name;
  const Output back =
      espalier_command("export " + (folder_ / "my").string() + " --to safetensors --layout " +
                       (folder_ / "my.yaml").string() + " --out " + (folder_ / "b.safetensors").string());
  ASSERT_EQ(back.status, 0) << back.text;
  EXPECT_EQ(load_safetensors(folder_ / "b.safetensors").tensors.size(), file_.size());
  // `rename` can say the same.
  EXPECT_EQ(
      run(R"(from: my.safetensors, rename: {'^my\.': '', cls_token: embed.class_token, pos_embed: embed.position,)"
          R"( 'qkv\.': [q., k., v.]})",
          "renamed")
          .status,
      0);
  EXPECT_TRUE(values("renamed").at("blocks.1.attn.v.bias").equal(now.at("blocks.1.attn.v.bias")));
}

TEST_F(WithAFile, RefusesWhatIsNoLayout) {
  EXPECT_THAT(said("from: vit.safetensors, layout: tim"),
              AllOf(HasSubstr("there is no layout 'tim'"), HasSubstr("did you mean 'timm'")));
  EXPECT_THAT(said("from: vit.safetensors, layout: mine.yaml"), HasSubstr("there is no table"));
  EXPECT_THAT(said("layout: timm"), HasSubstr("has no 'from'"));
  EXPECT_THAT(said("classifier: new"), HasSubstr("has no 'from'"));
  EXPECT_THAT(said("from: vit.safetensors, classifier: none"), HasSubstr("one of loaded, new"));
  EXPECT_THAT(said("from: vit.safetensors, ignore: ['(']"), HasSubstr("no regular expression"));
  EXPECT_THAT(said("from: vit.safetensors, layout: own"), HasSubstr("not in the network: blocks.0.attn.qkv.weight"));
  EXPECT_THAT(said("from: vit.safetensors, layout: torchvision"), HasSubstr("not in the network: cls_token"));
  folder_.write("bad.yaml", "rows:\n  a{n}: b\n");
  EXPECT_THAT(said("from: vit.safetensors, layout: bad.yaml"), HasSubstr("bad.yaml:2:3"));
  folder_.write("swin.yaml", "backbones: [swin_t]\nrows: {a: b}\n");
  EXPECT_THAT(said("from: vit.safetensors, layout: swin.yaml"), HasSubstr("a table for swin_t, not for vit_tiny"));
  folder_.write("option.yaml", "options: {eps: 1}\nrows: {a: b}\n");
  EXPECT_THAT(said("from: vit.safetensors, layout: option.yaml"), HasSubstr("has no option 'eps'"));
  ASSERT_EQ(run("from: vit.safetensors", "a").status, 0);
  const std::string run = "export " + (folder_ / "a").string();
  const auto refused = [&](const std::string& flags) {
    const Output o = espalier_command(run + flags);
    EXPECT_NE(o.status, 0) << flags;
    return o.text;
  };
  EXPECT_THAT(refused(" --to safetensors --layout tim"), HasSubstr("did you mean 'timm'"));
  EXPECT_THAT(refused(" --to onnx --layout timm"), HasSubstr("only files of values have layouts"));
  EXPECT_THAT(refused(" --to safetensors --layout none.yaml"), HasSubstr("there is no table none.yaml"));
}

// What was pruned is no network of the library's any more.
TEST(Layouts, OfAPrunedNetworkAreRefused) {
  const TempFolder folder;
  const std::string head =
      "espalier: 1\nname: r\nthreads: 2\n"
      "data: {use: synthetic, size: 32, channels: 3, count: 40, batch: 20}\n";
  const auto first = folder.write("a.yaml", head +
                                                "network: {use: resnet18, width: 0.125}\nstages:\n"
                                                "  - {name: look, epochs: 0}\n");
  ASSERT_EQ(espalier_command("run -q " + first.string() + " --out " + (folder / "a").string()).status, 0);
  const auto second = folder.write("b.yaml", head +
                                                 "network: {from: a}\nstages:\n  - {name: prune, epochs: 0, "
                                                 "controller: {use: l1_prune, ratio: 0.5, on: layer1.0.conv1}}\n");
  ASSERT_EQ(espalier_command("run -q " + second.string() + " --out " + (folder / "b").string()).status, 0);
  const Output pruned = espalier_command("export " + (folder / "b").string() + " --to safetensors --layout timm");
  EXPECT_NE(pruned.status, 0);
  EXPECT_THAT(pruned.text, AllOf(HasSubstr("the network was changed since 'resnet18' built it"),
                                 HasSubstr("layer1.0.conv1.weight is [4, 8, 3, 3] and not [8, 8, 3, 3]")));
  EXPECT_FALSE(fs::exists(folder / "b" / "model.torchvision.safetensors"));
  // One that only took over its structure is.
  const auto third = folder.write("c.yaml", head + "network: {from: a}\nstages: [{name: look, epochs: 0}]\n");
  ASSERT_EQ(espalier_command("run -q " + third.string() + " --out " + (folder / "c").string()).status, 0);
  const Output whole = espalier_command("export " + (folder / "c").string() + " --to safetensors --layout timm");
  EXPECT_EQ(whole.status, 0) << whole.text;
  EXPECT_TRUE(fs::exists(folder / "c" / "model.torchvision.safetensors"));
}

}  // namespace
}  // namespace espalier
