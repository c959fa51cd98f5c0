#pragma once

#include <cstddef>

#include "espalier/dataset.h"
#include "espalier/datasets/table.h"
#include "espalier/datasets/table_dataset.h"

namespace espalier {

// The inputs and targets of a table.
struct PreparedTable {
  DatasetInfo info;
  Split train, test, validation;  // validation: where the info says that there is one
};

// Makes them: which columns are which, the task, the parts, and what stands for missing values. The rows of the files
// from `test_files` on are the test part, if there are such files. Throws InputError naming the file.
PreparedTable prepare_table(const TableOptions& options, Table table, size_t test_files);

}  // namespace espalier
