#include <espalier/datasets/table_dataset.h>
#include <espalier/plugin.h>

namespace espalier {

// A table in an attribute-relation file, as Weka, MEKA and Mulan have them.
class Arff final : public TableDataset {
 public:
  struct Options : TableOptions {
    static void declare(Declare<Options>& p) { declare_table_options(p); }
  };

  explicit Arff(const Options& options) : TableDataset(options) {}

 private:
  Table read(const std::vector<std::filesystem::path>& files) const override { return read_arff(files); }
};

ESPALIER_PLUGIN("arff", "1.0.0", component<Arff>("arff", "a table in an attribute-relation file (Weka, MEKA, Mulan)"));

}  // namespace espalier
