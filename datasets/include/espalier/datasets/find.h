#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <espalier/dataset.h>

#include "espalier/datasets/catalogue.h"

namespace espalier {

// Where data is looked for: the folders given by flags (each must exist), those of the variable ESPALIER_DATA
// (separated by colons), data_cache(), and the system's.
DataPaths default_data_paths(const std::vector<std::string>& from_flags);

// Where fetched data is kept: $XDG_CACHE_HOME/espalier/data or ~/.cache/espalier/data; empty without a home.
std::filesystem::path data_cache();

// The first of the alternatives, paths relative to a data folder, that is there. Throws InputError listing the folders
// searched, with `how_to_get` below.
std::filesystem::path find_file(const DataPaths& paths, const std::vector<std::filesystem::path>& alternatives,
                                const std::string& how_to_get);
// The first such folder, its path relative to a data folder or absolute. Throws InputError as find_file does.
std::filesystem::path find_folder(const DataPaths& paths, const std::filesystem::path& name,
                                  const std::string& how_to_get);

// The files of a data set, in the catalogue's order, all in one folder: files of two copies are never mixed.
struct FoundDataset {
  std::filesystem::path folder;
  std::vector<std::filesystem::path> files;  // those of another part than the one asked for may be empty
};

// The first folder with every file of the part, or of all parts where it is empty; a complete folder is preferred.
std::optional<FoundDataset> search_dataset(const CatalogueEntry& entry, const DataPaths& paths,
                                           const std::string& part = "");
// The same; throws InputError listing the folders searched, what is missing in those that hold some, and how to get the
// rest.
FoundDataset find_dataset(const CatalogueEntry& entry, const DataPaths& paths, const std::string& part = "");

}  // namespace espalier
