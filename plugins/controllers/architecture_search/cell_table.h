#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace espalier {

// A table of what networks of NAS-Bench-201 cells reached, as one row for each cell. It is a CSV file with a column
// ArchitectureString, the cell, and columns of numbers, which are accuracies in percent.
class CellTable {
 public:
  // Reads a table. Throws InputError with the file, the line and the column of what is wrong.
  explicit CellTable(const std::filesystem::path& file);

  // What the table says of a cell in one of its columns. Accuracies are in percent.
  struct Accuracy {
    std::string column;    // cifar10_accuracy, cifar100_accuracy, imagenet16_120_accuracy, or as in the table
    double own = 0;        // of the cell itself
    double mean = 0;       // over all cells that are the same function (function_of)
    double deviation = 0;  // over these, of the sample (n - 1); 0 if there is one cell
  };
  struct Found {
    int64_t equal = 0;  // the cells of the table that are the same function, the cell itself included
    std::vector<Accuracy> accuracies;
  };
  // Returns what the table holds of a cell, written as NAS-Bench-201 writes it. Throws Error if it has no such cell.
  Found find(const std::string& cell) const;

  // Returns how many cells the table has.
  int64_t size() const { return static_cast<int64_t>(cells_.size()); }

 private:
  std::filesystem::path file_;
  std::vector<std::string> columns_;
  std::vector<std::string> cells_;           // of each row
  std::vector<std::string> functions_;       // of each row
  std::vector<std::vector<double>> values_;  // of each column and row
};

// Returns where a table is. `table` is a CSV file, or a folder with nats_bench.csv in it. What is not there is looked
// for in the data folders ($ESPALIER_DATA, the cache, those of the system). Throws InputError with the folders that
// were searched.
std::filesystem::path find_cell_table(const std::string& table);

}  // namespace espalier
