#include <espalier/datasets/catalogue_dataset.h>
#include <espalier/plugin.h>

namespace espalier {

class FashionMnist final : public CatalogueDataset {
 public:
  using Options = NoOptions;
  explicit FashionMnist(const Options&) : CatalogueDataset("fashion_mnist") {}
};

ESPALIER_PLUGIN("fashion_mnist", "1.0.0",
                component<FashionMnist>("fashion_mnist",
                                        "articles of clothing: 60,000 + 10,000 images of 28 x 28 in 10 classes"));

}  // namespace espalier
