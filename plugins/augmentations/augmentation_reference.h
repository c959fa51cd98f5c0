#pragma once

// Augmentations against transcriptions in Python: the same images and draws for both.
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/augmentation.h>
#include <espalier/error.h>
#include <espalier/random_fill.h>
#include <espalier/registry.h>
#include <espalier/testkit.h>

#include "../../tests/temp_folder.h"

namespace espalier {

inline std::unique_ptr<Augmentation> augmentation(const std::string& name, const std::string& options = "") {
  testkit::load_plugin(std::string(ESPALIER_PLUGIN_DIR "/lib") + name + ".so");
  return Registry::instance().create<Augmentation>(
      from_json(R"({"use": ")" + name + "\"" + (options.empty() ? "" : ", " + options) + "}"));
}

// What is said to options, or to images of this size.
inline std::string refusal(const std::string& name, const std::string& options, const InputSpec& image = {3, 8, 8}) {
  try {
    augmentation(name, options)->check(image);
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << name << " accepted: " << options;
  return {};
}

// Whole numbers from 0 to 255, float64 [count, channels, height, width]. Four kinds of images take turns: all bytes,
// little contrast, few values (so that channels are equal), and one color.
inline at::Tensor sample_bytes(int64_t count, int64_t channels, int64_t height, int64_t width) {
  at::Tensor bytes = uniform({count, channels, height, width}, 0, 256, RandomKey(5).with("bytes")).floor();
  for (int64_t i = 0; i < count; ++i) {
    at::Tensor image = bytes[i];
    if (i % 4 == 1) image.div_(8).floor_().add_(100);
    if (i % 4 == 2) image.div_(64).floor_().mul_(85);
    if (i % 4 == 3) image.copy_(image.slice(1, 0, 1).slice(2, 0, 1).clone().expand_as(image));
  }
  return bytes;
}

// These bytes as the program normalises them, three classes, and a key for each image.
inline ImageBatch batch_of(const at::Tensor& bytes, at::ScalarType type) {
  const float means[] = {0.485F, 0.456F, 0.406F}, deviations[] = {0.229F, 0.224F, 0.225F};
  ImageBatch batch;
  batch.images = at::empty(bytes.sizes(), at::TensorOptions().dtype(at::kFloat), at::MemoryFormat::ChannelsLast);
  for (int64_t c = 0; c < bytes.size(1); ++c) {
    const float scale = 1 / (255 * deviations[c]), shift = -means[c] / deviations[c];
    batch.images.select(1, c).copy_(bytes.select(1, c).to(at::kFloat) * scale + shift);
    batch.black.push_back(static_cast<double>(shift));
    batch.white.push_back(255.0 * static_cast<double>(scale) + static_cast<double>(shift));
  }
  batch.images = batch.images.to(type);
  batch.targets = at::arange(bytes.size(0), at::kLong).remainder(3);
  batch.classes = 3;
  for (int64_t i = 0; i < bytes.size(0); ++i) batch.keys.push_back(RandomKey(11).with(static_cast<uint64_t>(i)));
  return batch;
}

// The images with black 0 and white 1, float64.
inline at::Tensor units_of(const ImageBatch& batch) {
  at::Tensor units = batch.images.to(at::kDouble).clone();
  for (int64_t c = 0; c < units.size(1); ++c) {
    const double black = batch.black[static_cast<size_t>(c)], white = batch.white[static_cast<size_t>(c)];
    units.select(1, c).sub_(black).div_(white - black);
  }
  return units;
}

inline ImageBatch part_of(const ImageBatch& batch, int64_t begin, int64_t end) {
  ImageBatch part = batch;
  part.images = batch.images.slice(0, begin, end).clone();
  part.targets = batch.targets.slice(0, begin, end).clone();
  part.keys = {batch.keys.begin() + begin, batch.keys.begin() + end};
  return part;
}

inline ImageBatch changed(const Augmentation& a, const ImageBatch& batch) {
  const c10::NoGradGuard no_grad;
  ImageBatch result = part_of(batch, 0, batch.images.size(0));
  a.apply(result);
  return result;
}

inline bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.equal(b);
}

// The same keys give the same images, whatever else is in the batch and in which layout the batch is.
inline void expect_images_of_their_own_keys(const Augmentation& a, const ImageBatch& batch) {
  const at::Tensor whole = changed(a, batch).images;
  EXPECT_FALSE(whole.equal(batch.images));
  EXPECT_TRUE(same_bytes(whole, changed(a, batch).images));
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0, size = 1; begin < whole.size(0); begin += size, size = size % 3 + 1)
    parts.push_back(changed(a, part_of(batch, begin, std::min(begin + size, whole.size(0)))).images);
  EXPECT_TRUE(same_bytes(whole, at::cat(parts)));
  ImageBatch planes = batch;
  planes.images = batch.images.contiguous();
  EXPECT_TRUE(same_bytes(whole, changed(a, planes).images));
}

// Calls a function of augmentation_reference.py with options and tensors, and returns the float64 tensor that it gives.
inline at::Tensor python_gives(const std::string& function, const Value& options,
                               const std::vector<at::Tensor>& tensors, const std::vector<int64_t>& sizes) {
  Value header = Value::map({{"function", function}, {"options", options}});
  Value shapes = Value::list();
  std::ostringstream values;
  for (const at::Tensor& t : tensors) {
    const at::Tensor c = t.detach().to(at::kDouble).contiguous();
    values.write(static_cast<const char*>(c.const_data_ptr()), static_cast<std::streamsize>(8 * c.numel()));
    shapes.push_back(Value(c.sizes().vec()));
  }
  header["shapes"] = shapes;
  const TempFolder folder;
  const std::string given = folder.write("given", to_json(header) + "\n" + values.str()).string();
  const std::string made = (folder / "made").string();
  std::ostringstream script;
  script << std::ifstream(ESPALIER_SOURCE_DIR "/plugins/augmentations/augmentation_reference.py").rdbuf();
  testkit::run_python(ESPALIER_PYTHON, script.str(), {given, made});
  const at::Tensor result = at::empty(sizes, at::kDouble);
  std::ifstream in(made, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  EXPECT_EQ(static_cast<int64_t>(bytes.size()), 8 * result.numel());
  std::copy_n(bytes.data(), std::min<size_t>(bytes.size(), static_cast<size_t>(8 * result.numel())),
              static_cast<char*>(result.data_ptr()));
  return result;
}

inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace espalier
