#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "espalier/datasets/table.h"

// What stands for yes and no in the columns of a table, and values in words.
namespace espalier {

// 0 or 1 for each category, where they are two that say yes and no; empty otherwise.
std::vector<int> labels_of(const TableColumn& c);

// The first row whose value is no label, if there is one.
std::optional<int64_t> no_label(const TableColumn& target);

std::string number_text(double v);
// The value of a row, as messages show it.
std::string value_text(const TableColumn& c, int64_t row);

}  // namespace espalier
