#include <espalier/datasets/catalogue_dataset.h>
#include <espalier/plugin.h>

namespace espalier {

class Cifar10 final : public CatalogueDataset {
 public:
  using Options = NoOptions;
  explicit Cifar10(const Options&) : CatalogueDataset("cifar10") {}
};

ESPALIER_PLUGIN("cifar10", "1.0.0",
                component<Cifar10>("cifar10", "objects in colour: 50,000 + 10,000 images of 32 x 32 in 10 classes"));

}  // namespace espalier
