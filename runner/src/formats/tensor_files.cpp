#include "formats/tensor_files.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <set>

#include "espalier/error.h"
#include "espalier/value.h"
#include "formats/state_dict.h"
#include "system/files.h"

namespace espalier {

namespace {

namespace fs = std::filesystem;

std::string first_bytes(const fs::path& file) {
  std::string start(512, '\0');
  std::ifstream in(file, std::ios::binary);
  in.read(start.data(), static_cast<std::streamsize>(start.size()));
  start.resize(static_cast<size_t>(in.gcount()));
  return start;
}

// Throws InputError for a file that is there and is none of tensors.
void refuse_others(const fs::path& file) {
  const std::string start = first_bytes(file);
  const auto refuse = [&](const std::string& what) { throw InputError(file.string(), what); };
  if (start.empty() && fs::is_regular_file(file) && fs::file_size(file) == 0)
    refuse("is empty; copy or download it again");
  if (start.starts_with("version https://git-lfs.github.com/"))
    refuse("is a pointer of Git LFS, not the file itself; `git lfs pull` in its repository brings the file");
  std::string text;
  for (const char c : start) {
    if (!text.empty() || !std::isspace(static_cast<unsigned char>(c)))
      text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  if (text.starts_with("<!doctype html") || text.starts_with("<html") || text.starts_with("<?xml"))
    refuse("is a web page, not the file itself; download it again, from a link to the file");
}

LoadedTensors load_parts(const fs::path& index, const std::string& key) {
  const Value value = from_json(read_file(index), index.string());
  const Value* map = value.is_map() ? value.find("weight_map") : nullptr;
  if (!map || !map->is_map())
    throw InputError(index.string(), "is no index of a file in parts: it has no 'weight_map'");
  std::set<std::string> parts;
  for (const Value::Entry& e : map->as_map()) {
    const std::string& part = e.value.as_string();
    if (part != fs::path(part).filename())
      throw InputError(index.string(), "its part '" + part + "' is not a file beside it");
    parts.insert(part);
  }
  LoadedTensors all;
  for (const std::string& part : parts) {
    if (!fs::exists(index.parent_path() / part))
      throw InputError(index.string(), "its part '" + part + "' is not beside it");
    LoadedTensors some = load_tensors(index.parent_path() / part, key);
    all.tensors.insert(all.tensors.end(), some.tensors.begin(), some.tensors.end());
    all.notes.insert(all.notes.end(), some.notes.begin(), some.notes.end());
    all.left.insert(all.left.end(), some.left.begin(), some.left.end());
  }
  return all;
}

}  // namespace

fs::path tensor_file_in(const fs::path& folder) {
  for (const char* name :
       {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (fs::is_regular_file(folder / name)) return folder / name;
  }
  return {};
}

LoadedTensors load_tensors(const fs::path& path, const std::string& key) {
  const fs::path file = fs::is_directory(path) ? tensor_file_in(path) : path;
  if (file.empty()) throw InputError(path.string(), "a folder without a model.safetensors");
  refuse_others(file);
  if (file.extension() == ".json") return load_parts(file, key);
  if (is_state_dict(file)) {
    StateDict read = load_state_dict(file, key);
    LoadedTensors loaded{std::move(read.tensors), {}, {}};
    if (!read.others.empty()) {
      std::string others;
      for (const std::string& o : read.others)
        others += (others.empty() ? "'" : ", '") + (o.empty() ? "the tensors beside it" : o) + "'";
      loaded.notes.push_back(file.string() + ": '" + read.key + "' is taken; " + others +
                             " would do as well, and `key` chooses");
    }
    return loaded;
  }
  if (!key.empty()) {
    throw InputError(file.string(),
                     "`key: " + key + "` chooses among the dictionaries of a PyTorch checkpoint, and this is none");
  }
  TensorFile read = load_safetensors(file);
  return {std::move(read.tensors), {}, std::move(read.left)};
}

}  // namespace espalier
