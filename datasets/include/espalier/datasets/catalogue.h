#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace espalier {

// One file of a data set as it is read. Sizes and checksums are of its content, unpacked.
struct CatalogueFile {
  std::string name;   // IDX files may lie there with ".gz", too
  std::string part;   // "train" or "test"
  std::string holds;  // "images", "labels", or "records" of both
  int64_t records = 0;
  int64_t size = 0;
  std::string sha256;           // empty: unknown
  std::string original_sha256;  // of the original; a copy with another one may be as good, its records in another order
};

// One archive as its distributor serves it.
struct CatalogueDownload {
  std::string name;
  int64_t size = 0;
  std::string md5;
  std::string sha256;  // empty: unknown
  std::vector<std::string> urls;
};

// One way of labelling the images: CIFAR-100 has a coarse and a fine one.
struct CatalogueLabels {
  std::string name;
  std::vector<std::string> classes;
  std::map<std::string, std::vector<int64_t>> counts;  // images of each class, for each part

  // The catalogue writes a single number where all classes are equal.
  int64_t count(const std::string& part, size_t label) const;
};

struct CatalogueEntry {
  std::string name;
  std::string title;
  std::string page;
  std::string cite;
  std::string licence;
  std::string licence_note;
  std::string format;  // "idx" or "cifar"
  int64_t channels = 0;
  int64_t height = 0;
  int64_t width = 0;
  std::vector<std::string> folders;  // the usual ones, the one that `espalier data fetch` makes first
  std::string debian_package;        // empty: there is none
  std::string debian_folder;
  std::vector<CatalogueFile> files;
  std::vector<CatalogueDownload> downloads;
  std::vector<double> mean;
  std::vector<double> deviation;
  std::vector<CatalogueLabels> labels;

  // Throws InputError naming the nearest one.
  const CatalogueLabels& labelled(const std::string& by) const;
  // Bytes of all files, unpacked.
  int64_t size() const;
  // What a person has to do, a line each: all ways; without a network.
  std::string how_to_get() const;
  std::string by_hand() const;
};

// The data sets that Espalier knows, from datasets/catalogue.json.
const std::vector<CatalogueEntry>& catalogue();
// Throws InputError naming the nearest one.
const CatalogueEntry& catalogue_entry(const std::string& name);

}  // namespace espalier
