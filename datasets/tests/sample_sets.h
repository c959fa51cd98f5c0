#pragma once

#include <cmath>

#include "espalier/datasets/catalogue.h"
#include "espalier/datasets/checksum.h"
#include "sample_files.h"

// Data sets as small as can be, described as the catalogue describes large ones.
namespace espalier::samples {

inline std::string sum_of(const Bytes& bytes, const std::string& algorithm) {
  Checksum sum(algorithm);
  sum.add(bytes.data(), bytes.size());
  return sum.hex();
}

inline CatalogueDownload download_of(const std::string& name, const Bytes& bytes) {
  return {.name = name,
          .size = static_cast<int64_t>(bytes.size()),
          .md5 = sum_of(bytes, "md5"),
          .sha256 = {},
          .urls = {"https://example.invalid/" + name}};
}

// The training images' moments, in the plainest way.
inline void set_moments(CatalogueEntry& entry, const Bytes& planar) {
  const size_t plane = static_cast<size_t>(entry.height * entry.width), channels = static_cast<size_t>(entry.channels);
  for (size_t c = 0; c < channels; ++c) {
    std::vector<double> values;
    for (size_t i = 0; i < planar.size(); ++i) {
      if (i / plane % channels == c) values.push_back(planar[i] / 255.0);
    }
    double mean = 0, variance = 0;
    for (const double v : values) mean += v / static_cast<double>(values.size());
    for (const double v : values) variance += (v - mean) * (v - mean) / static_cast<double>(values.size());
    entry.mean.push_back(mean);
    entry.deviation.push_back(std::sqrt(variance));
  }
}

// Four IDX files: 20 + 8 images of 2 x 3 in 4 classes.
struct TinyIdx {
  std::map<std::string, Bytes> files = {{"train-images", idx({20, 2, 3})},
                                        {"train-labels", idx({20}, 4)},
                                        {"test-images", idx({8, 2, 3})},
                                        {"test-labels", idx({8}, 4)}};
  CatalogueEntry entry;

  TinyIdx() {
    entry.name = "tiny";
    entry.title = "Tiny";
    entry.page = "https://example.invalid/";
    entry.format = "idx";
    entry.channels = 1;
    entry.height = 2;
    entry.width = 3;
    entry.folders = {"tiny"};
    for (const char* part : {"train", "test"}) {
      for (const char* holds : {"images", "labels"}) {
        const std::string name = std::string(part) + "-" + holds;
        const Bytes& bytes = files.at(name);
        entry.files.push_back({.name = name,
                               .part = part,
                               .holds = holds,
                               .records = std::string(part) == "train" ? 20 : 8,
                               .size = static_cast<int64_t>(bytes.size()),
                               .sha256 = sum_of(bytes, "sha256"),
                               .original_sha256 = {}});
        entry.downloads.push_back(download_of(name + ".gz", gzip(bytes)));
      }
    }
    const Bytes& images = files.at("train-images");
    set_moments(entry, {images.begin() + 16, images.end()});
    entry.labels = {
        {.name = "kind", .classes = {"a", "b", "c", "d"}, .counts = {{"train", {5}}, {"test", {2, 2, 2, 2}}}}};
  }

  // Plain, in a folder.
  void write(const std::filesystem::path& folder) const {
    for (const auto& [name, bytes] : files) samples::write(folder / name, bytes);
  }
  // As they would be downloaded.
  void write_downloads(const std::filesystem::path& folder) const {
    for (const auto& [name, bytes] : files) samples::write(folder / (name + ".gz"), gzip(bytes));
  }
};

// Two CIFAR files: 12 + 6 images of 3 x 2 x 2 in 2 coarse and 6 fine classes. The archive is for the test to make.
struct TinyCifar {
  std::map<std::string, Bytes> files;
  CatalogueEntry entry;

  TinyCifar() {
    for (const auto& [name, n] : {std::pair<std::string, int64_t>("train.bin", 12), {"test.bin", 6}}) {
      files[name] = cifar(n, {2, 6}, 12);
    }
    entry.name = "little";
    entry.title = "Little";
    entry.page = "https://example.invalid/";
    entry.format = "cifar";
    entry.channels = 3;
    entry.height = 2;
    entry.width = 2;
    entry.folders = {"little-binary"};
    for (const char* part : {"train", "test"}) {
      const std::string name = std::string(part) + ".bin";
      const Bytes& bytes = files.at(name);
      entry.files.push_back({.name = name,
                             .part = part,
                             .holds = "records",
                             .records = static_cast<int64_t>(bytes.size()) / 14,
                             .size = static_cast<int64_t>(bytes.size()),
                             .sha256 = {},
                             .original_sha256 = sum_of(bytes, "sha256")});
    }
    Bytes images;
    const Bytes& train = files.at("train.bin");
    for (size_t r = 0; r < train.size(); r += 14)
      images.insert(images.end(), train.begin() + static_cast<long>(r) + 2, train.begin() + static_cast<long>(r) + 14);
    set_moments(entry, images);
    entry.labels = {
        {.name = "coarse", .classes = {"even", "odd"}, .counts = {{"train", {6}}, {"test", {3}}}},
        {.name = "fine", .classes = {"0", "1", "2", "3", "4", "5"}, .counts = {{"train", {2}}, {"test", {1}}}}};
  }

  void write(const std::filesystem::path& folder) const {
    for (const auto& [name, bytes] : files) samples::write(folder / name, bytes);
  }
};

}  // namespace espalier::samples
