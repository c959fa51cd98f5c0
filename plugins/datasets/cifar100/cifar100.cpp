#include <espalier/datasets/catalogue_dataset.h>
#include <espalier/plugin.h>

namespace espalier {

class Cifar100 final : public CatalogueDataset {
 public:
  struct Options {
    std::string labels = "fine";

    static void declare(Declare<Options>& p) {
      p("labels", &Options::labels, one_of({"fine", "coarse"}),
        "Labels: the 100 classes, or the 20 groups that they belong to.");
    }
  };
  explicit Cifar100(const Options& o) : CatalogueDataset("cifar100", o.labels) {}
};

ESPALIER_PLUGIN("cifar100", "1.0.0",
                component<Cifar100>("cifar100", "objects in colour: 50,000 + 10,000 images of 32 x 32 in 100 classes"));

}  // namespace espalier
