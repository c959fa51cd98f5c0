#include <espalier/datasets/table_dataset.h>
#include <espalier/plugin.h>

namespace espalier {

// A table in LIBSVM's sparse format.
class Libsvm final : public TableDataset {
 public:
  struct Options : TableOptions {
    int64_t features = 0;
    bool zero_based = false;

    static void declare(Declare<Options>& p) {
      declare_table_options(p);
      p("features", &Options::features, at_least(0), at_most(1e6),
        "Number of features; 0: the largest index in the files.");
      p("zero_based", &Options::zero_based, "Whether features are counted from 0 instead of 1.");
    }
  };

  explicit Libsvm(const Options& options)
      : TableDataset(options), format_{.features = options.features, .zero_based = options.zero_based} {}

 private:
  Table read(const std::vector<std::filesystem::path>& files) const override { return read_libsvm(files, format_); }

  LibsvmFormat format_;
};

ESPALIER_PLUGIN("libsvm", "1.0.0", component<Libsvm>("libsvm", "a table in the sparse format of LIBSVM"));

}  // namespace espalier
