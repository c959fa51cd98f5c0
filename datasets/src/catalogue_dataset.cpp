#include "espalier/datasets/catalogue_dataset.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include "espalier/datasets/checksum.h"
#include "espalier/datasets/cifar.h"
#include "espalier/datasets/idx.h"
#include "espalier/error.h"
#include "text.h"

namespace espalier {
namespace {

// The bytes are not copied.
at::Tensor tensor_of(std::vector<uint8_t> bytes, const std::vector<int64_t>& sizes) {
  auto* kept = new std::vector<uint8_t>(std::move(bytes));
  return at::from_blob(
      kept->data(), sizes, [kept](void*) { delete kept; }, at::kByte);
}

// IDX files of several data sets have the same names: MNIST's folder given for Fashion-MNIST would be trained on in
// silence. The labels tell them apart.
void reject_other_sets(const CatalogueEntry& entry, const CatalogueFile& file, const std::filesystem::path& path) {
  const std::string sum = content_checksum(path, "sha256");
  for (const CatalogueEntry& other : catalogue()) {
    if (other.name == entry.name) continue;
    for (const CatalogueFile& f : other.files) {
      if (f.sha256 != sum || f.sha256 == file.sha256) continue;
      throw InputError(path.string(), "this is " + other.title + " (data set " + other.name + "), not " + entry.title);
    }
  }
}

RawSplit read_idx_part(const CatalogueEntry& entry, const FoundDataset& found, const std::string& part) {
  RawSplit split;
  for (size_t i = 0; i < entry.files.size(); ++i) {
    const CatalogueFile& file = entry.files[i];
    if (file.part != part) continue;
    const std::filesystem::path& path = found.files[i];
    IdxArray array = read_idx(path);
    std::vector<int64_t> sizes = {file.records};
    if (file.holds == "images") sizes.insert(sizes.end(), {entry.height, entry.width});
    if (array.sizes != sizes) {
      const auto text = [](const std::vector<int64_t>& s) {
        std::string t;
        for (const int64_t n : s) t += (t.empty() ? "" : " x ") + grouped(n);
        return t;
      };
      throw InputError(path.string(), "holds " + text(array.sizes) + "; the " + file.holds + " of " + entry.name +
                                          " are " + text(sizes));
    }
    if (file.holds == "images") {
      split.images = tensor_of(std::move(array.bytes), {file.records, entry.channels, entry.height, entry.width});
      continue;
    }
    const auto classes = static_cast<int64_t>(entry.labels.front().classes.size());
    const auto bad =
        std::find_if(array.bytes.begin(), array.bytes.end(), [&](uint8_t label) { return label >= classes; });
    if (bad != array.bytes.end()) {
      throw InputError(path.string(), "record " + grouped(bad - array.bytes.begin()) +
                                          " (counted from 0) has the label " + std::to_string(*bad) +
                                          "; expected 0 to " + std::to_string(classes - 1));
    }
    reject_other_sets(entry, file, path);
    split.labels = tensor_of(std::move(array.bytes), {file.records, 1});
  }
  return split;
}

RawSplit read_cifar_part(const CatalogueEntry& entry, const FoundDataset& found, const std::string& part) {
  CifarFormat format;
  format.pixels = entry.channels * entry.height * entry.width;
  for (const CatalogueLabels& labels : entry.labels) {
    format.classes.push_back(static_cast<int64_t>(labels.classes.size()));
  }
  const auto label_bytes = static_cast<int64_t>(format.classes.size());
  int64_t total = 0;
  for (const CatalogueFile& file : entry.files) total += file.part == part ? file.records : 0;

  RawSplit split;
  split.images = at::empty({total, entry.channels, entry.height, entry.width}, at::kByte);
  split.labels = at::empty({total, label_bytes}, at::kByte);
  auto* images = split.images.mutable_data_ptr<uint8_t>();
  auto* labels = split.labels.mutable_data_ptr<uint8_t>();
  for (size_t i = 0; i < entry.files.size(); ++i) {
    if (entry.files[i].part != part) continue;
    const int64_t n = entry.files[i].records;
    read_cifar(found.files[i], format, n, {images, static_cast<size_t>(n * format.pixels)},
               {labels, static_cast<size_t>(n * label_bytes)});
    images += n * format.pixels;
    labels += n * label_bytes;
  }
  return split;
}

}  // namespace

RawSplit read_part(const CatalogueEntry& entry, const FoundDataset& found, const std::string& part) {
  return entry.format == "idx" ? read_idx_part(entry, found, part) : read_cifar_part(entry, found, part);
}

CatalogueDataset::CatalogueDataset(const std::string& name, const std::string& labels)
    : entry_(catalogue_entry(name)), labels_(labels.empty() ? entry_.labels.front() : entry_.labelled(labels)) {}

DatasetInfo CatalogueDataset::info() const {
  int64_t samples = 0;
  for (const CatalogueFile& f : entry_.files) samples += f.part == "train" && f.holds != "images" ? f.records : 0;
  return {.input = {.channels = entry_.channels, .height = entry_.height, .width = entry_.width},
          .target = {.outputs = static_cast<int64_t>(labels_.classes.size())},
          .classes = labels_.classes,
          .mean = entry_.mean,
          .deviation = entry_.deviation,
          .samples = samples};
}

Split CatalogueDataset::load(const std::string& part, const DataPaths& paths) const {
  if (part != "train" && part != "test") {
    throw InputError("", entry_.name + " has no part '" + part + "'; expected train or test");
  }
  const RawSplit raw = read_part(entry_, find_dataset(entry_, paths, part), part);
  const auto column = &labels_ - entry_.labels.data();
  return {.inputs = {{"input", raw.images}}, .targets = {{"target", raw.labels.select(1, column).to(at::kLong)}}};
}

}  // namespace espalier
