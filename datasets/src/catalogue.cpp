#include "espalier/datasets/catalogue.h"

#include "catalogue_text.h"
#include "espalier/error.h"
#include "espalier/value.h"

namespace espalier {
namespace {

std::string text(const Value& v, std::string_view key) {
  const Value* entry = v.find(key);
  return entry ? entry->as_string() : std::string();
}

template <class T, class Of>
std::vector<T> all(const Value& list, Of of) {
  std::vector<T> result;
  for (const Value& v : list.as_list()) result.push_back(of(v));
  return result;
}

std::vector<std::string> strings(const Value& list) {
  return all<std::string>(list, [](const Value& v) { return v.as_string(); });
}
std::vector<double> numbers(const Value& list) {
  return all<double>(list, [](const Value& v) { return v.as_double(); });
}

CatalogueFile file_of(const Value& v) {
  return {.name = text(v, "name"),
          .part = text(v, "part"),
          .holds = text(v, "holds"),
          .records = v.at("records").as_int(),
          .size = v.at("size").as_int(),
          .sha256 = text(v, "sha256"),
          .original_sha256 = text(v, "original_sha256")};
}

CatalogueDownload download_of(const Value& v) {
  return {.name = text(v, "name"),
          .size = v.at("size").as_int(),
          .md5 = text(v, "md5"),
          .sha256 = text(v, "sha256"),
          .urls = strings(v.at("urls"))};
}

CatalogueLabels labels_of(const Value& v) {
  CatalogueLabels labels{.name = text(v, "name"), .classes = strings(v.at("classes")), .counts = {}};
  for (const Value::Entry& part : v.at("counts").as_map()) {
    labels.counts[part.key] = all<int64_t>(part.value, [](const Value& n) { return n.as_int(); });
  }
  return labels;
}

CatalogueEntry entry_of(const Value& v) {
  return {.name = text(v, "name"),
          .title = text(v, "title"),
          .page = text(v, "page"),
          .cite = text(v, "cite"),
          .licence = text(v, "licence"),
          .licence_note = text(v, "licence_note"),
          .format = text(v, "format"),
          .channels = v.at("channels").as_int(),
          .height = v.at("height").as_int(),
          .width = v.at("width").as_int(),
          .folders = strings(v.at("folders")),
          .debian_package = text(v, "debian_package"),
          .debian_folder = text(v, "debian_folder"),
          .files = all<CatalogueFile>(v.at("files"), file_of),
          .downloads = all<CatalogueDownload>(v.at("downloads"), download_of),
          .mean = numbers(v.at("mean")),
          .deviation = numbers(v.at("deviation")),
          .labels = all<CatalogueLabels>(v.at("labels"), labels_of)};
}

template <class T>
const T& named(const std::vector<T>& list, const std::string& name, const std::string& what) {
  std::vector<std::string> names;
  for (const T& t : list) {
    if (t.name == name) return t;
    names.push_back(t.name);
  }
  throw InputError("", "unknown " + what + " '" + name + "'" + suggestion(name, names));
}

}  // namespace

int64_t CatalogueLabels::count(const std::string& part, size_t label) const {
  const std::vector<int64_t>& c = counts.at(part);
  return c.size() == 1 ? c.front() : c.at(label);
}

const CatalogueLabels& CatalogueEntry::labelled(const std::string& by) const {
  return named(labels, by, "labels");
}

int64_t CatalogueEntry::size() const {
  int64_t total = 0;
  for (const CatalogueFile& f : files) total += f.size;
  return total;
}

std::string CatalogueEntry::by_hand() const {
  std::string how = "download by hand";
  for (const CatalogueDownload& d : downloads) how += "\n    " + d.urls.front();
  return how + "\n  into one folder, then: espalier data fetch " + name + " --from FOLDER";
}

std::string CatalogueEntry::how_to_get() const {
  std::string how;
  if (!debian_package.empty()) how += "  on Debian or Ubuntu: apt-get install " + debian_package + "\n";
  how += "  with a network: espalier data fetch " + name + "\n";
  return how + "  elsewhere: " + by_hand();
}

const std::vector<CatalogueEntry>& catalogue() {
  static const auto* entries = new std::vector<CatalogueEntry>(
      all<CatalogueEntry>(from_json(catalogue_text, "catalogue.json").at("datasets"), entry_of));
  return *entries;
}

const CatalogueEntry& catalogue_entry(const std::string& name) {
  return named(catalogue(), name, "data set");
}

}  // namespace espalier
