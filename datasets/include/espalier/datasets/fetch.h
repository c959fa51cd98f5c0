#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "espalier/datasets/catalogue.h"

namespace espalier {

struct FetchOptions {
  std::filesystem::path to;    // the data folder; the set gets a folder of its own in it
  std::filesystem::path from;  // an archive, or a folder of archives, already downloaded; empty: download
  bool progress = false;       // show that of the download, on standard error
  std::function<void(const std::string&)> say = [](const std::string&) {};  // what is being done, a line each
};

// Downloads the archives (by the programs curl or wget), checks size and checksums, unpacks and moves every file into
// its place at once. Files that are there and whole are kept. Returns the set's folder. Throws Error saying what to do
// by hand where that fails.
std::filesystem::path fetch_dataset(const CatalogueEntry& entry, const FetchOptions& options);

}  // namespace espalier
