#pragma once

#include <string>

#include <espalier/dataset.h>

#include "espalier/datasets/catalogue.h"
#include "espalier/datasets/find.h"

namespace espalier {

// A data set of the catalogue: the whole of the plugins mnist, fashion_mnist, cifar10 and cifar100.
class CatalogueDataset : public Dataset {
 public:
  // labels: which ones, where the images have several.
  explicit CatalogueDataset(const std::string& name, const std::string& labels = "");

  DatasetInfo info() const override;
  Split load(const std::string& part, const DataPaths& paths) const override;

 private:
  const CatalogueEntry& entry_;
  const CatalogueLabels& labels_;
};

// One part as it lies in the files: images uint8 [N, channels, height, width], labels uint8 [N, ways of labelling], in
// range.
struct RawSplit {
  at::Tensor images;
  at::Tensor labels;
};
// Throws InputError naming the file: where it is damaged, or belongs to another data set of the catalogue.
RawSplit read_part(const CatalogueEntry& entry, const FoundDataset& found, const std::string& part);

}  // namespace espalier
