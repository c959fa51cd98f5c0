#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "espalier/datasets/table.h"
#include "espalier/value.h"

// Missing values of a table, and what stands for them.
namespace espalier {

// "1,234 rows"
std::string count_text(int64_t n, const std::string& one);

// Missing values of these columns in these rows, or nothing if there are none.
std::string missing_text(const Table& table, const std::vector<size_t>& columns, const std::vector<int64_t>& rows);

// Puts one value in place of all missing ones: the mean or the most frequent one (`how`, of numbers) of the rows where
// it is known. Returns that value.
Value fill_column(TableColumn& c, const std::vector<int64_t>& known, const std::string& how);

}  // namespace espalier
