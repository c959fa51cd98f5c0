#include "espalier/datasets/check.h"

#include <cmath>
#include <cstdio>
#include <set>

#include "espalier/datasets/catalogue_dataset.h"
#include "espalier/datasets/checksum.h"
#include "espalier/datasets/find.h"
#include "espalier/error.h"
#include "text.h"

namespace espalier {
namespace {

std::string fixed(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", v);
  return text;
}

// Each byte value's count tells mean and deviation exactly, whatever the order of the records.
void measure(const at::Tensor& images, DatasetCheck& check) {
  const int64_t n = images.size(0), channels = images.size(1), plane = images.size(2) * images.size(3);
  const auto* bytes = images.const_data_ptr<uint8_t>();
  for (int64_t c = 0; c < channels; ++c) {
    std::vector<int64_t> of_value(256);
    for (int64_t i = 0; i < n; ++i) {
      const uint8_t* pixels = bytes + (i * channels + c) * plane;
      for (int64_t p = 0; p < plane; ++p) ++of_value[pixels[p]];
    }
    double sum = 0, squares = 0;
    for (int v = 0; v < 256; ++v) {
      const double x = v / 255.0, count = static_cast<double>(of_value[static_cast<size_t>(v)]);
      sum += count * x;
      squares += count * x * x;
    }
    const double total = static_cast<double>(n * plane), mean = sum / total;
    check.mean.push_back(mean);
    check.deviation.push_back(std::sqrt(std::max(0.0, squares / total - mean * mean)));
  }
}

void compare_moments(const CatalogueEntry& entry, DatasetCheck& check) {
  for (size_t c = 0; c < check.mean.size(); ++c) {
    const auto differs = [&](double measured, double expected, const char* what) {
      // The catalogue has them to four digits.
      if (std::abs(measured - expected) < 1e-4) return;
      check.faults.push_back(std::string("the training images have the ") + what + " " + fixed(measured) +
                             " in channel " + std::to_string(c) + "; those of " + entry.name + " have " +
                             fixed(expected) + ": pixels differ");
    };
    differs(check.mean[c], entry.mean[c], "mean");
    differs(check.deviation[c], entry.deviation[c], "standard deviation");
  }
}

void count_labels(const CatalogueEntry& entry, const at::Tensor& labels, DatasetCheck::Part& part,
                  DatasetCheck& check) {
  const auto* bytes = labels.const_data_ptr<uint8_t>();
  const auto ways = static_cast<int64_t>(entry.labels.size());
  for (int64_t way = 0; way < ways; ++way) {
    const CatalogueLabels& expected = entry.labels[static_cast<size_t>(way)];
    std::vector<int64_t>& counts = part.counts[expected.name];
    counts.resize(expected.classes.size());
    for (int64_t i = 0; i < part.records; ++i) ++counts[bytes[i * ways + way]];
    for (size_t label = 0; label < counts.size(); ++label) {
      if (counts[label] == expected.count(part.name, label)) continue;
      check.faults.push_back(part.name + ": class " + std::to_string(label) + " (" + expected.classes[label] +
                             ") has " + grouped(counts[label]) + " images; expected " +
                             grouped(expected.count(part.name, label)));
    }
  }
  if (ways < 2) return;
  // Each fine class belongs to one coarse class.
  std::set<std::pair<int, int>> pairs;
  for (int64_t i = 0; i < part.records; ++i) pairs.emplace(bytes[i * ways], bytes[i * ways + 1]);
  if (pairs.size() != entry.labels[1].classes.size()) {
    check.faults.push_back(part.name + ": " + entry.labels[1].name + " classes appear with more than one " +
                           entry.labels[0].name + " class");
  }
}

void compare_checksums(const CatalogueEntry& entry, const FoundDataset& found, DatasetCheck& check) {
  for (size_t i = 0; i < entry.files.size(); ++i) {
    const CatalogueFile& file = entry.files[i];
    const std::string name = found.files[i].filename().string() + ": ";
    try {
      const std::string sum = content_checksum(found.files[i], "sha256");
      if (!file.sha256.empty() && sum != file.sha256) {
        check.faults.push_back(name + "the content's SHA-256 is " + sum + "; expected " + file.sha256);
      } else if (!file.original_sha256.empty() && sum != file.original_sha256) {
        check.notes.push_back(name + "not the original file, SHA-256 " + sum +
                              "; as good where only the order of the records differs");
      } else {
        check.checksums.push_back(name + "SHA-256 of the original");
      }
    } catch (const InputError&) {
      // Reading the records has said it already.
    }
  }
}

}  // namespace

DatasetCheck check_dataset(const CatalogueEntry& entry, const DataPaths& paths) {
  const FoundDataset found = find_dataset(entry, paths);
  DatasetCheck check;
  check.name = entry.name;
  check.folder = found.folder;
  for (const char* name : {"train", "test"}) {
    try {
      const RawSplit split = read_part(entry, found, name);
      DatasetCheck::Part& part = check.parts.emplace_back();
      part.name = name;
      part.records = split.images.size(0);
      count_labels(entry, split.labels, part, check);
      if (part.name == "train") measure(split.images, check);
    } catch (const InputError& e) {
      check.faults.emplace_back(e.what());
    }
  }
  compare_moments(entry, check);
  compare_checksums(entry, found, check);
  return check;
}

}  // namespace espalier
