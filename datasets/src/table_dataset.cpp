#include "espalier/datasets/table_dataset.h"

#include <algorithm>
#include <system_error>

#include <fnmatch.h>

#include "espalier/datasets/find.h"
#include "espalier/error.h"
#include "table_preparation.h"

namespace espalier {

namespace fs = std::filesystem;

fs::path find_data_file(const std::string& path, const DataPaths& paths) {
  std::error_code error;
  fs::path file = path;
  if (fs::exists(file, error)) return file;
  const fs::path name = file.filename(), folder = file.parent_path().filename();
  std::vector<fs::path> names;
  if (!folder.empty()) names.push_back(folder / name);
  names.push_back(name);
  try {
    return find_file(paths, names, "  put it there, or give the path of the file");
  } catch (const InputError& e) {
    throw InputError(path, std::string("there is no such file; in the data folders ") + e.what());
  }
}

std::vector<fs::path> find_data_files(const std::string& path, const DataPaths& paths) {
  const fs::path whole = path, name = whole.filename();
  if (name.string().find('*') == std::string::npos) return {find_data_file(path, paths)};
  std::vector<fs::path> folders = {whole.parent_path()};
  for (const fs::path& folder : paths) folders.push_back(folder / whole.parent_path().filename());
  std::string searched;
  for (const fs::path& folder : folders) {
    std::vector<fs::path> files;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      if (entry.is_regular_file(error) && fnmatch(name.c_str(), entry.path().filename().c_str(), FNM_PERIOD) == 0)
        files.push_back(entry.path());
    }
    std::ranges::sort(files);
    if (!files.empty()) return files;
    searched += "\n  " + folder.string();
  }
  throw InputError(path, "no file matches '" + name.string() + "'; the folders searched:" + searched);
}

struct TableDataset::Prepared : PreparedTable {
  std::vector<fs::path> files;
};

TableDataset::TableDataset(TableOptions options) : o_(std::move(options)) {
  const int ways = (o_.test_file.empty() ? 0 : 1) + (o_.split_column.empty() ? 0 : 1) + (o_.test ? 1 : 0);
  if (ways > 1)
    throw Error("`test_file`, `split_column` and `test` each say which rows are the test part: give one of them");
  if (o_.standardize_target && o_.task != "auto" && o_.task != task::regression)
    throw Error("`standardize_target` is for regression, and `task` is " + o_.task + ": leave it out");
}

std::shared_ptr<const TableDataset::Prepared> TableDataset::prepared(const DataPaths& paths) const {
  std::vector<fs::path> files = find_data_files(o_.file, paths);
  const size_t test_files = files.size();
  if (!o_.test_file.empty()) {
    for (fs::path& file : find_data_files(o_.test_file, paths)) {
      if (std::ranges::find(files, file) != files.end())
        throw InputError(file.string(), "`file` and `test_file` both name it: a row is of one part");
      files.push_back(std::move(file));
    }
  }
  if (prepared_ && prepared_->files == files) return prepared_;
  auto all = std::make_shared<Prepared>(Prepared{prepare_table(o_, read(files), test_files), files});
  prepared_ = all;
  return all;
}

DatasetInfo TableDataset::info() const {
  const std::lock_guard lock(mutex_);
  return prepared_ ? prepared_->info : prepared(default_data_paths({}))->info;
}

Split TableDataset::load(const std::string& part, const DataPaths& paths) const {
  const std::lock_guard lock(mutex_);
  const std::shared_ptr<const Prepared> all = prepared(paths);
  if (part == "train") return all->train;
  if (part == "test") return all->test;
  if (part == "validation" && all->info.has_validation) return all->validation;
  throw InputError(o_.file, "a table has no part '" + part + "'; expected train or test" +
                                (all->info.has_validation ? " or validation" : ""));
}

}  // namespace espalier
