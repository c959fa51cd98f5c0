// A detector from its pictures to its results: trained, pruned, stopped, gone on with, and refused by exports.
#include <chrono>
#include <csignal>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "../datasets/tests/image_files.h"
#include "child.h"
#include "espalier/value.h"
#include "run_files.h"
#include "subprocess.h"
#include "system/files.h"
#include "temp_folder.h"

namespace espalier {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// Six pictures of noise, each with a bright box of its own size.
void write_pictures(const fs::path& folder) {
  std::string images, annotations;
  for (int n = 1; n <= 6; ++n) {
    const int width = 24 + 4 * n, height = 44 - 4 * n, side = 8 + n;
    samples::Bytes pixels = samples::noise(width, height, static_cast<uint32_t>(n));
    for (int y = 2; y < 2 + side; ++y) {
      for (int i = 3 * (y * width + 4); i < 3 * (y * width + 4 + side); ++i) pixels[static_cast<size_t>(i)] = 250;
    }
    const std::string id = std::to_string(n), comma = n > 1 ? "," : "", s = std::to_string(side);
    samples::write(folder / (id + ".png"), samples::png(width, height, pixels));
    images += comma + R"({"id": )" + id + R"(, "file_name": ")" + id + R"(.png", "height": )" + std::to_string(height) +
              R"(, "width": )" + std::to_string(width) + "}";
    const std::string right = std::to_string(4 + side), lower = std::to_string(2 + side);
    annotations += comma + R"({"id": )" + id + R"(, "image_id": )" + id + R"(, "category_id": )" +
                   std::to_string(1 + n % 2) + R"(, "area": 99, "bbox": [4, 2, )" + s + ", " + s +
                   R"(], "segmentation": [[4, 2, 4, )" + lower + ", " + right + ", " + lower + ", " + right + ", 2]]}";
  }
  samples::write(folder.parent_path() / "boxes.json", [&] {
    const std::string text = R"({"categories": [{"id": 1, "name": "odd"}, {"id": 2, "name": "even"}], "images": [)" +
                             images + R"(], "annotations": [)" + annotations + "]}";
    return samples::Bytes(text.begin(), text.end());
  }());
}

constexpr const char* recipe_text = R"(
espalier: 1
name: boxes
threads: 1
data: {use: coco, folder: boxes, train: pictures, test: pictures, train_annotations: boxes.json,
       test_annotations: boxes.json, classes: 2, sides: [32, 48], test_side: 48, longest: 64, height: 64, width: 64,
       batch: 2, eval_batch: 4}
network: {use: cascade_mask_rcnn, channels: 8, convs: 1, hidden: 8, mask_size: 8, overlaps: [0.5, 0.6], anchor_scale: 3,
          proposals: 16, train_proposals: 32, samples: 8, found: 4,
          body: {use: swin_t, dim: 8, depths: [1, 1, 1, 1], heads: [1, 1, 2, 2], window: 4, drop_path: 0.1}}
stages:
  - name: search
    epochs: 2
    optimizers:
      - {use: adamw, lr: 0.001, on: [all, "!architecture"]}
      - {use: adam, lr: 0.01, on: architecture}
    loss: {use: mask_rcnn, overlaps: [0.5, 0.6], stage_weights: [1, 0.5]}
    controller: {use: sidt, ratio: 0.25}
  - name: retrain
    epochs: 1
    optimizer: {use: adamw, lr: 0.001}
    loss: {use: mask_rcnn, overlaps: [0.5, 0.6], stage_weights: [1, 0.5]}
)";

TEST(Detection, EqualsAnUninterruptedRunAfterAStop) {
  const TempFolder folder;
  write_pictures(folder / "boxes/pictures");
  const auto recipe = folder.write("r.yaml", recipe_text);
  const fs::path whole = folder / "whole", stopped = folder / "stopped", says = folder / "says.txt";
  const auto command = [&](const fs::path& out) {
    return std::vector<std::string>{"run", recipe.string(), "--data",    folder.path().string(), "--save-every",
                                    "0",   "--out",         out.string()};
  };
  ASSERT_EQ(Child(command(whole), says).wait(), 0) << read_file(says);
  Child child(command(stopped), says);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < end && !fs::exists(stopped / "checkpoints/previous.safetensors") &&
         child.poll() < 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  child.send(SIGTERM);
  ASSERT_EQ(child.wait(), 128 + SIGTERM) << read_file(says);
  ASSERT_EQ(Child({"resume", stopped.string()}, says).wait(), 0) << read_file(says);
  EXPECT_TRUE(read_file(whole / "model.safetensors") == read_file(stopped / "model.safetensors"));
  EXPECT_TRUE(timeless_lines(whole / "metrics.jsonl") == timeless_lines(stopped / "metrics.jsonl"));
  EXPECT_EQ(read_file(whole / "history.jsonl"), read_file(stopped / "history.jsonl"));

  // A quarter of the scores of the body went, with their dimensions.
  const Value summary = from_json(read_file(whole / "summary.json"));
  EXPECT_LT(summary.at("final").at("params").as_int(), summary.at("base").at("params").as_int());
  const Value last = lines_of(whole / "metrics.jsonl").back();
  for (const char* name : {"test_coco_box", "test_coco_mask", "test_coco_box.ap50", "test_loss"})
    EXPECT_NE(last.find(name), nullptr) << name;

  for (const char* form : {"onnx", "torchscript", "python"}) {
    const Output o = espalier_command("export " + whole.string() + " --to " + form);
    EXPECT_EQ(o.status, 1) << form;
    EXPECT_THAT(o.text, HasSubstr("a detector has no form in Python, TorchScript or ONNX")) << form;
  }
}

}  // namespace
}  // namespace espalier
