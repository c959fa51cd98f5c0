#include <espalier/datasets/catalogue_dataset.h>
#include <espalier/plugin.h>

namespace espalier {

class Mnist final : public CatalogueDataset {
 public:
  using Options = NoOptions;
  explicit Mnist(const Options&) : CatalogueDataset("mnist") {}
};

ESPALIER_PLUGIN("mnist", "1.0.0",
                component<Mnist>("mnist", "handwritten digits: 60,000 + 10,000 images of 28 x 28 in 10 classes"));

}  // namespace espalier
