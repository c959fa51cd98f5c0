#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <espalier/dataset.h>

#include "espalier/datasets/catalogue.h"

namespace espalier {

// What a full reading of a data set found.
struct DatasetCheck {
  struct Part {
    std::string name;
    int64_t records = 0;
    std::map<std::string, std::vector<int64_t>> counts;  // images of each class, for each way of labelling
  };
  std::string name;
  std::filesystem::path folder;
  std::vector<Part> parts;   // those that could be read
  std::vector<double> mean;  // of the training images scaled to [0, 1], for each channel
  std::vector<double> deviation;
  std::vector<std::string> checksums;  // "train.bin: as the original", a line each
  std::vector<std::string> notes;      // nothing is wrong, but somebody may wonder
  std::vector<std::string> faults;     // empty: the data set is whole
};

// Reads everything and compares it with the catalogue: sizes, numbers of records, range of the labels, images of each
// class, mean and deviation, checksums. Throws InputError where the data set is not found; what is wrong with its files
// is in the faults.
DatasetCheck check_dataset(const CatalogueEntry& entry, const DataPaths& paths);

}  // namespace espalier
