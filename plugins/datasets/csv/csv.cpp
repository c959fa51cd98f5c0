#include <espalier/datasets/table_dataset.h>
#include <espalier/plugin.h>

namespace espalier {

// A table in a file of comma-separated values.
class Csv final : public TableDataset {
 public:
  struct Options : TableOptions {
    std::string delimiter = "auto";
    std::optional<bool> header;
    std::string decimal = "point";
    std::vector<std::string> nominal;
    std::vector<std::string> missing_values = CsvFormat().missing;

    static void declare(Declare<Options>& p) {
      declare_table_options(p);
      p("delimiter", &Options::delimiter,
        "Character between two fields, or tab; auto: what takes the first lines apart alike of ; tab and comma.");
      p("header", &Options::header,
        "Whether the first row holds the names of the columns. Left out: if no number is in it. Columns without a name "
        "are called column1, column2, ...");
      p("decimal", &Options::decimal, one_of({"point", "comma"}), "What decimals are written with.");
      p("nominal", &Options::nominal,
        "Columns of categories that hold numbers, written as in `target`. Columns without a number are such in any "
        "case.");
      p("missing_values", &Options::missing_values, "Texts that stand for a missing value.");
    }
  };

  explicit Csv(const Options& options)
      : TableDataset(options),
        format_{.delimiter = options.delimiter,
                .header = options.header,
                .decimal_comma = options.decimal == "comma",
                .nominal = options.nominal,
                .ignore = options.ignore,
                .missing = options.missing_values} {}

 private:
  Table read(const std::vector<std::filesystem::path>& files) const override { return read_csv(files, format_); }

  CsvFormat format_;
};

ESPALIER_PLUGIN("csv", "1.0.0", component<Csv>("csv", "a table in a file of comma-separated values"));

}  // namespace espalier
