#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <espalier/dataset.h>

#include "espalier/datasets/table.h"

namespace espalier {

// The options that all data sets of tables have.
struct TableOptions {
  std::string file;
  std::string test_file;
  std::vector<std::string> target;
  std::vector<std::string> ignore;
  std::string split_column;
  std::string task = "auto";
  std::string missing = "error";
  bool standardize = true;
  bool standardize_target = false;
  std::optional<double> test;
  int64_t seed = 0;
};

// Declares them for a struct that derives from TableOptions.
template <class Options>
void declare_table_options(Declare<Options>& p) {
  // Members of the base are none of the struct for a template.
  const auto option = [&p]<class Member, class... Constraints>(const char* name, Member TableOptions::*member,
                                                               const Constraints&... constraints) {
    p(name, static_cast<Member Options::*>(member), constraints...);
  };
  option("file", &TableOptions::file, path(), required(),
         "File of the table, plain or compressed with gzip. If there is none at this path, the last parts of the path "
         "are looked for in the data folders. A name with * stands for all files that match, read as one table in the "
         "order "
         "of their names.");
  option("test_file", &TableOptions::test_file, path(),
         "File, or files, of the test part, with the same columns. Left out: the test part is taken from `file`.");
  option("target", &TableOptions::target,
         "Columns to learn: names, patterns such as \"y*\", or numbers, from 1, or from the end from -1. Left out: "
         "those that the file names, or the last column.");
  option("ignore", &TableOptions::ignore, "Columns that are left out, written as in `target`.");
  option("split_column", &TableOptions::split_column,
         "Column that says of each row whether it is of the part train, test or validation. Left out: there is none.");
  option("task", &TableOptions::task, one_of({"auto", "classification", "regression", "multilabel"}),
         "What is learned; auto: classification of one column of categories, multilabel of several columns of 0 and 1, "
         "regression of numbers.");
  option("missing", &TableOptions::missing, one_of({"error", "mean", "most_frequent", "drop"}),
         "What becomes of missing values; mean: the mean of the training part (of categories the most frequent one); "
         "most_frequent: the most frequent value of the training part; drop: their rows are left out. Rows without a "
         "target can only be dropped.");
  option("standardize", &TableOptions::standardize,
         "Whether inputs get the mean 0 and the standard deviation 1, if a column of numbers is among them.");
  option("standardize_target", &TableOptions::standardize_target,
         "Whether the targets of a regression get the mean 0 and the standard deviation 1.");
  option("test", &TableOptions::test, at_least(0), below(1),
         "Share of the rows that are the test part, of each class in classification; 0: the training part is the test "
         "part, too. Left out: 0.2, unless `test_file` or `split_column` says which rows they are.");
  option("seed", &TableOptions::seed, "Seed of the rows that are drawn for the test part.");
}

// The file at a path; or where the data folders hold a file with the last two parts of the path, or with its name.
// Throws InputError with what was searched for, and where.
std::filesystem::path find_data_file(const std::string& path, const DataPaths& paths);
// The same, of a path whose last part may have *: all files of the first folder that has some which match, sorted.
std::vector<std::filesystem::path> find_data_files(const std::string& path, const DataPaths& paths);

// Numbers of 0..n-1, ascending.
struct RowParts {
  std::vector<int64_t> train, test, validation;
};
// Draws the share of the test part. If `classes` (of each row) are given, each class has its share in it, within one
// row, and a class of a single row stays in the training part.
RowParts draw_test_rows(int64_t rows, const std::vector<int32_t>& classes, double share, uint64_t seed);

// A table of one row for each sample: the whole of the plugins csv, arff and libsvm, but for the reading. Numbers are
// one feature each, and categories as many features of 0 and 1.
class TableDataset : public Dataset {
 public:
  // Reads the file, since sizes depend on it. It is looked for in the data folders of default_data_paths().
  DatasetInfo info() const override;
  Split load(const std::string& part, const DataPaths& paths) const override;

 protected:
  explicit TableDataset(TableOptions options);
  // Reads the files into one table.
  virtual Table read(const std::vector<std::filesystem::path>& files) const = 0;

 private:
  struct Prepared;
  std::shared_ptr<const Prepared> prepared(const DataPaths& paths) const;

  TableOptions o_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const Prepared> prepared_;  // what was read last
};

}  // namespace espalier
