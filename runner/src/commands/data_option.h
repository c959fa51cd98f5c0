#pragma once

#include <string>
#include <vector>

#include <CLI/App.hpp>

namespace espalier {

// --data DIR: folders of data sets, also for what reads data before a run does (`plan` of a table).
void add_data_option(CLI::App& command, std::vector<std::string>& folders);

// Puts folders before those of $ESPALIER_DATA, which every data set of this process and of its children searches.
void search_data_in(const std::vector<std::string>& folders);

}  // namespace espalier
