#include "cell_table.h"

#include <algorithm>
#include <cmath>

#include <espalier/datasets/find.h>
#include <espalier/datasets/table.h>
#include <espalier/datasets/table_dataset.h>
#include <espalier/error.h>

#include "cells.h"

namespace espalier {

namespace {

constexpr const char* cell_column = "ArchitectureString";
constexpr const char* unique_column = "UniqueString";  // how the benchmark itself compares cells; not used

// What metrics are called after the columns of the published table.
std::string name_of_column(const std::string& column) {
  if (column == "CIFAR10TestAccuracy200Epochs") return "cifar10_accuracy";
  if (column == "CIFAR100TestAccuracy200Epochs") return "cifar100_accuracy";
  if (column == "ImageNetTestAccuracy200Epochs") return "imagenet16_120_accuracy";
  return column;
}

}  // namespace

CellTable::CellTable(const std::filesystem::path& file) : file_(file) {
  const Table table = read_csv({file}, {.header = true, .nominal = {}, .ignore = {}});
  const TableColumn* cells = nullptr;
  for (const TableColumn& column : table.columns) {
    if (column.name == cell_column) {
      cells = &column;
    } else if (column.name != unique_column) {
      if (column.is_nominal())
        throw InputError(file.string(), "the column '" + column.name + "' holds no numbers, so it is no accuracy");
      columns_.push_back(name_of_column(column.name));
      values_.push_back(column.numbers);
    }
  }
  if (!cells || !cells->is_nominal()) {
    throw InputError(file.string(), std::string("a table of cells has a column '") + cell_column +
                                        "' with cells such as |nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|");
  }
  if (columns_.empty()) throw InputError(file.string(), "the table has no column of accuracies beside the cells");
  for (int64_t row = 0; row < table.rows(); ++row) {
    const auto r = static_cast<size_t>(row);
    for (size_t c = 0; c < values_.size(); ++c) {
      if (!std::isfinite(values_[c][r]))
        throw InputError(table.place(row), "there is no accuracy in the column '" + columns_[c] + "'");
    }
    if (cells->is_missing(row)) throw InputError(table.place(row), "there is no cell");
    cells_.push_back(cells->categories[static_cast<size_t>(cells->codes[r])]);
    try {
      functions_.push_back(function_of(read_cell(cells_.back())));
    } catch (const Error& e) {
      throw InputError(table.place(row), e.what());
    }
  }
}

CellTable::Found CellTable::find(const std::string& cell) const {
  const auto row = static_cast<size_t>(std::ranges::find(cells_, cell) - cells_.begin());
  if (row == cells_.size()) {
    throw Error("the table " + file_.string() + " with its " + std::to_string(size()) + " cells has no cell " + cell +
                ": it knows the operations none, skip_connect, nor_conv_1x1, "
                "nor_conv_3x3 and avg_pool_3x3 of NAS-Bench-201");
  }
  Found found;
  std::vector<size_t> equal;
  for (size_t r = 0; r < functions_.size(); ++r) {
    if (functions_[r] == functions_[row]) equal.push_back(r);
  }
  found.equal = static_cast<int64_t>(equal.size());
  for (size_t c = 0; c < columns_.size(); ++c) {
    const std::vector<double>& values = values_[c];
    double sum = 0, squares = 0;
    for (const size_t r : equal) sum += values[r];
    const double mean = sum / static_cast<double>(equal.size());
    for (const size_t r : equal) squares += (values[r] - mean) * (values[r] - mean);
    const double deviation = equal.size() > 1 ? std::sqrt(squares / static_cast<double>(equal.size() - 1)) : 0;
    found.accuracies.push_back({columns_[c], values[row], mean, deviation});
  }
  return found;
}

std::filesystem::path find_cell_table(const std::string& table) {
  std::filesystem::path file = table;
  if (file.extension() != ".csv" && file.extension() != ".gz") file /= "nats_bench.csv";
  return find_data_file(file.string(), default_data_paths({}));
}

}  // namespace espalier
